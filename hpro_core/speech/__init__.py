"""Tokens in, sound out, and back: 25 Hz, 6561 codes, 16 kHz (the contract of S3 tokenizer v2)."""
