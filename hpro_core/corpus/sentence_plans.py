"""What the controlled corpus says: sentences, and everything that decides how each sounds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpro_core.constants import SPLITS
from hpro_core.corpus import affect
from hpro_core.corpus.sentences import Sentence, sentences
from hpro_core.corpus.voices import TIMBRES
from hpro_core.params import Controlled


@dataclass(frozen=True)
class Plan:
    """One utterance before it is rendered: everything that decides how it sounds.

    Attributes:
        utt_id: name of the audio file without suffix.
        split: of the sentence.
        speaker: key of `TIMBRES`.
        style: in which it is said; `sentence.style` is the one that its words suggest.
        strength: of the style.
        emphasised: index of the emphasised word.
        seed: of the noise in the voice.
    """

    utt_id: str
    split: str
    sentence: Sentence
    speaker: str
    style: str
    strength: float
    emphasised: int
    seed: list[int]

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
        return TIMBRES[self.speaker].applied(own)


def plans(name: str, settings: Controlled) -> list[Plan]:
    """What to render: a sentence each; speaker, style, strength and emphasis by chance.

    Each split is a series of its own: asking for more adds to its end, and no split changes with
    the size of another.
    """
    sizes = {split: getattr(settings, split) for split in SPLITS}
    return [plan for split, size in sizes.items() for plan in _series(name, split, size, settings)]


def _series(name: str, split: str, size: int, settings: Controlled) -> Iterator[Plan]:
    rng = np.random.default_rng([settings.seed, 1, *split.encode()])
    for index, sentence in enumerate(sentences(split, size, settings.seed)):
        yield Plan(
            utt_id=f"{name}_{split}_{index:05d}",
            split=split,
            sentence=sentence,
            speaker=str(rng.choice(list(TIMBRES))),
            **drawn(sentence, rng),
            seed=[settings.seed, *split.encode(), index],
        )


def drawn(sentence: Sentence, rng: np.random.Generator) -> dict[str, Any]:
    """What the words leave open, by chance: style, strength and emphasised word."""
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
