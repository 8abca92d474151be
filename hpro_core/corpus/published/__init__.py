"""Readers of published corpora, as their publishers distribute them: one module each.

A module has

- `ABOUT`: title, licence, where to get it, by which files it is recognised, its labels;
- `read(folder)`: yields a `Recording` for each utterance and a `Fault` for each that cannot be
  read, and raises `HproError` where the folder as a whole is not the corpus, or metadata is
  damaged.

No reader opens audio: whether it can be decoded is found by who reads it (`corpus.audio`).
"""
