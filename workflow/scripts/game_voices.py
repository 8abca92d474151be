"""Labelled shouts of two games, out of their Debian packages, as a corpus for the reader `csv`.

Run by `make data/raw/hedgewars/metadata.csv` and `make data/raw/nexuiz/metadata.csv`. Actors shout
one phrase for each event of the game. The event determines the emotion (ours) and the phrase; the
column `text` is the phrase in general, which some voices change. Only events whose emotion is clear
are taken. The audio is under the packages' licences (GFDL 1.3; GPL 2) and is not in git.
"""

import csv
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Event(NamedTuple):
    """Emotion and phrase of an event of the game."""

    emotion: str
    text: str


class Clip(NamedTuple):
    """One recording."""

    speaker: str
    event: str
    audio: bytes


HEDGEWARS = {
    "Amazing": Event("happy", "Amazing!"),
    "Brilliant": Event("happy", "Brilliant!"),
    "Excellent": Event("happy", "Excellent!"),
    "Flawless": Event("happy", "Flawless!"),
    "Laugh": Event("happy", "Ha ha ha!"),
    "Victory": Event("happy", "Victory!"),
    "Gonnagetyou": Event("angry", "I'm gonna get you!"),
    "Illgetyou": Event("angry", "I'll get you!"),
    "Justyouwait": Event("angry", "Just you wait!"),
    "Revenge": Event("angry", "Revenge!"),
    "Stupid": Event("angry", "Stupid!"),
    "Traitor": Event("angry", "Traitor!"),
    "Youllregretthat": Event("angry", "You'll regret that!"),
    "Hurry": Event("fearful", "Hurry!"),
    "Incoming": Event("fearful", "Incoming!"),
    "Nooo": Event("fearful", "No!"),
    "Runaway": Event("fearful", "Run away!"),
    "Takecover": Event("fearful", "Take cover!"),
    "Uh-oh": Event("fearful", "Uh oh!"),
    "Boring": Event("neutral", "Boring."),
    "Byebye": Event("neutral", "Bye bye."),
    "Hello": Event("neutral", "Hello."),
    "Hmm": Event("neutral", "Hmm."),
    "Solong": Event("neutral", "So long."),
    "Yessir": Event("neutral", "Yes, sir."),
}
HEDGEWARS_VOICES = {
    "Default": "Default",
    "Classic": "Default",  # the same actor, in part the same files
    **{v: v for v in ("British", "HillBilly", "Mobster", "Pirate", "Russian", "Singer", "Surfer")},
}
"""Voice pack -> speaker. The pack Robot is no person, and others are not English."""

NEXUIZ = {
    "teamshoot": Event("angry", "Same team!"),
    "teamshoot1": Event("angry", "Same team!"),
    "teamshoot2": Event("angry", "I'm on your team!"),
    "teamshoot3": Event("angry", "Check your colors!"),
    "teamshoot4": Event("angry", "I suggest you check your colors."),
    "taunt": Event("angry", "You want a piece of me, boy?"),
    "taunt1": Event("angry", "You're nothing!"),
    "taunt2": Event("angry", "Is that all you got?"),
    "taunt3": Event("angry", "You're pathetic!"),
    "taunt4": Event("angry", "You suck!"),
    "taunt5": Event("angry", "You are useless!"),
    "needhelp": Event("fearful", "I need help!"),
    "needhelp1": Event("fearful", "I need help!"),
    "needhelp2": Event("fearful", "Help!"),
    "incoming": Event("fearful", "Incoming!"),
    "meet": Event("neutral", "Meet at the waypoint."),
    "waypoint": Event("neutral", "Meet at the waypoint."),
    "defend": Event("neutral", "Defend the base."),
    "freelance1": Event("neutral", "Freelance."),
    "freelance2": Event("neutral", "Do whatever you want."),
    "seenflag": Event("neutral", "I see the flag."),
    "flagseen": Event("neutral", "I see the flag."),
}

RECORDINGS = {"hedgewars": 208, "nexuiz": 123}
"""Number of recordings in the versions that were used: hedgewars-data 1.0.2, nexuiz-data 2.5.2."""


def hedgewars(package: Path) -> Iterator[Clip]:
    """Yield the recordings of hedgewars-data."""
    voices = package / "usr/share/games/hedgewars/Data/Sounds/voices"
    for voice, speaker in HEDGEWARS_VOICES.items():
        for event in HEDGEWARS:
            path = voices / voice / f"{event}.ogg"
            if path.is_file():
                yield Clip(speaker, event, path.read_bytes())


def nexuiz(package: Path) -> Iterator[Clip]:
    """Yield the recordings of nexuiz-data."""
    with zipfile.ZipFile(package / "usr/share/games/nexuiz/data/data.pk3") as archive:
        for name in sorted(archive.namelist()):
            found = re.fullmatch(r"sound/player/([^/]+)/(?:.*/)?([^/]+)\.ogg", name)
            if found and found[2] in NEXUIZ:
                yield Clip(found[1], found[2], archive.read(name))


def main() -> None:
    """Write `data/raw/<game>`, given as the only argument."""
    folder = Path(sys.argv[1])
    read, events = {"hedgewars": (hedgewars, HEDGEWARS), "nexuiz": (nexuiz, NEXUIZ)}[folder.name]
    rows: list[dict[str, str]] = []
    known: set[bytes] = set()
    with tempfile.TemporaryDirectory() as scratch:
        package = f"{folder.name}-data"
        subprocess.run(["apt-get", "download", "--quiet", package], cwd=scratch, check=True)
        (archive,) = Path(scratch).glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, scratch], check=True)
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        for clip in read(Path(scratch)):
            digest = hashlib.sha256(clip.audio).digest()
            if digest in known:
                continue  # packs share files, which would be in training and test
            known.add(digest)
            name = f"{clip.speaker}_{clip.event}"
            if any(name == row["utterance"] for row in rows):
                name += "_2"  # of the other pack of that actor
            event = events[clip.event]
            (folder / "audio" / f"{name}.ogg").write_bytes(clip.audio)
            rows.append({
                "utterance": name,
                "speaker": clip.speaker,
                "text": event.text,
                "audio": f"audio/{name}.ogg",
                "emotion": event.emotion,
                "group": clip.event,
            })  # fmt: skip
        licence = Path(scratch, "usr/share/doc", package, "copyright")
        (folder / "copyright").write_bytes(licence.read_bytes())
    if len(rows) != RECORDINGS[folder.name]:
        sys.exit(
            f"{folder}: {package} has {len(rows)} recordings of these events, not "
            f"{RECORDINGS[folder.name]}: it is another version than the one that was used"
        )
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
