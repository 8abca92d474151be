"""Readers of published corpora: each module has a miniature in the true layout, and faults."""
