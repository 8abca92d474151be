"""Corpus readers, audio conversion, the controlled corpus, and splits."""
