"""The measurements of affect on labelled real speech (workflow/scripts/affect_*.py)."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ
from workflow.scripts import affect_cues, affect_probe, game_voices
from workflow.scripts.affect_probe import Clip

SPEAKERS = ("ann", "bob", "cy", "di")


def _clips(feature) -> list[Clip]:
    """Twelve prompts of two emotions by four speakers; `feature` of speaker, prompt and emotion."""
    prompts = [(f"{emotion}{i}", emotion) for emotion in ("angry", "happy") for i in range(6)]
    return [
        Clip(speaker, prompt, emotion, np.zeros(1), {"x": feature(speaker, prompt, emotion)})
        for speaker in SPEAKERS
        for prompt, emotion in prompts
    ]


def test_recall_is_the_mean_over_classes():
    clips = _clips(lambda *_: np.zeros(1))
    predicted = ["angry" if clip.emotion == "angry" or clip.prompt == "happy0" else "happy"
                 for clip in clips]  # fmt: skip
    assert affect_probe.recall(clips, predicted) == pytest.approx((1 + 5 / 6) / 2)


def test_a_feature_of_the_voice_carries_to_unseen_prompts_and_one_of_the_words_does_not():
    noise = np.random.default_rng(0)
    words = {f"{emotion}{i}": noise.normal(size=40) for emotion in ("angry", "happy")
             for i in range(6)}  # fmt: skip
    voice = _clips(lambda s, p, e: np.array([e == "angry", 0.0]) + 0.1 * noise.normal(size=2))
    spoken = _clips(lambda s, p, e: words[p] + 0.1 * noise.normal(size=40))
    assert affect_probe.recall(voice, affect_probe.unseen(voice, voice, ["x"])) == 1
    assert affect_probe.recall(spoken, affect_probe.unseen(spoken, spoken, ["x"])) < 0.7
    assert affect_probe.recall(spoken, affect_probe.carried(spoken, spoken, ["x"])) == 1


def test_no_clip_of_the_speaker_or_the_fold_is_trained_on(monkeypatch):
    clips = _clips(lambda s, p, e: np.array([SPEAKERS.index(s), int(p[-1]), e == "angry"], float))
    monkeypatch.setattr(affect_probe, "matrix", lambda clips, names: np.stack(
        [clip.features["x"] for clip in clips]))  # fmt: skip
    seen = []

    def scores(train_ND, emotions, test_ND, classes):
        assert not set(train_ND[:, 0]) & set(test_ND[:, 0])
        assert not set(train_ND[:, 1]) & set(test_ND[:, 1])
        seen.extend(map(tuple, test_ND))
        return np.zeros((len(test_ND), 2))

    monkeypatch.setattr(affect_probe, "scores", scores)
    affect_probe.unseen(clips, clips, ["x"])
    assert sorted(seen) == sorted(tuple(clip.features["x"]) for clip in clips)


def test_scores_are_those_of_weighted_ridge_regression():
    generator = np.random.default_rng(0)
    train_ND, test_ND = generator.normal(size=(9, 3)), generator.normal(size=(4, 3))
    emotions = ["angry"] * 6 + ["happy"] * 3
    weight_N = np.array([9 / 12] * 6 + [9 / 6] * 3)
    target_N2 = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 3) - 0.5
    mean_D = (weight_N[:, None] * train_ND).sum(0) / 9
    centred_ND = train_ND - mean_D
    normal_DD = centred_ND.T @ (weight_N[:, None] * centred_ND)
    normal_DD += affect_probe.RIDGE * np.eye(3)
    slope_D2 = np.linalg.solve(normal_DD, centred_ND.T @ (weight_N[:, None] * target_N2))
    found = affect_probe.scores(train_ND, emotions, test_ND, ["angry", "happy"])
    np.testing.assert_allclose(found, (test_ND - mean_D) @ slope_D2)


def test_level_and_silence_around_a_clip_do_not_matter():
    tone_T = np.sin(np.arange(8000) / 10).astype(np.float32)
    quiet_T = np.pad(0.1 * tone_T, 6400)
    for audio_T in (tone_T, quiet_T):
        levelled_T = affect_probe._levelled(audio_T)
        assert abs(len(levelled_T) - 8000) < 1500
        assert np.sqrt((levelled_T[2000:6000] ** 2).mean()) == pytest.approx(0.05, rel=0.05)


def test_tempo_and_pitch_change_alone():
    tone_T = np.sin(np.arange(SAMPLE_RATE_HZ) * 2 * np.pi * 200 / SAMPLE_RATE_HZ)
    faster_T = affect_cues.stretched(tone_T, 1.25)
    higher_T = affect_cues.raised(tone_T, 12)
    assert len(faster_T) == pytest.approx(SAMPLE_RATE_HZ / 1.25, rel=0.06)
    assert len(higher_T) == pytest.approx(SAMPLE_RATE_HZ, rel=0.06)
    for audio_T, hertz in ((faster_T, 200), (higher_T, 400)):
        spectrum = np.abs(np.fft.rfft(audio_T * np.hanning(len(audio_T))))
        assert spectrum.argmax() * SAMPLE_RATE_HZ / len(audio_T) == pytest.approx(hertz, rel=0.02)


def test_rank_correlation():
    values_W = np.array([1.0, 5.0, 2.0, 9.0, 4.0, np.nan])
    assert affect_cues.rank_correlation(values_W, values_W**3) == pytest.approx(1)
    assert affect_cues.rank_correlation(values_W, -values_W) == pytest.approx(-1)
    assert affect_cues.rank_correlation(values_W[1:], values_W[1:]) is None


def test_events_of_the_games(tmp_path: Path):
    for events in (game_voices.HEDGEWARS, game_voices.NEXUIZ):
        assert {event.emotion for event in events.values()} < set(EMOTIONS)
    package = tmp_path / "usr/share/games/nexuiz/data"
    package.mkdir(parents=True)
    with zipfile.ZipFile(package / "data.pk3", "w") as archive:
        for name in ("torus/taunt.ogg", "fricka/coms/meet.ogg", "fricka/player/jump.ogg"):
            archive.writestr(f"sound/player/{name}", name)
    found = [(clip.speaker, clip.event) for clip in game_voices.nexuiz(tmp_path)]
    assert found == [("fricka", "meet"), ("torus", "taunt")]
    voices = tmp_path / "usr/share/games/hedgewars/Data/Sounds/voices/Classic"
    voices.mkdir(parents=True)
    for name in ("Nooo.ogg", "Ouch.ogg"):
        (voices / name).write_bytes(b"1")
    assert list(game_voices.hedgewars(tmp_path)) == [game_voices.Clip("Default", "Nooo", b"1")]
