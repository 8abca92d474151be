"""Readers and their errors, on real clips of the excerpt."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from hpro_core import tables
from hpro_core.corpus import stage
from hpro_core.corpus.check import check, format_report
from hpro_core.corpus.readers.registry import detect_reader
from hpro_core.errors import HproError
from hpro_core.params import Controlled, WholeCorpus

EXCERPT = Path(__file__).parent.parent / "data" / "raw" / "amazon_queen"
UNSET = {"other": {"reader": "csv", "path": ""}}
CONTROLLED = Controlled(train=10, dev=5, test=5, judge=0, seed=0)


def settings(folder: Path, reader: str = "csv", **changes: object) -> WholeCorpus:
    values = {
        "sets": {"mine": {"reader": reader, "path": str(folder)}},
        "min_duration_s": 0.8,
        "max_duration_s": 9.0,
        "max_rejected_fraction": 0.10,
    }
    splits = {
        "dev_fraction": 0.06,
        "test_fraction": 0.08,
        "judge_fraction": 0.12,
        "max_test_utterances": 64,
        "seed": 0,
    }
    splits |= {name: changes.pop(name) for name in splits if name in changes}
    return WholeCorpus.model_validate({**values, "splits": splits, **changes})


def write_metadata(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def excerpt_rows() -> list[dict[str, str]]:
    with (EXCERPT / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A csv corpus of eight clips, two speakers."""
    source = [row for row in excerpt_rows() if row["speaker"] == "bob"][:4]
    source += [row for row in excerpt_rows() if row["speaker"] == "witch"][:4]
    corpus = tmp_path / "mine"
    corpus.mkdir()
    rows = []
    for row in source:
        shutil.copyfile(EXCERPT / row["audio"], corpus / f"{row['utt_id']}.mp3")
        rows.append(
            {
                "utterance": row["utt_id"],
                "speaker": row["speaker"],
                "text": row["text"],
                "audio": f"{row['utt_id']}.mp3",
                "emotion": "",
                "split": "",
                "group": row["dialogue"],
            }
        )
    write_metadata(corpus, rows)
    return corpus


