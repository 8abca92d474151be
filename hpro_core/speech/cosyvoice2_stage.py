"""`hpro tokenize` with CosyVoice2: S3 tokens and CAM++ x-vectors of every utterance."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from hpro_core.io import write_json
from hpro_core.params import Compute
from hpro_core.progress import track
from hpro_core.speech.cosyvoice2 import KIND, CamPlus, S3Tokenizer
from hpro_core.speech.crops import read_audio
from hpro_core.speech.stage import utterances_to_encode, write_tokens
from hpro_core.train.loop import device_of, set_threads


def describe(root: Path, folder: Path) -> None:
    """Write the kind and the folder of the token decoder to speech/tokenizer/config.json."""
    write_json(root / "speech/tokenizer/config.json", {"kind": KIND, "folder": str(folder)})


def encode(
    root: Path, folder: Path, batch_size: int, compute: Compute, shard: int | None = None
) -> None:
    """Write speech/speech_tokens.parquet for all splits except the judges' split.

    Args:
        root: results folder of the run; reads corpus/utterances.parquet and the audio.
        folder: model folder CosyVoice2-0.5B.
        batch_size: utterances per batch of the tokenizer.
        compute: threads and device.
        shard: shard to encode (hpro_core.shards); None: all.

    Raises:
        HproError: a file or package is missing, or an utterance is longer than 30 s.
    """
    set_threads(compute.threads)
    tokenizer = S3Tokenizer.load(folder, device_of(compute.device))
    speakers = CamPlus.load(folder, compute.threads)
    wanted = utterances_to_encode(root, shard)
    write_tokens(root, shard, wanted, encoded(root, wanted, tokenizer, speakers, batch_size))


def encoded(
    root: Path,
    wanted: pd.DataFrame,
    tokenizer: S3Tokenizer,
    speakers: CamPlus,
    batch_size: int,
) -> Iterator[dict[str, object]]:
    """Yield the rows of SPEECH_TOKENS in order of duration.

    `wanted` are rows of UTTERANCES, `batch_size` the utterances per batch of the tokenizer.

    Raises:
        HproError: an audio file is missing, unreadable, too short or longer than 30 s.
    """
    ordered = wanted.sort_values(["duration_s", "utt_id"])
    starts = range(0, len(ordered), batch_size)
    for start in track(starts, len(starts), "speech tokens, batches"):
        chunk = ordered[start : start + batch_size]
        audios = [read_audio(root / path) for path in chunk["audio"]]
        pairs = zip(chunk["utt_id"], chunk["audio"], strict=True)
        names = [f"{utt_id} ({root / path})" for utt_id, path in pairs]
        found = zip(chunk["utt_id"], tokenizer.tokens(audios, names), audios, names, strict=True)
        for utt_id, tokens, audio_T, name in found:
            yield {
                "utt_id": utt_id,
                "tokens": tokens.astype(np.int16),
                "speaker_embedding": speakers.x_vector(audio_T, name),
            }
