"""`hpro verify` and the records behind it: what times cannot show."""

import shutil
from pathlib import Path

import pytest

from hpro_core import io, records
from hpro_core.errors import HproError


def ran(root: Path, command: str, *arguments: str, reads=(), writes=()) -> None:
    """Do as a command would: read some files, write others, and leave its record."""
    io.JOURNAL.read.clear()
    io.JOURNAL.written.clear()
    for name in reads:
        io.read_bytes(root / name)
    for name in writes:
        io.write_text(root / name, f"{name} by {command} {arguments}")
    records.write(root, command, [*arguments, "--root", str(root)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three commands, and audio that the first one made."""
    root = tmp_path / "results" / "small"
    (root / "corpus/acted/audio").mkdir(parents=True)
    (root / "corpus/acted/audio/a.wav").write_bytes(b"sound")
    digest = io.sha256_of(root / "corpus/acted/audio/a.wav")
    (root / "corpus/acted/audio.sha256").write_text(f"{digest}  ./a.wav\n")
    ran(root, "corpus-read", "acted", writes=["corpus/acted/utterances.parquet"])
    ran(
        root, "sft", "--seed", "0",
        reads=["corpus/acted/utterances.parquet", "corpus/acted/audio.sha256"],
        writes=["policy/sft/seed0/model.safetensors"],
    )  # fmt: skip
    for system in ("recordings", "sft"):
        ran(
            root, "judge", system, "--seed", "0",
            reads=["policy/sft/seed0/model.safetensors"],
            writes=[f"eval/{system}/seed0/scores.parquet"],
        )  # fmt: skip
    return root


def only(root: Path) -> str:
    """The one contradiction."""
    _, (problem,) = records.verify(root)
    return problem


def test_an_untouched_run_has_no_contradiction(run):
    n_files, problems = records.verify(run)
    assert problems == []
    assert n_files == 6


def test_the_metrics_for_dvc_have_their_record_in_the_folder_above(run):
    ran(run, "tables", writes=["tables/ablation.csv", "tables/metrics/acted/sft.json"])
    assert not list((run / "tables/metrics").rglob("record_*"))
    assert records.verify(run)[1] == []
    (run / "tables/metrics/acted/sft.json").write_text("{}")
    assert only(run).endswith(
        "sft.json: differs from its record: "
        f"delete {run}/tables/record_tables.json and run Snakemake again"
    )


def test_a_record_names_what_was_read_and_made(run):
    record = io.read_json(run / "policy/sft/seed0/record_sft.json")
    assert list(record["made"]) == ["policy/sft/seed0/model.safetensors"]
    assert list(record["from"]) == ["corpus/acted/audio.sha256", "corpus/acted/utterances.parquet"]


def test_a_changed_file_is_named(run):
    (run / "eval/sft/seed0/scores.parquet").write_text("others")
    folder = run / "eval/sft/seed0"
    assert only(run) == (
        f"{folder}/scores.parquet: differs from its record: delete {folder}/record_judge.json "
        "and run Snakemake again"
    )


def test_a_deleted_file_is_named(run):
    (run / "eval/sft/seed0/scores.parquet").unlink()
    assert "scores.parquet: is missing" in only(run)


def test_another_policy_in_place_is_named_with_what_was_made_from_it(run):
    (run / "policy/sft/seed0/model.safetensors").write_text("an older one")
    _, problems = records.verify(run)
    assert len(problems) == 3  # the file itself, and both scores
    assert sum("was made from policy/sft/seed0/model.safetensors" in p for p in problems) == 2


@pytest.mark.parametrize("change", ["change", "delete", "add"])
def test_changed_lost_and_added_audio_is_named(run, change):
    path = run / "corpus/acted/audio/a.wav"
    if change == "change":
        path.write_bytes(b"noise")
        assert "a.wav: differs from" in only(run)
    elif change == "delete":
        path.unlink()
        assert "a.wav: is missing" in only(run)
    else:
        path.with_name("b.wav").write_bytes(b"more")
        assert "b.wav: is not in" in only(run)


def test_a_table_without_a_record_is_named(run):
    (run / "eval/sft/seed0/word_vad.parquet").write_text("from elsewhere")
    assert "word_vad.parquet: no record names it" in only(run)


def swap(run: Path) -> None:
    """Two systems in each other's place."""
    one, other = run / "eval/recordings", run / "eval/sft"
    shutil.move(one, run / "eval/aside")
    shutil.move(other, one)
    shutil.move(run / "eval/aside", other)


def test_swapped_systems_are_named_and_refused(run):
    scores = run / "eval/sft/seed0/scores.parquet"
    records.check(run, scores, "sft", 0)
    swap(run)
    _, problems = records.verify(run)
    assert any(
        "is the record of eval/sft/seed0, not of eval/recordings/seed0" in p for p in problems
    )
    with pytest.raises(HproError, match="is not of sft, seed 0"):
        records.check(run, scores, "sft", 0)


def test_scores_copied_from_another_system_are_refused(run):
    scores = run / "eval/sft/seed0/scores.parquet"
    shutil.copy(run / "eval/recordings/seed0/scores.parquet", scores)
    with pytest.raises(HproError, match=r"was changed after record_judge\.json was written"):
        records.check(run, scores, "sft", 0)
    with pytest.raises(HproError, match="is not of sft, seed 1"):
        records.check(run, scores, "sft", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": ["sft", 0]},
        {"arguments": [None]},
        {"command": 3},
        {"made": {"../../outside": "x"}},
        {"made": {"/etc/hostname": "x"}},
        {"made": {"": "x"}},
        {"made": {"a\x00b": "x"}},
        {"from": {"a": 1}},
    ],
)
def test_an_odd_record_is_named_and_nothing_outside_is_read(run, change, tmp_path):
    path = run / "eval/sft/seed0/record_judge.json"
    io.write_json(path, {**io.read_json(path), **change})
    with pytest.raises(HproError, match=r"record_judge\.json is not a record of this version"):
        records.verify(run)
    with pytest.raises(HproError, match=r"record_judge\.json is not a record of this version"):
        records.check(run, run / "eval/sft/seed0/scores.parquet", "sft", 0)


@pytest.mark.parametrize("name", ["../../../outside", "/etc/hostname", "", "a\x00b"])
def test_a_list_of_audio_that_names_something_else_is_named(run, name):
    sums = run / "corpus/acted/audio.sha256"
    sums.write_text(sums.read_text() + f"{'0' * 64}  {name}\n")
    problems = [p for p in records.verify(run)[1] if "is not the hash of a file" in p]
    assert problems
    assert f"{sums}, line 2: " in problems[0]


def test_a_name_that_no_file_can_have_is_missing(run):
    sums = run / "corpus/acted/audio.sha256"
    sums.write_text(sums.read_text() + f"{'0' * 64}  ./{'a' * 5000}.wav\n")
    assert any("a.wav: is missing" in problem for problem in records.verify(run)[1])


def test_a_problem_is_one_line(run):
    sums = run / "corpus/acted/audio.sha256"
    sums.write_text(sums.read_text() + f"{'0' * 64}  ./a\tb\x1b[31m.wav\n")
    _, problems = records.verify(run)
    assert all(problem.isprintable() for problem in problems)


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(HproError, match="has no record"):
        records.verify(tmp_path)
    with pytest.raises(HproError, match="is not a folder"):
        records.verify(tmp_path / "none")


def test_a_broken_record_is_named(run):
    (run / "eval/sft/seed0/record_judge.json").write_text('{"made": []}')
    with pytest.raises(HproError, match=r"record_judge\.json is not a record"):
        records.verify(run)


def test_times_do_not_matter(run):
    for path in run.rglob("*"):
        if path.is_file():
            path.touch()
    assert records.verify(run)[1] == []


def test_the_command_line_names_its_command_and_root():
    words = ["codec", "import", "model.pt", "--root=results/a", "--seed", "1"]
    assert records.command_of(words) == ("codec-import", words[2:])
    assert records.root_of(words) == Path("results/a")
    assert records.root_of(["plan"]) is None
