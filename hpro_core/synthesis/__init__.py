"""Synthesis of the test sentences by every system."""
