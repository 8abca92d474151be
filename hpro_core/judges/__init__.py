"""Judges of waveforms, statistics and tables. Judges do not use the codec, tokens or rewards."""
