"""The language of the controlled corpus: templates whose words suggest an emotion.

Every sentence has one slot (`feel`, `quality`, `act` or `noun`) filled with a word of one style.
The text makes a style likely but does not determine the rendered one (`affect.RENDERINGS`). The
words are common ones that the ASR judge recognises in all voices; docs/corpora.md lists the words
that were dropped.
"""

import zlib
from collections.abc import Iterator
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
    "did {who} really find the {quality} {thing}",
    "nobody {act} the {thing} before {who} did",
    "{who} and {who} were {feel} {time}",
    "please tell {who} that I am {feel}",
)

FILLERS = {
    "who": _choices(
        "my mother|my father|my brother|my sister|my uncle|my cousin|my neighbor|my teacher|"
        "the doctor|the captain|the driver|the farmer|the student|the manager|the soldier|"
        "the singer|the waiter|the president|the actor|the lawyer|the painter|the hunter|"
        "the children|the visitor|the butcher|the reporter"
    ),
    "thing": _choices(
        "letter|camera|window|garden|story|picture|dinner|movie|music|table|present|package|"
        "house|bridge|telephone|magazine|machine|museum|village|computer|newspaper|festival|"
        "basket|blanket|bottle|button|candle|castle|curtain|diamond|elephant|envelope|flower|"
        "guitar|hammer|jacket|lantern|mirror|necklace|painting|piano|pillow|pocket|"
        "rabbit|ticket|tiger|umbrella|wagon|balloon|notebook|sandwich"
    ),
    "place": _choices(
        "in the kitchen|at the station|in the office|at school|at the party|in the forest|"
        "on the mountain|at the hotel|in the city|near the river|behind the church|on the island|"
        "under the bridge|at the airport|in the library|by the ocean|in the tower|at the market|"
        "near the stadium|in the basement|across the street|in the valley"
    ),
    "time": _choices(
        "today|yesterday|this morning|last night|after dinner|on Monday|this afternoon|"
        "last summer|before breakfast|in December|at midnight|on Saturday|all evening|in October"
    ),
}
"""Fillers that all styles share."""

FEELING = {
    "neutral": {
        "feel": _choices("calm|ready|busy|quiet|patient|prepared|awake|normal"),
        "quality": _choices("ordinary|regular|typical|simple|usual|standard|common|average"),
        "act": _choices("described|opened|moved|counted|noticed|measured|copied|carried"),
        "noun": _choices("information|business|traffic|weather|practice|furniture|history"),
    },
    "happy": {
        "feel": _choices("happy|delighted|cheerful|excited|proud|thankful|joyful|lucky"),
        "quality": _choices(
            "wonderful|beautiful|lovely|amazing|fantastic|perfect|charming|brilliant"
        ),
        "act": _choices("embraced|enjoyed|celebrated|admired|adored|treasured|loved"),
        "noun": _choices("happiness|laughter|pleasure|excitement|success|kindness|victory"),
    },
    "sad": {
        "feel": _choices("sad|lonely|miserable|heartbroken|hopeless|depressed|unhappy|sorry"),
        "quality": _choices("broken|lost|forgotten|empty|abandoned|ruined|tragic|painful"),
        "act": _choices("missed|cried about|regretted|said goodbye to|gave up|buried|lost"),
        "noun": _choices("sadness|sorrow|loneliness|suffering|disappointment|tears|regret"),
    },
    "angry": {
        "feel": _choices("angry|furious|outraged|annoyed|bitter|offended|jealous|insulted"),
        "quality": _choices("stupid|rotten|disgusting|awful|ridiculous|horrible|pathetic|shameful"),
        "act": _choices("hated|destroyed|attacked|shouted about|complained about|smashed|insulted"),
        "noun": _choices("anger|rage|hatred|violence|revenge|betrayal|nonsense"),
    },
    "fearful": {
        "feel": _choices("afraid|scared|terrified|frightened|nervous|worried|anxious|helpless"),
        "quality": _choices(
            "dangerous|deadly|haunted|creepy|scary|threatening|poisonous|suspicious"
        ),
        "act": _choices("feared|ran away from|escaped from|was afraid of|worried about|fled from"),
        "noun": _choices("fear|terror|panic|danger|horror|darkness|disaster"),
    },
}
"""Style -> slot of `TEMPLATES` -> words."""

HELD_OUT_PAIRS = 12
"""One in this many pairs of an emotion word and another content word is in test sentences only."""
DEV_PERCENT, JUDGE_PERCENT = 4, 20
"""Percentages of the sentences without a held-out pair that belong to these splits."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of the controlled language."""

    text: str  # as written, with capital and final punctuation
    words: str  # normalised words separated by blanks; they identify the sentence
    style: str  # one of `STYLES`
    feeling: tuple[int, int]  # word indices [first, last + 1) of the emotion word or words
    content: tuple[int, ...]  # indices of the other words that can be emphasised
    pairs: tuple[str, ...]  # the emotion word paired with each of the other fillers

    @property
    def split(self) -> str:
        """Split of the sentence, a function of its words, so that it is the same in every run.

        Test sentences, and only these, have a held-out pair of words.
        """
        if any(zlib.crc32(pair.encode()) % HELD_OUT_PAIRS == 0 for pair in self.pairs):
            return "test"
        percent = zlib.crc32(self.words.encode()) % 100
        if percent < DEV_PERCENT:
            return "dev"
        return "judge" if percent < DEV_PERCENT + JUDGE_PERCENT else "train"


def sentences(split: str, count: int, seed: int) -> Iterator[Sentence]:
    """Yield `count` distinct sentences of one split, cycling through the styles.

    With the same seed, a longer list begins with the shorter one. The language has millions of
    sentences.
    """
    rng = np.random.default_rng([seed, *split.encode()])
    found: set[str] = set()
    while len(found) < count:
        sentence = _sentence(STYLES[len(found) % len(STYLES)], rng)
        if sentence.split == split and sentence.words not in found:
            found.add(sentence.words)
            yield sentence


def _sentence(style: str, rng: np.random.Generator) -> Sentence:
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    words: list[str] = []
    content: list[int] = []
    others: list[str] = []
    feeling, named = (0, 0), ""
    for part in template.split():
        slot = part.strip("{}")
        choices = FEELING[style].get(slot) or FILLERS.get(slot) or (slot,)
        chosen = choices[rng.integers(len(choices))]
        while chosen in others:  # two slots of a sentence never have the same filler
            chosen = choices[rng.integers(len(choices))]
        filler = chosen.split()
        if slot in FEELING[style]:
            feeling, named = (len(words), len(words) + len(filler)), chosen
        elif slot in FILLERS:
            content.append(len(words) + len(filler) - 1)
            others.append(chosen)
        words += filler
    text = " ".join(words)
    return Sentence(
        text=f"{text[0].upper()}{text[1:]}{'?' if words[0] == 'did' else '.'}",
        words=text.lower(),
        style=style,
        feeling=feeling,
        content=tuple(content),
        pairs=tuple(f"{named}|{other}" for other in others),
    )
