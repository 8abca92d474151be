"""Choice of speakers of a set: the same for every reader, in a run and in `hpro corpus check`."""

from importlib import import_module
from pathlib import Path

import pytest

from hpro_core.corpus.check import check, format_report
from hpro_core.corpus.readers.registry import PUBLISHED, READERS, of_speakers, read_entries
from hpro_core.corpus.recording import Fault, Recording
from hpro_core.errors import HproError
from hpro_core.params import CorpusSet
from tests.test_corpus_check import check_agrees, limits, rows_of, run, write

REPO = Path(__file__).parents[1]


def chosen(reader: str, **lists: list[str]) -> CorpusSet:
    return CorpusSet.model_validate({"reader": reader, "path": "unused", **lists})


def entries(of: CorpusSet, path: Path) -> list[Recording | Fault]:
    return of_speakers(read_entries(of.reader, path, "path"), of, path)


def some_speakers(folder: Path, share: float = 0.0, **lists: list[str]):
    corpus = limits(folder, share=share)
    mine = corpus.sets["mine"].model_copy(update=lists)
    return corpus.model_copy(update={"sets": {"mine": mine}})


def whole_and_parts(reader: str, path: Path) -> None:
    """A set with a speaker and one without divide the corpus, in its order."""
    whole = entries(chosen(reader), path)
    assert whole == list(READERS[reader].read(path))
    recordings = [entry for entry in whole if isinstance(entry, Recording)]
    speakers = list(dict.fromkeys(recording.speaker for recording in recordings))
    assert len(speakers) > 1
    for name in speakers[:2]:
        own = entries(chosen(reader, speakers=[name]), path)
        others = entries(chosen(reader, leave_out_speakers=[name]), path)
        assert own == [recording for recording in recordings if recording.speaker == name]
        assert others == [recording for recording in recordings if recording.speaker != name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_corpora(name: str, tmp_path: Path):
    import_module(f"tests.corpora.{name}").build(tmp_path)
    whole_and_parts(name, tmp_path)


def test_the_excerpt():
    whole_and_parts("amazon_queen", REPO / "data/raw/amazon_queen")


def test_a_run_and_the_check_leave_out_the_same(tmp_path: Path):
    rows = rows_of(tmp_path / "mine", n=9, speakers=3)
    write(tmp_path / "mine", rows)
    corpus = some_speakers(tmp_path / "mine", leave_out_speakers=["s1"])
    contents = check_agrees(tmp_path / "mine", tmp_path / "out", corpus)
    assert dict(contents.speakers) == {"s0": 3, "s2": 3}
    assert (contents.faults, contents.left_out) == ([], [])
    text = "\n".join(format_report(READERS["csv"].INFO, contents))
    assert "\n2 speakers, those of the set in the settings\n" in text
    corpus = some_speakers(tmp_path / "mine", speakers=["s1", "s2"])
    contents = check_agrees(tmp_path / "mine", tmp_path / "out", corpus)
    assert dict(contents.speakers) == {"s1": 3, "s2": 3}


def test_faults_of_speakers_that_are_not_used_do_not_count(tmp_path: Path):
    """Neither silence of another speaker nor, in a published corpus, a file without a speaker."""
    rows = rows_of(tmp_path / "mine", n=6, speakers=2)
    for row in rows[1::2]:
        (tmp_path / "mine" / row["audio"]).write_bytes(b"no sound")
    write(tmp_path / "mine", rows)
    assert len(check_agrees(tmp_path / "mine", tmp_path / "a", limits(tmp_path / "mine")).faults)
    corpus = some_speakers(tmp_path / "mine", speakers=["s0"])
    contents = check_agrees(tmp_path / "mine", tmp_path / "b", corpus)
    assert (contents.n_utterances, contents.faults, contents.left_out) == (3, [], [])

    miniature = import_module("tests.corpora.ravdess")
    miniature.build(tmp_path / "ravdess")
    (tmp_path / "ravdess" / miniature.FIRST).unlink()
    for lists, counted in (({}, True), ({"speakers": ["actor02"]}, False)):
        found = entries(chosen("ravdess", **lists), tmp_path / "ravdess")
        (fault,) = (entry for entry in found if isinstance(entry, Fault))
        assert (fault.reason, fault.left_out) == ("no audio file", not counted)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"speakers": ["bbo"]}, r"speakers: the corpus has no speaker 'bbo' \(bob, \.\.\)"),
        (
            {"leave_out_speakers": ["joe", "Faye"]},
            r"leave_out_speakers: the corpus has no speaker 'Faye' \(faye, \.\.\)",
        ),
        (
            {"speakers": ["999"]},
            r"no speaker '999' \(ape, bob, chief, faye, jim, joe, lou, oracle, prin, sparky, tam, "
            r"witch\)",
        ),
    ],
)
def test_a_name_that_the_corpus_does_not_have(lists: dict, message: str):
    with pytest.raises(HproError, match=message):
        entries(chosen("amazon_queen", **lists), REPO / "data/raw/amazon_queen")


def test_a_wrong_name_stops_a_run_and_the_check(tmp_path: Path):
    write(tmp_path / "mine", rows_of(tmp_path / "mine"))
    corpus = some_speakers(tmp_path / "mine", speakers=["s7"])
    with pytest.raises(HproError, match=r"no speaker 's7' \(s0, s1\)"):
        check(tmp_path / "mine", corpus)
    with pytest.raises(HproError, match=r"no speaker 's7' \(s0, s1\)"):
        run(tmp_path / "mine", tmp_path / "out", corpus)


def test_a_set_that_becomes_empty(tmp_path: Path):
    write(tmp_path / "mine", rows_of(tmp_path / "mine"))
    with pytest.raises(HproError, match="names all 2 speakers of the corpus: no utterance is left"):
        entries(chosen("csv", leave_out_speakers=["s0", "s1"]), tmp_path / "mine")
