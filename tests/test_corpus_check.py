"""`hpro corpus check` says beforehand what a run does: both decide by the same functions."""

import csv
import os
import shutil
import typing
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from hpro_core import tables
from hpro_core.cli import app
from hpro_core.corpus import stage, walk
from hpro_core.corpus.check import Contents, check, format_report, write_faults
from hpro_core.corpus.readers.registry import PUBLISHED, READERS, detect_reader
from hpro_core.corpus.recording import MAX_ID_BYTES, Fault, Recording, metadata_faults, printable
from hpro_core.errors import HproError
from hpro_core.params import Corpus, CorpusSet
from tests.corpora import esd, ravdess

REPO = Path(__file__).parents[1]
RATE_HZ = 16_000


def limits(folder: Path, reader: str = "csv", share: float = 1.0, split: str = "train") -> Corpus:
    mine = CorpusSet.model_validate({"reader": reader, "path": str(folder), "split": split})
    return Corpus(
        sets={"mine": mine}, min_duration_s=0.5, max_duration_s=1.5, max_rejected_fraction=share
    )


def sound(path: Path, seconds: float, level: float = 0.3) -> None:
    time_T = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    soundfile.write(path, level * np.sin(2 * np.pi * 220 * time_T), RATE_HZ)


def rows_of(folder: Path, n: int = 6, speakers: int = 2) -> list[dict[str, str]]:
    """Clips of one second, written to a folder, and their rows."""
    folder.mkdir(exist_ok=True)
    rows = []
    for i in range(n):
        sound(folder / f"{i}.wav", 1.0)
        rows.append(
            {
                "utterance": f"u{i}",
                "speaker": f"s{i % speakers}",
                "text": f"Sentence number {i}.",
                "audio": f"{i}.wav",
            }
        )
    return rows


