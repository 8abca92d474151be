"""The key file of a listening test, design.json: what each clip is, and the trials of each rater.

It stays with the experimenter; the page only has the ids of the clips.
"""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hpro_core.errors import HproError
from hpro_core.io import read_json, write_json

FILE = "design.json"

FORMAT = "hpro listening test 1"
"""First value of design.json and of the answers in JSON."""

NOT_RATED = ":"
"""First character of the system of a clip of a check or of the training; no system has it."""

Role = Literal["reference", "system", "anchor"]
Part = Literal["naturalness", "emotion", "preference"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class System(_Entry):
    """A rated system and its role."""

    name: str
    role: Role


class Sentence(_Entry):
    """A sentence; `emotion` is empty if none is intended."""

    utt_id: str
    text: str
    emotion: str
    test_set: str


class Clip(_Entry):
    """A clip: its sentence and system, and the number of tones after the speech."""

    utt_id: str
    system: str
    tones: int = 0


class SessionPart(_Entry):
    """One part of a session: trials of one clip, or of two for a preference."""

    part: Part
    trials: list[list[str]]


class Design(_Entry):
    """A listening test.

    Attributes:
        format: `FORMAT`.
        test: id of the test, a hash of the rest.
        title: title of the page.
        source: run or folders that the audio is of.
        seed: seed of choice and orders.
        loudness_lufs: loudness of all clips.
        emotion_intended: whether sentences have an intended emotion, which the emotion part asks
            about; otherwise it asks how well the expression suits the words.
        systems: reference, compared systems, anchor.
        pairs: systems compared in the preference.
        sentences: sentences of trials, checks and training.
        clips: id -> clip.
        sessions: parts and trials of each rater; rater r has session (r - 1) modulo their number.
    """

    format: str
    test: str
    title: str
    source: str
    seed: int
    loudness_lufs: float
    emotion_intended: bool
    systems: list[System]
    pairs: list[tuple[str, str]]
    sentences: list[Sentence]
    clips: dict[str, Clip]
    sessions: list[list[SessionPart]]

    def session_of(self, rater: int) -> list[SessionPart]:
        """Return the session of a rater, who are counted from 1."""
        return self.sessions[(rater - 1) % len(self.sessions)]

    def trials_of(self, rater: int) -> list[tuple[Part, list[str]]]:
        """Return the part and the clips of each trial of a rater, in order."""
        return [(part.part, clips) for part in self.session_of(rater) for clips in part.trials]

    def expected(self, part: Part, clips: list[str]) -> str | None:
        """Return the right answer of an attention check; None for any other trial."""
        tones = [self.clips[clip].tones for clip in clips]
        if not any(tones):
            return None
        return str(tones[0]) if part != "preference" else "ab"[tones.index(max(tones))]


def with_id(design: Design) -> Design:
    """Return the design with the id of its content."""
    content = design.model_dump(mode="json", exclude={"test"})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return design.model_copy(update={"test": digest[:12]})


def write_design(path: Path, design: Design) -> None:
    """Write design.json."""
    write_json(path, design.model_dump(mode="json"))


def read_design(path: Path) -> Design:
    """Read design.json.

    Raises:
        HproError: the file is missing, is not a design of this version, or was changed.
    """
    hint = "give the design.json that `hpro listen build` wrote"
    content = read_json(path, hint)
    if content.get("format") != FORMAT:
        raise HproError(f"{path} is not the design of a listening test of this version: {hint}")
    try:
        design = Design.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise HproError(f"{path}, {place}: {first['msg']}: {hint}") from error
    if with_id(design).test != design.test:
        raise HproError(f"{path} was changed after it was written: {hint}")
    return design
