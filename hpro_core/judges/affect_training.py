"""Training of the embedded affect judge on recordings with exact labels.

Letters: B clips, F frames, C channels, W words, 9 emotions, 3 valence, arousal and dominance.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hpro_core.constants import EMOTIONS
from hpro_core.errors import HproError
from hpro_core.judges.affect import AffectJudge, Span, span_frames
from hpro_core.params import Evaluate
from hpro_core.progress import track
from hpro_core.tables import EMOTION_POSTERIORS, WORD_VAD, read_table, vad_by_utterance

_BATCH = 32
_NOISE = 0.15  # standard deviation of noise on normalised features of half of the clips
_JITTER_FRAMES = 2  # maximum shift of word boundaries: aligners differ
_CLIP_NORM = 1.0
_WEIGHT_DECAY = 0.02
_ERROR_WEIGHT, _EMOTION_WEIGHT = 10.0, 0.5  # beside 1 - CCC
_TINY = 1e-4  # added to the variances over the words of an utterance


@dataclass(frozen=True)
class Features:
    """Features and word times of the recordings of a split."""

    clips: list[tuple[str, str]]  # utt_id and corpus of each recording
    frames: dict[str, np.ndarray]  # features, float32 (F, C), by utt_id
    spans: dict[str, list[Span]]  # word times in seconds, by utt_id


@dataclass(frozen=True)
class Labels:
    """Exact labels of the recordings that have any."""

    posteriors: dict[str, np.ndarray]  # emotion posterior, float (9,), by utt_id
    vad: dict[str, np.ndarray]  # valence, arousal, dominance of each word, float (W, 3), by utt_id


def read_labels(root: Path, utterances: pd.DataFrame) -> Labels:
    """Read the labels that belong to a corpus: truth_*.parquet, else the column `emotion`.

    The teachers' labels are not read, because the rewards are trained on them.
    """
    named = utterances[utterances["emotion"].isin(EMOTIONS)]
    posteriors = {
        utt_id: np.array([float(name == emotion) for name in EMOTIONS])
        for utt_id, emotion in zip(named["utt_id"], named["emotion"], strict=True)
    }
    vad: dict[str, np.ndarray] = {}
    for corpus in utterances["corpus"].unique():
        folder = root / "corpus" / corpus
        if (folder / "truth_emotion.parquet").is_file():
            exact = read_table(folder / "truth_emotion.parquet", EMOTION_POSTERIORS)
            values = exact[list(EMOTIONS)].to_numpy()
            posteriors.update(zip(exact["utt_id"], values, strict=True))
        if (folder / "truth_vad.parquet").is_file():
            vad.update(vad_by_utterance(read_table(folder / "truth_vad.parquet", WORD_VAD)))
    return Labels(posteriors, vad)


def train_judge(features: Features, labels: Labels, settings: Evaluate) -> AffectJudge:
    """Train the judge on the recordings that have exact labels of emotion and word affect.

    A test set without such a recording is unknown to the judge. The feature normalisation of a set
    with some uses all of its recordings.

    Returns:
        The judge in eval mode.

    Raises:
        HproError: too few recordings have labels, or words and labels differ in number.
    """
    clips = [
        pair for pair in features.clips if pair[0] in labels.vad and pair[0] in labels.posteriors
    ]
    if len(clips) < 2:
        raise HproError(
            "fewer than two utterances of the `judge` split have exact labels: keep a controlled "
            "corpus in corpus.sets and controlled.judge above 0"
        )
    torch.manual_seed(settings.seed)
    labelled = {corpus for _, corpus in clips}
    counts = Counter(corpus for _, corpus in features.clips if corpus in labelled)
    judge = AffectJudge(dict(sorted(counts.items())))
    for name in counts:
        judge.set_scale(
            name, [features.frames[u] for u, corpus in features.clips if corpus == name]
        )
    examples = [_example(judge, u, corpus, features, labels) for u, corpus in clips]
    _fit(judge, examples, settings)
    return judge.eval()


@dataclass(frozen=True)
class _Example:
    frames_FC: Tensor
    spans_W2: Tensor
    vad_W3: Tensor
    emotion_9: Tensor


def _example(
    judge: AffectJudge, utt_id: str, corpus: str, features: Features, labels: Labels
) -> _Example:
    frames_FC, spans = features.frames[utt_id], features.spans[utt_id]
    if len(spans) != len(labels.vad[utt_id]):
        raise HproError(
            f"{utt_id}: {len(spans)} words in align/words.parquet, but {len(labels.vad[utt_id])} "
            "in truth_vad.parquet: run `hpro corpus-render` and `hpro align` again"
        )
    return _Example(
        judge.scaled(corpus, frames_FC),
        span_frames(spans, len(frames_FC)),
        torch.as_tensor(labels.vad[utt_id], dtype=torch.float32),
        torch.as_tensor(labels.posteriors[utt_id], dtype=torch.float32),
    )


def _fit(judge: AffectJudge, examples: Sequence[_Example], settings: Evaluate) -> None:
    size = min(_BATCH, len(examples))
    steps = settings.judge_epochs * (len(examples) // size)
    rate = settings.judge_learning_rate
    optimiser = torch.optim.AdamW(judge.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
    generator = np.random.default_rng(settings.seed)
    order: list[int] = []
    judge.train()
    for _ in track(range(steps), steps, "affect judge"):
        if len(order) < size:
            order = generator.permutation(len(examples)).tolist()
        chosen, order = order[:size], order[size:]
        loss = _loss(judge, [examples[i] for i in chosen])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), _CLIP_NORM)
        optimiser.step()
        schedule.step()


def _loss(judge: AffectJudge, examples: Sequence[_Example]) -> Tensor:
    frames_BFC = pad_sequence([e.frames_FC for e in examples], batch_first=True)
    lengths_B = torch.tensor([len(e.frames_FC) for e in examples])
    spans_BW2 = pad_sequence([e.spans_W2 for e in examples], batch_first=True)
    vad_BW3 = pad_sequence([e.vad_W3 for e in examples], batch_first=True)
    emotion_B9 = torch.stack([e.emotion_9 for e in examples])
    words_BW1 = (spans_BW2[..., 1:] > spans_BW2[..., :1]).float()
    noisy_B11 = (torch.rand(len(examples), 1, 1) < 0.5) * _NOISE
    frames_BFC = frames_BFC + noisy_B11 * torch.randn_like(frames_BFC)
    moved_BW2 = spans_BW2 + torch.randint(-_JITTER_FRAMES, _JITTER_FRAMES + 1, spans_BW2.shape)
    moved_BW2 = moved_BW2.clamp(min=torch.tensor([0, 1])) * words_BW1.long()
    logits_B9, judged_BW3 = judge(frames_BFC, lengths_B, moved_BW2)
    squared = ((judged_BW3 - vad_BW3).square() * words_BW1).sum() / words_BW1.sum()
    emotion = -(emotion_B9 * logits_B9.log_softmax(-1)).sum(-1).mean()
    disagreement = 1 - _agreement(judged_BW3, vad_BW3, words_BW1).mean()
    return disagreement + _ERROR_WEIGHT * squared + _EMOTION_WEIGHT * emotion


def _agreement(judged_BW3: Tensor, exact_BW3: Tensor, words_BW1: Tensor) -> Tensor:
    """Concordance correlation over the words of each clip, (B, 3); `words_BW1` is 0 at padding."""
    count_B1 = words_BW1.sum(1)

    def mean(values_BW3: Tensor) -> Tensor:
        return (values_BW3 * words_BW1).sum(1) / count_B1

    first_B3, second_B3 = mean(judged_BW3), mean(exact_BW3)
    apart = (judged_BW3 - first_B3[:, None], exact_BW3 - second_B3[:, None])
    covariance_B3 = mean(apart[0] * apart[1])
    spread_B3 = mean(apart[0].square()) + mean(apart[1].square())
    return 2 * covariance_B3 / (spread_B3 + (first_B3 - second_B3).square() + _TINY)
