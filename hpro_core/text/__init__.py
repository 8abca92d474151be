"""From a published transcript to the words that are spoken, their phones, and text tokens."""
