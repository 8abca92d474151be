"""The test sentences spoken: by a policy, from the recording's own tokens, or as recorded.

Zero-shot as in the paper (section III-C): the reference is another utterance of the same speaker,
drawn once per test utterance and the same for every system.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import soundfile
import torch

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.engine.batching import Example, collate
from hpro_core.engine.training import device_of, set_threads
from hpro_core.errors import HproError
from hpro_core.params import Compute, Synthesis
from hpro_core.policy.sampling import Sampled, sample
from hpro_core.policy.sft import load_policy
from hpro_core.progress import track
from hpro_core.speech.decoder import TokenDecoder
from hpro_core.tables import SYNTHESIS, UTTERANCES, read_table, write_table

NOT_POLICIES = ("recordings", "tokenrecon")
"""The ceiling: the recordings themselves, and their own speech tokens made audible again."""


def synthesise(
    root: Path,
    system: str,
    seed: int,
    settings: Synthesis,
    compute: Compute,
    test: list[Example],
    others: list[Example],
) -> None:
    """Write eval/<system>/seed<k>/synthesis.parquet and, unless recorded, the audio it names.

    Args:
        root: results folder of the run.
        system: "recordings", "tokenrecon" or the name of a variant.
        seed: of the policy; the draws depend on it, the references do not.
        settings: of the sampling.
        compute: device and threads.
        test: the sentences.
        others: utterances that serve as reference where the test split has only one of a speaker.

    Raises:
        HproError: a test speaker has no second utterance.
    """
    set_threads(compute.threads)
    folder = Path("eval") / system / f"seed{seed}"
    references = {e.utt_id: reference_of(e, test, others, settings.seed) for e in test}
    rows = pd.DataFrame(
        {
            "utt_id": [e.utt_id for e in test],
            "corpus": [e.corpus for e in test],
            "speaker": [e.speaker for e in test],
            "text": [e.text for e in test],
            "words": [" ".join(e.words) for e in test],
            "reference": [references[e.utt_id].utt_id for e in test],
        }
    )
    if system == "recordings":
        made = _recorded(root, test)
    else:
        spoken = (
            {e.utt_id: Sampled(torch.as_tensor(e.tokens), True) for e in test}
            if system == "tokenrecon"
            else _speak(root, system, seed, settings, compute, test, references)
        )
        made = _decoded(root, folder, test, spoken, references, settings.batch_size)
    write_table(rows.merge(made, on="utt_id"), root / folder / "synthesis.parquet", SYNTHESIS)


def reference_of(
    example: Example, test: list[Example], others: list[Example], seed: int
) -> Example:
    """Another utterance of the same speaker, drawn by the seed and the utterance's id."""

    def same(candidates: list[Example]) -> list[Example]:
        return [
            c
            for c in candidates
            if (c.corpus, c.speaker) == (example.corpus, example.speaker)
            and c.utt_id != example.utt_id
        ]

    candidates = same(test) or same(others)
    if not candidates:
        raise HproError(
            f"{example.utt_id}: speaker {example.speaker!r} has no other utterance to be the "
            "reference of zero-shot synthesis; add one or leave the speaker out"
        )
    return candidates[_number(seed, example.utt_id) % len(candidates)]


def _number(seed: int, utt_id: str) -> int:
    """A number that depends on the seed and the utterance alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {utt_id}".encode()).digest()[:6], "big")


def _recorded(root: Path, test: list[Example]) -> pd.DataFrame:
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    made = utterances[utterances["utt_id"].isin([e.utt_id for e in test])]
    tokens = {e.utt_id: len(e.tokens) for e in test}
    return made[["utt_id", "audio", "duration_s"]].assign(
        n_tokens=made["utt_id"].map(tokens), stopped=True
    )


def _speak(
    root: Path,
    system: str,
    seed: int,
    settings: Synthesis,
    compute: Compute,
    test: list[Example],
    references: dict[str, Example],
) -> dict[str, Sampled]:
    device = device_of(compute.device)
    policy = load_policy(root / "policy" / system / f"seed{seed}").to(device)
    spoken: dict[str, Sampled] = {}
    chunks = list(_by_length(test, settings.batch_size, lambda e: len(e.symbols)))
    for chunk in track(chunks, len(chunks), f"{system}: speech tokens, batches"):
        batch = collate(chunk, [references[e.utt_id].speaker_embedding for e in chunk]).to(device)
        numbers = [_number(settings.seed + 1000 * seed + 1, e.utt_id) for e in chunk]
        generators = [torch.Generator(device).manual_seed(n) for n in numbers]
        sampled = sample(
            policy,
            batch,
            generators,
            settings.top_p,
            settings.top_k,
            settings.temperature,
            settings.min_ratio,
            settings.max_ratio,
        )
        spoken.update(zip([e.utt_id for e in chunk], sampled, strict=True))
    return spoken


def _decoded(
    root: Path,
    folder: Path,
    test: list[Example],
    spoken: dict[str, Sampled],
    references: dict[str, Example],
    batch_size: int,
) -> pd.DataFrame:
    decoder = TokenDecoder.load(root / "speech" / "tokenizer")
    audio_folder = root / folder / "audio"
    audio_folder.mkdir(parents=True, exist_ok=True)
    rows = []
    chunks = list(_by_length(test, batch_size, lambda e: len(spoken[e.utt_id].tokens)))
    for chunk in track(chunks, len(chunks), f"{folder.parent.name}: sound, batches"):
        audios = decoder.decode(
            [spoken[e.utt_id].tokens.numpy() for e in chunk],
            [references[e.utt_id].speaker_embedding for e in chunk],
        )
        for example, audio in zip(chunk, audios, strict=True):
            name = f"{example.utt_id}.wav"
            soundfile.write(audio_folder / name, audio, SAMPLE_RATE_HZ, subtype="PCM_16")
            result = spoken[example.utt_id]
            seconds = len(audio) / SAMPLE_RATE_HZ
            where = str(folder / "audio" / name)
            rows.append((example.utt_id, where, seconds, len(result.tokens), result.stopped))
    return pd.DataFrame(rows, columns=["utt_id", "audio", "duration_s", "n_tokens", "stopped"])


def _by_length(
    examples: list[Example], size: int, length: Callable[[Example], int]
) -> Iterator[list[Example]]:
    ordered = sorted(examples, key=lambda e: (length(e), e.utt_id))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
