"""The controlled corpus: rendered speech with exact words, times and labels."""
