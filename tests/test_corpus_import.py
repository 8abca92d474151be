"""`hpro corpus import` on miniatures of LJSpeech, VCTK and a folder for MFA."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpro_core.cli import app
from hpro_core.corpus.check import check
from hpro_core.corpus.layouts import LAYOUTS, Imported, detect_layout, import_corpus
from hpro_core.corpus.recording import MAX_ID_BYTES
from hpro_core.errors import HproError
from tests.corpora.planting import LIMITS, write_sound

LINES = (
    'LJ001-0001|Printing, in the "only" sense|Printing, in the "only" sense',
    "LJ001-0002|in 1455, said Dr. B.|in fourteen fifty-five, said Doctor B.",
    'LJ001-0003|"an unclosed quote|',
)


def ljspeech(folder: Path) -> Path:
    for line in LINES:
        write_sound(folder / "wavs" / f"{line.split('|')[0]}.wav")
    (folder / "metadata.csv").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    (folder / "README").write_text("LJSpeech")
    return folder


def vctk(folder: Path, release: str = "0.92") -> Path:
    for speaker in ("p225", "p226"):
        for number, text in enumerate(("Please call Stella.", "Ask her to bring\nthese things.")):
            name = f"{speaker}_{number + 1:03d}"
            if release == "0.92":
                for microphone in ("mic1", "mic2"):
                    audio = folder / "wav48_silence_trimmed" / speaker / f"{name}_{microphone}.flac"
                    write_sound(audio, rate_hz=48_000)
            else:
                write_sound(folder / "wav48" / speaker / f"{name}.wav", rate_hz=48_000)
            transcript = folder / "txt" / speaker / f"{name}.txt"
            transcript.parent.mkdir(parents=True, exist_ok=True)
            transcript.write_text(f"{text}\n")
    (folder / "speaker-info.txt").write_text("ID  AGE  GENDER  ACCENTS  REGION COMMENTS\n")
    return folder


def mfa(folder: Path) -> Path:
    for speaker in ("anna", "ben"):
        for number, suffix in enumerate((".lab", ".txt")):
            write_sound(folder / speaker / f"take {number}.wav")
            (folder / speaker / f"take {number}{suffix}").write_text(f"Number {number} it is.\n")
    write_sound(folder / "anna/only.flac")
    (folder / "anna/only.lab").write_text("The lab is read.")
    (folder / "anna/only.txt").write_text("The text is not.")
    return folder


MINIATURES = {"ljspeech": ljspeech, "vctk": vctk, "mfa": mfa}


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return {row["utterance"]: row for row in csv.DictReader(file)}


def kinds(found: Imported) -> list[tuple[str, str]]:
    return [(fault.utterance, fault.reason) for fault in found.faults]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_reader_csv_reads_what_is_written(tmp_path: Path, name: str) -> None:
    source = MINIATURES[name](tmp_path / "source")
    before = sorted(source.rglob("*"))
    found = import_corpus(source, tmp_path / "out")
    assert (found.layout, found.faults) == (name, ())
    assert sorted(source.rglob("*")) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audio", "metadata.csv"]
    assert (tmp_path / "out/audio").is_symlink()
    about, contents = check(tmp_path / "out", LIMITS)
    assert about.title == "Own corpus"
    assert (contents.faults, contents.stops) == ([], [])
    assert contents.n_utterances == len(found.recordings) == len(rows(tmp_path / "out"))


def test_ljspeech(tmp_path: Path) -> None:
    found = import_corpus(ljspeech(tmp_path / "LJSpeech-1.1"), tmp_path / "out")
    written = rows(tmp_path / "out")
    assert {row["speaker"] for row in written.values()} == {"LJSpeech-1.1"}
    assert [row["text"] for row in written.values()] == [
        'Printing, in the "only" sense',
        "in fourteen fifty-five, said Doctor B.",
        '"an unclosed quote',
    ]
    assert written["LJ001-0002"]["audio"] == "audio/wavs/LJ001-0002.wav"
    assert found.notes == ()


def test_lines_of_id_and_text_with_paths_as_ids(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_sound(source / "clips/a.b.flac")
    write_sound(source / "clips/c.wav")
    (source / "metadata.csv").write_text("clips/a.b.flac|One.\nclips/c|Two.\n")
    import_corpus(source, tmp_path / "out", speaker="ann")
    written = rows(tmp_path / "out")
    assert {name: row["audio"] for name, row in written.items()} == {
        "a.b": "audio/clips/a.b.flac",
        "c": "audio/clips/c.wav",
    }
    assert {row["speaker"] for row in written.values()} == {"ann"}


def test_faults_of_ljspeech(tmp_path: Path) -> None:
    source = ljspeech(tmp_path / "source")
    write_sound(source / "wavs/extra.wav")
    write_sound(source / "wavs/._LJ001-0001.wav")
    write_sound(tmp_path / "outside.wav")
    with (source / "metadata.csv").open("a") as file:
        file.write("no bars\na|b|c|d\n|text\n\nLJ001-0099|No audio.|\nLJ001-0001|Twice.|\n")
        file.write("../../outside|Not inside.\n")
    found = import_corpus(source, tmp_path / "out")
    assert kinds(found) == [
        ("line 4", "malformed row"),
        ("line 5", "malformed row"),
        ("line 6", "malformed row"),
        ("LJ001-0001", "several transcripts"),
        ("LJ001-0099", "no audio file"),
        ("outside", "no audio file"),
        ("extra", "no transcript"),
    ]
    assert list(rows(tmp_path / "out")) == ["LJ001-0002", "LJ001-0003"]


@pytest.mark.parametrize(
    ("release", "audio"),
    [
        ("0.92", "audio/wav48_silence_trimmed/p226/p226_002_mic1.flac"),
        ("0.80", "audio/wav48/p226/p226_002.wav"),
    ],
)
def test_vctk(tmp_path: Path, release: str, audio: str) -> None:
    found = import_corpus(vctk(tmp_path / "VCTK", release), tmp_path / "out")
    written = rows(tmp_path / "out")
    assert written["p226_002"] == {
        "utterance": "p226_002", "speaker": "p226", "text": "Ask her to bring these things.",
        "audio": audio,
    }  # fmt: skip
    assert len(written) == 4
    left = ("left out: 4 recordings of the second microphone",) if release == "0.92" else ()
    assert found.notes == left


def test_faults_of_vctk(tmp_path: Path) -> None:
    source = vctk(tmp_path / "source")
    top = source / "wav48_silence_trimmed"
    (top / "p225/p225_001_mic1.flac").unlink()
    (source / "txt/p225/p225_002.txt").write_bytes(b"caf\xe9")
    write_sound(top / "p315/p315_001_mic1.flac")
    found = import_corpus(source, tmp_path / "out")
    assert kinds(found) == [
        ("p225_001", "no audio file"),
        ("p225_002", "transcript that is damaged"),
        ("p315_001", "no transcript"),
    ]
    assert list(rows(tmp_path / "out")) == ["p226_001", "p226_002"]
    with pytest.raises(HproError, match=r"^--speaker is for ljspeech and mfa"):
        import_corpus(source, tmp_path / "second", speaker="anna")


def test_mfa(tmp_path: Path) -> None:
    import_corpus(mfa(tmp_path / "source"), tmp_path / "out")
    written = rows(tmp_path / "out")
    assert {name: row["speaker"] for name, row in written.items()} == {
        "anna_take_0": "anna", "anna_take_1": "anna", "ben_take_0": "ben", "ben_take_1": "ben",
        "only": "anna",
    }  # fmt: skip
    assert written["only"]["text"] == "The lab is read."
    assert written["ben_take_1"]["audio"] == "audio/ben/take 1.wav"


def test_mfa_without_folders_of_speakers(tmp_path: Path) -> None:
    source = tmp_path / "monologue"
    write_sound(source / "one.wav")
    (source / "one.lab").write_text("One.")
    import_corpus(source, tmp_path / "out")
    assert rows(tmp_path / "out")["one"]["speaker"] == "monologue"
    import_corpus(source, tmp_path / "named", speaker="ann")
    assert rows(tmp_path / "named")["one"]["speaker"] == "ann"


def test_faults_of_mfa(tmp_path: Path) -> None:
    source = mfa(tmp_path / "source")
    write_sound(source / "anna/only.wav")
    write_sound(source / "ben/long.wav")
    (source / "ben/long.TextGrid").write_text("ooTextFile")
    (source / "ben/lost.lab").write_text("No audio.")
    write_sound(source / "ben/a b.wav")
    write_sound(source / "ben/a_b.wav")
    name = "n" * (MAX_ID_BYTES + 1)
    write_sound(source / f"ben/{name}.wav")
    for stem in ("a b", "a_b", name):
        (source / f"ben/{stem}.lab").write_text("Some words.")
    found = import_corpus(source, tmp_path / "out")
    assert kinds(found) == [
        ("only", "several audio files"),
        ("long", "no transcript"),
        ("lost", "no audio file"),
        ("a_b", "duplicate id"),
        (name, "invalid id"),
    ]
    assert set(rows(tmp_path / "out")) == {f"{s}_take_{n}" for s in ("anna", "ben") for n in (0, 1)}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_recognised(tmp_path: Path, name: str) -> None:
    assert detect_layout(MINIATURES[name](tmp_path / "source")) == name


def test_what_is_no_layout_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_sound(source / "a.wav")
    with pytest.raises(HproError, match=r"matches no layout: ljspeech has a metadata.csv with"):
        import_corpus(source, tmp_path / "out")
    (source / "metadata.csv").write_text("utterance,speaker,text,audio\na,ann,Hello.,a.wav\n")
    with pytest.raises(HproError, match=r"if it is a table for the reader csv, nothing is to be"):
        import_corpus(source, tmp_path / "out")
    with pytest.raises(HproError, match=r"use ljspeech, vctk, mfa; did you mean ljspeech\?$"):
        import_corpus(source, tmp_path / "out", "ljspech")
    with pytest.raises(HproError, match=r"vctk has the folders txt and wav48_silence_trimmed or"):
        import_corpus(source, tmp_path / "out", "vctk")
    with pytest.raises(HproError, match=r"no utterance of the layout mfa that can be used, the fi"):
        import_corpus(source, tmp_path / "out", "mfa")
    with pytest.raises(HproError, match=r"nowhere is not a folder"):
        import_corpus(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = ljspeech(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/metadata.csv").write_text("mine")
    with pytest.raises(HproError, match=r"out exists and is not an empty folder: name a new"):
        import_corpus(source, tmp_path / "out")
    assert (tmp_path / "out/metadata.csv").read_text() == "mine"
    with pytest.raises(HproError, match=r"inside .*source: name a folder outside it"):
        import_corpus(source, source / "hpro")


def test_the_command_lists_faults_as_the_check_does(tmp_path: Path) -> None:
    source = vctk(tmp_path / "source")
    (source / "txt/p225/p225_001.txt").unlink()
    out, faults = tmp_path / "out", tmp_path / "faults.csv"
    arguments = ["corpus", "import", str(source), str(out), "--faults", str(faults)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    audio = source / "wav48_silence_trimmed/p225/p225_001_mic1.flac"
    assert done.output.splitlines() == [
        "vctk: 3 utterances, 2 speakers",
        "faults, left out of the table: 1",
        "  no transcript: 1",
        f"    p225_001: {audio}",
        "left out: 4 recordings of the second microphone",
        f"{out}: {{reader: csv, path: {out}}}; `hpro corpus check {out}` decodes all audio",
    ]
    assert faults.read_text().splitlines()[1] == f"p225_001,no transcript,{audio},leaves it out"
