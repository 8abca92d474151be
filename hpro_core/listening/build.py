"""`hpro listen build`: choose sentences, make the clips, and write the page and its key file."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, cycle, islice
from pathlib import Path
from typing import cast

import numpy as np

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import write_bytes, write_text
from hpro_core.listening import audio
from hpro_core.listening.design import (
    FILE,
    FORMAT,
    NOT_RATED,
    Clip,
    Design,
    Part,
    Sentence,
    SessionPart,
    System,
    with_id,
    write_design,
)
from hpro_core.listening.orders import MAX_TONES, Orders, Trial, balanced, in_blocks
from hpro_core.listening.page import Example, page
from hpro_core.listening.sources import ANCHOR, RECORDINGS, TRAINING, Material, Spoken, read_clip
from hpro_core.progress import track

PAGE = "page"
"""Folder, in the output, that raters get."""

MAX_SINGLE_BYTES = 40_000_000
"""Largest page with all audio inside (ours): larger ones open slowly, and mail refuses them."""

TRAINING_TONES = 2

ANSWER_S = 5.0
"""Seconds that an answer takes after the clip, for the announced length of a session (ours)."""


@dataclass(frozen=True)
class Settings:
    """Settings of a test.

    Attributes:
        title: title of the page.
        sentences: number of sentences.
        per_rater: most sentences of one rater per part.
        parts: some of `orders.PARTS`, in their order.
        pairs: systems compared in the preference; empty: all pairs of compared systems.
        seed: seed of choice and orders.
        single: whether all audio is inside the page.
    """

    title: str
    sentences: int
    per_rater: int
    parts: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    seed: int
    single: bool


def build(material: Material, source: str, settings: Settings, out: Path) -> Design:
    """Write a listening test: page/ for the raters, and design.json for the experimenter.

    Args:
        material: sentences and audio.
        source: where the audio is from, for design.json.
        settings: settings of the test.
        out: new folder, see `hpro_core.new_folder`.

    Raises:
        HproError: audio is unusable, a pair names no compared system, or the single page would
            exceed `MAX_SINGLE_BYTES`.
    """
    systems, pairs = _systems(material), _pairs(material, settings)
    if settings.parts == ("preference",) and not pairs:
        raise HproError("a preference needs two systems: name another one")
    rated, extra = _chosen(material, settings)
    names = [system.name for system in systems]
    sounds, loudness = _sounds(material, rated, names, extra)
    ids = _ids(sounds, settings.seed)
    orders = Orders(
        blocks=in_blocks(range(len(rated)), settings.per_rater),
        parts=[part for part in settings.parts if part != "preference" or pairs],
        n_systems=len(names),
        pairs=[(names.index(first), names.index(second)) for first, second in pairs],
        seed=settings.seed,
    )
    design = with_id(
        Design(
            format=FORMAT,
            test="",
            title=settings.title,
            source=source,
            seed=settings.seed,
            loudness_lufs=round(loudness, 3),
            emotion_intended=any(spoken.emotion for spoken in rated),
            systems=systems,
            pairs=pairs if "preference" in orders.parts else [],
            sentences=_sentences(material, {key.utt_id for key in sounds}),
            clips={ids[key]: key for key in sorted(sounds, key=lambda key: ids[key])},
            sessions=_sessions(orders, rated, names, ids),
        )
    )
    _write(design, {ids[key]: sound for key, sound in sounds.items()}, settings.single, out)
    for line in _summary(design, material, rated):
        print(line, flush=True)
    return design


def _chosen(material: Material, settings: Settings) -> tuple[list[Spoken], list[Spoken]]:
    """The rated sentences; and all sentences, the others first."""
    strata = [f"{spoken.test_set}\0{spoken.emotion}" for spoken in material.sentences]
    chosen = balanced(strata, settings.sentences, settings.seed)
    others = [place for place in range(len(strata)) if place not in set(chosen)]
    rated, rest = ([material.sentences[at] for at in places] for places in (chosen, others))
    return rated, [*rest, *rated]


def _sentences(material: Material, used: set[str]) -> list[Sentence]:
    """The used sentences, sorted by id."""
    return [
        Sentence(
            utt_id=spoken.utt_id,
            text=" ".join(spoken.text.split()),
            emotion=spoken.emotion,
            test_set=spoken.test_set,
        )
        for spoken in sorted(material.sentences, key=lambda spoken: spoken.utt_id)
        if spoken.utt_id in used
    ]


def _systems(material: Material) -> list[System]:
    compared = [System(name=name, role="system") for name in material.systems]
    if not material.has_recordings:
        return compared
    return [
        System(name=RECORDINGS, role="reference"),
        *compared,
        System(name=ANCHOR, role="anchor"),
    ]


def _pairs(material: Material, settings: Settings) -> list[tuple[str, str]]:
    known = [*material.systems, *([RECORDINGS, ANCHOR] if material.has_recordings else [])]
    for first, second in settings.pairs:
        for name in (first, second):
            if name not in known:
                raise HproError(
                    f"--pair {first}:{second}: {name!r} is not in this test ({', '.join(known)})"
                )
        if first == second:
            raise HproError(f"--pair {first}:{second}: name two systems")
    return list(settings.pairs) or list(combinations(material.systems, 2))


Sounds = dict[Clip, np.ndarray]
"""Audio of each clip, float (T,)."""


def _sounds(
    material: Material, rated: Sequence[Spoken], systems: Sequence[str], extra: Sequence[Spoken]
) -> tuple[Sounds, float]:
    """Read and level all clips: rated ones, training, and checks.

    Training and checks are of the sentences of `extra`, in this order: those that are not rated
    come first.

    Returns:
        The clips, and their loudness.
    """
    best = RECORDINGS if material.has_recordings else material.systems[0]
    checked = list(islice(cycle(extra), 1 + MAX_TONES))
    speech: dict[tuple[str, str], np.ndarray] = {}
    needed = [(spoken, system) for spoken in rated for system in systems]
    needed += [(spoken, best) for spoken in checked] + [(checked[0], systems[-1])]
    for spoken, system in track(needed, len(needed), "listening test: clips"):
        if (spoken.utt_id, system) not in speech:
            file = spoken.audio[RECORDINGS if system == ANCHOR else system]
            clip = read_clip(material, file)
            speech[spoken.utt_id, system] = audio.low_anchor(clip) if system == ANCHOR else clip
    level, loudness = audio.levelled({"\0".join(key): clip for key, clip in speech.items()})
    equal = {key: level["\0".join(key)] for key in speech}

    sounds: Sounds = {
        Clip(utt_id=spoken.utt_id, system=system): equal[spoken.utt_id, system]
        for spoken in rated
        for system in systems
    }
    trained = checked[0].utt_id
    examples = [(best, 0), (systems[-1], 0), (best, TRAINING_TONES)]
    for kind, (system, tones) in zip(TRAINING, examples, strict=True):
        made = audio.with_tones(equal[trained, system], tones)
        sounds[Clip(utt_id=trained, system=NOT_RATED + kind, tones=tones)] = made
    for tones, spoken in enumerate(checked[1:], start=1):
        for n in (0, tones):  # a preference compares the clip with tones and without
            made = audio.with_tones(equal[spoken.utt_id, best], n)
            sounds[Clip(utt_id=spoken.utt_id, system=_check(tones), tones=n)] = made
    return sounds, loudness


def _check(tones: int) -> str:
    """System of the two clips, with these tones and without, of one check."""
    return f"{NOT_RATED}check{tones}"


def _ids(sounds: Sounds, seed: int) -> dict[Clip, str]:
    """Ids of the clips, from which nobody without the audio can tell the system."""
    salt = hashlib.sha256(str(seed).encode())
    for sound in sounds.values():
        salt.update(audio.flac(sound))
    return {
        key: hashlib.sha256(
            f"{salt.hexdigest()}\0{key.utt_id}\0{key.system}\0{key.tones}".encode()
        ).hexdigest()[:16]
        for key in sounds
    }


def _sessions(
    orders: Orders, rated: Sequence[Spoken], systems: Sequence[str], ids: Mapping[Clip, str]
) -> list[list[SessionPart]]:
    with_tones, without = _check_clips(ids)

    def clip(sentence: int, system: int) -> str:
        return ids[Clip(utt_id=rated[sentence].utt_id, system=systems[system])]

    with_emotion = [place for place, spoken in enumerate(rated) if spoken.emotion]
    asked = {"emotion": with_emotion or range(len(rated)), "naturalness": range(len(rated))}
    sessions = []
    for session in range(orders.n_sessions):
        tones = orders.tones(session)
        parts = []
        for part in orders.parts_of(session):
            trials: list[Trial]
            if part == "preference":
                compared = orders.preferences(session)
                trials = [(clip(s, first), clip(s, second)) for s, first, second in compared]
                checks: list[Trial] = [(with_tones[n], without[n]) for n in tones[part]]
                if session % 2:
                    checks = [trial[::-1] for trial in checks]
            else:
                trials = [(clip(*each),) for each in orders.ratings(session, part, asked[part])]
                checks = [(with_tones[n],) for n in tones[part]]
            mixed = orders.with_checks(session, part, trials, checks)
            parts.append(SessionPart(part=cast(Part, part), trials=[list(t) for t in mixed]))
        sessions.append(parts)
    return sessions


def _check_clips(ids: Mapping[Clip, str]) -> tuple[dict[int, str], dict[int, str]]:
    """Ids of the clips of the checks by number of tones: with the tones, and without."""
    number_of = {_check(n): n for n in range(1, MAX_TONES + 1)}
    of_checks = [(key, clip) for key, clip in ids.items() if key.system in number_of]
    return (
        {number_of[key.system]: clip for key, clip in of_checks if key.tones},
        {number_of[key.system]: clip for key, clip in of_checks if not key.tones},
    )


def _write(design: Design, sounds: Mapping[str, np.ndarray], single: bool, out: Path) -> None:
    files = {clip: audio.flac(sound) for clip, sound in sounds.items()}
    uris = None
    if single:
        size = sum(map(len, files.values())) * 4 // 3
        if size > MAX_SINGLE_BYTES:
            raise HproError(
                f"a single page would have {size / 1e6:.0f} MB, more than "
                f"{MAX_SINGLE_BYTES / 1e6:.0f} MB: leave out --single, or take fewer --sentences"
            )
        uris = {
            clip: f"data:audio/flac;base64,{base64.b64encode(content).decode()}"
            for clip, content in files.items()
        }
    training = _training(design)
    seconds = {clip: len(sound) / SAMPLE_RATE_HZ for clip, sound in sounds.items()}
    text = page(design, training, _minutes(design, seconds), uris)
    write_text(out / PAGE / "index.html", text)
    if not single:
        for clip, content in files.items():
            write_bytes(out / PAGE / "audio" / f"{clip}.flac", content)
    write_design(out / FILE, design)


def _training(design: Design) -> list[Example]:
    of = {clip.system: name for name, clip in design.clips.items()}
    has_range = any(system.role == "reference" for system in design.systems)
    return [
        (of[NOT_RATED + kind], kind if has_range or kind == "tones" else "example")
        for kind in TRAINING
    ]


def _minutes(design: Design, seconds: Mapping[str, float]) -> int:
    """Length of the longest session, rounded up, with a minute of training."""
    lengths = [
        sum(
            ANSWER_S + sum(seconds[clip] for clip in clips)
            for part in session
            for clips in part.trials
        )
        for session in design.sessions
    ]
    return int(np.ceil(max(lengths) / 60)) + 1


def _summary(design: Design, material: Material, rated: Sequence[Spoken]) -> list[str]:
    kinds = Counter((spoken.test_set, spoken.emotion or "no emotion") for spoken in rated)
    counts = ", ".join(f"{n} {emotion} ({name})" for (name, emotion), n in sorted(kinds.items()))
    lines = [f"{len(rated)} sentences: {counts}"]
    lines += [f"left out: {note}" for note in material.left_out]
    lines.append(f"systems: {', '.join(system.name for system in design.systems)}")
    if not material.has_recordings:
        lines.append("no recordings, so no hidden reference and no low anchor")
    if not design.pairs:
        lines.append("no preference, or only one system: nothing is compared in pairs")
    for part in design.sessions[0]:
        lengths = [len(p.trials) for each in design.sessions for p in each if p.part == part.part]
        low, high = min(lengths), max(lengths)
        n = f"{low}" if low == high else f"{low} to {high}"
        lines.append(f"{part.part}: {n} trials per rater, with checks")
    n_raters = len(design.sessions)
    lines.append(f"a cycle is {n_raters} raters, after which all clips have equally many answers")
    return lines