def write(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def run(folder: Path, root: Path, corpus: Corpus) -> tuple[dict[str, float], dict[str, str]]:
    """Duration of what a run keeps, and the reason for all else; HproError where it stops."""
    stage.read(root, "mine", corpus)
    where = root / "corpus" / "mine"
    kept = tables.read_table(where / "utterances.parquet", tables.UTTERANCES)
    lost = tables.read_table(where / "rejected.parquet", tables.REJECTED)
    durations = dict(zip(kept.utt_id.str.removeprefix("mine_"), kept.duration_s, strict=True))
    return durations, dict(zip(lost.utt_id.str.removeprefix("mine_"), lost.reason, strict=True))


def check_agrees(folder: Path, root: Path, corpus: Corpus) -> Contents:
    _, contents = check(folder, corpus)
    if contents.stops:
        with pytest.raises(HproError):
            run(folder, root, corpus)
        return contents
    kept, lost = run(folder, root, corpus)
    found = [*contents.faults, *contents.left_out]
    assert {fault.utterance: fault.reason for fault in found} == lost
    assert sorted(s for each in contents.seconds.values() for s in each) == sorted(kept.values())
    return contents


# --- the property ------------------------------------------------------------------------------


def spoil(folder: Path, row: dict[str, str], generator: np.random.Generator) -> None:
    """One thing that people's corpora have."""
    path = folder / row["audio"]
    kind = generator.integers(14)
    if kind == 0:
        sound(path, 0.4)
    elif kind == 1:
        sound(path, 2.0)
    elif kind == 2:
        sound(path, 1.0, level=0.0)
    elif kind == 3:
        path.write_bytes(b"no sound")
    elif kind == 4:
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == 5:
        row["text"] = str(generator.choice(["...", "[laughter]", "Привет my friend", "caf\x00e"]))
    elif kind == 6:
        row["speaker"] = f"lonely {row['utterance']}"
    elif kind == 7:
        row["text"] = "[cries] It cost $3.50, can’t you <b>see</b>?"
    elif kind == 8 and generator.random() < 0.3:
        row["utterance"] = "u0"
    elif kind == 9 and generator.random() < 0.3:
        row["utterance"] = "u" * 260
    elif kind == 10 and generator.random() < 0.3:
        path.unlink()
    elif kind == 11 and generator.random() < 0.3:
        row["speaker"] = " "


@pytest.mark.parametrize("seed", range(30))
def test_check_and_run_agree(seed, tmp_path):
    generator = np.random.default_rng(seed)
    folder = tmp_path / "mine"
    rows = rows_of(folder, int(generator.integers(2, 9)), int(generator.integers(1, 4)))
    for row in rows:
        if generator.random() < 0.5:
            spoil(folder, row, generator)
    write(folder, rows)
    check_agrees(folder, tmp_path / "out", limits(folder, share=float(generator.choice([0.3, 1]))))


def test_every_reader_of_the_settings_can_be_checked():
    named = set(typing.get_args(CorpusSet.model_fields["reader"].annotation))
    assert named - {"controlled"} == set(READERS)


# --- one's own corpus --------------------------------------------------------------------------


def test_clips_outside_the_limits_stop_nothing(tmp_path, capsys):
    folder = tmp_path / "mine"
    rows = rows_of(folder, 9)
    for i in range(5):
        sound(folder / f"{i}.wav", 3.0 if i else 0.2)
    write(folder, rows)
    contents = check_agrees(folder, tmp_path / "out", limits(folder, share=0.0))
    assert (contents.n_utterances, contents.faults) == (4, [])
    assert [fault.kind for fault in contents.left_out].count("longer than 1.5 s") == 4
    assert "mine: left out 5 of 9: 4 longer than 1.5 s, 1 shorter than 0.5 s" in (
        capsys.readouterr().out
    )
    (folder / "5.wav").write_bytes(b"no sound")  # 7 is alone then, but for 1 and 3
    contents = check_agrees(folder, tmp_path / "out", limits(folder, share=0.3))
    assert "1 of 3 utterances rejected" in contents.stops[0]


def test_who_is_alone_because_of_the_limits_is_left_out_too(tmp_path):
    folder = tmp_path / "mine"
    rows = rows_of(folder, 6)
    rows[0]["speaker"] = rows[1]["speaker"] = "ann"
    rows[2]["speaker"] = "bob"
    sound(folder / "1.wav", 3.0)
    write(folder, rows)
    contents = check_agrees(folder, tmp_path / "out", limits(folder))
    assert {fault.utterance for fault in contents.left_out} == {"u0", "u1"}
    assert {fault.utterance for fault in contents.faults} >= {"u2"}


@pytest.mark.parametrize(
    ("column", "written"),
    [("split", " split"), ("emotion", "emotions"), ("group", "Group"), ("emotion", "emtion")],
)
def test_a_column_that_is_nearly_right_is_named(column, written, tmp_path):
    folder = tmp_path / "mine"
    write(folder, [row | {written: ""} for row in rows_of(folder)])
    contents = check_agrees(folder, tmp_path / "out", limits(folder))
    assert (
        f"column {written!r} resembles {column!r}: rename or remove it" in contents.faults[0].where
    )
    with pytest.raises(HproError, match=rf"line 1: column {written!r} resembles {column!r}"):
        run(folder, tmp_path / "out", limits(folder))


def test_a_needed_column_that_is_nearly_right_is_named(tmp_path):
    folder = tmp_path / "mine"
    rows = rows_of(folder)
    write(folder, [{("Speaker" if k == "speaker" else k): v for k, v in r.items()} for r in rows])
    for read in (
        lambda: check(folder, limits(folder)),
        lambda: run(folder, folder, limits(folder)),
    ):
        with pytest.raises(HproError, match=r"'speaker' is missing.*'Speaker' resembles 'speaker'"):
            read()


def test_other_columns_are_nobodys_business(tmp_path):
    folder = tmp_path / "mine"
    write(folder, [row | {"speaker_id": "7", "notes": ""} for row in rows_of(folder)])
    assert check_agrees(folder, tmp_path / "out", limits(folder)).faults == []


def test_control_characters_of_a_corpus_are_not_printed_as_they_are(tmp_path):
    folder = tmp_path / "mine"
    write(folder, [row | {"emotion": "\x1b[2Jhappy"} for row in rows_of(folder)])
    contents = check_agrees(folder, tmp_path / "out", limits(folder))
    lines = list(format_report(READERS["csv"].INFO, contents))
    assert all(line.isprintable() for line in lines)
    assert any(r"\x1b[2Jhappy" in line for line in lines)


def test_all_faults_of_metadata_are_named_at_once(tmp_path):
    folder = tmp_path / "mine"
    rows = rows_of(folder, 7)
    rows[1]["audio"] = "gone.wav"
    rows[2]["speaker"] = ""
    rows[3]["utterance"] = "u0"
    rows[4]["utterance"] = "x" * 260
    rows[5] |= {"utterance": "a b", "audio": "/etc/passwd"}
    rows[3]["audio"] = "x" * 5000
    (folder / "6.wav").write_bytes(b"no sound")
    write(folder, rows)
    with (folder / "metadata.csv").open("a", encoding="utf-8") as file:
        file.write("only,three,cells\n")
    contents = check_agrees(folder, tmp_path / "out", limits(folder))
    text = "\n".join(format_report(READERS["csv"].INFO, contents))
    for says in (
        "line 3: audio file", "line 4: speaker is empty", "line 5: utterance 'u0' is a duplicate",
        "line 5: audio file",
        "line 6: utterance 'xxxxxxxxxxxxxxxxxxxx'.. has 260 characters", "line 7: utterance 'a b'",
        "line 7: audio '/etc/passwd'", "line 9: the row does not have as many cells",
        "unreadable audio: 1", "a run stops here: 8 faults of metadata",
    ):  # fmt: skip
        assert says in text
    with pytest.raises(HproError, match=r"line 9: the row does not.*; and 7 more: `hpro corpus ch"):
        run(folder, tmp_path / "out", limits(folder))


def test_a_column_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "metadata.csv").write_text("utterance,speaker,text,audio,text\n")
    with pytest.raises(HproError, match="line 1: column 'text' is a duplicate"):
        check(tmp_path, limits(tmp_path))


