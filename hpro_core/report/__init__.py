"""One HTML file that shows and judges a run."""