def metadata(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(folder: Path, root: Path, **changes: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    stage.read(root, "mine", settings(folder, **changes))
    where = root / "corpus" / "mine"
    return (
        tables.read_table(where / "utterances.parquet", tables.UTTERANCES),
        tables.read_table(where / "rejected.parquet", tables.REJECTED),
    )


def edited(folder: Path, row: int, **cells: str) -> None:
    rows = metadata(folder)
    rows[row] |= cells
    write_metadata(folder, rows)


# --- the excerpt -----------------------------------------------------------------------------


def test_excerpt_keeps_what_its_licence_and_the_workflow_ask_for():
    rows = excerpt_rows()
    size = sum(path.stat().st_size for path in EXCERPT.rglob("*") if path.is_file())
    scenes: dict[str, set[str]] = {}
    for row in rows:
        scenes.setdefault(row["speaker"], set()).add(row["dialogue"])
    assert size <= 8e6
    assert sum(float(row["duration_s"]) for row in rows) >= 40 * 60
    assert len(scenes) >= 8
    assert min(len(found) for found in scenes.values()) >= 2
    assert "disclaimers are left intact" in (EXCERPT / "readme.txt").read_text()
    assert "This is a modified version" in (EXCERPT / "README.md").read_text()
    assert {row["audio"] for row in rows} == {
        str(path.relative_to(EXCERPT)) for path in (EXCERPT / "audio").rglob("*.mp3")
    }


def test_amazon_queen_reader(folder: Path, tmp_path: Path):
    rows = [row for row in excerpt_rows() if row["speaker"] in ("bob", "joe")][:6]
    small = tmp_path / "queen"
    for row in rows:
        (small / row["audio"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(EXCERPT / row["audio"], small / row["audio"])
    write_metadata(small, rows)
    utterances, rejected = read(small, tmp_path, sets={"mine": queen(small)})
    assert utterances.utt_id.tolist() == [f"mine_{row['utt_id']}" for row in rows]
    assert utterances.text.tolist() == [row["text"] for row in rows]
    assert utterances.group.tolist() == [row["dialogue"] for row in rows]
    assert len(rejected) == 0
    for row, found in zip(rows, utterances.itertuples(), strict=True):
        assert found.duration_s == pytest.approx(float(row["duration_s"]), abs=0.01)


def queen(folder: Path) -> dict[str, str]:
    return {"reader": "amazon_queen", "path": str(folder)}


# --- the csv reader --------------------------------------------------------------------------


def test_csv_round_trip(folder: Path, tmp_path: Path):
    edited(folder, 0, emotion="happy")
    utterances, rejected = read(folder, tmp_path)
    assert len(rejected) == 0
    assert utterances.emotion[0] == "happy"
    assert utterances.emotion[1:].isna().all()
    assert (utterances.split == "").all()
    for row, found in zip(metadata(folder), utterances.itertuples(), strict=True):
        assert found.utt_id == f"mine_{row['utterance']}"
        assert (found.speaker, found.text, found.group) == (
            row["speaker"],
            row["text"],
            row["group"],
        )
        info = soundfile.info(tmp_path / found.audio)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert info.duration == pytest.approx(found.duration_s)


def test_audio_in_a_linked_folder(folder: Path, tmp_path: Path):
    names = [row["audio"] for row in metadata(folder)]
    (tmp_path / "elsewhere").mkdir()
    for row, name in enumerate(names):
        (folder / name).rename(tmp_path / "elsewhere" / name)
        edited(folder, row, audio=f"clips/{name}")
    (folder / "clips").symlink_to(tmp_path / "elsewhere")
    utterances, rejected = read(folder, tmp_path)
    assert (len(utterances), len(rejected)) == (len(names), 0)


def test_reading_twice_gives_the_same_bytes(folder: Path, tmp_path: Path):
    read(folder, tmp_path / "a")
    read(folder, tmp_path / "b")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_older_reading_leaves_no_audio_behind(folder: Path, tmp_path: Path):
    read(folder, tmp_path)
    write_metadata(folder, metadata(folder)[:7])
    read(folder, tmp_path)
    assert len(list((tmp_path / "corpus" / "mine" / "audio").iterdir())) == 7


# --- input that stops the run, before any audio is read ----------------------------------------


@pytest.mark.parametrize(
    ("row", "cells", "message"),
    [
        (2, {"audio": "gone.mp3"}, r"metadata\.csv, line 4: audio file .*gone\.mp3 does not exist"),
        (1, {"audio": "../mine.mp3"}, r"line 3: audio '\.\./mine\.mp3' is not a path inside"),
        (1, {"audio": "/etc/passwd"}, r"line 3: audio '/etc/passwd' is not a path inside"),
        (1, {"audio": "a/../../b.mp3"}, r"line 3: audio 'a/\.\./\.\./b\.mp3' is not a path inside"),
        (3, {"emotion": "joyful"}, r"line 5: emotion 'joyful' is unknown; known: angry, disgusted"),
        (3, {"split": "exam"}, r"line 5: split 'exam' is unknown; known: train, dev, test, judge"),
        (0, {"split": "train"}, r"line 3: split is empty: give a split to every row or to none"),
        (5, {"speaker": " "}, r"line 7: speaker is empty"),
        (5, {"utterance": "a b"}, r"line 7: utterance 'a b': use letters, digits"),
    ],
)
def test_bad_rows_are_named(folder: Path, tmp_path: Path, row: int, cells: dict, message: str):
    edited(folder, row, **cells)
    with pytest.raises(HproError, match=message):
        read(folder, tmp_path)
    assert not (tmp_path / "corpus").exists()


def test_duplicate_id(folder: Path, tmp_path: Path):
    name = metadata(folder)[0]["utterance"]
    edited(folder, 4, utterance=name)
    with pytest.raises(HproError, match=f"line 6: utterance '{name}' is a duplicate"):
        read(folder, tmp_path)


def test_missing_column(folder: Path, tmp_path: Path):
    rows = [{k: v for k, v in row.items() if k != "speaker"} for row in metadata(folder)]
    write_metadata(folder, rows)
    with pytest.raises(HproError, match=r"metadata\.csv: column 'speaker' is missing; needed:"):
        read(folder, tmp_path)


def test_missing_metadata_and_folder(folder: Path, tmp_path: Path):
    (folder / "metadata.csv").unlink()
    with pytest.raises(HproError, match=r"metadata\.csv does not exist"):
        read(folder, tmp_path)
    with pytest.raises(HproError, match=r"corpus\.sets\.mine\.path: '.*nowhere' is not a folder"):
        read(tmp_path / "nowhere", tmp_path)


def test_it_can_be_checked_before_a_run(folder: Path):
    assert detect_reader(folder) == "csv"
    (folder / metadata(folder)[0]["audio"]).write_bytes(b"no sound")
    about, contents = check(folder, settings(folder, sets=UNSET, max_rejected_fraction=0.2))
    assert about.title == "Own corpus"
    lines = list(format_report(about, contents))
    assert "2 speakers" in lines
    seconds = sorted(s for each in contents.seconds.values() for s in each)
    assert f"from {seconds[0]:.1f} to {seconds[-1]:.1f} s, half of them above" in lines[3]
    assert contents.n_utterances == 7
    assert [fault.utterance for fault in contents.faults] == [metadata(folder)[0]["utterance"]]
    (folder / "metadata.csv").write_text("utterance,speaker,text\n")
    with pytest.raises(HproError, match="column 'audio' is missing"):
        check(folder, settings(folder))


def test_malformed_metadata(folder: Path, tmp_path: Path):
    path = folder / "metadata.csv"
    path.write_text(path.read_text() + "only,three,cells\n")
    with pytest.raises(HproError, match=r"line 10: the row does not have as many cells"):
        read(folder, tmp_path)
    path.write_bytes("utterance,speaker,text,audio\na,b,caf\xe9,d\n".encode("latin-1"))
    with pytest.raises(HproError, match=r"line 2: byte 0xe9 is not UTF-8: save it"):
        read(folder, tmp_path)
    said = 'b,joe,"Come in,b.wav\nc,joe,he said.,c.wav\n'
    for end in ('d,joe,"Sit down.,d.wav\n', "", "x" * 200_000):
        path.write_text("utterance,speaker,text,audio\n" + said + end)
        with pytest.raises(HproError, match=r"metadata\.csv, line 2: .*: put a text with quotes"):
            read(folder, tmp_path)
    path.write_text('utterance,speaker,audio,text\nb,joe,b.wav,"Come in\nc,joe,c.wav,he said."\n')
    with pytest.raises(HproError, match=r"line 3: 'Come in.*spans several lines"):
        read(folder, tmp_path)
    path.write_text("utterance,speaker,text,audio\n")
    with pytest.raises(HproError, match="lists no utterance"):
        read(folder, tmp_path)


def test_unknown_set(folder: Path, tmp_path: Path):
    with pytest.raises(HproError, match=r"corpus\.sets has no 'other'; it has: mine"):
        stage.read(tmp_path, "other", settings(folder))
    with pytest.raises(HproError, match=r"sets\.mine: reader 'csv' is for `hpro corpus-read`"):
        stage.render(tmp_path, "mine", settings(folder), CONTROLLED)
    with pytest.raises(HproError, match=r"reader 'controlled' is for `hpro corpus-render`"):
        stage.read(tmp_path, "mine", settings(folder, reader="controlled"))


# --- input that is rejected and counted --------------------------------------------------------


def spoil(folder: Path, row: int, kind: str) -> None:
    path = folder / metadata(folder)[row]["audio"]
    if kind == "unreadable audio":
        path.write_bytes(b"this is no MP3")
    elif kind == "empty audio":
        soundfile.write(path, np.zeros(0), 16_000, format="WAV")
    elif kind == "silent audio":
        soundfile.write(path, np.zeros(32_000), 16_000, format="WAV")
    elif kind == "shorter than 0.8 s":
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 8_000), 16_000, format="WAV")
    elif kind == "longer than 9 s":
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 80_000), 8_000, format="WAV")
    elif kind == "transcript without words":
        edited(folder, row, text="... ?!")
    elif kind == "speaker with one utterance":
        edited(folder, row, speaker="stranger")


