"""The policy: a language model over speech tokens, its sampling and its supervised fine-tuning."""
