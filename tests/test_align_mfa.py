"""The MFA backend against a recorded command line.

MFA itself comes from conda-forge only. The `mfa` here is a stand-in that takes the same arguments
and writes TextGrids and figures of quality that the real MFA 3.4.3 made for the same clips. How it
downloads, fails and reads options is what the source of MFA 3.4.1 says.
"""

import csv
import hashlib
import json
import math
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from hpro_core import tables
from hpro_core.align import mfa_aligner, mfa_models, mfa_program, stage
from hpro_core.align.jobs import Job
from hpro_core.align.matching import match_words
from hpro_core.align.textgrid import Interval, read_words
from hpro_core.cli import app
from hpro_core.errors import HproError
from hpro_core.params import Align
from hpro_core.text.normalise import normalised_words
from tests.test_align import CORPUS, clips

STAND_IN = """#!{python}
import csv, json, os, pathlib, shutil, sys, zipfile
here = pathlib.Path({here!r})
arguments = sys.argv[1:]
PUBLISHED = dict(acoustic="english_mfa.zip", dictionary="english_mfa.dict")
PUBLISHED["g2p"] = "english_us_mfa.zip"
HEADER = "file begin end speaker overall_log_likelihood speech_log_likelihood"
HEADER += " phone_duration_deviation max_running_short_interval snr intensity_deviation"

def download(kind, name):
    with (here / "downloads").open("a") as log:
        log.write(kind + " " + name + chr(10))
    if (here / "offline").exists():
        sys.exit("requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.github.com')")
    file = PUBLISHED[kind]
    if name != file.split(".")[0]:
        sys.exit("RemoteModelNotFoundError: Could not find a model named " + name)
    path = pathlib.Path(os.environ["MFA_ROOT_DIR"], "pretrained_models", kind, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        print("WARNING Local version of model already exists")
    elif not (here / "elsewhere").exists():
        model(path)
        print("INFO  Saved model to", path)

def model(path):
    if path.suffix == ".dict":
        return path.write_text("and" + chr(9) + "AE N D")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", "")

def asked(option):
    at = arguments.index(option) if option in arguments else None
    return at is not None and (at + 1 == len(arguments) or arguments[at + 1].startswith("--"))

def read_out(textgrid):
    if "--g2p_model_path" not in arguments or (here / "illiterate").exists():
        return textgrid
    assert zipfile.is_zipfile(arguments[arguments.index("--g2p_model_path") + 1])
    return textgrid.replace(chr(34) + "spn" + chr(34), chr(34) + "AH" + chr(34))

if arguments[:2] == ["model", "download"]:
    sys.exit(download(*arguments[2:]))
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
    trained = pathlib.Path(arguments[3])
    trained.write_text("model")
    (trained.parent / pathlib.Path(arguments[2]).name).write_text("overwritten")
    output = pathlib.Path(arguments[arguments.index("--output_directory") + 1])
else:
    output = pathlib.Path(arguments[4])
output.mkdir(parents=True, exist_ok=True)
rows = []
for lab in labs:
    recorded = here / "recorded" / (pathlib.Path(lab).stem + ".TextGrid")
    rows.append([recorded.stem, "0.0", "2.0", "s", "-55.0", "-55.0", "2.0", "5", "11.0", ""])
    if recorded.exists():
        (output / lab).parent.mkdir(parents=True, exist_ok=True)
        (output / lab).with_suffix(".TextGrid").write_text(read_out(recorded.read_text()))
analysis = output / "alignment_analysis.csv"
if not asked("--output_analysis") or (here / "unanalysed").exists():
    pass
elif (here / "analysis.csv").exists():
    shutil.copy(here / "analysis.csv", analysis)
else:
    with analysis.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER.split(), *rows])
"""

