"""Quality of each part of the way from speech tokens to audio (docs/speech_tokens.md).

Compares recordings, their own mel spectra turned into audio by each vocoder, and their tokens
decoded to audio: `python benchmarks/sound.py results/embedded --split dev --clips 24`.

DNSMOS and DistillMOS predict mean opinion scores from 1 to 5; WER is that of Whisper tiny.en.
The speaker embedding of `tokenrecon` is that of another utterance of the speaker, the same one in
every run. Time is that of one thread.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.judges import asr, distillmos, dnsmos
from hpro_core.speech.crops import read_audio
from hpro_core.speech.decoder import TokenDecoder
from hpro_core.speech.features import MelFrontend
from hpro_core.tables import SPEECH_TOKENS, UTTERANCES, read_table

System = Callable[[Mapping], np.ndarray]
"""Function from the row of an utterance to audio, float32 (T,)."""
