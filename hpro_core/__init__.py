"""HPRO: hierarchical progressive reward optimisation for emotional text-to-speech.

The GPU code of the project. Nothing in this package imports Snakemake or DVC.
"""

__version__ = "0.1.0"
