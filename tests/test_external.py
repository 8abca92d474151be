"""Audio of other systems: lists, import, rows of a run's tables, and `hpro judge --audio`."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from hpro_core import tables
from hpro_core.analysis import tables as result_tables
from hpro_core.errors import HproError
from hpro_core.io import read_json, write_json
from hpro_core.judges.audio_lists import find_list, named_folders, read_list
from hpro_core.params import check_external_names
from hpro_core.synthesis import external, imported
from tests.test_evaluate_tables import ROWS, SETTINGS, scores, write
from tests.workflow.project import REPO

RATE_HZ = 44100
TAKEN = " exists and is not an empty folder: name a new folder"


def tone(path: Path, seconds: float = 1.0, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    times_T = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    stereo = np.stack([0.3 * np.sin(2 * np.pi * 220 * times_T)] * 2, axis=1)
    soundfile.write(path, stereo, RATE_HZ, **how)
    return path


def sentences(*ids: str) -> pd.DataFrame:
    table = pd.DataFrame({"utt_id": ids})
    return table.assign(
        corpus="acted", speaker="bob", text="Come in.", words="come in", reference="acted_9",
        audio="corpus/acted/audio/x.wav", duration_s=1.0, n_tokens=25, stopped=True,
    )  # fmt: skip


# --- import


def test_every_format_becomes_16_khz_mono(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    tone(folder / "a.wav", subtype="FLOAT")
    tone(folder / "b.flac", subtype="PCM_24")
    tone(folder / "c.mp3")
    tone(folder / "d.ogg")
    tone(folder / "e.AIFF", format="AIFF")
    (folder / "a.txt").write_text("not audio")
    found = external.import_audio(folder, list("abcde"), tmp_path / "out", "theirs")
    assert found.without_audio == {}
    assert found.surplus == []
    for name in "abcde":
        info = soundfile.info(tmp_path / "out" / f"{name}.wav")
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert found.duration_s[name] == pytest.approx(1.0, abs=0.05)


def test_an_import_replaces_no_system_of_the_run_and_no_input(tmp_path: Path) -> None:
    own = tmp_path / "run/eval/self/seed0/audio"
    tone(own / "a.wav")
    with pytest.raises(HproError, match="is inside the results of the run"):
        external.import_run(tmp_path / "run", "self", 0, own)
    assert (own / "a.wav").is_file()
    write_json(tmp_path / "run/eval/hpro/seed0/record_synthesise.json", {})
    with pytest.raises(HproError, match=r"is of a system of this run: rename external\.hpro"):
        external.import_run(tmp_path / "run", "hpro", 0, tmp_path)
    for name in ("sft", "recordings", "../../x", "x" * 300):
        with pytest.raises(HproError, match="external"):
            check_external_names([name])


def test_missing_broken_and_surplus_files_are_counted_and_the_rest_is_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "theirs"
    tone(folder / "a.wav")
    (folder / "b.wav").write_bytes(b"no audio")
    tone(folder / "d.wav")
    tone(folder / "d.flac")
    tone(folder / "e.wav", 31.0)
    soundfile.write(folder / "f.wav", np.zeros(RATE_HZ), RATE_HZ)
    tone(folder / "other.wav")
    tone(folder / "g.wav", 0.05)
    (folder / "h.wav").symlink_to("nowhere.wav")
    external.import_system(tmp_path, "theirs", 0, folder, sentences(*"abcdefgh"))
    made = tmp_path / "eval" / "theirs" / "seed0"
    table = tables.read_table(made / "synthesis.parquet", tables.SYNTHESIS)
    assert table[["utt_id", "audio", "reference"]].to_numpy().tolist() == [
        ["a", "eval/theirs/seed0/audio/a.wav", "acted_9"]
    ]
    reasons = {
        "b": "unreadable audio", "c": "no audio file",
        "d": "several audio files: d.flac, d.wav", "e": "longer than 30 s", "f": "silent audio",
        "g": "shorter than 0.1 s", "h": "not a file but a folder, a pipe or a broken link",
    }  # fmt: skip
    outcome = read_json(made / "import.json")
    assert outcome["without_audio"] == {
        utt_id: {"test_set": "acted", "reason": reason} for utt_id, reason in reasons.items()
    }
    assert outcome["surplus_files"] == ["other.wav"]
    assert imported.without_audio(made) == dict.fromkeys("bcdefgh", "acted")
    said = capsys.readouterr().out
    assert "theirs: audio of 1 of 8 sentences; 1 no audio file (c)" in said
    assert "surplus files: 1 (other.wav)" in said
    note = imported.import_note(made, "theirs")
    assert note is not None
    assert "theirs lacks 7 of the test sentences: 1 no audio file (c)" in note


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "theirs has no audio file"),
        (["wavs/a.wav"], "has no audio file; it has the folders wavs: name one of them"),
        (["z.wav"], "no audio of any sentence: name each file by its sentence, for example a.wav"),
    ],
)
def test_a_folder_without_a_sentence_is_refused(
    tmp_path: Path, files: list[str], message: str
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in files:
        tone(folder / name)
    with pytest.raises(HproError, match=message):
        external.import_audio(folder, ["a"], tmp_path / "out", "theirs")
    with pytest.raises(HproError, match="is not a folder"):
        external.import_audio(tmp_path / "nowhere", ["a"], tmp_path / "out", "theirs")


def test_the_test_list_of_a_run_names_prompts_and_recordings(tmp_path: Path) -> None:
    run = tmp_path / "run"
    utterances = pd.DataFrame({"utt_id": ["acted_1", "acted_2", "acted_3"]}).assign(
        corpus="acted", speaker="bob", words="come in", duration_s=1.0, split="test", group="g",
        emotion=None, label=None,
    )  # fmt: skip
    utterances["text"] = ["Come in.", "Go\naway!", "A | B"]
    utterances["audio"] = [f"corpus/acted/audio/{u}.wav" for u in utterances["utt_id"]]
    for path in utterances["audio"]:
        tone(run / path)
    tables.write_table(utterances, run / "corpus/utterances.parquet", tables.UTTERANCES)
    own = utterances[["utt_id", "corpus", "speaker", "text", "words", "audio", "duration_s"]]
    synthesis = own.assign(reference=["acted_2", "acted_1", "acted_1"], n_tokens=1, stopped=True)
    path = run / "eval/recordings/seed0/synthesis.parquet"
    tables.write_table(synthesis[list(tables.SYNTHESIS.columns)], path, tables.SYNTHESIS)
    external.write_test_list(run, tmp_path / "list")
    assert (tmp_path / "list/meta.lst").read_text().splitlines() == [
        "acted_1|Go away!|prompts/acted_2.wav|Come in.|recordings/acted_1.wav",
        "acted_2|Come in.|prompts/acted_1.wav|Go away!|recordings/acted_2.wav",
    ]
    listed = read_list(tmp_path / "list/sentences.csv")
    assert [s.utt_id for s in listed] == ["acted_1", "acted_2", "acted_3"]
    assert {s.test_set for s in listed} == {"acted"}
    for sentence in listed:
        assert sentence.reference is not None
        assert sentence.recording is not None
        assert sentence.reference.is_file()
        assert sentence.recording.is_file()
    with pytest.raises(HproError, match=f"list{TAKEN}"):
        external.write_test_list(run, tmp_path / "list")
    with pytest.raises(HproError, match="name the results folder of a finished run"):
        external.write_test_list(tmp_path / "nothing", tmp_path / "other")


# --- lists


def test_meta_lst_as_seed_tts_eval_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "en" / "meta.lst"
    path.parent.mkdir()
    path.write_text(
        "u-1|Prompt text.|prompt-wavs/p.wav|Say this.|wavs/r.wav\r\n"
        "u-2|Prompt text.|prompt-wavs/p.wav|Say that.\n"
        "u-3.wav|Say it.|p.wav\n\n"
        "u-4|Say more.\n",
        encoding="utf-8",
    )
    found = read_list(path)
    folder = path.parent
    assert [(s.utt_id, s.text, s.reference, s.recording) for s in found] == [
        ("u-1", "Say this.", folder / "prompt-wavs/p.wav", folder / "wavs/r.wav"),
        ("u-2", "Say that.", folder / "prompt-wavs/p.wav", None),
        ("u-3", "Say it.", folder / "p.wav", None),
        ("u-4", "Say more.", None, None),
    ]
    assert {s.test_set for s in found} == {"en"}
    assert found[2].where == f"{path}, line 3"


def test_emergent_tts_eval_as_it_is_published(tmp_path: Path) -> None:
    rows = [
        {"category": "Emotions", "text_to_synthesize": "Oh no!", "evolution_depth": 0,
         "language": "en", "baseline_audio_path": "baseline/0.wav"},
        {"category": "Syntactic Complexity", "text_to_synthesize": "Why, though?",
         "evolution_depth": 1, "language": "en", "baseline_audio_path": "baseline/1.wav"},
    ]  # fmt: skip
    lines = tmp_path / "emergent_tts_eval_data.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    parquet = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    for path in (lines, parquet):
        assert [(s.utt_id, s.text, s.test_set) for s in read_list(path)] == [
            ("0", "Oh no!", "Emotions"),
            ("1", "Why, though?", "Syntactic_Complexity"),
        ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "utterance,text\na,Hi.\na,Ho.\n", "line 3: the id 'a' is a duplicate"),
        ("a.csv", "utterance,audio\na,Hi.\n", "line 1: column 'text' is missing"),
        ("a.csv", "utterance,text,txt\na,Hi.,x\n", "line 1: column 'txt' is unknown: use"),
        ("a.csv", "utterance,text\n../a,Hi.\n", "line 2: the id '../a' is not usable"),
        ("a.csv", "utterance,text,test_set\na,Hi.,../x\n", "line 2: the test set '../x' is not"),
        ("a.csv", "utterance,text\n", "has no sentence"),
        ("meta.lst", "a|Go on|or stop.\n", "line 1: the third field, 'or stop.', is not an audio"),
        ("a.csv", "utterance;text\na;Hi.\n", "separate columns by commas"),
        ("meta.lst", "a|b|c|d|e|f\n", "line 1: 6 fields, but a line of meta.lst has 2 to 5"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.jsonl", '{"category": 1}\n', "line 1: category or text_to_synthesize is missing"),
        ("a.parquet", "PAR1", "a.parquet"),
        ("a.txt", "a", "a list ends in .csv, .lst, .jsonl, .parquet"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(HproError, match=message.replace(".", r"\.")):
        read_list(path)


def test_the_only_list_and_the_names_of_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two.0"
    first.mkdir()
    second.mkdir()
    with pytest.raises(HproError, match="has no list"):
        find_list(first)
    (first / "meta.lst").write_text("a|b")
    assert find_list(first) == first / "meta.lst"
    (first / "a.csv").write_text("")
    with pytest.raises(HproError, match="has several lists"):
        find_list(first)
    assert named_folders([str(first), f"two={second}"]) == {"one": first, "two": second}
    with pytest.raises(HproError, match=r"'two\.0' is not usable as the name of a system"):
        named_folders([str(second)])
    with pytest.raises(HproError, match="the name 'one' is a duplicate"):
        named_folders([str(first), f"one={second}"])
    with pytest.raises(HproError, match="is not a folder"):
        named_folders([f"x={tmp_path / 'missing'}"])


# --- tables


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Judged systems of a run, and `theirs`, which lacks two of the sentences."""
    for number, system in enumerate(("recordings", "tokenrecon")):
        write(tmp_path, system, 0, scores(number))
    for number, system in enumerate(("sft", "frame", "hpro", "joint")):
        for seed in (0, 1):
            write(tmp_path, system, seed, scores(10 * number + seed + 5))
    kept = scores(99).drop(index=[1, 7]).reset_index(drop=True)
    write(tmp_path, "theirs", 0, kept)
    lost = {u: {"test_set": u.split("_")[0], "reason": "no audio file"}
            for u in ("acted_1", "controlled_1")}  # fmt: skip
    write_json(tmp_path / "eval/theirs/seed0/import.json", {"without_audio": lost})
    return tmp_path


