"""The language of the controlled corpus: templates whose words carry the feeling.

Every sentence has exactly one style, and one slot of it (`feel`, `quality`, `act` or `noun`) is
filled with a word of that style: who reads the text knows the style. The words are common ones that
a small ASR model hears; "What a ...", "hospital", "a ugly" and "cruel ticket" were tried and are
misheard.
"""

from dataclasses import dataclass

import numpy as np


def _choices(listed: str) -> tuple[str, ...]:
    return tuple(listed.split("|"))


STYLES = ("neutral", "happy", "sad", "angry", "fearful")
"""Subset of `EMOTIONS`."""

TEMPLATES = (
    "{who} was very {feel} {time}",
    "{who} felt {feel} about the {thing}",
    "{who} {act} the {thing} {place}",
    "we saw the {quality} {thing} {place}",
    "there was so much {noun} {place}",
    "{who} told us about the {quality} {thing}",
    "I am so {feel} because of the {thing}",
    "{time} {who} {act} the {thing}",
    "the {quality} {thing} belongs to {who}",
    "{who} looked {feel} {place} {time}",
    "they {act} the {thing} when they came home",
    "{who} wrote about {noun} in the letter",
    "everyone talked about the {noun} {place}",
    "it is a story of {noun} and the {thing}",
    "{who} remembers the {quality} {thing} {place}",
    "you sound {feel} when you talk about the {thing}",
)

FILLERS = {
    "who": _choices(
        "my mother|my father|my brother|my sister|my uncle|the teacher|the doctor|the captain|"
        "the driver|the farmer|the student|the manager|the soldier|the singer|the waiter|"
        "the president|the actor|the lawyer"
    ),
    "thing": _choices(
        "letter|camera|window|garden|story|picture|dinner|movie|music|table|present|package|"
        "house|bridge|telephone|magazine|machine|museum|village|computer|newspaper|festival"
    ),
    "place": _choices(
        "in the kitchen|at the station|in the office|at school|at the party|in the forest|"
        "on the mountain|at the hotel|in the city|near the river|behind the church|on the island"
    ),
    "time": _choices(
        "today|yesterday|this morning|last night|after dinner|on Monday|this afternoon"
    ),
}
"""What every style shares."""

FEELING = {
    "neutral": {
        "feel": _choices("calm|ready|busy|quiet|patient|prepared"),
        "quality": _choices("ordinary|regular|normal|simple|usual|standard"),
        "act": _choices("described|opened|moved|counted|noticed|measured"),
        "noun": _choices("information|business|traffic|weather|practice"),
    },
    "happy": {
        "feel": _choices("happy|delighted|cheerful|excited|proud|thankful"),
        "quality": _choices("wonderful|beautiful|lovely|amazing|fantastic|perfect"),
        "act": _choices("welcomed|enjoyed|celebrated|admired|adored"),
        "noun": _choices("happiness|laughter|pleasure|excitement|success"),
    },
    "sad": {
        "feel": _choices("sad|lonely|miserable|heartbroken|hopeless|depressed"),
        "quality": _choices("broken|lost|forgotten|empty|abandoned|ruined"),
        "act": _choices("missed|cried about|regretted|said goodbye to|gave up"),
        "noun": _choices("sadness|sorrow|loneliness|suffering|disappointment"),
    },
    "angry": {
        "feel": _choices("angry|furious|outraged|annoyed|bitter|offended"),
        "quality": _choices("stupid|rotten|disgusting|awful|ridiculous|horrible"),
        "act": _choices("hated|destroyed|attacked|shouted about|complained about"),
        "noun": _choices("anger|rage|hatred|violence|revenge"),
    },
    "fearful": {
        "feel": _choices("afraid|scared|terrified|frightened|nervous|worried"),
        "quality": _choices("dangerous|deadly|haunted|creepy|scary|threatening"),
        "act": _choices("feared|ran away from|escaped from|was afraid of|worried about"),
        "noun": _choices("fear|terror|panic|danger|horror"),
    },
}
"""The words of each style; the slot names of `TEMPLATES`."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of the controlled language.

    Attributes:
        text: as written, with capital and full stop.
        words: normalised, separated by blanks; sentences are told apart by it.
        style: one of `STYLES`.
        feeling: word indices [first, last + 1) of the word or words of the style.
        content: indices of the other words that can be emphasised.
    """

    text: str
    words: str
    style: str
    feeling: tuple[int, int]
    content: tuple[int, ...]


def sentences(count: int, seed: int) -> list[Sentence]:
    """`count` different sentences, the styles in turn.

    Args:
        count: how many; far fewer than the language has (about a hundred thousand).
        seed: of the choice of templates and words.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Sentence] = {}
    while len(found) < count:
        sentence = _sentence(STYLES[len(found) % len(STYLES)], rng)
        found.setdefault(sentence.words, sentence)
    return list(found.values())


def _sentence(style: str, rng: np.random.Generator) -> Sentence:
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    words: list[str] = []
    content: list[int] = []
    feeling = (0, 0)
    for part in template.split():
        slot = part.strip("{}")
        choices = FEELING[style].get(slot) or FILLERS.get(slot) or (slot,)
        filler = choices[rng.integers(len(choices))].split()
        if slot in FEELING[style]:
            feeling = (len(words), len(words) + len(filler))
        elif slot in FILLERS:
            content.append(len(words) + len(filler) - 1)
        words += filler
    text = " ".join(words)
    return Sentence(
        text=f"{text[0].upper()}{text[1:]}.",
        words=text.lower(),
        style=style,
        feeling=feeling,
        content=tuple(content),
    )
