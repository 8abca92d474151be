"""A miniature of LibriTTS: four subsets, each with a chapter."""

from pathlib import Path

from tests.corpora.planting import Planted, cut, edit, write_sound

READER = "libritts"
UTTERANCES, SPEAKERS = 7, 4
CHAPTERS = {
    "train-clean-100/19/198": (
        ("This is a LibriVox recording.", "This is a LibriVox recording."),
        ("Please visit librivox.org.", "Please visit librivox dot org."),
    ),
    "train-clean-360/14/208": (("CHAPTER 1", "CHAPTER one"),),
    "dev-clean/84/121123": (("Maximilian.", "Maximilian."), ('"No."', '"No."')),
    "test-clean/61/70968": (("He began.", "He began."), ("It's £5!", "It's five pounds!")),
}
FIRST = Path("train-clean-100/19/198/19_198_000000_000000.wav")
TRANSCRIPT = FIRST.with_name("19_198.trans.tsv")
SECOND_LINE = "19_198_000000_000001\tPlease visit librivox.org.\tPlease visit librivox dot org."


def build(folder: Path) -> None:
    """As the folder LibriTTS, with four archives extracted."""
    for name, texts in CHAPTERS.items():
        chapter = "_".join(name.split("/")[1:])
        transcript = ""
        for number, (original, normalised) in enumerate(texts):
            utterance = f"{chapter}_{number // 2:06d}_{number:06d}"
            write_sound(folder / name / f"{utterance}.wav", rate_hz=24_000)
            (folder / name / f"{utterance}.original.txt").write_text(original, "utf-8")
            (folder / name / f"{utterance}.normalized.txt").write_text(normalised, "utf-8")
            transcript += f"{utterance}\t{original}\t{normalised}\n"
        (folder / name / f"{chapter}.trans.tsv").write_text(transcript, "utf-8")
        # the book has a sentence that was not aligned: no audio, and none is expected
        unaligned = f"{chapter}_000009_000000\tAnd so on.\tAnd so on.\tfalse\t0\t0\t0\n"
        (folder / name / f"{chapter}.book.tsv").write_text(unaligned)
    (folder / "speakers.tsv").write_text(
        "READER\tGENDER\tSUBSET\tNAME\n19\tF\ttrain-clean-100\tK\n"
    )
    (folder / FIRST).with_name("._19_198_000000_000000.wav").write_bytes(b"Mac OS X")


PLANTED = [
    Planted("a file is missing", lambda f: (f / FIRST).unlink(), "no audio file: 1"),
    Planted("a file is cut off", lambda f: cut(f / FIRST), "truncated audio: 1"),
    Planted(
        "a sentence that no line has",
        lambda f: edit(f / TRANSCRIPT, SECOND_LINE + "\n", ""),
        "no transcript: 1",
    ),
    Planted(
        "a chapter without transcript", lambda f: (f / TRANSCRIPT).unlink(), "no transcript: 2"
    ),
    Planted(
        "a transcript that is cut off",
        lambda f: edit(f / TRANSCRIPT, "\tPlease visit librivox dot org.\n", ""),
        "transcript that is damaged: 1",
    ),
    Planted(
        "an empty text",
        lambda f: edit(f / TRANSCRIPT, "\tPlease visit librivox dot org.", "\t"),
        "transcript without words: 1",
    ),
    Planted(
        "a file of another chapter",
        lambda f: (f / FIRST).rename(f / "dev-clean/84/121123" / FIRST.name),
        "id that is not its chapter's: 1",
    ),
    Planted(
        "folders of another version",
        lambda f: [path.rename(f / path.name.replace("-", "_")) for path in f.glob("*-*")],
        "no folder such as train-clean-100",
        stops=True,
    ),
]