ANALYSIS = """\
file,begin,end,speaker,overall_log_likelihood,speech_log_likelihood\
,phone_duration_deviation,max_running_short_interval,snr,intensity_deviation
040001p1,0.0,1.6719,ape,-51.1734,-55.6559,2.0057,7,9.1117,
770009p1,0.0,2.0376,bob,-66.6128,-61.5651,2.2295,5,5.8466,
7500a4p1,0.0,2.2466,chief,-55.3201,-55.9712,3.1116,2,8.1946,
21xxxxp2,0.0,2.56,faye,-53.4073,-54.1957,1.6228,3,17.1587,
7003b9p1,0.0,2.3511,jim,-50.2858,-50.6348,2.2146,6,12.9188,
69ssssj2,0.0,2.8735,joe,-54.5877,-53.028,2.1246,6,9.7408,
3400cdp2,0.0,2.9257,lou,-55.0423,-54.0159,1.725,2,14.4091,
410387p1,0.0,1.9331,oracle,-54.1255,-49.2755,1.7034,5,11.6946,
520006p2,0.0,2.5078,sparky,-57.0283,-58.2883,2.6033,3,14.5176,
710007p3,0.0,2.5078,tam,-59.8525,-59.1505,2.6682,0,12.7445,
"""
"""What MFA 3.4.3 said about the ten clips, to four decimals."""
UNKNOWN = ("3400cdp2", "harbuckle")
"""The clip with a word that MFA's dictionary lacked, and the word."""


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
    (tmp_path / "analysis.csv").write_text(ANALYSIS)
    return tmp_path


