"""The affect judge: what it hears, how it is trained, and that padding means nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from hpro_core.constants import EMOTIONS, SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.judges import affect
from hpro_core.judges import affect_training as training
from hpro_core.judges.accuracy import Judgements, ceilings, quality_accuracy
from hpro_core.judges.metrics import ccc
from hpro_core.params import Evaluate

SETTINGS = Evaluate(
    judge_epochs=60,
    judge_learning_rate=3e-3,
    check_every=1,
    dnsmos_windows=1,
    bootstrap_samples=1,
    seed=0,
)
HIGH, LOW = EMOTIONS.index("happy"), EMOTIONS.index("sad")


def tone(pitch_hz: float, seconds: float = 0.2) -> np.ndarray:
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    partials = [np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 9)]
    return 0.1 * np.sum(partials, axis=0)


def made_up(
    count: int, seed: int, corpus: str = "told"
) -> tuple[training.Features, training.Labels]:
    """Clips of four words; pitch says the label: of the clip high or low, of a word its affect."""
    rng = np.random.default_rng(seed)
    frames, spans, posteriors, vad = {}, {}, {}, {}
    for index in range(count):
        utt_id, is_high = f"{corpus}_{index}", index % 2
        pitch_hz = (120.0, 260.0)[is_high] * 2 ** (rng.uniform(-6, 6, 4) / 12)
        sound = np.concatenate([tone(hz) for hz in pitch_hz])
        frames[utt_id] = affect.input_features(sound + rng.normal(0, 0.001, len(sound)))
        spans[utt_id] = [(0.2 * word, 0.2 * (word + 1)) for word in range(4)]
        posteriors[utt_id] = np.eye(9)[HIGH if is_high else LOW]
        vad[utt_id] = np.tile(0.5 + 0.5 * np.log2(pitch_hz / 180)[:, None] / 1.5, 3)
    clips = [(utt_id, corpus) for utt_id in frames]
    return training.Features(clips, frames, spans), training.Labels(posteriors, vad)


def judgements(judge: affect.AffectJudge, sounds: training.Features) -> Judgements:
    return {u: judge.judge(corpus, sounds.frames[u], sounds.spans[u]) for u, corpus in sounds.clips}


@pytest.fixture(scope="module")
def trained() -> affect.AffectJudge:
    return training.train_judge(*made_up(40, seed=0), SETTINGS)


@pytest.fixture
def fresh() -> affect.AffectJudge:
    """Random weights; knows one test set, in whose scale nothing changes."""
    torch.manual_seed(0)
    return affect.AffectJudge({"told": 1}).eval()


def random_clips(lengths: list[int], words: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Frames (F, C) and word spans (W, 2) of each clip."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for n_frames, n_words in zip(lengths, words, strict=True):
        edges = torch.linspace(0, n_frames, n_words + 1).round().long()
        spans_W2 = torch.stack([edges[:-1], edges[1:]], dim=1)
        made.append((torch.randn(n_frames, affect.N_CHANNELS, generator=generator), spans_W2))
    return made


# --- what is heard


def test_frames_hold_the_pitch_and_the_level_of_a_tone():
    frames_FC = affect.input_features(tone(220.0, seconds=1.0))
    assert frames_FC.shape == (101, affect.N_CHANNELS)
    assert frames_FC.dtype == np.float32
    moved_st, voiced, level_db, median_st = frames_FC[20:80, affect.N_MELS :].T
    assert np.abs(moved_st).max() < 0.2
    assert voiced.all()
    assert np.ptp(level_db) < 0.5
    assert median_st == pytest.approx(12 * np.log2(2.2), abs=0.2)


def test_a_clip_shorter_than_a_window_can_be_judged(fresh: affect.AffectJudge):
    frames_FC = affect.input_features(np.ones(10, np.float32))
    assert len(frames_FC) == 1
    posterior_9, vad_W3 = fresh.judge("told", frames_FC, [(0.0, 0.1), (0.1, 0.2)])
    assert np.isfinite(posterior_9).all()
    assert vad_W3.shape == (2, 3)
    assert np.isfinite(vad_W3).all()


def test_word_times_as_frames_by_hand():
    times = [(0.104, 0.3), (0.3, 0.3), (0.496, 0.9), (0.9, 1.2), (-0.1, 0.05)]
    frames = [[10, 30], [30, 31], [49, 50], [49, 50], [0, 5]]
    assert affect.span_frames(times, 50).tolist() == frames
    assert affect.span_frames([], 50).shape == (0, 2)


# --- padding


def test_padding_and_batching_change_nothing(fresh: affect.AffectJudge):
    clips = random_clips([60, 41, 7], [3, 5, 1])
    frames_BFC = pad_sequence([f for f, _ in clips], batch_first=True, padding_value=1e4)
    spans_BW2 = pad_sequence([s for _, s in clips], batch_first=True)
    lengths_B = torch.tensor([60, 41, 7])
    with torch.no_grad():
        together = fresh(frames_BFC, lengths_B, spans_BW2)
        for b, (frames_FC, spans_W2) in enumerate(clips):
            alone = fresh(frames_FC[None], lengths_B[b : b + 1], spans_W2[None])
            torch.testing.assert_close(together[0][b], alone[0][0], atol=1e-6, rtol=0)
            in_batch_W3 = together[1][b, : len(spans_W2)]
            torch.testing.assert_close(in_batch_W3, alone[1][0], atol=1e-6, rtol=0)


def test_a_longer_batch_has_no_gradient_at_padding(fresh: affect.AffectJudge):
    (frames_FC, spans_W2), (_, more_words) = random_clips([20, 20], [2, 4])
    frames_1FC = torch.cat([frames_FC, torch.ones(9, affect.N_CHANNELS)])[None].requires_grad_()
    spans_BW2 = pad_sequence([spans_W2, more_words], batch_first=True)[:1]
    logits_19, vad_1W3 = fresh(frames_1FC, torch.tensor([20]), spans_BW2)
    (logits_19.square().sum() + vad_1W3[0, :2].square().sum()).backward()
    assert frames_1FC.grad is not None
    assert frames_1FC.grad[0, :20].abs().sum() > 0
    assert (frames_1FC.grad[0, 20:] == 0).all()


def test_moments_by_hand_and_of_nothing():
    hidden_BFH = torch.tensor([[[1.0], [3.0], [9.0]]], requires_grad=True)
    inside_BWF = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
    moments_BWK = affect._moments(hidden_BFH, inside_BWF)
    torch.testing.assert_close(moments_BWK[0, 0], torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(moments_BWK[0, 1], torch.tensor([0.0, 1e-5**0.5]))
    moments_BWK.sum().backward()
    assert torch.isfinite(hidden_BFH.grad).all()


# --- scales


def test_each_test_set_has_its_own_scale():
    judge = affect.AffectJudge({"acted": 2, "told": 1})
    generator = np.random.default_rng(0)
    plain, bright = (
        generator.normal(mean, 2, (50, affect.N_CHANNELS)).astype(np.float32) for mean in (0, 7)
    )
    judge.set_scale("acted", [plain[:30], plain[30:]])
    judge.set_scale("told", [bright])
    for name, frames_FC in (("acted", plain), ("told", bright)):
        scaled_FC = judge.scaled(name, frames_FC)
        assert scaled_FC.dtype == torch.float32
        assert scaled_FC.mean(0).abs().max() < 1e-4
        torch.testing.assert_close(scaled_FC.std(0, False), torch.ones(affect.N_CHANNELS))
    assert judge.scaled("told", plain).mean() == pytest.approx(-3.5, abs=0.3)


def test_a_test_set_without_training_recordings_is_refused(fresh: affect.AffectJudge):
    frames_FC = np.zeros((5, affect.N_CHANNELS), np.float32)
    hint = r"has no channel scale for the test set 'sung', only for told: run `hpro judge-recordin"
    with pytest.raises(HproError, match=hint):
        fresh.posterior("sung", frames_FC)
    with pytest.raises(HproError, match=hint):
        fresh.set_scale("sung", [frames_FC])


def test_an_unknown_set_is_judged_as_a_known_one_of_the_same_recordings(trained, tmp_path: Path):
    affect.save(trained, tmp_path)
    judge = affect.load(tmp_path)
    sounds, _ = made_up(40, seed=0)  # those that `trained` was trained on
    scale_2C = affect.scale_of([sounds.frames[u] for u, _ in sounds.clips])
    assert torch.equal(scale_2C, trained.get_buffer("scale_told"))
    path = tmp_path / affect.SCALES
    affect.write_scales(path, {"mine": affect.Scale(["train", "dev"], 40, scale_2C)})
    judge.scales = affect.read_scales(path)
    assert (judge.scales["mine"].splits, judge.scales["mine"].recordings) == (["train", "dev"], 40)
    for name, spans in sounds.spans.items():
        frames_FC = sounds.frames[name]
        known, own = (judge.judge(of, frames_FC, spans) for of in ("told", "mine"))
        assert all((a == b).all() for a, b in zip(known, own, strict=True))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mean", [0.0] * 3, r"scales.json: mine.mean: .* at least 68 items"),
        ("deviation", ["1"] * 68, r"scales.json: mine.deviation.0: "),
        ("deviation", [0.0] * 68, r"scales.json: mine.deviation.0: "),
        ("splits", None, r"scales.json: mine.splits: "),
    ],
)
def test_a_broken_scale_is_named(tmp_path: Path, key, value, message):
    path = tmp_path / affect.SCALES
    affect.write_scales(path, {"mine": affect.Scale(["test"], 1, torch.ones(2, 68))})
    stored = json.loads(path.read_text())
    stored["mine"][key] = value
    path.write_text(json.dumps(stored))
    with pytest.raises(HproError, match=message):
        affect.read_scales(path)


@pytest.mark.parametrize(
    ("recall", "classes", "reason"),
    [
        (None, 4, "its accuracy on unknown corpora was not measured"),
        (0.29, 4, r"\(shouts, 223 recordings\) .* recall is 0.29 \(chance 0.25\)"),
        (0.43, 4, "recall is 0.43"),
        (0.44, 4, None),
        (0.62, 2, "recall is 0.62"),
    ],
)
def test_a_judge_is_trusted_on_unknown_sets_from_a_measured_grade_on(
    fresh, tmp_path: Path, recall, classes, reason
):
    if recall is not None:
        fresh.grade = affect.Grade(corpus="shouts", recordings=223, classes=classes, recall=recall)
    affect.save(fresh, tmp_path)
    judge = affect.load(tmp_path)
    assert judge.withheld("told") is None
    if reason is None:
        assert judge.withheld("mine") is None
    else:
        assert re.search(f"not trained on mine, .*{reason}", judge.withheld("mine"))


@pytest.mark.parametrize(
    "grade", [None, {"recall": 0.5}, {"corpus": "a", "recordings": 9, "classes": 1, "recall": 0.5}]
)
def test_an_odd_grade_is_named(fresh, tmp_path: Path, grade):
    affect.save(fresh, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"trained_on": {"told": 1}, "grade": grade}))
    with pytest.raises(HproError, match=rf"{tmp_path}/config.json: grade"):
        affect.load(tmp_path)


# --- the loss


def test_agreement_is_the_metric_up_to_the_small_constant():
    exact_W3 = np.array([[0.1, 0.5, 0.9], [0.6, 0.5, 0.3], [0.9, 0.6, 0.1]])
    judged_W3 = np.array([[0.2, 0.6, 0.8], [0.5, 0.4, 0.4], [0.9, 0.7, 0.3]])
    judged_BW3 = pad_sequence([torch.tensor(w) for w in (judged_W3, judged_W3[:2])], True, 0.7)
    exact_BW3 = pad_sequence([torch.tensor(w) for w in (exact_W3, exact_W3[:2])], True)
    words_BW1 = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])[..., None]
    found_B3 = training._agreement(judged_BW3, exact_BW3, words_BW1)
    by_hand = 2 * 0.27667 / (0.32667 + 0.24667)  # sums of products; the means are equal
    assert found_B3[0, 0] == pytest.approx(by_hand, abs=1e-3)
    np.testing.assert_allclose(found_B3[0], ccc(judged_W3, exact_W3), atol=5e-3)
    np.testing.assert_allclose(found_B3[1], ccc(judged_W3[:2], exact_W3[:2]), atol=1e-2)


def test_two_constants_have_a_finite_loss_and_gradient():
    flat_BW3 = torch.full((1, 4, 3), 0.5, requires_grad=True)
    training._agreement(flat_BW3, torch.full((1, 4, 3), 0.5), torch.ones(1, 4, 1)).sum().backward()
    assert torch.isfinite(flat_BW3.grad).all()


def test_every_weight_gets_a_gradient(fresh: affect.AffectJudge):
    sounds, known = made_up(3, seed=2)
    examples = [training._example(fresh, u, name, sounds, known) for u, name in sounds.clips]
    training._loss(fresh.train(), examples).backward()
    silent = [name for name, w in fresh.named_parameters() if w.grad is None or not w.grad.any()]
    assert silent == []


# --- training


def test_it_learns_what_pitch_says_and_tells_others(trained: affect.AffectJudge):
    sounds, known = made_up(20, seed=1)
    judged = judgements(trained, sounds)
    right = [judged[u][0].argmax() == known.posteriors[u].argmax() for u, _ in sounds.clips]
    assert np.mean(right) >= 0.9
    agreement = [ccc(judged[u][1], known.vad[u]).mean() for u, _ in sounds.clips]
    assert np.mean(agreement) > 0.5


def test_quality_of_recordings_by_hand():
    found = quality_accuracy({"dnsmos": [3.0, 2.0, 4.0]}, {"dnsmos": [1.0, 2.0, 3.0]})
    assert found == {"dnsmos": {"recordings": 3.0, "noisy": 2.0, "noisy_is_lower": 2 / 3}}


def test_ceilings_by_hand():
    happy_9, sad_9 = np.eye(9)[HIGH], np.eye(9)[LOW]
    rising_W3 = np.tile([[0.2], [0.4], [0.6]], 3)
    judged = {"a": (happy_9, rising_W3), "b": (sad_9, rising_W3)}
    again = {
        "a.redrawn": (happy_9, rising_W3),
        "b.redrawn": (happy_9, rising_W3[::-1]),
        "b.likeliest": (sad_9, rising_W3),
    }
    assert ceilings(judged, again) == {
        "redrawn": {"n": 2, "emo_sim": 0.5, "wvad_ccc": pytest.approx(0.0, abs=1e-9)},
        "likeliest": {"n": 1, "emo_sim": 1.0, "wvad_ccc": 1.0},
    }


def test_the_same_seed_gives_the_same_judge():
    brief = SETTINGS.model_copy(update={"judge_epochs": 2})
    first, second = (training.train_judge(*made_up(8, seed=0), brief) for _ in range(2))
    reseeded = brief.model_copy(update={"seed": 1})
    other = training.train_judge(*made_up(8, seed=0), reseeded)
    weights = [judge.state_dict() for judge in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_a_set_without_labels_is_unknown_to_the_judge():
    labelled, known = made_up(6, seed=0)
    other, _ = made_up(3, seed=1, corpus="acted")
    sounds = training.Features(
        labelled.clips + other.clips, labelled.frames | other.frames, labelled.spans | other.spans
    )
    judge = training.train_judge(sounds, known, SETTINGS.model_copy(update={"judge_epochs": 1}))
    assert judge.trained_on == {"told": 6}
    assert judge.withheld("acted") is not None
    with pytest.raises(HproError, match="no channel scale for the test set 'acted'"):
        judge.scaled("acted", other.frames["acted_0"])
    scaled = torch.cat([judge.scaled("told", labelled.frames[u]) for u, _ in labelled.clips])
    assert scaled.mean(0).abs().max() < 1e-3
    assert not judge.training
    alone = training.train_judge(labelled, known, SETTINGS.model_copy(update={"judge_epochs": 1}))
    weights = judge.state_dict()
    assert all(torch.equal(weights[name], own) for name, own in alone.state_dict().items())


def test_the_scale_of_a_set_is_of_all_its_recordings_though_some_have_no_labels():
    sounds, known = made_up(6, seed=0)
    first = sounds.clips[0][0]
    partly = training.Labels({u: p for u, p in known.posteriors.items() if u != first}, known.vad)
    judge = training.train_judge(sounds, partly, SETTINGS.model_copy(update={"judge_epochs": 1}))
    assert judge.trained_on == {"told": 6}
    scale_2C = affect.scale_of([sounds.frames[u] for u, _ in sounds.clips])
    assert torch.equal(judge.get_buffer("scale_told"), scale_2C)


def test_too_few_labels_and_labels_of_other_words_are_refused():
    sounds, known = made_up(4, seed=0)
    first = sounds.clips[0][0]
    only_one = training.Labels(known.posteriors, {first: known.vad[first]})
    with pytest.raises(HproError, match=r"fewer than two .* controlled\.judge above 0"):
        training.train_judge(sounds, only_one, SETTINGS)
    vad = known.vad | {first: known.vad[first][:2]}
    with pytest.raises(HproError, match=rf"{first}: 4 words in .*, but 2 in truth_vad\.parquet"):
        training.train_judge(sounds, training.Labels(known.posteriors, vad), SETTINGS)


def test_it_comes_back_from_the_disk_as_it_was(trained: affect.AffectJudge, tmp_path: Path):
    affect.save(trained, tmp_path)
    again = affect.load(tmp_path)
    assert again.trained_on == {"told": 40}
    sounds, _ = made_up(1, seed=5)
    before, after = (judgements(judge, sounds)["told_0"] for judge in (trained, again))
    assert all((first == second).all() for first, second in zip(before, after, strict=True))
    assert before[0].sum() == pytest.approx(1.0)
    wordless = again.posterior("told", sounds.frames["told_0"])
    assert wordless == pytest.approx(before[0])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(HproError, match="is not the config of an affect judge: it has no"):
        affect.load(tmp_path)
    with pytest.raises(HproError, match="does not exist: run the stage that trains it"):
        affect.load(tmp_path / "nowhere")


@pytest.mark.parametrize("trained_on", [{"a.b": 1}, {"": 1}, {"a": True}, {"a": 1.5}, ["a"], {}])
def test_odd_names_of_test_sets_are_named(trained_on, fresh: affect.AffectJudge, tmp_path: Path):
    affect.save(fresh, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"trained_on": trained_on}))
    with pytest.raises(HproError, match=str(tmp_path)):
        affect.load(tmp_path)
