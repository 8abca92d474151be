"""Word boundaries by pocketsphinx, TextGrids, and the stage around them, on real acted clips."""

import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

from hpro_core import tables
from hpro_core.align import accuracy, pocketsphinx_aligner, refine, stage, textgrid
from hpro_core.align.jobs import AlignmentRefused, WordSpan
from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.align.pronunciation import arpabet_of, spelled
from hpro_core.align.refine import Phone, RawWord
from hpro_core.cli import app
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import decode_file, write_wav
from hpro_core.errors import HproError
from hpro_core.params import Align
from hpro_core.text.normalise import normalised_words

CORPUS = Path(__file__).parents[1] / "data" / "raw" / "amazon_queen"
SETTINGS = Align(
    backend="pocketsphinx",
    mfa_acoustic_model="",
    mfa_dictionary="",
    mfa_g2p_model="",
    mfa_min_log_likelihood=None,
    mfa_max_duration_deviation=None,
    mfa_command="mfa",
    max_rejected_fraction=0.5,
)


def clips() -> pd.DataFrame:
    """Ten clips spread over the excerpt, as they come."""
    with (CORPUS / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return pd.DataFrame(rows[:: len(rows) // 10][:10])


@pytest.fixture(scope="module")
def aligner() -> PocketsphinxAligner:
    return PocketsphinxAligner()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A results folder with ten real clips, one of noise, one silent and one with other words."""
    root = tmp_path_factory.mktemp("run")
    rows = []
    for clip in clips().itertuples():
        audio = decode_file(CORPUS / clip.audio)
        rows.append(_utterance(root, f"acted_{clip.utt_id}", clip.speaker, clip.text, audio))
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE_HZ)
    rows.append(_utterance(root, "acted_noise", "joe", "You make me laugh.", noise))
    silence = np.zeros(2 * SAMPLE_RATE_HZ)
    rows.append(_utterance(root, "acted_silence", "joe", "You make me laugh.", silence))
    other = decode_file(CORPUS / clips()["audio"][0])
    text = "Constantinople never reimbursed our electricians."
    rows.append(_utterance(root, "acted_other", "joe", text, other))
    tables.write_table(
        pd.DataFrame(rows), root / "corpus" / "utterances.parquet", tables.UTTERANCES
    )
    return root


def _utterance(root: Path, utt_id: str, speaker: str, text: str, audio: np.ndarray) -> dict:
    path = root / "corpus" / "acted" / "audio" / f"{utt_id}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, audio)
    return {
        "utt_id": utt_id,
        "corpus": "acted",
        "speaker": speaker,
        "text": text,
        "words": normalised_words(text),
        "audio": str(path.relative_to(root)),
        "duration_s": len(audio) / SAMPLE_RATE_HZ,
        "split": "train",
        "group": utt_id,
        "emotion": None,
        "label": None,
    }


@pytest.fixture(scope="module")
def aligned(corpus: Path) -> Path:
    stage.run(corpus, SETTINGS, threads=1)
    return corpus


def test_every_utterance_is_aligned_or_rejected_with_a_reason(aligned: Path):
    words = tables.read_table(aligned / "align" / "words.parquet", tables.WORDS)
    lost = tables.read_table(aligned / "align" / "rejected.parquet", tables.REJECTED)
    utterances = tables.read_table(aligned / "corpus" / "utterances.parquet", tables.UTTERANCES)
    assert set(words["utt_id"]) | set(lost["utt_id"]) == set(utterances["utt_id"])
    assert not set(words["utt_id"]) & set(lost["utt_id"])
    assert {"acted_noise", "acted_silence", "acted_other"} == set(lost["utt_id"])
    reasons = dict(zip(lost["utt_id"], lost["reason"], strict=True))
    assert reasons["acted_silence"] == "the audio is silent"
    assert "do not fit" in reasons["acted_noise"]
    by_utterance = words.groupby("utt_id")["word"].agg(" ".join)
    for row in utterances[utterances["utt_id"].isin(words["utt_id"])].itertuples():
        assert by_utterance[row.utt_id] == row.words


def test_boundaries_are_near_those_of_mfa(aligned: Path):
    stage.check(aligned, {"acted": CORPUS / "mfa_textgrids.zip"}, [])
    figures = json.loads((aligned / "align" / "accuracy.json").read_text())["acted"]
    assert figures["n_utterances"] == 10
    assert figures["n_words"] >= 50
    assert figures["n_boundaries"] == 2 * figures["n_words"]
    assert figures["median_ms"] <= 20
    assert figures["within_60ms"] >= 0.8  # ten clips; docs/alignment.md has all 918


def test_words_are_in_order_and_inside_the_audio(aligned: Path):
    words = tables.read_table(aligned / "align" / "words.parquet", tables.WORDS)
    utterances = tables.read_table(aligned / "corpus" / "utterances.parquet", tables.UTTERANCES)
    duration_s = dict(zip(utterances["utt_id"], utterances["duration_s"], strict=True))
    for utt_id, rows in words.groupby("utt_id"):
        assert rows["word_index"].tolist() == list(range(len(rows)))
        assert (rows["start_s"].to_numpy()[1:] >= rows["end_s"].to_numpy()[:-1] - 1e-9).all()
        assert rows["end_s"].iloc[-1] <= duration_s[utt_id] + 1e-9
        grid = textgrid.read_words(aligned / "align" / "textgrids" / f"{utt_id}.TextGrid")
        assert [interval.label for interval in grid] == rows["word"].tolist()
        assert [interval.start_s for interval in grid] == pytest.approx(rows["start_s"].tolist())


def test_result_is_the_same_with_more_processes_and_a_second_time(aligned: Path, tmp_path: Path):
    before = (aligned / "align" / "words.parquet").read_bytes()
    other = tmp_path / "run"
    shutil.copytree(aligned / "corpus", other / "corpus")
    stale = [
        other / "align" / name
        for name in ("textgrids/gone.TextGrid", "mfa.log", "mfa_work_killed/corpus/a.lab")
    ]
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from an earlier run")
    stage.run(other, SETTINGS, threads=2)
    assert (other / "align" / "words.parquet").read_bytes() == before
    assert {path.name for path in (other / "align").iterdir()} == {
        "words.parquet", "rejected.parquet", "textgrids"}  # fmt: skip
    assert not stale[0].exists()


def test_result_does_not_depend_on_what_was_aligned_before(aligner, aligned: Path):
    clip = clips().iloc[3]
    audio, words = decode_file(CORPUS / clip["audio"]), normalised_words(clip["text"]).split()
    once = aligner.align(audio, words)
    with pytest.raises(AlignmentRefused):
        aligner.align(audio[::-1], ["constantinople", "electricians", "never", "zzyzx"])
    assert aligner.align(audio, words) == once
    table = tables.read_table(aligned / "align" / "words.parquet", tables.WORDS)
    rows = table[table["utt_id"] == f"acted_{clip['utt_id']}"]
    assert [span.start_s for span in once] == rows["start_s"].tolist()


def test_too_many_rejections_stop_the_stage(corpus: Path, tmp_path: Path):
    table = tables.read_table(corpus / "corpus" / "utterances.parquet", tables.UTTERANCES)
    few = table[table["utt_id"].isin(["acted_noise", "acted_silence"])]
    tables.write_table(few, tmp_path / "corpus" / "utterances.parquet", tables.UTTERANCES)
    shutil.copytree(corpus / "corpus" / "acted", tmp_path / "corpus" / "acted")
    with pytest.raises(HproError, match=r"2 of 2 utterances rejected.*max_rejected_fraction 0.5"):
        stage.run(tmp_path, SETTINGS, threads=1)
    assert len(pd.read_parquet(tmp_path / "align" / "rejected.parquet")) == 2
    assert not (tmp_path / "align" / "words.parquet").exists()


def test_audio_that_cannot_be_read_is_rejected(corpus: Path, tmp_path: Path):
    table = tables.read_table(corpus / "corpus" / "utterances.parquet", tables.UTTERANCES)[:3]
    tables.write_table(table, tmp_path / "corpus" / "utterances.parquet", tables.UTTERANCES)
    shutil.copytree(corpus / "corpus" / "acted", tmp_path / "corpus" / "acted")
    (tmp_path / table["audio"][0]).unlink()
    soundfile.write(tmp_path / table["audio"][1], np.zeros((8000, 2)), 8000)
    settings = SETTINGS.model_copy(update={"max_rejected_fraction": 0.7})
    stage.run(tmp_path, settings, threads=1)
    reasons = pd.read_parquet(tmp_path / "align" / "rejected.parquet")["reason"].tolist()
    assert reasons[0].startswith("unreadable audio (")
    path = tmp_path / table["audio"][1]
    assert reasons[1] == f"unreadable audio ({path} is not 16 kHz mono (8000 Hz): create it again)"


def test_splits_that_need_no_word_times_are_left_out(aligned: Path, tmp_path: Path):
    table = tables.read_table(aligned / "corpus" / "utterances.parquet", tables.UTTERANCES)[:4]
    table["split"] = ["train", "judge", "test", "judge"]
    tables.write_table(table, tmp_path / "corpus" / "utterances.parquet", tables.UTTERANCES)
    shutil.copytree(aligned / "corpus" / "acted", tmp_path / "corpus" / "acted")
    stage.run(tmp_path, SETTINGS, threads=1, leave_out=["judge"])
    found = tables.read_table(tmp_path / "align" / "words.parquet", tables.WORDS)
    kept = table["utt_id"].iloc[[0, 2]].tolist()
    assert sorted(set(found["utt_id"])) == sorted(kept)
    whole = tables.read_table(aligned / "align" / "words.parquet", tables.WORDS)
    pd.testing.assert_frame_equal(
        found.sort_values(["utt_id", "word_index"], ignore_index=True),
        whole[whole["utt_id"].isin(kept)].sort_values(["utt_id", "word_index"], ignore_index=True),
    )
    with pytest.raises(HproError, match="has no utterances to align"):
        stage.run(tmp_path, SETTINGS, threads=1, leave_out=["judge", "train", "test"])


def test_without_a_corpus_the_error_names_the_table(tmp_path: Path):
    with pytest.raises(HproError, match=r"utterances\.parquet does not exist"):
        stage.run(tmp_path, SETTINGS, threads=1)


def test_word_outside_the_dictionary_gets_a_pronunciation(aligner):
    row = next(row for row in clips().itertuples() if len(row.text.split()) >= 6)
    words = normalised_words(row.text).split()
    words[2] = "qqueebbl"  # one short wrong word does not hide the others
    spans = aligner.align(decode_file(CORPUS / row.audio), words)
    assert [span.word for span in spans] == words
    assert aligner.added["qqueebbl"]


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("weenie", "W IY N IY"),
        ("fumigator", "F Y UW M AH G EY T AH R"),
        ("ungawa's", "AH NG G AA W AH Z"),
    ],
)
def test_pronunciations_are_arpabet(word: str, phones: str):
    assert arpabet_of(word) == phones


def test_word_without_any_reading_is_spelled():
    assert spelled("hmmpf'x") == "HH M P F K S"


def test_no_words_are_refused(aligner):
    with pytest.raises(AlignmentRefused, match="no words"):
        aligner.align(np.ones(16000), [])


def test_textgrid_round_trip_keeps_pauses(tmp_path: Path):
    spans = [WordSpan("i've", 0.12, 0.5), WordSpan("seen", 0.5, 0.91), WordSpan("it", 1.2, 1.4)]
    textgrid.write_words(tmp_path / "a.TextGrid", spans, 1.75)
    found = textgrid.read_words(tmp_path / "a.TextGrid")
    assert [(i.label, i.start_s, i.end_s) for i in found] == [
        (span.word, span.start_s, span.end_s) for span in spans
    ]
    text = (tmp_path / "a.TextGrid").read_text()
    assert text.count('text = ""') == 3  # before, between, after
    assert "xmax = 1.75" in text


def _tone(stretches: list[tuple[float, float]], duration_s: float) -> np.ndarray:
    """A tone that sounds in the given stretches, over a hiss 45 dB below it."""
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    on = np.zeros_like(time_s)
    for start_s, end_s in stretches:
        on[(time_s >= start_s) & (time_s < end_s)] = 1
    hiss = np.random.default_rng(0).normal(0, 0.5**0.5 * 10 ** (-45 / 20), len(time_s))
    return on * np.sin(2 * np.pi * 220 * time_s) + hiss


def _raw(word: str, start_s: float, end_s: float, phone: str = "AA") -> RawWord:
    return RawWord(word, start_s, end_s, -2.0, (Phone(phone, start_s, end_s),))


def test_edges_reach_as_far_as_the_sound():
    audio = _tone([(0.30, 1.00)], 1.6)
    first, last = refine.refine([_raw("a", 0.38, 0.6), _raw("b", 0.6, 0.9)], audio)
    assert first.start_s == pytest.approx(0.30, abs=0.015)
    assert last.end_s == pytest.approx(1.00, abs=0.015)
    assert (first.end_s, last.start_s) == (0.6, 0.6)


def test_edges_shrink_to_the_sound():
    audio = _tone([(0.30, 1.00)], 1.6)
    first, last = refine.refine([_raw("a", 0.10, 0.6), _raw("b", 0.6, 1.3)], audio)
    assert first.start_s == pytest.approx(0.30, abs=0.015)
    assert last.end_s == pytest.approx(1.00, abs=0.015)


def test_a_pause_shrinks_to_its_quiet_core():
    audio = _tone([(0.2, 0.7), (0.9, 1.4)], 1.6)
    before, after = refine.refine([_raw("a", 0.2, 0.6), _raw("b", 1.0, 1.4)], audio)
    assert before.end_s == pytest.approx(0.7, abs=0.015)
    assert after.start_s == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize(("phone", "boundary_s"), [("AA", 0.72), ("K", 0.705)])
def test_a_closure_is_no_pause(phone: str, boundary_s: float):
    audio = _tone([(0.2, 0.7), (0.74, 1.4)], 1.6)
    words = [_raw("a", 0.2, 0.65), _raw("b", 0.8, 1.4, phone)]
    before, after = refine.refine(words, audio)
    assert before.end_s == after.start_s == pytest.approx(boundary_s, abs=0.012)


def test_a_loud_background_leaves_the_words_as_they_are():
    audio = _tone([(0.3, 1.0)], 1.6) + np.random.default_rng(1).normal(0, 0.3, 25600)
    words = [_raw("a", 0.38, 0.6), _raw("b", 0.6, 0.9)]
    assert refine.refine(words, audio) == words


def test_accuracy_by_hand():
    pairs = np.array([[0.10, 0.50, 0.11, 0.50], [0.50, 0.80, 0.55, 0.95]])
    figures = accuracy.summary(pairs, "by hand", n_left_out=1)  # 10, 0, 50, 150 ms
    assert figures == {
        "n_words": 2,
        "n_boundaries": 4,
        "median_ms": 30.0,
        "within_20ms": 0.5,
        "within_60ms": 0.75,
        "within_100ms": 0.75,
        "n_left_out": 1,
        "reference": "by hand",
    }


def test_exact_times_are_compared_by_utterance_and_index():
    ours = pd.DataFrame(
        [("u1", 0, "a", 0.1, 0.2, -1.0), ("u1", 1, "b", 0.2, 0.4, -1.0)],
        columns=list(tables.WORDS.columns),
    )
    extra = pd.DataFrame([("u2", 0, "c", 0.0, 1.0, None)], columns=ours.columns)
    truth = pd.concat([ours.assign(start_s=ours["start_s"] - 0.05), extra])
    pairs, counts = accuracy.compare_words(ours, truth)
    assert counts == {"n_utterances": 1, "n_utterances_not_aligned": 1}
    assert accuracy.summary(pairs, "x")["median_ms"] == pytest.approx(25.0)
    with pytest.raises(HproError, match=r"u1, word 0: aligned as 'a', but the reference has 'z'"):
        accuracy.compare_words(ours, truth.replace("a", "z"))
    with pytest.raises(HproError, match=r"no utterance with exact times is aligned \(first: u2\)"):
        accuracy.compare_words(ours, extra)


def test_a_reference_for_other_utterances_is_an_error(aligned: Path, tmp_path: Path):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(next((aligned / "align" / "textgrids").iterdir()), "joe/unknown.TextGrid")
    with pytest.raises(HproError, match="no TextGrid of an aligned utterance"):
        stage.check(aligned, {"acted": path}, [])
    with pytest.raises(HproError, match="not a readable zip"):
        stage.check(aligned, {"acted": Path(__file__)}, [])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("joe/half.TextGrid", 'File type = "ooTextFile"')
    with pytest.raises(HproError, match=r"other\.zip: joe/half\.TextGrid is not a readable Te"):
        stage.check(aligned, {"acted": path}, [])
    with pytest.raises(HproError, match=r"controlled/truth_words\.parquet does not exist"):
        stage.check(aligned, {}, ["controlled"])
    with pytest.raises(HproError, match="nothing to compare with: name a set"):
        stage.check(aligned, {}, [])


def test_sets_are_compared_whatever_their_names(aligned: Path, tmp_path: Path):
    words = tables.read_table(aligned / "align" / "words.parquet", tables.WORDS)
    of_sets = {
        name: words.assign(utt_id=words["utt_id"].str.replace("acted", name))
        for name in ("first", "second", "rendered", "sung")
    }
    tables.write_table(pd.concat(of_sets.values()), tmp_path / "align/words.parquet", tables.WORDS)
    for name in ("rendered", "sung"):
        truth = of_sets[name].assign(start_s=words["start_s"] - 0.01)
        tables.write_table(truth, tmp_path / f"corpus/{name}/truth_words.parquet", tables.WORDS)
    grids = CORPUS / "mfa_textgrids.zip"
    given = [f"first={grids}", f"second={grids}", "--exact", "rendered", "--exact", "sung"]
    done = CliRunner().invoke(app, ["align-check", "--root", str(tmp_path), *given])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "align" / "accuracy.json").read_text())
    assert list(figures) == [*of_sets]
    assert figures["first"] == figures["second"]
    assert figures["first"]["n_utterances"] == figures["sung"]["n_utterances"] == 10
    assert figures["sung"]["median_ms"] == 5.0


@pytest.mark.parametrize(
    "given", [["mfa_textgrids.zip"], ["=a.zip"], ["acted="], ["acted=a.zip", "acted=b.zip"]]
)
def test_a_reference_needs_a_set_of_its_own(given: list[str]):
    with pytest.raises(HproError, match=rf"'{given[-1]}': SET=ZIP is expected, each set once"):
        stage.parsed_references(given)


def test_a_decoder_that_breaks_down_refuses_the_clip_and_is_replaced(monkeypatch):
    aligner = PocketsphinxAligner()
    broken = aligner._usual

    class Failing:
        """A decoder whose first pass fails, as the real one does on some synthesised clips."""

        def __getattr__(self, name):
            return getattr(broken, name)

        def end_utt(self):
            broken.end_utt()
            raise RuntimeError("Failed to stop utterance processing")

    aligner._usual = Failing()
    monkeypatch.setattr(pocketsphinx_aligner, "_decoder", lambda beams: Failing())
    with pytest.raises(AlignmentRefused, match="recogniser failed"):
        aligner.align(np.sin(np.arange(16_000) / 7).astype(np.float32) / 3, ["hello"])