@pytest.mark.parametrize(("letters", "good"), [(MAX_ID_BYTES, True), (MAX_ID_BYTES + 1, False)])
def test_an_id_is_short_enough_for_a_file_name(letters, good, tmp_path):
    folder = tmp_path / "mine"
    rows = rows_of(folder)
    rows[0]["utterance"] = "u" * letters
    write(folder, rows)
    contents = check_agrees(folder, tmp_path / "out", limits(folder))
    assert bool(contents.stops) != good
    assert [fault.kind for fault in contents.faults] == ([] if good else ["invalid id"])


def test_ids_of_any_reader_can_name_a_file():
    entries = [
        Recording(name, "s", "text", b"", "g") for name in ("a", "../a", "a", "b c", "x" * 200)
    ]
    kinds = [fault.kind for fault in metadata_faults(entries)]
    assert kinds == [
        "invalid id", "duplicate id", "invalid id",
        "invalid id",
    ]  # fmt: skip


def test_marks_and_scripts_are_named(tmp_path):
    folder = tmp_path / "mine"
    rows = rows_of(folder, 8)
    texts = ("[laughter] well", "[Laughter] yes", "<strong>no</strong>", "Привет my friend", "сat")
    for row, text in zip(rows, texts, strict=False):
        row["text"] = text
    write(folder, rows)
    contents = check_agrees(folder, tmp_path / "out", limits(folder))
    text = "\n".join(format_report(READERS["csv"].INFO, contents))
    assert contents.unknown_tags == {"[Laughter]": ["u1"]}
    assert "[Laughter] 1 times, as in u1 (known: [laughter])" in text
    assert "transcript with unsupported characters: 2" in text
    assert "('П', 'р', 'и', 'в', 'е', 'т')" in text
    kept = tables.read_table(tmp_path / "out/corpus/mine/utterances.parquet", tables.UTTERANCES)
    assert dict(zip(kept.utt_id, kept.words, strict=True))["mine_u2"] == "no"


def test_groups_that_cannot_be_split_are_said_of_a_set_of_the_settings(tmp_path):
    folder = tmp_path / "mine"
    write(folder, [row | {"group": "one"} for row in rows_of(folder)])
    _, contents = check(folder, limits(folder, split=""))
    assert contents.stops == ["corpus 'mine' has 1 groups: 4 are needed, one per split"]
    assert check(folder, limits(folder))[1].stops == []


