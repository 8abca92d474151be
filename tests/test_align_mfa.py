"""The MFA backend against a recorded command line.

MFA itself comes from conda-forge only. The `mfa` here is a stand-in that takes the same arguments
and writes TextGrids that the real MFA 3.4.3 made for the same clips.
"""

import json
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from hpro_core import tables
from hpro_core.align import mfa_aligner, stage
from hpro_core.align.jobs import Job
from hpro_core.align.matching import match_words
from hpro_core.align.textgrid import Interval, read_words
from hpro_core.corpus.text import normalised_words
from hpro_core.errors import HproError
from hpro_core.params import Align
from tests.test_align import CORPUS, clips

STAND_IN = """#!{python}
import json, os, pathlib, shutil, sys
here = pathlib.Path({here!r})
arguments = sys.argv[1:]
corpus = pathlib.Path(arguments[1])
labs = {{str(p.relative_to(corpus)): p.read_text() for p in sorted(corpus.rglob("*.lab"))}}
audio = [str(p.resolve()) for p in sorted(corpus.rglob("*.wav"))]
seen = dict(arguments=arguments, root=os.environ["MFA_ROOT_DIR"], labs=labs, audio=audio)
(here / "seen.json").write_text(json.dumps(seen))
print("INFO  Setting up corpus information...")
if (here / "fail").exists():
    print("ERROR  There were no sound files found in the corpus directory.")
    sys.exit(1)
if arguments[0] == "train":
    model = pathlib.Path(arguments[3])
    model.write_text("model")
    (model.parent / pathlib.Path(arguments[2]).name).write_text("overwritten")
    output = pathlib.Path(arguments[arguments.index("--output_directory") + 1])
else:
    output = pathlib.Path(arguments[4])
for lab in labs:
    recorded = here / "recorded" / (pathlib.Path(lab).stem + ".TextGrid")
    if recorded.exists():
        (output / lab).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(recorded, (output / lab).with_suffix(".TextGrid"))
"""


@pytest.fixture
def mfa(tmp_path: Path, monkeypatch) -> Path:
    """A folder with the stand-in on PATH, its recorded TextGrids, a model and a dictionary."""
    program = tmp_path / "bin" / "mfa"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable, here=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    downloaded = tmp_path / "home" / "pretrained_models"
    monkeypatch.setenv("MFA_ROOT_DIR", str(tmp_path / "home"))
    for kind, name in (("acoustic", "english_mfa.zip"), ("dictionary", "english_mfa.dict")):
        (downloaded / kind).mkdir(parents=True)
        (downloaded / kind / name).write_text("the user's own")
    (tmp_path / "recorded").mkdir()
    with zipfile.ZipFile(CORPUS / "mfa_textgrids.zip") as archive:
        for clip in clips().itertuples():
            text = archive.read(f"{clip.speaker}/{clip.utt_id}.TextGrid")
            (tmp_path / "recorded" / f"{clip.utt_id}.TextGrid").write_bytes(text)
    return tmp_path


def settings(**changes: object) -> Align:
    values = {
        "backend": "mfa",
        "mfa_acoustic_model": "english_mfa",
        "mfa_dictionary": "english_mfa",
        "mfa_command": "mfa",
        "max_rejected_share": 0.5,
    }
    return Align(**{**values, **changes})


def jobs() -> list[Job]:
    return [
        Job(
            clip.utt_id,
            clip.speaker,
            CORPUS / clip.audio,
            tuple(normalised_words(clip.text).split()),
        )
        for clip in clips().itertuples()
    ]


def run(mfa: Path, **changes: object) -> tuple[list, dict]:
    """Align the ten clips; also what the stand-in was given."""
    folder = mfa / "align"
    folder.mkdir(exist_ok=True)
    outcomes = list(mfa_aligner.align_all(jobs(), settings(**changes), 2, folder))
    return outcomes, json.loads((mfa / "seen.json").read_text())


def test_the_recorded_command_line(mfa: Path):
    outcomes, seen = run(mfa)
    work = Path(seen["arguments"][1]).parent
    models = mfa / "home" / "pretrained_models"
    assert seen["arguments"] == [
        "align",
        str(work / "corpus"),
        str(models / "dictionary" / "english_mfa.dict"),
        str(models / "acoustic" / "english_mfa.zip"),
        str(work / "textgrids"),
        "--temporary_directory",
        str(work / "temporary"),
        "-j",
        "2",
        "--clean",
        "--final_clean",
        "--output_format",
        "long_textgrid",
    ]
    assert work.parent == mfa / "align"
    assert seen["root"] == str(work / "root")
    assert not work.exists()
    assert "Setting up corpus" in (mfa / "align" / "mfa.log").read_text()
    assert [outcome.utt_id for outcome in outcomes] == [job.utt_id for job in jobs()]


def test_the_corpus_has_one_folder_per_speaker(mfa: Path):
    _, seen = run(mfa)
    speakers = {job.speaker for job in jobs()}
    folders = {Path(lab).parent.name for lab in seen["labs"]}
    assert {folder.split("_", 1)[1] for folder in folders} == speakers
    assert len(folders) == len(speakers)
    lab = next(text for lab, text in seen["labs"].items() if Path(lab).stem == jobs()[0].utt_id)
    assert lab.split() == list(jobs()[0].words)
    assert set(seen["audio"]) == {str(job.audio.resolve()) for job in jobs()}


def test_two_runs_never_share_a_working_folder(mfa: Path):
    _, first = run(mfa)
    _, second = run(mfa)
    assert first["root"] != second["root"]
    assert first["arguments"][1] != second["arguments"][1]


