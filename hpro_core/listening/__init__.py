"""Listening tests: a page that people rate audio with, and the analysis of their answers."""
