"""Text front end: normalisation of transcripts, phones, and tokenizers."""
