"""The fixed workload of the benchmark: what ships, and some sentences that the package renders.

The controlled corpus gives speech with exact words, times and labels
(`corpus.sentence_plans`), the shipped base (data/base) its tokens. All random numbers have seeds.
Tokens and voices come from recorded.safetensors where it exists: another CPU rounds differently,
and one different token would change the workload of every later stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import current
import numpy as np
import torch
from results import Value
from safetensors.torch import load_file

import hpro_core
from hpro_core.corpus.controlled import affect
from hpro_core.corpus.controlled.sentence_plans import Plan, plans
from hpro_core.io import write_safetensors
from hpro_core.params import Controlled, Params, read_yaml, validate_section
from hpro_core.pretrained.packing import unpack
from hpro_core.text.phones import BEGIN_TEXT, END_TEXT, encode
from hpro_core.train.batching import Example

REWARD_STEP = {"batch_size": 12, "samples": 4, "jacobi_iterations": 3}
"""Sizes of the reward step whose results are recorded: what the default run had then."""

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("tokenizer", "codec", "policy", "judge")
PLANS = Controlled(train=10, dev=5, test=40, judge=0, seed=0)
MOVED = 0.02
"""The rewarded policy's weights are so much larger or smaller than its reference's: a KL of zero
would prove nothing."""


@dataclass(frozen=True)
class Workload:
    """What the stages are timed on.

    Attributes:
        models: folder with one unpacked model of the base in each of MODELS.
        weights: folder of the judges' weights from outside.
        params: the settings of the default run, with a reward step of the recorded size.
        plans: of the sentences.
        audios: of the sentences as a WAV file has them, float32 (T,), 16 kHz.
        examples: the sentences as the dataset has them.
        references: another utterance of the speaker of each, by utt_id.
    """

    models: Path
    weights: Path
    params: Params
    plans: list[Plan]
    audios: list[np.ndarray]
    examples: list[Example]
    references: dict[str, Example]


def prepare(folder: Path, recorded: Mapping[str, Value] | None) -> Workload:
    """Unpack the base, render the sentences and make them utterances of a dataset.

    Args:
        folder: empty; gets the models.
        recorded: tokens and voices, or None to compute them.
    """
    for model in MODELS:
        unpack(ROOT / "data" / "base" / model, folder / model)
    planned = [plan for plan in plans("controlled", PLANS) if plan.split == "test"]
    teller = current.voice()
    rendered = [current.render(teller, plan) for plan in planned]
    audios = [as_stored(samples_T) for samples_T, _ in rendered]
    spans = [spans_W2 for _, spans_W2 in rendered]
    if recorded is None:
        encoded = current.Encoder(folder / "tokenizer")(audios)
    else:
        ends = np.asarray(recorded["token_ends"])
        tokens = np.split(np.asarray(recorded["tokens"]), ends[:-1])
        voices = np.asarray(recorded["speaker_embeddings"])
        encoded = list(zip(tokens, voices, strict=True))
    examples = [
        example_of(plan, spans_W2, *made)
        for plan, spans_W2, made in zip(planned, spans, encoded, strict=True)
    ]
    references = {e.utt_id: other_of(e, examples) for e in examples}
    settings = Path(hpro_core.__file__).parents[1] / "params.yaml"  # of the code that is timed
    given = read_yaml(settings)
    given["reward"] |= REWARD_STEP
    params = validate_section(given, Params, settings)
    return Workload(folder, ROOT / "weights", params, planned, audios, examples, references)


def other_of(example: Example, examples: list[Example]) -> Example:
    """The next utterance of the same speaker; the utterance itself where there is no other."""
    same = [e for e in examples if e.speaker == example.speaker]
    place = [e.utt_id for e in same].index(example.utt_id)
    return same[(place + 1) % len(same)]


def as_stored(samples_T: np.ndarray) -> np.ndarray:
    """Samples after 16-bit PCM."""
    pcm_T = np.round(np.clip(samples_T, -1.0, 1.0) * 32767)
    return (pcm_T / 32768).astype(np.float32)


def example_of(
    plan: Plan, spans_s: np.ndarray, tokens_L: np.ndarray, speaker_E: np.ndarray
) -> Example:
    """A sentence with its exact labels, as the dataset stage would join it."""
    sentence = plan.sentence
    symbols, symbol_word = encode(sentence.text, sentence.words)
    return Example(
        utt_id=plan.utt_id,
        corpus="controlled",
        speaker=plan.speaker,
        text=sentence.text,
        words=tuple(sentence.words.split()),
        symbols=np.asarray(symbols, dtype=np.int64),
        symbol_word=np.asarray(symbol_word, dtype=np.int64),
        transcript=np.array([BEGIN_TEXT, *symbols, END_TEXT], dtype=np.int64),
        tokens=tokens_L.astype(np.int64),
        speaker_embedding=speaker_E.astype(np.float32),
        emotion=affect.posterior(plan.style, plan.strength).astype(np.float32),
        spans_s=spans_s,
        vad=affect.vad_W3(plan.signed_W3).astype(np.float32),
    )


def move_policy(folder: Path, out: Path) -> None:
    """Write the base's policy with each weight a little larger or smaller."""
    rng = np.random.default_rng(0)
    moved = {}
    for name, weight in sorted(load_file(folder / "model.safetensors").items()):
        factor = 1 + MOVED * (2 * rng.random(weight.shape) - 1)
        moved[name] = (weight * torch.from_numpy(factor).float()).numpy()
    out.mkdir(exist_ok=True)
    write_safetensors(out / "model.safetensors", moved)
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
