"""Forced alignment: words to times, by pocketsphinx or by the Montreal Forced Aligner."""
