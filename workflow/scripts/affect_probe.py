"""What an affect judge knows of labelled real speech, and how much of it is words.

    python -m workflow.scripts.affect_probe data/raw/hedgewars data/raw/nexuiz --judge JUDGE

Prints two tables as Markdown (docs/judges.md): the emotion recall of a run's judge, and that of
linear probes on features of the clip. Both corpora are folders for the reader `csv`, with emotions,
and `text` is the phrase of a `group` of recordings (a prompt). Nothing is chosen on these figures:
the only setting, `RIDGE`, was fixed before.

The control: machine voices say the same phrases without any emotion. They have the labels of the
phrases. What a probe finds in them it took from words and length, not from the voice.
Letters: N clips, D features, S classes, T samples, F frames.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ctranslate2
import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import decode_file
from hpro_core.corpus.controlled.affect import controls
from hpro_core.corpus.controlled.voice import Voice
from hpro_core.corpus.controlled.voices import TIMBRES
from hpro_core.judges import affect, grading
from hpro_core.judges.prosody import contours
from hpro_core.judges.whisper_parts import log_mel
from hpro_core.pretrained.weights import find_weights
from hpro_core.progress import track

RIDGE = 1.0
"""Weight of the squared norm, with features of mean square 1."""
PROMPT_FOLDS = 6
"""Folds of prompts, each with a prompt or two of each emotion."""
RESAMPLES = 1000
"""Resamples of speakers for the intervals."""
_WHISPER = ("whisper_tiny_en", "whisper_base")
_SHORTEST_S, _LONGEST_S = 0.1, 10.0
_EDGE_DB, _ACTIVE_DB, _LEVEL_DB = 40.0, 30.0, -26.0
_FRAME = 320  # samples, 20 ms


@dataclass(frozen=True)
class Clip:
    """A recording or a rendering."""

    speaker: str
    prompt: str
    emotion: str
    audio_T: np.ndarray  # 16 kHz
    features: dict[str, np.ndarray]  # name -> (D,)


class Extractor:
    """Features of a clip: prosody, and the last encoder layers of the two recognisers."""

    def __init__(self, weights: Path) -> None:
        self._encoders = {
            name: ctranslate2.models.Whisper(
                str(find_weights(name, weights)),
                device="cpu",
                compute_type="int8",
                intra_threads=1,
            )
            for name in _WHISPER
        }

    def clip(self, speaker: str, prompt: str, emotion: str, audio_T: np.ndarray) -> Clip:
        """Compute the features of a clip, without silence at its ends and at one level."""
        speech_T = _levelled(audio_T)
        features = {name: self._encoded(name, speech_T) for name in _WHISPER}
        return Clip(speaker, prompt, emotion, audio_T, {"prosody": _prosody(speech_T), **features})

    def _encoded(self, name: str, speech_T: np.ndarray) -> np.ndarray:
        """Mean and standard deviation over frames of the encoder's output."""
        padding = -len(speech_T) % _FRAME + _FRAME
        mel_1CF = log_mel(np.pad(speech_T, (0, padding)), 80)[None]
        encoded = self._encoders[name].encode(ctranslate2.StorageView.from_array(mel_1CF))
        real_FD = np.array(encoded)[0][: max(2, len(speech_T) // _FRAME)]
        return np.concatenate([real_FD.mean(0), real_FD.std(0)])


def _levelled(audio_T: np.ndarray) -> np.ndarray:
    lacking = round(_SHORTEST_S * SAMPLE_RATE_HZ) - len(audio_T)
    audio_T = np.pad(audio_T, (0, max(0, lacking))).astype(np.float32)
    frames = len(audio_T) // _FRAME
    power_F = (audio_T[: frames * _FRAME].reshape(frames, _FRAME) ** 2).mean(axis=1)
    loud = np.flatnonzero(power_F > power_F.max() * 10 ** (-_EDGE_DB / 10))
    first, last = max(0, loud[0] - 2), loud[-1] + 3
    active = power_F[power_F > power_F.max() * 10 ** (-_ACTIVE_DB / 10)].mean()
    gain = 10 ** (_LEVEL_DB / 20) / np.sqrt(active)
    longest = round(_LONGEST_S * SAMPLE_RATE_HZ)
    return (audio_T[first * _FRAME : last * _FRAME] * np.float32(gain))[:longest]


def _prosody(speech_T: np.ndarray) -> np.ndarray:
    pitch_st_F, level_db_F = contours(speech_T)
    voiced_F = ~np.isnan(pitch_st_F)
    voiced_st = pitch_st_F[voiced_F] if voiced_F.sum() > 1 else np.zeros(2)
    loud_db = level_db_F[level_db_F > level_db_F.max() - _ACTIVE_DB] - level_db_F.max()
    moved_st = np.abs(np.diff(pitch_st_F))
    moved_st = moved_st[~np.isnan(moved_st)]
    return np.array([
        *_moments(voiced_st),
        *_moments(loud_db),
        voiced_F.mean(),
        np.log(len(level_db_F)),
        moved_st.mean() if len(moved_st) else 0.0,
        np.diff(level_db_F).std(),
    ])  # fmt: skip


def _moments(values: np.ndarray) -> tuple[float, ...]:
    return (values.mean(), values.std(), *np.percentile(values, [10, 50, 90]))


def read(folder: Path, extractor: Extractor) -> tuple[list[Clip], dict[str, str]]:
    """Read a corpus with emotions; also return the phrase of each prompt."""
    recordings = grading.labelled_recordings(folder)
    clips = [
        extractor.clip(each.speaker, each.group, str(each.emotion), decode_file(each.audio))
        for each in track(recordings, len(recordings), f"features of {folder.name}")
    ]
    return clips, {each.group: each.text for each in recordings}


def flat(clips: Sequence[Clip], texts: dict[str, str], extractor: Extractor) -> list[Clip]:
    """Render the phrases with the speakers of the controlled corpus, all of them neutral."""
    emotions = {clip.prompt: clip.emotion for clip in clips}
    voice = Voice()
    rendered = []
    for prompt, text in track(texts.items(), len(texts), "phrases of machine voices"):
        sentence = re.sub(r"[^\w' ]", "", text) + "."  # a statement, as flat as the voice can
        n_words = len(sentence.split())
        still = controls(np.zeros((n_words, 3)), np.zeros((n_words, 3)), np.zeros(n_words))
        for speaker, timbre in TIMBRES.items():
            speech = voice.synthesise(sentence, n_words, timbre.applied(still), [0])
            rendered.append(extractor.clip(speaker, prompt, emotions[prompt], speech.samples))
    return rendered


def matrix(clips: Sequence[Clip], names: Sequence[str]) -> np.ndarray:
    """Features with mean 0 and variance 1 for each speaker, (N, D); no label is used.

    Each of `names` has the same weight, and the mean square of a row is about 1.
    """
    blocks = []
    speakers_N = np.array([clip.speaker for clip in clips])
    for name in names:
        block_ND = np.stack([clip.features[name] for clip in clips]).astype(np.float64)
        smallest = 1e-3 * np.abs(block_ND).max()
        for speaker in set(speakers_N):
            own = speakers_N == speaker
            deviation = np.maximum(block_ND[own].std(axis=0), smallest)
            block_ND[own] = (block_ND[own] - block_ND[own].mean(axis=0)) / deviation
        blocks.append(block_ND / np.sqrt(block_ND.shape[1] * len(names)))
    return np.concatenate(blocks, axis=1)


def scores(
    train_ND: np.ndarray, emotions: Sequence[str], test_ND: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Scores of ridge regression to the classes, each of which has the same weight, (N, S)."""
    target_NS = np.array([[float(own == name) for name in classes] for own in emotions])
    weight_N = (target_NS / target_NS.sum(axis=0)).sum(axis=1)
    weight_N /= weight_N.mean()
    mean_D = weight_N @ train_ND / weight_N.sum()
    centred_ND = train_ND - mean_D
    kernel_NN = centred_ND @ centred_ND.T + RIDGE * np.diag(1 / weight_N)
    dual_NS = np.linalg.solve(kernel_NN, target_NS - 1 / len(classes))
    return (test_ND - mean_D) @ centred_ND.T @ dual_NS


def prompt_folds(clips: Sequence[Clip]) -> dict[str, int]:
    """Fold of each prompt; each fold has prompts of every emotion."""
    folds = {}
    for emotion in sorted({clip.emotion for clip in clips}):
        prompts = sorted({clip.prompt for clip in clips if clip.emotion == emotion})
        folds.update({prompt: i % PROMPT_FOLDS for i, prompt in enumerate(prompts)})
    return folds


def unseen(train: Sequence[Clip], test: Sequence[Clip], names: Sequence[str]) -> list[str]:
    """Predict the emotion of `test` from clips of other speakers and other prompts of `train`."""
    classes = sorted({clip.emotion for clip in train})
    folds = prompt_folds(train)
    train_ND, test_ND = matrix(train, names), matrix(test, names)
    predicted = [""] * len(test)
    for speaker, fold in {(clip.speaker, folds[clip.prompt]) for clip in test}:
        kept = [i for i, c in enumerate(train) if c.speaker != speaker and folds[c.prompt] != fold]
        held = [i for i, c in enumerate(test) if (c.speaker, folds[c.prompt]) == (speaker, fold)]
        emotions = [train[i].emotion for i in kept]
        best = scores(train_ND[kept], emotions, test_ND[held], classes).argmax(axis=1)
        for i, index in zip(held, best, strict=True):
            predicted[i] = classes[index]
    return predicted


def carried(train: Sequence[Clip], test: Sequence[Clip], names: Sequence[str]) -> list[str]:
    """Predict the emotion of `test`, of another corpus, from the classes that both have."""
    classes = sorted({clip.emotion for clip in train} & {clip.emotion for clip in test})
    train = [clip for clip in train if clip.emotion in classes]
    emotions = [clip.emotion for clip in train]
    best = scores(matrix(train, names), emotions, matrix(test, names), classes).argmax(axis=1)
    return [classes[index] for index in best]


def recall(clips: Sequence[Clip], predicted: Sequence[str]) -> float:
    """Unweighted average recall."""
    return grading.recall([clip.emotion for clip in clips], predicted)


def stated(clips: Sequence[Clip], predicted: Sequence[str]) -> str:
    """Recall with its 95 % interval over resampled speakers."""
    generator = np.random.default_rng(0)
    speakers = sorted({clip.speaker for clip in clips})
    rows = {s: [i for i, clip in enumerate(clips) if clip.speaker == s] for s in speakers}
    found = []
    for _ in range(RESAMPLES):
        chosen = [i for s in generator.choice(speakers, len(speakers)) for i in rows[s]]
        found.append(recall([clips[i] for i in chosen], [predicted[i] for i in chosen]))
    low, high = np.percentile(found, [2.5, 97.5])
    return f"{recall(clips, predicted):.2f} ({low:.2f} to {high:.2f})"


def judge_table(judge: affect.AffectJudge, corpora: dict[str, list[Clip]]) -> str:
    """Recall of the judge with each scale that it has and with that of the corpus."""
    lines = ["| scale of | " + " | ".join(corpora) + " |", "|---" * (len(corpora) + 1) + "|"]
    for scale in [*judge.trained_on, "its own recordings"]:
        cells = []
        for clips in corpora.values():
            frames = [affect.input_features(clip.audio_T) for clip in clips]
            judge.scales = {scale: affect.Scale([], len(clips), affect.scale_of(frames))}
            emotions = sorted({clip.emotion for clip in clips})
            cells.append(stated(clips, grading.most_probable(judge, scale, frames, emotions)))
        lines.append(f"| {scale} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def probe_table(first: str, second: str, speech: dict[str, tuple[list[Clip], list[Clip]]]) -> str:
    """Recall of probes on recordings and on the same phrases of machine voices."""
    columns = {
        f"{first}: speaker and prompt unseen": partial(unseen, speech[first][0]),
        f"{first} to {second}": partial(carried, speech[first][0]),
        f"{second} to {first}": partial(carried, speech[second][0]),
    }
    tested = [first, second, first]
    both = {clip.emotion for clip in speech[second][0]}
    heads = [f"{name}: {what}" for name in columns for what in ("recordings", "machine voices")]
    lines = ["| features | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    chosen = [("prosody",), *((name,) for name in _WHISPER), ("prosody", *_WHISPER)]
    for names in chosen:
        cells = []
        for (title, predict), corpus in zip(columns.items(), tested, strict=True):
            for clips in speech[corpus]:
                kept = [c for c in clips if "unseen" in title or c.emotion in both]
                cells.append(stated(kept, predict(kept, names)))
        lines.append(f"| {' + '.join(names)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--judge", type=Path, required=True, help="results/<run>/judge")
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    chosen = parser.parse_args()
    extractor = Extractor(chosen.weights)
    speech = {}
    for folder in (chosen.first, chosen.second):
        clips, texts = read(folder, extractor)
        speech[folder.name] = (clips, flat(clips, texts, extractor))
        counts = [len(each) for each in speech[folder.name]]
        print(f"{folder.name}: {counts[0]} recordings, {counts[1]} of machine voices")
    corpora = {name: clips for name, (clips, _) in speech.items()}
    print(judge_table(affect.load(chosen.judge), corpora), end="\n\n")
    print(probe_table(chosen.first.name, chosen.second.name, speech))


if __name__ == "__main__":
    main()
