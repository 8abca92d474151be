"""Speech tokenizers and token decoders: 25 Hz, 6561 codes, 16 kHz input, as S3 tokenizer v2."""
