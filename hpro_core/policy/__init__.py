"""The policy: a language model over speech tokens, its supervised fine-tuning and sampling."""
