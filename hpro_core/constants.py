"""Constants that all stages share."""

SAMPLE_RATE_HZ = 16_000
"""Rate of all audio after the corpus stage, mono."""

TOKEN_RATE_HZ = 25
"""Speech tokens per second (S3 tokenizer v2 of CosyVoice2)."""

N_SPEECH_TOKENS = 6561
"""Size of the speech-token vocabulary, 3^8 (S3 tokenizer v2)."""

EMOTIONS = (
    "angry",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "other",
    "sad",
    "surprised",
    "unknown",
)
"""The nine classes in the order of emotion2vec_plus_large and the released codec."""

VAD = ("valence", "arousal", "dominance")
"""Order of the three affect dimensions everywhere in this project."""

SPLITS = ("train", "dev", "test", "judge")
"""`judge` is reserved for training the judges, which share no data with rewards or teachers."""
