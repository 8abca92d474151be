"""A miniature of IEMOCAP: a dialog or two of each session, with what lies beside them."""

import shutil
from pathlib import Path

from tests.corpora.planting import Planted, edit, write_sound

READER = "iemocap"
UTTERANCES, SPEAKERS = 14, 10

TURNS = {
    "Ses01F_impro01": (
        ("F000", "neu", "Is this the right line?"),
        ("M000", "fru", "It is, but [LAUGHTER] it has not moved."),
        ("M001", "xxx", "[BREATHING] Not since noon."),
    ),
    "Ses01F_script01_1": (("F000", "sad", "He is late again."), ("M000", "ang", "Then go home.")),
    "Ses02F_impro02": (("F000", "exc", "We leave tomorrow!"), ("M000", "hap", "At last.")),
    "Ses03M_impro05a": (("F000", "dis", "That smell."), ("M000", "oth", "Which one?")),
    "Ses04M_script02_2": (("F000", "fea", "Who is there?"), ("M000", "sur", "You are here!")),
    "Ses05M_script01_1b": (
        ("F000", "sad", "He is late again."),
        ("M000", "xxx", "Then go home."),
        ("M001", "neu", "Or stay."),
    ),
}
FIRST = Path("Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
EVALUATION = Path("Session1/dialog/EmoEvaluation/Ses01F_impro01.txt")
TRANSCRIPTION = Path("Session1/dialog/transcriptions/Ses01F_impro01.txt")


def build(folder: Path) -> None:
    """Turns, and around them transcribed lines without audio, raters' files, traces of macOS."""
    for dialog, turns in TURNS.items():
        _dialog(folder / f"Session{dialog[4]}", dialog, turns)
    with (folder / TRANSCRIPTION).open("a", encoding="utf-8") as file:
        file.write("M: Yeah.\nSes01F_impro01_MXX0 [009.0000-009.5000]: [LAUGHTER]\n")
    beside = folder / EVALUATION.parent
    (beside / "._Ses01F_impro01.txt").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X \xa2")
    for rater, line in (
        ("Categorical/Ses01F_impro01_e2_cat.txt", "Ses01F_impro01_F000 :Anger; ()"),
        ("Attribute/Ses01F_impro01_e3_atr.txt", "Ses01F_impro01_F000 :act 2; :val 3; :dom 2; ()"),
        ("Self-evaluation/Ses01F_impro01_f1_cat.txt", "Ses01F_impro01_F000 :Sadness; ()"),
    ):
        (beside / rater).parent.mkdir()
        (beside / rater).write_text(f"{line}\n", encoding="utf-8")
    (folder / FIRST).with_name(f"._{FIRST.name}").write_bytes(b"Mac OS X")
    write_sound(folder / "Session1/dialog/wav/Ses01F_impro01.wav", channels=2)


def _dialog(session: Path, dialog: str, turns: tuple[tuple[str, str, str], ...]) -> None:
    evaluated, transcribed = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
    for second, (turn, label, text) in enumerate(turns):
        name = f"{dialog}_{turn}"
        times = f"[{second}.2500 - {second + 1}.2500]"
        evaluated += [f"{times}\t{name}\t{label}\t[2.5000, 2.0000, 3.0000]"]
        evaluated += ["C-E2:\tNeutral;\t()", "A-E3:\tval 3; act 2; dom  2;\t(calm)", ""]
        transcribed += [f"{name} [00{second}.2500-00{second + 1}.2500]: {text}"]
        write_sound(session / "sentences/wav" / dialog / f"{name}.wav")
    for kind, lines in (("EmoEvaluation", evaluated), ("transcriptions", transcribed)):
        path = session / "dialog" / kind / f"{dialog}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _as_latin_1(path: Path) -> None:
    path.write_bytes(path.read_text(encoding="utf-8").replace("right", "café").encode("latin-1"))


PLANTED = [
    Planted("an audio file is missing", lambda f: (f / FIRST).unlink(), "no audio file: 1"),
    Planted(
        "the evaluation of a dialog is missing",
        lambda f: (f / EVALUATION).unlink(),
        "audio without an evaluation: 3",
    ),
    Planted(
        "a line of a transcription is damaged",
        lambda f: edit(f / TRANSCRIPTION, "F000 [000.2500-001.2500]: ", "F000 [000.25"),
        "no transcript: 1",
    ),
    Planted(
        "a label of another corpus",
        lambda f: edit(f / EVALUATION, "\tneu\t", "\tcalm\t"),
        "label that IEMOCAP does not have: 1",
    ),
    Planted(
        "two evaluations of a turn",
        lambda f: edit(f / EVALUATION, "_M001\txxx", "_M000\txxx"),
        "evaluated twice: 1",
    ),
    Planted(
        "an evaluation is cut off",
        lambda f: edit(f / EVALUATION, "\t[2.5000, 2.0000, 3.0000]", "\t[2.5"),
        "Ses01F_impro01.txt, line 3: '[0.2500 - 1.2500]",
        stops=True,
    ),
    Planted(
        "a session is missing",
        lambda f: shutil.rmtree(f / "Session4"),
        "Session4 has no dialog/EmoEvaluation",
        stops=True,
    ),
    Planted(
        "a transcription is not UTF-8",
        lambda f: _as_latin_1(f / TRANSCRIPTION),
        "Ses01F_impro01.txt, line 1: byte 0xe9 is not UTF-8",
        stops=True,
    ),
]
