"""Teachers: pitch against known tones, formulas by hand, and the stage on a small made-up run."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from hpro_core.constants import EMOTIONS, VAD
from hpro_core.errors import HproError
from hpro_core.label import stage
from hpro_core.label.exact import ExactLabels
from hpro_core.label.lexicon import NORMS_FILE, Lexicon
from hpro_core.label.prosody import FRAME_RATE_HZ, analyse
from hpro_core.label.teachers import AlignedUtterance, reorder, word_windows
from hpro_core.label.weak import PROTOTYPES, WeakEmotion, WeakWordVad, read_audio, z_scores
from hpro_core.params import Label
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    read_table,
    write_table,
)

SETTINGS = Label(window_words=1, temperature=0.25)


def voice(f0_hz: float, seconds: float, level: float = 0.1) -> np.ndarray:
    time = np.arange(int(16000 * seconds)) / 16000
    harmonics = [np.sin(2 * np.pi * f0_hz * k * time) / k for k in range(1, 8)]
    return (level * np.sum(harmonics, axis=0)).astype(np.float32)


@pytest.fixture
def lexicon() -> Lexicon:
    rows = {
        "good": (8, 4, 6),
        "bad": (2, 4, 4),
        "calm": (5, 2, 5),
        "wild": (5, 6, 5),
        "run": (5, 4, 5),
    }
    return Lexicon({word: np.array(values, dtype=float) for word, values in rows.items()})


def utterance(folder, utt_id, words, audio, speaker="ann", text=None) -> AlignedUtterance:
    path = folder / f"{utt_id}.wav"
    soundfile.write(path, audio, 16000)
    step = len(audio) / 16000 / len(words)
    spans = np.array([[i * step, (i + 1) * step] for i in range(len(words))])
    return AlignedUtterance(utt_id, speaker, text or " ".join(words), tuple(words), spans, path)


@pytest.mark.parametrize("f0_hz", [70, 110, 180, 260, 400, 520])
def test_pitch_of_known_tones(f0_hz):
    pitch_st = analyse(voice(f0_hz, 0.5)).pitch_st
    assert np.nanmedian(pitch_st) == pytest.approx(12 * np.log2(f0_hz / 100), abs=0.1)
    assert np.isnan(pitch_st).mean() < 0.05


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    assert np.isnan(analyse(noise).pitch_st).mean() > 0.95
    silence = analyse(np.zeros(16000))
    assert np.isnan(silence.pitch_st).all()
    assert len(silence.level_db) == FRAME_RATE_HZ + 1


def test_level_follows_the_gain():
    quiet, loud = analyse(voice(150, 0.5, 0.05)), analyse(voice(150, 0.5, 0.5))
    middle = slice(10, 40)
    difference = loud.level_db[middle] - quiet.level_db[middle]
    np.testing.assert_allclose(difference, 20.0, atol=0.01)


def test_windows_are_cut_at_the_ends():
    assert word_windows(4, 1).tolist() == [[0, 2], [0, 3], [1, 4], [2, 4]]
    assert word_windows(1, 1).tolist() == [[0, 1]]
    assert word_windows(3, 0).tolist() == [[0, 1], [1, 2], [2, 3]]


def test_columns_are_permuted_by_name():
    values = np.array([[1.0, 2.0, 3.0]])
    ordered = reorder(values, ("arousal", "dominance", "valence"), VAD)
    assert ordered.tolist() == [[3.0, 1.0, 2.0]]
    with pytest.raises(HproError, match="outputs joy"):
        reorder(values[:, :1], ("joy",), VAD)


def test_inflected_forms_find_their_stem_and_unknown_words_are_neutral(lexicon):
    running, ran, good = lexicon.deviations(("running", "xyzzy", "good"))
    np.testing.assert_array_equal(running, lexicon.deviations(("run",))[0])
    np.testing.assert_array_equal(ran, np.zeros(3))
    # valences 8, 2, 5, 5, 5: mean 5, standard deviation sqrt(18 / 5)
    assert good[0] == pytest.approx(3 / np.sqrt(3.6))


def test_missing_or_wrong_norms_name_the_cure(tmp_path, monkeypatch):
    with pytest.raises(HproError, match="hpro weights fetch"):
        Lexicon.read(tmp_path)
    path = tmp_path / NORMS_FILE
    path.parent.mkdir()
    path.write_text("a,b\n1,2\n")
    with pytest.raises(HproError, match=r"has sha256 .* is expected: delete the file"):
        Lexicon.read(tmp_path)
    believe(monkeypatch)
    with pytest.raises(HproError, match="delete it and run `hpro weights fetch`"):
        Lexicon.read(tmp_path)


def believe(monkeypatch):
    """Take made-up norms for the published ones, whose hash is known."""
    monkeypatch.setattr("hpro_core.label.lexicon.find_weights", lambda name, folder: folder / name)


def test_z_scores_are_per_speaker_and_bounded():
    cues = [
        np.array([[1.0, 5.0, np.nan]]),
        np.array([[3.0, 5.0, 2.0]]),
        np.array([[100.0, 1.0, 1.0]]),
    ]
    first, second, alone = z_scores(cues, ["ann", "ann", "bob"])
    np.testing.assert_allclose(first, [[-1.0, 0.0, 0.0]])
    np.testing.assert_allclose(second, [[1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(alone, np.zeros((1, 3)))
    spike = z_scores([np.array([[0.0] * 3] * 99 + [[50.0] * 3])], ["ann"])[0]
    assert spike.max() == 3.0


def test_high_and_loud_is_aroused_and_good_words_are_pleasant(tmp_path, lexicon):
    calm = utterance(tmp_path, "calm", ["bad", "bad"], voice(110, 1.0, 0.02))
    excited = utterance(tmp_path, "excited", ["good", "good"], voice(220, 1.0, 0.2))
    low, high = WeakWordVad(lexicon, 1).word_vad([calm, excited])
    assert low.shape == high.shape == (2, 3)
    assert (high[:, :2] > low[:, :2] + 0.2).all()
    assert ((low > 0) & (low < 1)).all()
    # words alone decide valence: logistic of 1.2 deviations
    deviation = lexicon.deviations(("good",))[0, 0]
    np.testing.assert_allclose(high[:, 0], 1 / (1 + np.exp(-1.2 * deviation)))


def test_a_window_reaches_one_word_either_side(tmp_path, lexicon):
    words = ["calm", "calm", "calm", "calm", "good"]
    flat = utterance(tmp_path, "flat", words, voice(120, 2.5))
    valence = WeakWordVad(lexicon, 1).word_vad([flat])[0][:, 0]
    assert valence[:3].tolist() == [valence[0]] * 3
    assert valence[4] > valence[3] > valence[2]


def test_unreadable_audio_names_the_utterance(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(b"no audio")
    broken = AlignedUtterance("acted_1", "ann", "hi", ("hi",), np.array([[0.0, 1.0]]), path)
    with pytest.raises(HproError, match="acted_1"):
        read_audio(broken)
    soundfile.write(path, np.zeros(100), 8000)
    with pytest.raises(HproError, match="8000 Hz"):
        read_audio(broken)


@pytest.mark.parametrize("name", list(PROTOTYPES))
def test_an_utterance_at_a_prototype_gets_its_class(name, tmp_path):
    vad = (np.array(PROTOTYPES[name]) / 2 + 1)[None] / 2
    spoken = utterance(tmp_path, "u", ["hi"], voice(120, 0.2))
    posterior = WeakEmotion({"u": vad}, 0.25).posteriors([spoken])[0]
    assert EMOTIONS[posterior.argmax()] == name
    assert posterior.sum() == pytest.approx(1.0)
    assert posterior[EMOTIONS.index("unknown")] == pytest.approx(0.04)


def test_temperature_and_punctuation_move_the_posterior(tmp_path):
    vad = {"u": np.array([[0.6, 0.55, 0.5]])}
    plain, asked = (
        utterance(tmp_path, "u", ["hi"], voice(120, 0.2), text=text) for text in ("Hi.", "Hi?")
    )
    surprised = EMOTIONS.index("surprised")
    sharp, flat = WeakEmotion(vad, 0.05), WeakEmotion(vad, 5.0)
    assert sharp.posteriors([plain]).max() > flat.posteriors([plain]).max()
    assert flat.posteriors([asked])[0, surprised] > flat.posteriors([plain])[0, surprised]


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """Two corpora, acted and controlled, one utterance each; and a weights folder."""
    believe(monkeypatch)
    root = tmp_path / "run"
    rows, words = [], []
    for corpus, f0_hz in (("acted", 120), ("controlled", 200)):
        utt_id = f"{corpus}_1"
        audio = f"corpus/{corpus}/audio/{utt_id}.wav"
        (root / audio).parent.mkdir(parents=True)
        soundfile.write(root / audio, voice(f0_hz, 1.0), 16000)
        rows.append(
            (utt_id, corpus, "ann", "Good run!", "good run", audio, 1.0, "train", "g", None, None)
        )
        words += [(utt_id, 0, "good", 0.1, 0.5, 1.0), (utt_id, 1, "run", 0.5, 0.9, 1.0)]
    write_table(
        pd.DataFrame(rows, columns=list(UTTERANCES.columns)),
        root / "corpus" / "utterances.parquet",
        UTTERANCES,
    )
    write_table(
        pd.DataFrame(words, columns=list(WORDS.columns)), root / "align" / "words.parquet", WORDS
    )
    truth = pd.DataFrame(
        [("controlled_1", 1, 0.3, 0.4, 0.5), ("controlled_1", 0, 0.9, 0.8, 0.7)],
        columns=list(WORD_VAD.columns),
    )
    write_table(truth, root / "corpus/controlled/truth_vad.parquet", WORD_VAD)
    emotion = pd.DataFrame([("controlled_1", *np.eye(9)[3])], columns=["utt_id", *EMOTIONS])
    write_table(emotion, root / "corpus/controlled/truth_emotion.parquet", EMOTION_POSTERIORS)
    norms = tmp_path / "weights" / NORMS_FILE
    norms.parent.mkdir(parents=True)
    norms.write_text(",Word,V.Mean.Sum,A.Mean.Sum,D.Mean.Sum\n1,good,8,4,6\n2,bad,2,5,4\n")
    return root


def test_stage_copies_exact_labels_and_estimates_the_rest(run_folder, tmp_path):
    stage.run(run_folder, SETTINGS, tmp_path / "weights")
    vad = read_table(run_folder / "label/word_vad.parquet", WORD_VAD)
    emotion = read_table(run_folder / "label/emotion_posteriors.parquet", EMOTION_POSTERIORS)
    exact = vad[vad["utt_id"] == "controlled_1"]
    assert exact[["word_index", *VAD]].to_numpy().tolist() == [
        [0, 0.9, 0.8, 0.7],
        [1, 0.3, 0.4, 0.5],
    ]
    weak = vad[vad["utt_id"] == "acted_1"]
    assert weak["word_index"].tolist() == [0, 1]
    assert (weak["valence"] > 0.5).all()
    assert emotion.set_index("utt_id").loc["controlled_1", "happy"] == 1.0
    assert emotion.set_index("utt_id").loc["acted_1"].max() < 0.9


def test_stage_needs_the_truth_of_every_word(run_folder, tmp_path):
    path = run_folder / "corpus/controlled/truth_vad.parquet"
    write_table(read_table(path, WORD_VAD).iloc[:1], path, WORD_VAD)
    with pytest.raises(HproError, match=r"1 words for controlled_1, which has 2"):
        stage.run(run_folder, SETTINGS, tmp_path / "weights")
    assert ExactLabels.exist(path.parent)
    assert not ExactLabels.exist(run_folder / "corpus/acted")


def test_stage_refuses_other_words_than_the_transcript(run_folder, tmp_path):
    path = run_folder / "align/words.parquet"
    words = read_table(path, WORDS)
    words.loc[0, "word"] = "bad"
    write_table(words, path, WORDS)
    with pytest.raises(HproError, match="acted_1 are 'bad run'"):
        stage.run(run_folder, SETTINGS, tmp_path / "weights")