def settings(**changes: object) -> Align:
    values = {
        "backend": "mfa",
        "mfa_acoustic_model": "english_mfa",
        "mfa_dictionary": "english_mfa",
        "mfa_g2p_model": "",
        "mfa_min_log_likelihood": None,
        "mfa_max_duration_deviation": None,
        "mfa_command": "mfa",
        "max_rejected_fraction": 0.5,
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


def reasons(outcomes: list) -> dict[str, str]:
    """utt_id -> reason, of what was rejected."""
    return {outcome.utt_id: outcome.reason for outcome in outcomes if outcome.reason}


def analysis_of(mfa: Path) -> list[list[str]]:
    return list(csv.reader((mfa / "analysis.csv").read_text().splitlines()))


def write_analysis(mfa: Path, rows: list[list[str]]) -> None:
    with (mfa / "analysis.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def set_figure(mfa: Path, utt_id: str, column: str, value: str) -> None:
    """Change one value in what the stand-in says about quality."""
    header, *rows = analysis_of(mfa)
    (row,) = (row for row in rows if row[0] == utt_id)
    row[header.index(column)] = value
    write_analysis(mfa, [header, *rows])


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
        "--no_tokenization",
        "--temporary_directory",
        str(work / "temporary"),
        "-j",
        "2",
        "--clean",
        "--final_clean",
        "--output_format",
        "long_textgrid",
        "--output_analysis",
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
    assert "--no_tokenization" not in seen["arguments"]
    assert own.read_text() == "the user's own"
    assert (mfa / "align" / "mfa_model" / "words.dict").read_text() == "overwritten"
    assert not [outcome.reason for outcome in outcomes if outcome.reason]


def test_an_utterance_without_textgrid_is_rejected(mfa: Path):
    (mfa / "recorded" / f"{jobs()[4].utt_id}.TextGrid").unlink()
    outcomes, _ = run(mfa)
    assert [bool(outcome.reason) for outcome in outcomes] == [i == 4 for i in range(10)]
    assert "wrote no TextGrid" in outcomes[4].reason


@pytest.mark.parametrize(
    "content", ["", "no TextGrid", 'File type = "ooTextFile"', "half", "other tiers"]
)
def test_an_utterance_whose_textgrid_cannot_be_read_is_rejected(mfa: Path, content: str):
    path = mfa / "recorded" / f"{jobs()[4].utt_id}.TextGrid"
    text = path.read_text()
    made = {"half": text[: len(text) // 2], "other tiers": text.replace('"words"', '"a"')}
    path.write_text(made.get(content, content))
    outcomes, _ = run(mfa)
    assert [bool(outcome.reason) for outcome in outcomes] == [i == 4 for i in range(10)]
    assert outcomes[4].reason == "MFA's TextGrid cannot be read"


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
    assert (Path(__file__).parents[1] / mfa_program.ENVIRONMENT).is_file()


def test_a_missing_model_names_the_download(mfa: Path):
    with pytest.raises(HproError, match=r"`mfa model download acoustic german_mfa`"):
        run(mfa, mfa_acoustic_model="german_mfa")
    with pytest.raises(HproError, match=r"`mfa model download dictionary NAME`"):
        run(mfa, mfa_dictionary="")
    with pytest.raises(HproError, match=r"`mfa model download g2p english_us_mfa`"):
        run(mfa, mfa_g2p_model="english_us_mfa")
    with pytest.raises(HproError, match=r"mfa_dictionary: my/own\.dict is not a file: correct"):
        run(mfa, mfa_dictionary="my/own.dict")


def forget_models(mfa: Path) -> None:
    """A user who has downloaded nothing yet."""
    for path in (mfa / "home" / "pretrained_models").rglob("english*"):
        path.unlink()


def get(mfa: Path, **changes: object) -> list[dict[str, str]]:
    """What `hpro align-models` lists."""
    mfa_models.download_models(mfa / "run", settings(**changes))
    with (mfa / "run/align/mfa_models.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_named_models_are_downloaded_once(mfa: Path):
    forget_models(mfa)
    named = {"mfa_g2p_model": "english_us_mfa"}
    first = get(mfa, **named)
    asked = (mfa / "downloads").read_text().splitlines()
    assert asked == ["dictionary english_mfa", "acoustic english_mfa", "g2p english_us_mfa"]
    path = mfa / "home/pretrained_models/acoustic/english_mfa.zip"
    row = {"kind": "acoustic", "name": "english_mfa", "bytes": str(path.stat().st_size)}
    assert first[1] == row | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert "Saved model to" in (mfa / "run/align/mfa_models.log").read_text()
    (mfa / "offline").touch()
    assert get(mfa, **named, mfa_command="a program that is not here") == first
    assert (mfa / "downloads").read_text().splitlines() == asked
    assert not reasons(run(mfa, **named)[0])


def test_what_the_user_gives_is_not_downloaded(mfa: Path):
    forget_models(mfa)
    (mfa / "own.dict").write_text("and\tAE N D\n")
    own = {"mfa_dictionary": str(mfa / "own.dict"), "mfa_acoustic_model": ""}
    (listed,) = get(mfa, **own)
    assert (listed["kind"], listed["name"]) == ("dictionary", own["mfa_dictionary"])
    assert listed["bytes"] == "11"
    assert not (mfa / "downloads").exists()
    with pytest.raises(HproError, match=r"align\.mfa_acoustic_model: gone\.zip is not a file"):
        get(mfa, **own | {"mfa_acoustic_model": "gone.zip"})


def test_the_workflow_asks_for_named_models_only():
    chosen = settings(mfa_acoustic_model="models/own.zip", mfa_g2p_model="english_us_mfa")
    assert [model.name for model in mfa_models.local_models(chosen)] == ["models/own.zip"]
    assert [m.kind for m in mfa_models.published_models(chosen)] == ["dictionary", "g2p"]
    other = settings(backend="pocketsphinx")
    assert not [*mfa_models.local_models(other), *mfa_models.published_models(other)]


@pytest.mark.parametrize(
    ("planted", "changes", "message"),
    [
        ("offline", {}, r"align\.mfa_dictionary: 'english_mfa' could not be downloaded.*with "
         r"internet access.*\.dict file.*mfa_models\.log: .*ConnectionError.*api\.github\.com"),
        ("", {"mfa_acoustic_model": "klingon_mfa"},
         r"align\.mfa_acoustic_model: 'klingon_mfa' .*correct the name.*RemoteModelNotFoundError"),
        ("", {"mfa_dictionary": ""}, r"align\.mfa_dictionary is empty"),
        ("elsewhere", {}, r"'english_mfa' is not downloaded \(.*english_mfa\.dict\)"),
    ],
)  # fmt: skip
def test_a_failed_download_says_what_to_do(mfa: Path, planted: str, changes: dict, message: str):
    forget_models(mfa)
    if planted:
        (mfa / planted).touch()
    with pytest.raises(HproError, match=message):
        get(mfa, **changes)
    assert not (mfa / "run/align/mfa_models.csv").exists()


@pytest.mark.parametrize(("kind", "content"), [("acoustic", "a page"), ("dictionary", "")])
def test_a_file_that_is_no_model_is_named(mfa: Path, kind: str, content: str):
    forget_models(mfa)
    get(mfa)
    (path,) = (mfa / "home/pretrained_models" / kind).iterdir()
    path.write_text(content)
    message = rf"{path} is not a \{path.suffix} file of MFA.*--force {kind}"
    with pytest.raises(HproError, match=message):
        get(mfa)


def test_the_command_that_downloads(mfa: Path):
    forget_models(mfa)
    (mfa / "params.yaml").write_text(yaml.safe_dump({"align": settings().model_dump()}))
    options = ["--root", str(mfa / "run"), "--params", str(mfa / "params.yaml")]
    done = CliRunner().invoke(app, ["align-models", *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert "align: acoustic english_mfa, 0.0 MB" in done.output
    assert (mfa / "run/align/mfa_models.csv").is_file()


def g2p_of(mfa: Path, lines: list[str]) -> dict[str, str]:
    """Settings with a G2P model, and a dictionary of these lines."""
    with zipfile.ZipFile(mfa / "g2p.zip", "w") as archive:
        archive.writestr("meta.json", "")
    (mfa / "own.dict").write_text("\n".join(lines) + "\n")
    return {"mfa_dictionary": str(mfa / "own.dict"), "mfa_g2p_model": str(mfa / "g2p.zip")}


def known_words() -> list[str]:
    """Lines of a dictionary with probabilities, as MFA trains them, of all words but one."""
    words = {word for job in jobs() for word in job.words} - {UNKNOWN[1], "i'll", "you'll"}
    return [f"{word}\t0.99\t0.1\t1.0\t1.0\tAH" for word in sorted(words | {"'ll", "i", "you"})]


def test_unknown_words_stay_spn_without_a_g2p_model(mfa: Path, capsys):
    outcomes, seen = run(mfa)
    assert "--g2p_model_path" not in seen["arguments"]
    assert {o.utt_id: o.unknown_words for o in outcomes if o.unknown_words} == {
        UNKNOWN[0]: (UNKNOWN[1],)
    }
    assert not [o.pronounced for o in outcomes if o.pronounced]
    assert not reasons(outcomes)
    assert "G2P" not in capsys.readouterr().out


@pytest.mark.parametrize("acoustic", ["english_mfa", ""])
def test_a_g2p_model_reads_unknown_words(mfa: Path, capsys, acoustic: str):
    chosen = g2p_of(mfa, known_words())
    outcomes, seen = run(mfa, **chosen, mfa_acoustic_model=acoustic)
    at = seen["arguments"].index("--g2p_model_path")
    assert seen["arguments"][at + 1] == chosen["mfa_g2p_model"]
    told = {o.utt_id: (o.unknown_words, o.pronounced) for o in outcomes if o.unknown_words}
    assert told == {UNKNOWN[0]: ((UNKNOWN[1],), ((UNKNOWN[1], "AH"),))}
    said = capsys.readouterr().out
    assert "align: words pronounced by MFA's G2P model: 1, such as harbuckle (AH)" in said


def test_what_a_g2p_model_cannot_read_stays_spn(mfa: Path, capsys):
    (mfa / "illiterate").touch()
    outcomes, _ = run(mfa, **g2p_of(mfa, known_words()))
    assert [o.unknown_words for o in outcomes if o.unknown_words] == [(UNKNOWN[1],)]
    assert not [o.pronounced for o in outcomes if o.pronounced]
    assert "align: words pronounced by MFA's G2P model: 0" in capsys.readouterr().out


def test_a_word_outside_the_dictionary_shows_its_phones(mfa: Path):
    chosen = g2p_of(mfa, [line for line in known_words() if not line.startswith("knew")])
    outcomes, _ = run(mfa, **chosen)
    assert ("knew", "n j ʉː") in {pair for o in outcomes for pair in o.pronounced}


def test_the_score_of_a_word_is_that_of_its_utterance(mfa: Path):
    outcomes, _ = run(mfa)
    first = outcomes[0]
    assert {span.score for span in first.spans} == {-55.656}
    assert len(first.spans) == 5
    scores = {o.utt_id: {span.score for span in o.spans} for o in outcomes}
    header, *rows = analysis_of(mfa)
    column = header.index("speech_log_likelihood")
    assert scores == {row[0]: {round(float(row[column]), 3)} for row in rows}
    assert (mfa / "align/alignment_analysis.csv").read_text() == ANALYSIS


LEAST, MOST = "mfa_min_log_likelihood", "mfa_max_duration_deviation"


@pytest.mark.parametrize(
    ("limits", "rejected"),
    [
        ({LEAST: -60.0}, {"770009p1": "MFA's speech_log_likelihood is too low (-61.57, below "
                          "align.mfa_min_log_likelihood -60)"}),
        ({LEAST: -61.5651}, {}),
        ({MOST: 3.0}, {"7500a4p1": "MFA's phone_duration_deviation is too high (3.11, above "
                       "align.mfa_max_duration_deviation 3)"}),
        ({MOST: 3.1116}, {}),
        ({LEAST: -60.0, MOST: 2.65}, {"770009p1": "too low", "7500a4p1": "too high",
                                      "710007p3": "too high (2.67, above"}),
    ],
)  # fmt: skip
def test_low_quality_is_rejected_by_name(mfa: Path, limits: dict, rejected: dict):
    found = reasons(run(mfa, **limits)[0])
    assert found.keys() == rejected.keys()
    assert all(part in found[utt_id] for utt_id, part in rejected.items())


@pytest.mark.parametrize("trained", [False, True])
def test_training_is_judged_by_the_same_figures(mfa: Path, trained: bool):
    found = run(mfa, mfa_acoustic_model="" if trained else "english_mfa", **{LEAST: -60.0})[0]
    assert reasons(found).keys() == {"770009p1"}


def test_an_utterance_without_a_figure_has_no_score(mfa: Path):
    for column in ("speech_log_likelihood", "phone_duration_deviation"):
        set_figure(mfa, "040001p1", column, "")
    outcomes, _ = run(mfa)
    assert not reasons(outcomes)
    assert {span.score for span in outcomes[0].spans} == {None}
    for name, limit in ((LEAST, -99.0), (MOST, 99.0)):
        reason = reasons(run(mfa, **{name: limit})[0])["040001p1"]
        assert reason.startswith("MFA gave no ")
        assert f"(align.{name} {limit:g})" in reason


def test_an_utterance_without_a_row_is_rejected(mfa: Path):
    write_analysis(mfa, [row for row in analysis_of(mfa) if row[0] != "040001p1"])
    assert reasons(run(mfa)[0]) == {"040001p1": "MFA's alignment_analysis.csv has no row for it"}


@pytest.mark.parametrize("column", ["file", "speech_log_likelihood", "phone_duration_deviation"])
def test_a_missing_column_is_an_error(mfa: Path, column: str):
    header, *rows = analysis_of(mfa)
    write_analysis(mfa, [[name.replace(column, "other") for name in header], *rows])
    with pytest.raises(HproError, match=rf"no column '{column}'; it has: .*other"):
        run(mfa)


def test_figures_that_cannot_be_read_are_errors(mfa: Path):
    set_figure(mfa, "040001p1", "speech_log_likelihood", "good")
    with pytest.raises(HproError, match="speech_log_likelihood of '040001p1' is 'good'"):
        run(mfa)
    set_figure(mfa, "040001p1", "speech_log_likelihood", "-50")
    write_analysis(mfa, [*analysis_of(mfa), analysis_of(mfa)[1]])
    with pytest.raises(HproError, match="has '040001p1' twice"):
        run(mfa)


def test_an_mfa_that_writes_no_figures_is_named(mfa: Path):
    (mfa / "unanalysed").touch()
    with pytest.raises(HproError, match=r"wrote no alignment_analysis\.csv: use MFA 3\.3\.9"):
        run(mfa)


@pytest.mark.parametrize("limits", [{LEAST: math.nan}, {MOST: 0.0}, {MOST: -1.0}])
def test_limits_that_mean_nothing_are_refused(limits: dict):
    with pytest.raises(ValueError, match="mfa_m"):
        settings(**limits)


def run_folder(mfa: Path) -> Path:
    """A results folder whose utterances are the ten clips."""
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
    return root


def test_what_a_killed_job_left_is_removed(mfa: Path):
    root = run_folder(mfa)
    stage.run(root, settings(), threads=1)
    killed = Path(json.loads((mfa / "seen.json").read_text())["arguments"][1])
    killed.mkdir(parents=True)
    others = ("mfa_models.csv", "mfa_models.log", "mfa_model/acoustic.zip")
    for name in others:
        (root / "align" / name).parent.mkdir(exist_ok=True)
        (root / "align" / name).touch()
    with pytest.raises(HproError, match="'mfa9' is not on PATH"):
        stage.run(root, settings(mfa_command="mfa9"), threads=1)
    left = {str(p.relative_to(root / "align")) for p in (root / "align").rglob("*") if p.is_file()}
    assert left == {*others}
    assert not killed.parent.exists()


def test_the_stage_writes_the_same_tables_with_mfa(mfa: Path):
    root = run_folder(mfa)
    set_figure(mfa, "040001p1", "speech_log_likelihood", "")
    stage.run(root, settings(mfa_max_duration_deviation=3.0), threads=1)
    words = tables.read_table(root / "align" / "words.parquet", tables.WORDS)
    rejected = tables.read_table(root / "align" / "rejected.parquet", tables.REJECTED)
    assert words["utt_id"].nunique() == 9
    assert len(list((root / "align" / "textgrids").iterdir())) == 9
    scores = words.groupby("utt_id")["score"]
    assert (scores.nunique(dropna=False) == 1).all()
    assert math.isnan(scores.first()["040001p1"])
    assert scores.first()["7003b9p1"] == -50.635
    assert list(rejected["utt_id"]) == ["7500a4p1"]
    assert "3.11, above align.mfa_max_duration_deviation 3" in rejected["reason"][0]


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


def test_the_parts_of_a_word_keep_their_phones():
    sparky, suffix = _intervals("sparky", "'s")
    parts = [replace(sparky, phones=("s", "p")), replace(suffix, phones=("z",))]
    (found,) = match_words(["sparky's"], parts)
    assert found is not None
    assert found.phones == ("s", "p", "z")


def test_unknown_words_are_counted():
    intervals = [Interval("ooop", 0.0, 1.0, is_spn=True), *_intervals("<unk>", "is")[:1]]
    assert [i.is_spn for i in match_words(["ooop", "zog"], intervals) if i] == [True, True]