def test_an_external_system_is_compared_on_the_shared_utterances(run: Path) -> None:
    rows = ROWS.model_copy(update={"comparison": [*ROWS.comparison, "theirs"]})
    result_tables.write_tables(run, rows, [0, 1], SETTINGS, external=["theirs"])
    table = pd.read_csv(run / "tables/comparison.csv").set_index(["system", "test_set"])
    assert table.loc[("theirs", "acted"), "n"] == 5
    assert table.loc[("theirs", "acted"), "seeds"] == 1
    assert table.loc[("hpro", "acted"), "n"] == 6
    own = scores(99).drop(index=[1, 7])
    acted = own[own["corpus"] == "acted"]
    expected = acted["n_errors"].sum() / acted["n_words"].sum()
    assert table.loc[("theirs", "acted"), "wer"] == pytest.approx(expected)
    gaps = pd.read_csv(run / "tables/differences.csv").set_index(["system", "test_set", "metric"])
    gap = gaps.loc[("theirs", "acted", "emo_sim")]
    sft = pd.concat([scores(5), scores(6)])  # both seeds of sft
    shared = sft[sft["utt_id"].isin(acted["utt_id"])]
    assert gap["n"] == 5
    assert gap["above_sft"] == pytest.approx(acted["emo_sim"].mean() - shared["emo_sim"].mean())
    assert gap["lo"] <= gap["above_sft"] <= gap["hi"]
    assert "theirs lacks 2 of the test sentences" in (run / "tables/comparison.md").read_text()


