"""Readers of published corpora in their distributed form, one module for each corpus.

A module has

- `ABOUT`: title, licence, source, glob patterns of its files, and labels;
- `read(folder)`: yields a `Recording` for each utterance and a `Fault` for each unusable one. It
  raises `HproError` if the folder as a whole is not the corpus or metadata is damaged.

Readers do not open audio; `corpus.audio` decodes it later.
"""