def test_spans_are_those_of_the_textgrids(mfa: Path):
    outcomes, _ = run(mfa)
    assert not [outcome.reason for outcome in outcomes if outcome.reason]
    for outcome, job in zip(outcomes, jobs(), strict=True):
        grid = read_words(mfa / "recorded" / f"{job.utt_id}.TextGrid")
        assert tuple(span.word for span in outcome.spans) == job.words
        assert [(s.start_s, s.end_s) for s in outcome.spans] == [(i.start_s, i.end_s) for i in grid]


def test_training_keeps_the_dictionary_of_the_user(mfa: Path):
    own = mfa / "align" / "words.dict"
    own.parent.mkdir()
    own.write_text("the user's own")
    outcomes, seen = run(mfa, mfa_acoustic_model="", mfa_dictionary=str(own))
    assert seen["arguments"][0] == "train"
    assert seen["arguments"][3] == str(mfa / "align" / "mfa_model" / "acoustic.zip")
    assert own.read_text() == "the user's own"
    assert (mfa / "align" / "mfa_model" / "words.dict").read_text() == "overwritten"
    assert not [outcome.reason for outcome in outcomes if outcome.reason]


def test_an_utterance_without_textgrid_is_rejected(mfa: Path):
    (mfa / "recorded" / f"{jobs()[4].utt_id}.TextGrid").unlink()
    outcomes, _ = run(mfa)
    assert [bool(outcome.reason) for outcome in outcomes] == [i == 4 for i in range(10)]
    assert "wrote no TextGrid" in outcomes[4].reason


def test_prefixed_tiers_and_spoken_silence(mfa: Path):
    path = mfa / "recorded" / f"{jobs()[0].utt_id}.TextGrid"
    plain = read_words(path)
    text = path.read_text().replace('name = "words"', 'name = "0000_and - words"')
    text = text.replace('name = "phones"', 'name = "0000_and - phones"')
    path.write_text(
        text.replace('text = ""', 'text = "<eps>"', 1).replace('text = ""', 'text = "sil"')
    )
    assert read_words(path) == plain


def test_a_failure_shows_the_end_of_the_output(mfa: Path):
    (mfa / "fail").touch()
    with pytest.raises(HproError, match=r"status 1.*mfa\.log.*no sound files found"):
        run(mfa)


def test_without_mfa_the_error_names_the_environment(mfa: Path):
    with pytest.raises(HproError, match=r"'mfa9' is not on PATH.*workflow/envs/mfa\.yaml"):
        run(mfa, mfa_command="mfa9")
    assert (Path(__file__).parents[1] / mfa_aligner.ENVIRONMENT).is_file()


def test_a_missing_model_names_the_download(mfa: Path):
    with pytest.raises(HproError, match=r"`mfa model download acoustic german_mfa`"):
        run(mfa, mfa_acoustic_model="german_mfa")
    with pytest.raises(HproError, match=r"`mfa model download dictionary NAME`"):
        run(mfa, mfa_dictionary="")


def test_the_stage_writes_the_same_tables_with_mfa(mfa: Path):
    rows = [
        {
            "utt_id": job.utt_id,
            "corpus": "acted",
            "speaker": job.speaker,
            "text": " ".join(job.words),
            "words": " ".join(job.words),
            "audio": str(job.audio),
            "duration_s": 9.0,
            "split": "train",
            "group": job.utt_id,
            "emotion": None,
            "label": None,
        }
        for job in jobs()
    ]
    root = mfa / "run"
    tables.write_table(
        pd.DataFrame(rows), root / "corpus" / "utterances.parquet", tables.UTTERANCES
    )
    stage.run(root, settings(), threads=1)
    words = tables.read_table(root / "align" / "words.parquet", tables.WORDS)
    assert words["score"].isna().all()
    assert words["utt_id"].nunique() == 10
    assert len(list((root / "align" / "textgrids").iterdir())) == 10


def _intervals(*labels: str) -> list[Interval]:
    return [Interval(label, float(i), float(i + 1)) for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("words", "labels", "starts"),
    [
        ("i've seen it", ["i've", "seen", "it"], [0, 1, 2]),
        ("i've seen it", ["i", "'ve", "seen", "it"], [0, 2, 3]),
        ("make sparky's day", ["make", "sparky", "'s", "day"], [0, 1, 3]),
        ("the amazons secret", ["the", "amazons'", "secret"], [0, 1, 2]),
        ("i'm no almax joe", ["i'm", "no", "<unk>", "joe"], [0, 1, 2, 3]),
        ("finally found em now", ["finally", "found'em", "now"], [0, None, None, 2]),
        ("in eighteen forty four", ["in", "1844"], [0, None, None, None]),
        ("ha ha ha", ["ha", "ha", "ha"], [0, 1, 2]),
        ("ha ha ha", ["ha", "ha"], [0, 1, None]),
        ("one two", [], [None, None]),
    ],
)
def test_words_find_their_intervals(words: str, labels: list[str], starts: list):
    found = match_words(words.split(), _intervals(*labels))
    assert [interval and interval.start_s for interval in found] == starts


def test_a_split_word_is_put_together_again():
    found = match_words(["make", "sparky's"], _intervals("make", "sparky", "'s"))
    assert found[1] == Interval("sparky's", 1.0, 3.0)


def test_unknown_words_are_counted():
    intervals = [Interval("ooop", 0.0, 1.0, is_spn=True), *_intervals("<unk>", "is")[:1]]
    assert [i.is_spn for i in match_words(["ooop", "zog"], intervals) if i] == [True, True]