def test_only_an_external_system_may_lack_utterances(run: Path) -> None:
    rows = ROWS.model_copy(update={"comparison": [*ROWS.comparison, "theirs"]})
    with pytest.raises(HproError, match=r"theirs/seed1/scores\.parquet does not exist"):
        result_tables.write_tables(run, rows, [0, 1], SETTINGS)
    write(run, "theirs", 1, scores(98).drop(index=[1, 7]))
    with pytest.raises(HproError, match="theirs, seed 0, was judged on other utterances"):
        result_tables.write_tables(run, rows, [0, 1], SETTINGS)


# --- hpro judge --audio


def hpro(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = ["hpro", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the audio to judge: hpro judge --audio FOLDER"),
        (["hpro", "--audio", "theirs"], "give either a system of a run with --root, or --audio"),
        (["--audio", "nowhere"], "nowhere is not a folder"),
        (["--audio", "theirs"], "theirs has no list"),
        (
            ["--audio", "theirs", "--list", "meta.lst", "--out", "theirs"],
            f"theirs{TAKEN}",
        ),
        (
            ["--audio", "theirs", "--list", "meta.lst", "--out", "meta.lst"],
            f"meta.lst{TAKEN}",
        ),
        (
            ["--audio", "theirs", "--list", "meta.lst", "--out", "other"],
            f"other{TAKEN}",
        ),
        (["--audio", "theirs", "--list", "meta.lst", "--out", "x" * 300], "File name too long"),
        (["--audio", "x" * 300], "is not a folder"),
        (["--audio", ""], "--audio is empty"),
        (["--audio", "theirs", "--list", "russian.lst"], "unsupported characters: 'П'"),
        (["--audio", "theirs", "--list", "others.lst"], "no file is named as a sentence"),
        (["--audio", "recordings=theirs", "--list", "meta.lst"], "name it otherwise"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    tone(tmp_path / "theirs/a.wav")
    tone(tmp_path / "other/eval/mine.wav")
    (tmp_path / "meta.lst").write_text("a|Come in.\n")
    (tmp_path / "others.lst").write_text("b|Come in.\n")
    (tmp_path / "russian.lst").write_text("a|Привет.\n", encoding="utf-8")
    done = hpro("judge", *arguments, "--params", REPO / "params.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "other/eval/mine.wav").is_file()
    kept = {"theirs", "other", "meta.lst", "others.lst", "russian.lst"}
    assert {path.name for path in tmp_path.iterdir()} - {"results"} == kept


@pytest.mark.full
def test_two_foreign_systems_are_judged_from_a_meta_lst(tmp_path: Path) -> None:
    absent = [name for name in ("espeak-ng", "flite") if not shutil.which(name)]
    if absent:
        assert not os.environ.get("CI"), f"install {' and '.join(absent)}"
        pytest.skip(f"not on this machine: {', '.join(absent)}")
    texts = {"u1": "The weather is very nice today.", "u2": "I cannot believe that you did this.",
             "u3": "Please close the window before you leave."}  # fmt: skip
    prompt = next((REPO / "data/raw/amazon_queen/audio/bob").glob("*.mp3"))
    shutil.copy(prompt, tmp_path / "p.mp3")
    lines = [f"{name}|Some words.|p.mp3|{text}\n" for name, text in texts.items()]
    (tmp_path / "meta.lst").write_text("".join(lines))
    for system in ("espeak", "flite"):
        (tmp_path / system).mkdir()
        for name, text in texts.items():
            out = tmp_path / system / f"{name}.wav"
            espeak, flite = ["espeak-ng", "-w", out, text], ["flite", "-t", text, "-o", out]
            subprocess.run(espeak if system == "espeak" else flite, check=True)
    (tmp_path / "flite/u2.wav").write_bytes(b"RIFF broken")
    folders = [part for name in ("espeak", "flite") for part in ("--audio", tmp_path / name)]
    done = hpro(
        "judge", *folders, "--list", tmp_path / "meta.lst", "--out", tmp_path / "judged", "--work",
        tmp_path / "work", cwd=REPO,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "flite: audio of 2 of 3 sentences; 1 unreadable audio (u2)" in done.stdout
    out = tmp_path / "judged"
    table = pd.read_csv(out / "tables/comparison.csv").set_index("system")
    assert table["n"].to_dict() == {"espeak": 3, "flite": 2}
    assert (table["wer"] < 0.3).all()
    assert table["emo_sim"].isna().all()  # there are no recordings
    assert table["speaker_sim"].between(0.2, 0.9).all()
    gaps = pd.read_csv(out / "tables/differences.csv").set_index("metric")
    assert gaps.loc["wer", "n"] == 2
    assert (
        "flite lacks 1 of the test sentences: 1 unreadable audio (u2)"
        in (out / "tables/comparison.md").read_text()
    )
    judges = read_json(out / "eval/espeak/seed0/metrics.json")["judges"]
    assert all("sha256" in name for name in judges.values())
    page = (out / "report/index.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 4  # the two sentences that both have
    assert hpro("verify", out, cwd=tmp_path).returncode == 0


@pytest.mark.full
def test_recordings_are_a_row_and_compared_with(tmp_path: Path) -> None:
    raw = REPO / "data/raw/amazon_queen"
    clips = pd.read_csv(raw / "metadata.csv")
    clips = clips[clips["speaker"].eq("bob") & clips["duration_s"].between(2, 4)].head(5)
    (tmp_path / "theirs").mkdir()
    rows = []
    for row in clips.to_dict("records"):
        shutil.copy(raw / row["audio"], tmp_path / "theirs" / f"{row['utt_id']}.mp3")
        rows.append({"utterance": row["utt_id"], "text": row["text"], "test_set": "controlled",
                     "recording": raw / row["audio"], "reference": raw / row["audio"]})  # fmt: skip
    rows[4]["recording"] = rows[0]["recording"]  # of another sentence
    rows[3]["reference"] = tmp_path / "nowhere.wav"
    pd.DataFrame(rows).to_csv(tmp_path / "theirs/list.csv", index=False)
    done = hpro(
        "judge", "--audio", tmp_path / "theirs", "--out", tmp_path / "judged", "--work",
        tmp_path / "work", cwd=REPO,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "judged/tables/comparison.csv").set_index("system")
    # not judged as `controlled`, which the affect judge knows: anybody may give a list that name
    assert set(table["test_set"]) == {"controlled_listed"}
    assert list(table.index) == ["recordings", "theirs"]
    assert table["n"].to_dict() == {"recordings": 4, "theirs": 5}
    assert table["n_wvad"].to_dict() == {"recordings": 4, "theirs": 4}  # words found
    assert table.loc["theirs", "speaker_sim"] == pytest.approx(1.0, abs=1e-4)
    gaps = pd.read_csv(tmp_path / "judged/tables/differences.csv")
    assert gaps.empty  # one system, and recordings are no system
    with_recording = pd.read_parquet(tmp_path / "judged/eval/theirs/seed0/scores.parquet")
    assert with_recording["f0_corr"].notna().sum() == 4
    assert table["emo_sim"].isna().all()
    notes = (tmp_path / "judged/tables/comparison.md").read_text()
    assert "No wVAD-CCC and EMO-SIM on controlled_listed" in notes
    assert "on an unknown corpus (hedgewars, 208 recordings) its emotion recall is 0.30" in notes
    assert "Unusable recordings: 1 the words do not fit the audio" in notes
    assert "No speaker similarity with unusable prompts: 1 no audio file (nowhere.wav)" in notes
