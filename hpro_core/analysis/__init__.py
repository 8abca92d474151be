"""Statistics of the scores: tables, intervals, claims."""
