"""Comparison of finished runs: paired differences, other settings, audio side by side."""
