"""Judges of waveforms, statistics and tables. A judge never sees a codec, a token or a reward."""
