"""Speech for sentences of one's own, and export of a policy with all that it needs to speak."""
