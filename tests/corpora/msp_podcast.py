"""A miniature of MSP-Podcast: three podcasts, one of them in two splits."""

from pathlib import Path

from tests.corpora.planting import Planted, edit, write_sound

READER = "msp_podcast"
UTTERANCES, SPEAKERS = 11, 6

ROWS = (
    ("0001_0008", "N", "30", "Test1"),
    ("0001_0009", "H", "30", "Test1"),
    ("0001_0028", "X", "Unknown", "Train"),
    ("0001_0141", "C", "Unknown", "Train"),
    ("0002_0033", "A", "39", "Development"),
    ("0002_0039", "S", "39", "Development"),
    ("1659_0079_0082", "U", "8", "Test2"),
    ("1659_0079_0083", "F", "8", "Test2"),
    ("1659_0080_0001", "D", "41", "Train"),
    ("1659_0081", "O", "41", "Train"),
    ("4529_0064", "N", "Unknown", "Train"),
)
FIRST = "MSP-PODCAST_0001_0008"
LABELS = "Labels/labels_consensus.csv"


def build(folder: Path) -> None:
    """Audios, Labels and Transcripts, and what else a release has."""
    consensus = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    detailed = ["FileName,Worker,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"]
    for number, (turn, emotion, speaker, split) in enumerate(ROWS):
        name = f"MSP-PODCAST_{turn}"
        gender = "Unknown" if speaker == "Unknown" else "Male"
        consensus += [f"{name}.wav,{emotion},3.2,4.0,2.6,{speaker},{gender},{split}"]
        detailed += [f"{name}.wav,WORKER{n},Neutral,Neutral,3.0,4.0,2.0" for n in range(5)]
        write_sound(folder / "Audios" / f"{name}.wav")
        _write(folder / "Transcripts" / f"{name}.txt", f"So this is sentence number {number}.\n")
    _write(folder / LABELS, "\n".join(consensus) + "\n")
    _write(folder / "Labels/labels_detailed.csv", "\n".join(detailed) + "\n")
    _write(folder / "Labels/labels.txt", f"{FIRST}.wav; N; A:3.2; V:4.0; D:2.6;\n")
    _write(folder / "Partition.txt", f"Test1; {FIRST}.wav\n")
    removed = "Previous_releases_information/files_removed_from_prev_versions"
    write_sound(folder / removed / "MSP-PODCAST_0001_0001.wav")
    (folder / f"Audios/._{FIRST}.wav").write_bytes(b"Mac OS X")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


PLANTED = [
    Planted(
        "an audio file is missing",
        lambda f: (f / f"Audios/{FIRST}.wav").unlink(),
        "no audio file: 1",
    ),
    Planted(
        "a transcript is missing",
        lambda f: (f / f"Transcripts/{FIRST}.txt").unlink(),
        "no transcript: 1",
    ),
    Planted(
        "a transcript is not UTF-8",
        lambda f: (f / f"Transcripts/{FIRST}.txt").write_bytes(b"A caf\xe9."),
        "transcript that cannot be read: 1",
    ),
    Planted(
        "Test3, of which there is only the sound",
        lambda f: write_sound(f / "Audios/MSP-PODCAST_test3_0001.wav"),
        "Test3, whose transcripts are withheld: 1",
    ),
    Planted(
        "audio of another release",
        lambda f: _rename(f / f"Audios/{FIRST}.wav", "MSP-PODCAST_0001_0001.wav"),
        "audio that the labels do not list: 1",
    ),
    Planted(
        "a name that leads out of the folder",
        lambda f: edit(f / LABELS, f"{FIRST}.wav", f"../{FIRST}.wav"),
        "file name that is not MSP-Podcast's: 1",
    ),
    Planted(
        "a name is listed twice",
        lambda f: edit(f / LABELS, "0001_0009", "0001_0008"),
        "listed twice: 1",
    ),
    Planted(
        "labels of release 1.8",
        lambda f: _rename(f / LABELS, "labels_concensus.csv"),
        "labels_concensus.csv is of a release before 1.10",
        stops=True,
    ),
]
