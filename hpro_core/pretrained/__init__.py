"""Models from outside: the shipped base, and weights from published packages."""