def test_the_command_reads_the_settings_and_writes_all_faults(tmp_path):
    folder = tmp_path / "mine"
    rows = rows_of(folder)
    sound(folder / "0.wav", 3.0)
    rows[1]["text"] = "?"
    write(folder, rows)
    params = tmp_path / "params.yaml"
    params.write_text(
        "corpus: {sets: {a: {reader: csv, path: ''}}, min_duration_s: 0.5, max_duration_s: 1.5, "
        "max_rejected_fraction: 1.0}\n"
    )
    arguments = ["corpus", "check", str(folder), "--params", str(params)]
    done = CliRunner().invoke(app, [*arguments, "--faults", str(tmp_path / "faults.csv")])
    assert isinstance(done.exception, HproError)
    assert "left out by a run (outside the duration limits): 1" in done.output
    written = (tmp_path / "faults.csv").read_text(encoding="utf-8").splitlines()
    assert written[0] == "utterance,reason,where,run"
    assert written[1].startswith("u1,transcript without words,")
    assert written[1].endswith(",rejects it")
    assert written[2].endswith("0.wav,leaves it out")
    rows[1]["text"] = "Yes?"
    write(folder, rows)
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_the_shipped_excerpt_is_known(tmp_path):
    folder = tmp_path / "queen"
    with (REPO / "data/raw/amazon_queen/metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == "bob"][:3]
    for row in rows:
        (folder / row["audio"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPO / "data/raw/amazon_queen" / row["audio"], folder / row["audio"])
    write(folder, rows)
    assert detect_reader(folder) == detect_reader(REPO / "data/raw/amazon_queen") == "amazon_queen"
    corpus = limits(folder, "amazon_queen").model_copy(update={"max_duration_s": 9.0})
    contents = check_agrees(folder, tmp_path / "out", corpus)
    assert (contents.n_utterances, contents.faults, contents.stops) == (3, [], [])


# --- names that are not UTF-8 ------------------------------------------------------------------

ODD = os.fsdecode(b"caf\xe9")


def test_a_name_that_is_not_utf_8_is_one_fault(tmp_path):
    folder = tmp_path / "ravdess"
    folder.mkdir()
    ravdess.build(folder)
    clip = next(folder.glob("**/Actor_01/*.wav"))
    shutil.copyfile(clip, clip.with_name(f"{ODD}.wav"))
    corpus = limits(folder, "ravdess")
    contents = check_agrees(folder, tmp_path / "out", corpus)
    assert [fault.kind for fault in contents.faults] == ["file name that is not RAVDESS's"]
    assert contents.faults[0].where.endswith("caf\\xe9.wav")
    write_faults(contents, tmp_path / "faults.csv")
    assert "caf\\xe9.wav" in (tmp_path / "faults.csv").read_text(encoding="utf-8")
    "\n".join(format_report(READERS["ravdess"].INFO, contents)).encode()


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_reader_fails_at_such_a_name(name, tmp_path):
    import_module(f"tests.corpora.{name}").build(tmp_path)
    clips = sorted([*tmp_path.rglob("*.wav"), *tmp_path.rglob("*.flac")])
    shutil.copyfile(clips[0], clips[0].with_name(f"{ODD}{clips[0].suffix}"))
    (tmp_path / ODD).mkdir()
    (tmp_path / ODD / f"{ODD}.txt").write_text("")
    _, contents = check(tmp_path, limits(tmp_path, name))
    text = "\n".join(format_report(READERS[name].INFO, contents))
    assert text.encode()
    assert sum("\\xe9" in fault.where for fault in contents.faults) <= 1


def test_faults_are_written_as_utf_8_whatever_the_name():
    fault = Fault(ODD, "reason", f"folder/{ODD}: \ud800")
    assert (fault.utterance, printable("plain é")) == ("caf\\xe9", "plain é")
    assert fault.where.encode()


def test_key_files_list_names_that_are_not_utf_8(tmp_path):
    from hpro_core.corpus.walk import listing_hash

    (tmp_path / "a.wav").write_bytes(b"1")
    before = listing_hash(tmp_path)
    (tmp_path / f"{ODD}.wav").write_bytes(b"2")
    assert listing_hash(tmp_path) not in ("", before)
    (tmp_path / "loop").symlink_to("loop")
    assert listing_hash(tmp_path)


def test_a_link_to_itself_is_neither_file_nor_folder(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a").mkdir()
    assert [name for name, _ in walk.folders(tmp_path)] == ["", "a/"]
    loop = next(entry for entry in walk.entries_of(tmp_path) if entry.name == "loop")
    assert (walk.is_file(loop), walk.is_folder(loop)) == (False, False)
    with pytest.raises(HproError, match=r"nowhere cannot be read \(No such file"):
        walk.entries_of(tmp_path / "nowhere")


def test_esd_as_its_archive_extracts_on_a_mac(tmp_path):
    esd.build(tmp_path)
    home = next(path for path in tmp_path.rglob("0011") if path.is_dir())
    shadow = tmp_path / "__MACOSX" / home.relative_to(tmp_path)
    for path in home.rglob("*.wav"):
        other = shadow / path.relative_to(home).with_name(f"._{path.name}")
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(b"\0\5\x16\7")
    contents = check(tmp_path, limits(tmp_path, "esd"))[1]
    assert contents.faults == []
    assert contents.n_utterances == esd.UTTERANCES
