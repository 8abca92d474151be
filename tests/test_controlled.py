"""The controlled corpus: exact labels, and a sound that follows them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from hpro_core import tables
from hpro_core.constants import EMOTIONS, VAD
from hpro_core.corpus import affect, controlled, stage, voice
from hpro_core.corpus.sentences import FEELING, STYLES, TEMPLATES, sentences
from hpro_core.corpus.text import normalised_words
from hpro_core.params import Controlled
from tests.test_corpus import settings


def render(root: Path, workers: int = 1) -> Path:
    corpus = settings(Path(), sets={"told": {"reader": "controlled", "path": ""}})
    stage.read(root, "told", corpus, Controlled(utterances=10, seed=0), workers)
    return root / "corpus" / "told"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("told"))


@pytest.fixture(scope="module")
def speaker() -> voice.Voice:
    return voice.Voice()


# --- language ----------------------------------------------------------------------------------


def test_sentences_differ_and_their_words_tell_the_style():
    found = sentences(2000, seed=0)
    assert len({sentence.words for sentence in found}) == 2000
    assert len(TEMPLATES) >= 12
    owner = {word: style for style in STYLES for slot in FEELING[style].values() for word in slot}
    for sentence in found:
        first, end = sentence.feeling
        named = " ".join(sentence.words.split()[first:end])
        assert owner[named] == sentence.style
        assert normalised_words(sentence.text) == sentence.words
        assert not set(sentence.content) & set(range(first, end))
    assert {sentence.style for sentence in found[:5]} == set(STYLES)
    assert set(STYLES) <= set(EMOTIONS)


def test_no_word_belongs_to_two_styles():
    phrases = [word for style in STYLES for slot in FEELING[style].values() for word in slot]
    assert len(set(phrases)) == len(phrases)


def test_about_half_is_emphasised_mostly_on_the_feeling():
    plans = controlled.plans("told", Controlled(utterances=2000, seed=0))
    emphasised = [plan for plan in plans if plan.emphasised is not None]
    on_feeling = [p for p in emphasised if p.emphasised == p.sentence.feeling[0]]
    assert 0.45 < len(emphasised) / len(plans) < 0.55
    assert 0.6 < len(on_feeling) / len(emphasised) < 0.9
    assert all(0.5 <= plan.strength <= 1.0 for plan in plans)


# --- labels ------------------------------------------------------------------------------------


def test_labels_by_hand():
    feeling_W3 = affect.feeling_W3("happy", 1.0, 4, (2, 3))
    shares = [0.45 + 0.55 * 0.6**distance for distance in (2, 1, 0, 1)]
    np.testing.assert_allclose(feeling_W3[:, 0], 0.76 * np.array(shares))
    vad_W3 = affect.vad_W3(feeling_W3, affect.emphasis_W(4, 2))
    np.testing.assert_allclose(vad_W3[2], [0.88, 0.5 + 0.5 * 0.88, 0.5 + 0.5 * 0.55])
    np.testing.assert_allclose(affect.emphasis_W(4, 0), [1, 1 / 3, 0, 0])
    np.testing.assert_allclose(affect.emphasis_W(3, None), [0, 0, 0])


def test_emphasis_alone_is_what_the_docs_say():
    controls = affect.controls(np.zeros((5, 3)), affect.emphasis_W(5, 2))
    assert controls.pitch_st[2] == pytest.approx(2.5)
    assert controls.level_db[2] == pytest.approx(3.0)
    np.testing.assert_allclose(controls.stretch, [1, 1, 1.35, 1, 1])
    np.testing.assert_allclose(controls.formant, 1.0)


@pytest.mark.parametrize("style", STYLES)
def test_labels_stay_in_range_and_vary(style: str):
    for strength in (0.5, 1.0):
        feeling_W3 = affect.feeling_W3(style, strength, 8, (3, 5))
        for emphasised in (None, *range(8)):
            vad_W3 = affect.vad_W3(feeling_W3, affect.emphasis_W(8, emphasised))
            assert vad_W3.min() >= 0
            assert vad_W3.max() <= 1
            assert (vad_W3.std(axis=0) > 0).all()
        share_9 = affect.posterior(style, strength)
        assert share_9.sum() == pytest.approx(1)
        assert share_9.argmax() == EMOTIONS.index(style)


def test_posterior_by_hand():
    share_9 = affect.posterior("sad", 0.6)
    assert share_9[EMOTIONS.index("sad")] == pytest.approx(0.8)
    assert share_9[EMOTIONS.index("neutral")] == pytest.approx(0.2)
    assert affect.posterior("neutral", 0.6)[EMOTIONS.index("neutral")] == pytest.approx(1)


# --- sound -------------------------------------------------------------------------------------


def test_tables_agree_with_each_other_and_with_the_audio(rendered: Path):
    utterances = tables.read_table(rendered / "utterances.parquet", tables.UTTERANCES)
    words = tables.read_table(rendered / "truth_words.parquet", tables.WORDS)
    vad = tables.read_table(rendered / "truth_vad.parquet", tables.WORD_VAD)
    emotion = tables.read_table(rendered / "truth_emotion.parquet", tables.EMOTION_POSTERIORS)
    assert len(tables.read_table(rendered / "rejected.parquet", tables.REJECTED)) == 0
    assert len(utterances) == len(emotion) == 10
    assert (utterances.group == utterances.words).all()
    assert emotion.utt_id.tolist() == utterances.utt_id.tolist()
    keys = ["utt_id", "word_index"]
    assert words[keys].values.tolist() == vad[keys].values.tolist()
    for row in utterances.itertuples():
        mine = words[words.utt_id == row.utt_id]
        assert " ".join(mine.word) == row.words
        assert mine.start_s.tolist()[1:] == mine.end_s.tolist()[:-1]
        assert mine.end_s.max() < row.duration_s
        info = soundfile.info(rendered.parent.parent / row.audio)
        assert (info.samplerate, info.subtype) == (16_000, "PCM_16")
        assert info.duration == pytest.approx(row.duration_s)


def test_speech_lies_inside_the_word_times(rendered: Path):
    words = pd.read_parquet(rendered / "truth_words.parquet")
    for utt_id, mine in words.groupby("utt_id"):
        samples, rate_hz = soundfile.read(rendered / "audio" / f"{utt_id}.wav")
        level = np.sqrt(np.convolve(samples**2, np.ones(160) / 160, mode="same"))
        loud = np.flatnonzero(level > 0.01 * level.max()) / rate_hz
        assert loud[0] == pytest.approx(mine.start_s.min(), abs=0.06)
        silent_s = 0.2 if mine.word.iloc[-1][-1] in "td" else 0.1  # a last t may have no sound
        assert -silent_s < loud[-1] - mine.end_s.max() < 0.03


def test_rendering_again_in_two_processes_gives_the_same_bytes(rendered: Path, tmp_path: Path):
    again = render(tmp_path, workers=2)
    for file in sorted(rendered.rglob("*.*")):
        assert file.read_bytes() == (again / file.relative_to(rendered)).read_bytes()


def median_pitch(speaker: voice.Voice, samples: np.ndarray) -> float:
    """Median F0 in Hz by autocorrelation over frames of 40 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 640)[::160]
    frames = frames[np.sqrt((frames**2).mean(axis=1)) > 0.1 * np.abs(samples).max()]
    lags = np.arange(32, 160)
    similarity = np.array([[(f[lag:] * f[:-lag]).sum() for lag in lags] for f in frames])
    return float(np.median(16_000 / lags[similarity.argmax(axis=1)]))


