"""HPRO: hierarchical progressive reward optimisation for emotional text-to-speech.

No module of this package imports Snakemake or DVC.
"""

__version__ = "0.1.0"