REASONS = (
    "unreadable audio",
    "empty audio",
    "silent audio",
    "shorter than 0.8 s",
    "longer than 9 s",
    "transcript without words",
    "speaker with one utterance",
)


@pytest.mark.parametrize("reason", REASONS)
def test_one_bad_utterance_is_rejected_with_its_reason(folder: Path, tmp_path: Path, reason: str):
    spoil(folder, 2, reason)
    utterances, rejected = read(folder, tmp_path, max_rejected_fraction=0.2)
    utt_id = f"mine_{metadata(folder)[2]['utterance']}"
    assert rejected.values.tolist() == [[utt_id, "corpus-read", reason]]
    assert len(utterances) + len(rejected) == len(metadata(folder))
    assert not (tmp_path / "corpus" / "mine" / "audio" / f"{utt_id}.wav").exists()
    assert len(list((tmp_path / "corpus" / "mine" / "audio").iterdir())) == len(utterances)


def test_too_many_rejected_stops_the_stage(folder: Path, tmp_path: Path, capsys):
    spoil(folder, 2, "silent audio")
    with pytest.raises(HproError, match=r"1 of 8 utterances rejected, .*0\.1 \(1 silent audio\)"):
        read(folder, tmp_path)
    assert "mine: rejected 1 of 8: 1 silent audio" in capsys.readouterr().out
    assert not (tmp_path / "corpus" / "mine" / "utterances.parquet").exists()


def test_nothing_left_stops_the_stage(folder: Path, tmp_path: Path):
    with pytest.raises(HproError, match="no utterance is left"):
        read(folder, tmp_path, min_duration_s=8.9, max_rejected_fraction=1.0)
