"""Judges on real acted clips: each against its definition, and the two commands end to end."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from hpro_core.align.pocketsphinx_aligner import PocketsphinxAligner
from hpro_core.analysis.scores import PROSODY_METRICS
from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ, VAD
from hpro_core.corpus.audio import decode_file, write_wav
from hpro_core.errors import HproError
from hpro_core.io import sha256_of
from hpro_core.judges import affect, prosody, stage
from hpro_core.judges.asr import (
    BASE,
    TINY_EN,
    DecodingOptions,
    WhisperASR,
    WordErrorCounter,
    padded_mel,
)
from hpro_core.judges.dnsmos import Dnsmos
from hpro_core.judges.metrics import ccc, cosine
from hpro_core.judges.realignment import read_wav
from hpro_core.judges.speaker import embed_batch, load_encoder
from hpro_core.judges.word_prosody import CORRELATIONS
from hpro_core.params import Compute, Evaluate
from hpro_core.pretrained.weights import find_weights
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    SCORES,
    SYNTHESIS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    read_table,
    write_table,
)
from hpro_core.text.normalise import normalised_words
from tests.published import save_scoreq
from tests.recorded import record

ON_CPU = Compute(device="cpu", bf16=False)
NOWHERE = Path("/nonexistent")
"""The embedded judges keep no shards."""
EXCERPT = Path(__file__).parent.parent / "data" / "raw" / "amazon_queen"
WEIGHTS = Path(__file__).parent.parent / "weights"
SETTINGS = Evaluate(
    judge_epochs=2,
    judge_learning_rate=1e-3,
    check_every=2,
    dnsmos_windows=1,
    bootstrap_samples=50,
    seed=0,
)


@pytest.fixture(scope="module")
def weights_folder() -> Path:
    """What `hpro weights fetch` brought; a test fails with that hint where it is missing."""
    return WEIGHTS


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """Five clips each of two speakers, 1.5 to 4 s, of at least four words."""
    with (EXCERPT / "metadata.csv").open(newline="", encoding="utf-8") as file:
        every = [r for r in csv.DictReader(file) if 1.5 < float(r["duration_s"]) < 4.0]
    spoken = [r for r in every if len(r["text"].split()) >= 4]
    return [r for name in ("bob", "witch") for r in [s for s in spoken if s["speaker"] == name][:5]]


@pytest.fixture(scope="module")
def clips(rows: list[dict[str, str]]) -> list[np.ndarray]:
    return [decode_file(EXCERPT / row["audio"]).astype(np.float32) for row in rows]


@pytest.fixture(
    scope="module",
    params=["whisper_tiny_en", pytest.param("whisper_base", marks=pytest.mark.full)],
)
def recogniser(request: pytest.FixtureRequest, weights_folder: Path) -> WhisperASR:
    """Either recogniser."""
    options = {"whisper_tiny_en": TINY_EN, "whisper_base": BASE}[request.param]
    return WhisperASR(find_weights(request.param, weights_folder), 1, options)


@pytest.fixture(scope="module")
def counter() -> WordErrorCounter:
    return WordErrorCounter()


# --- metrics


def test_ccc_is_lins_formula() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((7, 3)), generator.random((7, 3))
    for k, value in enumerate(ccc(first, second)):
        x, y = first[:, k], second[:, k]
        covariance = sum((x - x.mean()) * (y - y.mean())) / 7
        expected = 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        assert value == pytest.approx(expected, abs=1e-9)


def test_ccc_by_hand() -> None:
    # means 2 and 3, variances 2/3 and 2/3, covariance 2/3: 2*(2/3) / (4/3 + 1) = 4/7
    assert ccc(np.array([[1.0], [2], [3]]), np.array([[2.0], [3], [4]]))[0] == pytest.approx(4 / 7)


def test_ccc_of_constant_series() -> None:
    constant, moving = np.full((4, 1), 0.3), np.array([[0.1], [0.4], [0.2], [0.9]])
    assert ccc(constant, constant)[0] == 1.0
    assert ccc(constant, moving)[0] == pytest.approx(0.0, abs=1e-9)
    assert ccc(constant, constant + 0.2)[0] == pytest.approx(0.0, abs=1e-9)
    assert ccc(moving[:1], moving[:1])[0] == 1.0


def test_cosine() -> None:
    assert cosine(np.array([3.0, 4.0]), np.array([6.0, 8.0])) == pytest.approx(1.0)
    assert cosine(np.zeros(2), np.ones(2)) == 0.0


# --- ASR


def test_word_errors_by_hand(counter: WordErrorCounter) -> None:
    # "don't" is two words for the normaliser: one substituted, one deleted, one inserted
    counted = counter.count("I don't like it, Mr. King!", "i do not light it king now")
    assert counted == ("i do not light it king now", 3, 7)
    assert counter.count("Nothing was heard.", "") == ("", 3, 3)
    assert counter.count("The colour", "the color").n_errors == 0
    assert counter.count("Excuse me...", "excuse me").n_words == 2  # points are no word


def test_words_that_the_normaliser_drops(counter: WordErrorCounter) -> None:
    assert counter.count("Hmm... uh?", "Hmm uh") == ("hmm uh", 0, 2)
    with pytest.raises(HproError, match=r"'\[\].*' has no words for"):
        counter.count("[]...", "anything")


def test_words_in_brackets_are_words(counter: WordErrorCounter) -> None:
    assert counter.count("I said (quietly) <go> away", "I said quietly, go away.")[1:] == (0, 5)
    assert counter.count("[hello]", "").n_words == 1
    assert counter.count("Go away.", "(music) go away")[1:] == (0, 2)  # what a recogniser notes


def test_whisper_transcribes_the_lines(
    recogniser: WhisperASR,
    counter: WordErrorCounter,
    rows: list[dict[str, str]],
    clips: list[np.ndarray],
) -> None:
    pairs = zip(rows, clips, strict=True)
    counted = [counter.count(row["text"], recogniser.transcribe(clip)) for row, clip in pairs]
    wer = sum(c.n_errors for c in counted) / sum(c.n_words for c in counted)
    assert wer < 0.25  # 0.08 and 0.10 on the test split


def test_noise_cannot_add_many_words(recogniser: WhisperASR, counter: WordErrorCounter) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)
    assert len(counter.count("two words", recogniser.transcribe(noise)).transcript.split()) <= 20


@pytest.mark.parametrize("options", [TINY_EN, BASE])
def test_a_clip_gets_the_first_window_that_holds_it(options: DecodingOptions) -> None:
    for window_s in options.windows_s:
        filled = np.zeros(window_s * SAMPLE_RATE_HZ, np.float32)
        assert padded_mel(filled, options.windows_s).shape == (1, 80, 100 * window_s)
    assert padded_mel(filled[:1], options.windows_s).shape == (1, 80, 100 * options.windows_s[0])


def test_audio_longer_than_whispers_window_is_cut(
    recogniser: WhisperASR, clips: list[np.ndarray]
) -> None:
    silence = np.zeros(30 * SAMPLE_RATE_HZ, np.float32)
    assert len(recogniser.transcribe(np.concatenate([clips[0], silence])).split()) >= 3


# --- DNSMOS


@pytest.mark.full
def test_dnsmos_equals_speechmos(weights_folder: Path, clips: list[np.ndarray]) -> None:
    from speechmos import dnsmos

    judge = Dnsmos(find_weights("dnsmos", weights_folder), threads=1)
    longest = max(clips, key=len)
    for seconds in (2.4, 2.8):  # repeated four times: one window, two windows
        clip = longest[: int(seconds * SAMPLE_RATE_HZ)]
        expected = dnsmos.run(clip, SAMPLE_RATE_HZ)
        found = judge.score(clip, most_windows=99)
        for name in ("sig", "bak", "ovrl"):
            assert getattr(found, name) == pytest.approx(expected[f"{name}_mos"], abs=1e-3)


# --- speaker


def test_same_speaker_is_nearer(weights_folder: Path, clips: list[np.ndarray]) -> None:
    encoder = load_encoder(find_weights("ge2e", weights_folder))
    voices = np.stack([embed_batch(encoder, [clip])[0] for clip in clips])
    assert np.linalg.norm(voices, axis=1) == pytest.approx(1.0, abs=1e-5)
    alike = voices @ voices.T
    same = np.kron(np.eye(2), np.ones((5, 5))).astype(bool)
    assert alike[same & ~np.eye(10, dtype=bool)].mean() > alike[~same].mean() + 0.1


def test_silence_and_short_clips_have_a_voice(weights_folder: Path) -> None:
    encoder = load_encoder(find_weights("ge2e", weights_folder))
    for clip in (np.zeros(8000, np.float32), np.ones(10, np.float32)):
        assert np.isfinite(embed_batch(encoder, [clip])[0]).all()


# --- prosody and the affect judge


def test_pitch_of_a_known_tone() -> None:
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    for f0_hz in (90.0, 220.0, 400.0):
        tone = sum(np.sin(2 * np.pi * f0_hz * k * time_s) / k for k in range(1, 6)) * 0.1
        whole = prosody.contours(tone)
        middle = whole.pitch_st_F[10:90]
        assert np.abs(middle - 12 * np.log2(f0_hz / 100)).max() < 0.3
    louder = prosody.contours(2 * tone)
    assert (louder.level_db_F - whole.level_db_F)[10:90] == pytest.approx(6.02, abs=0.01)


def test_silence_has_finite_features() -> None:
    sound_FC = affect.input_features(np.zeros(4000, np.float32))
    assert sound_FC.shape[1] == affect.N_CHANNELS
    assert np.isfinite(sound_FC).all()


def test_a_channel_that_never_changes_stays_finite() -> None:
    judge = affect.AffectJudge({"one": 1})
    same_FC = np.full((3, affect.N_CHANNELS), 5.0, np.float32)
    judge.set_scale("one", [same_FC])
    assert (judge.scaled("one", same_FC + 0.5) == 5.0).all()  # as if its deviation were 0.1


# --- the two commands


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], clips: list[np.ndarray]
) -> Path:
    """Ten aligned clips of two speakers: six to train judges with made-up labels, four to test."""
    root = tmp_path_factory.mktemp("results")
    audio = root / "corpus" / "acted" / "audio"
    audio.mkdir(parents=True)
    aligner = PocketsphinxAligner()
    utterances, words, emotion, vad = [], [], [], []
    for index, (row, clip) in enumerate(zip(rows, clips, strict=True)):
        utt_id = f"acted_{row['utt_id']}"
        write_wav(audio / f"{utt_id}.wav", clip)
        spoken = normalised_words(row["text"]).split()
        utterances.append(
            {
                **{"utt_id": utt_id, "corpus": "acted", "speaker": row["speaker"]},
                **{"text": row["text"], "words": " ".join(spoken), "group": row["dialogue"]},
                **{"audio": f"corpus/acted/audio/{utt_id}.wav", "emotion": None, "label": None},
                **{"duration_s": len(clip) / SAMPLE_RATE_HZ},
                "split": "test" if index % 5 > 2 else "judge",
            }
        )
        posterior = np.eye(9)[EMOTIONS.index("happy" if index < 5 else "sad")]
        emotion.append({"utt_id": utt_id, **dict(zip(EMOTIONS, posterior, strict=True))})
        for place, span in enumerate(aligner.align(clip, spoken)):
            key = {"utt_id": utt_id, "word_index": place}
            words.append(key | vars(span))
            vad.append(key | dict.fromkeys(VAD, 0.3 + 0.05 * (place % 5)))
    corpus = root / "corpus"
    write_table(pd.DataFrame(utterances), corpus / "utterances.parquet", UTTERANCES)
    truth = corpus / "acted"
    write_table(pd.DataFrame(emotion), truth / "truth_emotion.parquet", EMOTION_POSTERIORS)
    write_table(pd.DataFrame(vad), truth / "truth_vad.parquet", WORD_VAD)
    write_table(pd.DataFrame(words), root / "align" / "words.parquet", WORDS)
    _synthesis(root, "recordings", lambda clip: None)
    _synthesis(root, "tokenrecon", lambda clip: clip * 0.5)
    _synthesis(root, "sft", lambda clip: np.random.default_rng(0).normal(0, 0.1, len(clip)))
    return root


def _synthesis(root: Path, system: str, change) -> None:  # type: ignore[no-untyped-def]
    utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
    test = utterances[utterances["split"] == "test"].drop(
        columns=["split", "group", "emotion", "label"]
    )
    judged = utterances[utterances["split"] == "judge"].drop_duplicates("speaker")
    reference = dict(zip(judged["speaker"], judged["utt_id"], strict=True))
    folder = Path("eval") / system / "seed0"
    (root / folder / "audio").mkdir(parents=True)
    audio = []
    for utt_id, source in zip(test["utt_id"], test["audio"], strict=True):
        changed = change(soundfile.read(root / source, dtype="float32")[0])
        audio.append(source if changed is None else str(folder / "audio" / f"{utt_id}.wav"))
        if changed is not None:
            write_wav(root / audio[-1], changed)
    table = test.assign(audio=audio, reference=test["speaker"].map(reference), n_tokens=1)
    path = root / folder / "synthesis.parquet"
    write_table(table.assign(stopped=True), path, SYNTHESIS)
    record(root, path, system, 0, "synthesise")


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    stage.train(root, SETTINGS, threads=1)
    stage.judge_recordings(root, SETTINGS, WEIGHTS, ON_CPU, NOWHERE, set())
    return root


def _judged(root: Path, system: str, weights_folder: Path) -> tuple[pd.DataFrame, dict]:
    stage.judge(root, system, 0, SETTINGS, weights_folder, ON_CPU, NOWHERE, set())
    folder = root / "eval" / system / "seed0"
    report = json.loads((folder / "metrics.json").read_text())
    assert (report["system"], report["seed"]) == (system, 0)
    return read_table(folder / "scores.parquet", SCORES), report["test_sets"]["acted"]


def test_training_writes_judges_and_their_accuracy(trained: Path) -> None:
    accuracy = json.loads((trained / "judge" / "metrics.json").read_text())
    assert accuracy["trained_on"] == {"acted": 6}
    assert (
        accuracy["emotion"]["n"]
        == accuracy["word_vad"]["n"]
        == accuracy["floor"]["acted"]["n"]
        == 4
    )
    assert 0 <= accuracy["emotion"]["accuracy"] <= 1
    assert -1 <= accuracy["word_vad"]["ccc"] <= 1
    assert accuracy["floor"]["acted"]["emo_sim"] < 1
    quality = accuracy["quality"]["acted"]
    assert quality["n"] == 2  # of four, as check_every says
    for judge in ("dnsmos", "distillmos"):
        assert quality[judge]["noisy_is_lower"] in (0.5, 1)
        assert 1 < quality[judge]["noisy"] < quality[judge]["recordings"] < 5
    recorded = trained / "judge" / "recordings"
    assert len(read_table(recorded / "emotion_posteriors.parquet", EMOTION_POSTERIORS)) == 4


def test_recordings_are_the_ceiling(trained: Path, weights_folder: Path) -> None:
    scores, figures = _judged(trained, "recordings", weights_folder)
    assert scores["wvad_ccc"].to_numpy() == pytest.approx(1.0, abs=1e-5)
    assert scores["emo_sim"].to_numpy() == pytest.approx(1.0, abs=1e-5)
    assert scores["speaker_sim"].between(0.4, 1).all()
    assert figures["n"] == figures["n_wvad"] == 4
    for metric, column in (("wer", "n_errors"), ("wer_check", "n_errors_check")):
        heard = scores[scores[column].notna()]
        assert figures[metric]["value"] == heard[column].sum() / heard["n_words"].sum()
    assert figures["n_checked"] == 2  # of four, as check_every says
    assert scores["dnsmos"].isna().tolist() == scores["n_errors_check"].isna().tolist()
    assert scores["distillmos"].isna().tolist() == scores["dnsmos"].isna().tolist()
    assert scores["distillmos"].dropna().between(1, 5).all()
    accuracy = json.loads((trained / "judge/metrics.json").read_text())["quality"]["acted"]
    for judge in ("dnsmos", "distillmos"):  # the same recordings
        assert accuracy[judge]["recordings"] == pytest.approx(scores[judge].mean())
    assert scores[list(CORRELATIONS)].to_numpy(float) == pytest.approx(1.0)
    same = scores["n_pauses_recording"]
    assert (scores["n_pauses_both"] == same).all()
    assert (scores["n_pauses_synthesis"] == same).all()
    assert scores[["utmos", "nisqa", "scoreq"]].isna().all(axis=None)
    twice = scores[scores["dnsmos"].notna()]
    assert (twice["n_errors"] != twice["n_errors_check"]).any()  # two recognisers, not one twice
    assert figures["wer"]["lo"] <= figures["wer"]["value"] <= figures["wer"]["hi"]


@pytest.mark.full
def test_a_quieter_copy_is_realigned_and_nearly_as_good(
    trained: Path, weights_folder: Path, tmp_path: Path
) -> None:
    scores, figures = _judged(trained, "tokenrecon", weights_folder)
    assert figures["n_wvad"] == 4
    assert 0.3 < figures["wvad_ccc"]["value"] < 1
    assert scores["emo_sim"].mean() > 0.8
    vad = read_table(trained / "eval" / "tokenrecon" / "seed0" / "word_vad.parquet", WORD_VAD)
    assert set(vad["utt_id"]) == set(scores["utt_id"])
    times = read_table(trained / "eval" / "tokenrecon" / "seed0" / "words.parquet", WORDS)
    keys = ["utt_id", "word_index"]
    assert times.set_index(keys).index.equals(vad.set_index(keys).index)
    aligned = read_table(trained / "align/words.parquet", WORDS).merge(times, on=keys)
    assert (aligned["word_x"] == aligned["word_y"]).all()
    assert (aligned["start_s_x"] - aligned["start_s_y"]).abs().median() < 0.02
    posteriors = read_table(
        trained / "eval/tokenrecon/seed0/emotion_posteriors.parquet", EMOTION_POSTERIORS
    )
    assert posteriors["utt_id"].tolist() == scores["utt_id"].tolist()
    assert scores[["energy_corr", "rate_corr"]].min(axis=None) > 0.5

    # The same copies as re-renderings: their agreement is a ceiling.
    root = shutil.copytree(trained, tmp_path / "results")
    words = read_table(root / "align/words.parquet", WORDS)
    words = words[words["utt_id"].isin(scores["utt_id"])]
    again = words.assign(utt_id=words["utt_id"] + ".quieter")
    write_table(again, root / "corpus/acted" / stage.RERENDERED_WORDS, WORDS)
    for utt_id in scores["utt_id"]:
        copy = root / f"eval/tokenrecon/seed0/audio/{utt_id}.wav"
        shutil.copy(copy, root / f"corpus/acted/audio/{utt_id}.quieter.wav")
    stage.judge_recordings(root, SETTINGS, WEIGHTS, ON_CPU, NOWHERE, set())
    accuracy = json.loads((root / "judge/metrics.json").read_text())
    ceiling = accuracy["ceiling"]["acted"]["quieter"]
    assert {m: ceiling.get(m) for m in PROSODY_METRICS} == {
        m: figures[m]["value"] if m in figures else None for m in PROSODY_METRICS
    }


def test_speech_without_the_words_has_no_agreement(trained: Path, weights_folder: Path) -> None:
    scores, figures = _judged(trained, "sft", weights_folder)
    assert figures["n_wvad"] == scores["wvad_ccc"].notna().sum() < 4
    assert figures["wvad_ccc"]["value"] < 0.3
    assert min(figures[metric]["value"] for metric in ("wer", "wer_check")) > 0.8
    assert figures["speaker_sim"]["value"] < 0.7
    lost = scores["wvad_ccc"].isna()
    assert scores["n_pauses_synthesis"].isna().tolist() == lost.tolist()
    assert scores.loc[lost, list(CORRELATIONS)].isna().all(axis=None)
    assert scores["n_pauses_recording"].notna().all()


def test_a_quality_judge_that_the_user_brings_scores_the_checked_clips(
    trained: Path, weights_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "adapt_nr_synthetic.onnx"
    save_scoreq(path)
    root = shutil.copytree(trained, tmp_path / "results")
    settings = SETTINGS.model_copy(update={"scoreq": str(path)})
    work = tmp_path / "work"
    stage.judge(root, "recordings", 0, settings, weights_folder, ON_CPU, work, set())
    folder = root / "eval/recordings/seed0"
    scores = read_table(folder / "scores.parquet", SCORES)
    assert scores["scoreq"].isna().tolist() == scores["dnsmos"].isna().tolist()
    for utt_id, found in scores.set_index("utt_id")["scoreq"].dropna().items():
        audio_T = read_wav(root / f"corpus/acted/audio/{utt_id}.wav").astype(float)
        padded = -(-len(audio_T) // 320) * 320
        assert found == pytest.approx((audio_T**2).sum() / padded, rel=1e-4)
    report = json.loads((folder / "metrics.json").read_text())
    assert report["judges"]["scoreq"] == f"scoreq, sha256 {sha256_of(path)}"
    assert report["test_sets"]["acted"]["scoreq"]["value"] == scores["scoreq"].mean()


@pytest.fixture
def unknown(trained: Path, tmp_path: Path) -> Path:
    """The same run, whose test recordings are of a set that the judge was not trained on."""
    root = shutil.copytree(trained, tmp_path / "results")
    path = root / "corpus/utterances.parquet"
    utterances = read_table(path, UTTERANCES)
    mine = utterances["corpus"].mask(utterances["split"] == "test", "mine")
    write_table(utterances.assign(corpus=mine, emotion="happy"), path, UTTERANCES)
    path = root / "eval/recordings/seed0/synthesis.parquet"
    synthesis = read_table(path, SYNTHESIS).assign(corpus="mine")
    write_table(synthesis, path, SYNTHESIS)
    record(root, path, "recordings", 0, "synthesise")
    return root


def _graded(root: Path, recall: float) -> None:
    config = json.loads((root / "judge/config.json").read_text())
    grade = {"corpus": "shouts", "recordings": 223, "classes": 4, "recall": recall}
    (root / "judge/config.json").write_text(json.dumps(config | {"grade": grade}))


def test_an_unknown_set_is_scaled_by_itself_and_its_affect_withheld(
    unknown: Path, weights_folder: Path
) -> None:
    stage.judge_recordings(unknown, SETTINGS, WEIGHTS, ON_CPU, NOWHERE, set())
    recorded = unknown / "judge/recordings"
    scale = affect.read_scales(recorded / "scales.json")["mine"]
    test = read_table(recorded.parents[1] / "corpus/utterances.parquet", UTTERANCES)
    paths = test.loc[test["corpus"] == "mine"].sort_values("utt_id")["audio"]
    frames = [affect.input_features(read_wav(unknown / path)) for path in paths]
    assert (scale.splits, scale.recordings) == (["test"], 4)
    assert scale.scale_2C == pytest.approx(affect.scale_of(frames), rel=1e-5, abs=1e-5)
    accuracy = json.loads((unknown / "judge/metrics.json").read_text())
    assert (accuracy["emotion"], accuracy["word_vad"]) == ({"n": 0}, {"n": 0})
    found = accuracy["unknown_sets"]["mine"]
    assert (found["scale_recordings"], found["scale_splits"]) == (4, "test")
    assert found["emotion"]["n"] == found["floor"]["mine"]["n"] == 4

    stage.judge(unknown, "recordings", 0, SETTINGS, weights_folder, ON_CPU, NOWHERE, set())
    folder = unknown / "eval/recordings/seed0"
    scores = read_table(folder / "scores.parquet", SCORES)
    assert scores[["wvad_ccc", "emo_sim"]].isna().all(axis=None)
    assert scores[["n_errors", "speaker_sim"]].notna().all(axis=None)
    assert scores[list(CORRELATIONS)].to_numpy(float) == pytest.approx(1.0)  # needs no affect
    report = json.loads((folder / "metrics.json").read_text())
    assert report["test_sets"]["mine"].keys() & {"wer", "wvad_ccc", "emo_sim"} == {"wer"}
    assert "was not trained on mine, and its accuracy" in report["affect_notes"]["mine"]
    assert read_table(folder / "word_vad.parquet", WORD_VAD).empty


def test_a_graded_judge_scores_an_unknown_set(unknown: Path, weights_folder: Path) -> None:
    _graded(unknown, recall=0.6)
    stage.judge_recordings(unknown, SETTINGS, WEIGHTS, ON_CPU, NOWHERE, set())
    stage.judge(unknown, "recordings", 0, SETTINGS, weights_folder, ON_CPU, NOWHERE, set())
    folder = unknown / "eval/recordings/seed0"
    scores = read_table(folder / "scores.parquet", SCORES)
    assert scores[["wvad_ccc", "emo_sim"]].to_numpy() == pytest.approx(1.0, abs=1e-5)
    note = json.loads((folder / "metrics.json").read_text())["affect_notes"]["mine"]
    assert note.endswith("its channel scale there is of 4 recordings of test.")


def test_known_sets_have_no_scale_and_no_note(trained: Path, weights_folder: Path) -> None:
    assert json.loads((trained / "judge/recordings/scales.json").read_text()) == {}
    _judged(trained, "recordings", weights_folder)
    report = json.loads((trained / "eval/recordings/seed0/metrics.json").read_text())
    accuracy = json.loads((trained / "judge/metrics.json").read_text())
    assert "affect_notes" not in report
    assert "unknown_sets" not in accuracy


def test_what_is_missing_is_named(trained: Path, weights_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        HproError, match=r"synthesis.parquet is not of hpro, seed 3, according to the records"
    ):
        stage.judge(trained, "hpro", 3, SETTINGS, weights_folder, ON_CPU, NOWHERE, set())
    with pytest.raises(HproError, match=r"is missing: run `hpro weights fetch`"):
        stage.judge(trained, "recordings", 0, SETTINGS, tmp_path, ON_CPU, NOWHERE, set())
    soundfile.write(tmp_path / "slow.wav", np.ones(8000), 8000)
    with pytest.raises(HproError, match=r"slow\.wav is not 16 kHz mono \(8000 Hz\)"):
        read_wav(tmp_path / "slow.wav")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), SAMPLE_RATE_HZ)
    with pytest.raises(HproError, match=r"none\.wav is empty"):
        read_wav(tmp_path / "none.wav")
