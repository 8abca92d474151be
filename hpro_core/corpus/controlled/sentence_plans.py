"""Rendering plans of the controlled corpus: sentences with speaker, style, strength, emphasis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpro_core.constants import SPLITS
from hpro_core.corpus.controlled import affect
from hpro_core.corpus.controlled.sentences import STYLES, Sentence, sentences
from hpro_core.corpus.controlled.voices import TIMBRES, drawn_voices, timbre_of
from hpro_core.params import Controlled

_DRAWN_FRACTION = 0.5
"""Fraction of train with drawn voices (ours): the eight, which are tested, keep half of it."""


@dataclass(frozen=True)
class Plan:
    """Complete specification of one utterance to render."""

    utt_id: str  # name of the audio file without suffix
    split: str  # split of the sentence
    sentence: Sentence  # its text and words
    speaker: str  # as `timbre_of` knows it
    style: str  # rendered style; `sentence.style` is the style that the words suggest
    strength: float  # strength of the style, in `affect.STRENGTH`
    emphasised: int  # index of the emphasised word
    seed: list[int]  # seed of the voice's noise

    @property
    def n_words(self) -> int:
        return len(self.sentence.words.split())

    @property
    def feeling_W3(self) -> np.ndarray:
        return affect.feeling_W3(self.style, self.strength, self.n_words, self.sentence.feeling)

    @property
    def emphasis_W(self) -> np.ndarray:
        return affect.emphasis_W(self.n_words, self.emphasised)

    @property
    def signed_W3(self) -> np.ndarray:
        return affect.signed_W3(self.style, self.feeling_W3, self.emphasis_W)

    @property
    def controls(self) -> affect.WordControls:
        own = affect.controls(self.signed_W3, self.feeling_W3, self.emphasis_W)
        return timbre_of(self.speaker).applied(own)


def text_plans(name: str, texts: Sequence[str], settings: Controlled) -> list[Plan]:
    """Return the plans of sentences that do not belong to the grammar, all for train.

    Their words suggest no style: style, strength, emphasis and the word at which the affect peaks
    are drawn independently of them. The voices are those of train in `plans`.

    Args:
        name: prefix of utt_id.
        texts: normalised words of the sentences, with a full stop or question mark at the end.
        settings: number of renderings of each, voices and seed.
    """
    rng = np.random.default_rng([settings.seed, 4])
    speakers = [*TIMBRES, *drawn_voices(settings.drawn_voices)]
    found = []
    for index, text in enumerate(text for text in texts for _ in range(settings.text_renderings)):
        words = text[:-1].split()
        peak = int(rng.integers(len(words)))
        style = str(rng.choice(STYLES))
        others = tuple(i for i in range(len(words)) if i != peak) or (peak,)
        sentence = Sentence(text, " ".join(words), style, (peak, peak + 1), others, pairs=())
        found.append(
            Plan(
                utt_id=f"{name}_train_{index:05d}",
                split="train",
                sentence=sentence,
                speaker=str(rng.choice(speakers)),
                style=style,
                strength=float(rng.uniform(*affect.STRENGTH)),
                emphasised=_emphasised(sentence, rng),
                seed=[settings.seed, 5, index],
            )
        )
    return found


def plans(name: str, settings: Controlled) -> list[Plan]:
    """Return the plans of all splits: speaker, style, strength and emphasis are sampled.

    Each split has its own random series: a larger size adds plans at its end, and no split depends
    on the size of another. Drawn voices replace the speaker of one in two plans of train, and
    change nothing else.
    """
    sizes = {split: getattr(settings, split) for split in SPLITS}
    return [plan for split, size in sizes.items() for plan in _series(name, split, size, settings)]


def _series(name: str, split: str, size: int, settings: Controlled) -> Iterator[Plan]:
    rng = np.random.default_rng([settings.seed, 1, *split.encode()])
    drawn = drawn_voices(settings.drawn_voices if split == "train" else 0)
    drawn_rng = np.random.default_rng([settings.seed, 3, *split.encode()])
    for index, sentence in enumerate(sentences(split, size, settings.seed)):
        speaker = str(rng.choice(list(TIMBRES)))
        if drawn and drawn_rng.random() < _DRAWN_FRACTION:
            speaker = str(drawn_rng.choice(drawn))
        yield Plan(
            utt_id=f"{name}_{split}_{index:05d}",
            split=split,
            sentence=sentence,
            speaker=speaker,
            **draw_rendering(sentence, rng),
            seed=[settings.seed, *split.encode(), index],
        )


def draw_rendering(sentence: Sentence, rng: np.random.Generator) -> dict[str, Any]:
    """Sample style, strength and emphasised word, which the text does not determine."""
    renderings = affect.RENDERINGS[sentence.style]
    return {
        "style": str(rng.choice(list(renderings), p=list(renderings.values()))),
        "strength": float(rng.uniform(*affect.STRENGTH)),
        "emphasised": _emphasised(sentence, rng),
    }


def _emphasised(sentence: Sentence, rng: np.random.Generator) -> int:
    if rng.random() < affect.EMPHASIS_ON_FEELING:
        return sentence.feeling[0]
    return int(rng.choice(sentence.content))
