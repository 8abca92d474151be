"""Corpora in: readers, audio and text normalisation, the controlled corpus, splits."""