def test_the_sound_follows_the_label(speaker: voice.Voice):
    text = "My father was very angry last night."
    said = {}
    for style in STYLES:
        feeling_W3 = affect.feeling_W3(style, 1.0, 7, (4, 5))
        controls = affect.controls(feeling_W3, affect.emphasis_W(7, None))
        said[style] = speaker.say(text, 7, controls, [0])
    pitch = {style: median_pitch(speaker, spoken.samples) for style, spoken in said.items()}
    level = {style: spoken.samples.std() for style, spoken in said.items()}
    last = {style: spoken.spans_s[-1, 1] for style, spoken in said.items()}
    assert pitch["sad"] < pitch["neutral"] < min(pitch["happy"], pitch["fearful"])
    assert level["sad"] < level["neutral"] < level["angry"]
    assert last["angry"] < last["neutral"] <= last["sad"]


def test_an_emphasised_word_is_longer_and_louder_and_the_rest_is_not(speaker: voice.Voice):
    text = "My father was very angry last night."
    plain, strong = (
        speaker.say(text, 7, affect.controls(np.zeros((7, 3)), affect.emphasis_W(7, word)), [0])
        for word in (None, 4)
    )
    length = [np.diff(spoken.spans_s, axis=1)[:, 0] for spoken in (plain, strong)]
    assert 1.2 < length[1][4] / length[0][4] < 1.5
    np.testing.assert_allclose(np.delete(length[1], 4), np.delete(length[0], 4))
    levels = [
        [spoken.samples[int(s * 16_000) : int(e * 16_000)].std() for s, e in spoken.spans_s]
        for spoken in (plain, strong)
    ]
    gain_db = 20 * np.log10(np.array(levels[1]) / np.array(levels[0]))
    assert gain_db.argmax() == 4
    assert gain_db[4] > 2
    np.testing.assert_allclose(gain_db[:2], 0, atol=0.5)


def test_envelope_warp():
    line_KF = np.tile(np.arange(11.0, dtype=np.float32)[:, None], (1, 3))
    moved_KF = voice.warped(line_KF, np.array([1.0, 2.0, 0.5]))
    np.testing.assert_allclose(moved_KF[:, 0], line_KF[:, 0])
    np.testing.assert_allclose(moved_KF[:, 1], line_KF[:, 1] / 2)
    np.testing.assert_allclose(moved_KF[:, 2], np.minimum(2 * line_KF[:, 2], 10))


def test_phones_that_are_not_the_words_are_refused():
    assert voice.word_of_phone("ab c.", 2).tolist() == [2, 0, 0, 1, 1, 2, 2]
    with pytest.raises(voice.UnreadableSentence):
        voice.word_of_phone("ab c.", 3)
    with pytest.raises(voice.UnreadableSentence):
        voice.word_of_phone("ab c", 2)


def test_a_sentence_that_cannot_be_said_is_rejected(tmp_path: Path, monkeypatch):
    def refuse(*_: object) -> None:
        raise voice.UnreadableSentence("?")

    monkeypatch.setattr(voice.Voice, "say", refuse)
    plans = controlled.plans("told", Controlled(utterances=10, seed=0))
    outcomes = controlled._render_all(plans[:2], tmp_path, workers=1)
    assert [outcome[0] for outcome in outcomes] == [0.0, 0.0]
    corpus = settings(Path())
    assert controlled._reason(outcomes[0], corpus) == "phones and words do not match"


def test_vad_order_is_the_projects():
    assert VAD == ("valence", "arousal", "dominance")
