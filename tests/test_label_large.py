"""The published teachers: tiny random weights in their true format, and shards after a kill."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file
from transformers import Wav2Vec2Model

from hpro_core import params as p
from hpro_core.constants import EMOTIONS, VAD
from hpro_core.errors import HproError
from hpro_core.label import stage
from hpro_core.label.audeering import MIN_WINDOW_S, AudeeringWordVad, window_samples
from hpro_core.label.emotion2vec import Emotion2vecPosteriors, class_names
from hpro_core.label.result_cache import cached_posteriors, cached_word_vad
from hpro_core.label.teachers import reorder, word_windows
from hpro_core.params import Label
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    read_table,
    write_table,
)
from tests.published import (
    DECODER,
    PUBLISHED_ORDER,
    SIZES,
    SPANS,
    TOKENS,
    StandIn,
    change_weights,
    die_after_four,
    save_audeering,
    save_emotion2vec,
    use_stand_in,
    utterance,
)
from tests.workflow.project import REPO, Project

CPU = torch.device("cpu")

# ------------------------------------------------------------------------------------ audeering


def audeering(folder, batch_size=8, window_words=1):
    return AudeeringWordVad(folder, window_words, batch_size, CPU)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_audeering(tmp_path_factory.mktemp("audeering"))


def as_published(folder, samples_T):
    """The model card's recipe for one clip, on weights that transformers itself loads."""
    encoder = Wav2Vec2Model.from_pretrained(folder).eval()
    head = {name: v.double() for name, v in load_file(folder / "model.safetensors").items()}
    clip_T = samples_T.astype(np.float64)
    clip_T = (clip_T - clip_T.mean()) / np.sqrt(clip_T.var() + 1e-7)
    with torch.no_grad():
        hidden_1FD = encoder(torch.tensor(clip_T, dtype=torch.float32)[None]).last_hidden_state
    pooled_D = hidden_1FD[0].double().mean(dim=0)
    inner_D = head["classifier.dense.weight"] @ pooled_D + head["classifier.dense.bias"]
    out = head["classifier.out_proj.weight"] @ inner_D.tanh() + head["classifier.out_proj.bias"]
    return out.numpy()


def test_words_get_what_the_model_card_makes_of_their_windows(model_folder, tmp_path):
    spoken = utterance(tmp_path, "u", SPANS)
    samples_T = soundfile.read(spoken.audio, dtype="float32")[0]
    rows = audeering(model_folder).word_vad([spoken])[0]
    for row, (first, past) in zip(rows, word_windows(5, 1), strict=True):
        window = samples_T[round(16000 * SPANS[first][0]) : round(16000 * SPANS[past - 1][1])]
        np.testing.assert_allclose(row, as_published(model_folder, window), atol=1e-5)
    assert np.ptp(rows, axis=0).min() > 1e-3


def test_a_batch_of_ragged_windows_equals_one_by_one(model_folder, tmp_path):
    spoken = [
        utterance(tmp_path, f"u{i}", SPANS[: i + 1], seconds=2.0 + 0.0137 * i, seed=i)
        for i in range(5)
    ]
    alone = [audeering(model_folder, 1).word_vad([one])[0] for one in spoken]
    for size in (4, 64):
        together = audeering(model_folder, size).word_vad(spoken)
        assert [len(rows) for rows in together] == [1, 2, 3, 4, 5]
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_padding_has_no_effect(model_folder):
    model = audeering(model_folder)._model
    samples_BT = torch.randn(2, 8000)
    mask_BT = torch.ones(2, 8000, dtype=torch.int32)
    mask_BT[1, 3210:] = 0
    with torch.no_grad():
        padded = model(samples_BT, mask_BT)
        samples_BT[1, 3210:] = 1000.0
        loud = model(samples_BT, mask_BT)
        cut = model(samples_BT[1:, :3210], mask_BT[1:, :3210])
    torch.testing.assert_close(loud, padded, atol=1e-6, rtol=0)
    torch.testing.assert_close(cut, padded[1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PUBLISHED_ORDER)
def test_a_planted_bias_moves_its_dimension_alone(name, tmp_path):
    folder = save_audeering(tmp_path / "model")
    spoken = utterance(tmp_path, "u", SPANS)
    before = audeering(folder).word_vad([spoken])[0]

    def plant(weights):
        weights["classifier.out_proj.bias"][PUBLISHED_ORDER.index(name)] += 0.01

    change_weights(folder, plant)
    teacher = audeering(folder)
    moved = reorder(teacher.word_vad([spoken])[0] - before, teacher.dimensions, VAD)
    expected = np.where([known == name for known in VAD], 0.01, 0.0)
    np.testing.assert_allclose(moved, np.tile(expected, (5, 1)), atol=1e-6)


def test_the_names_of_the_outputs_are_those_of_the_folder(tmp_path):
    folder = save_audeering(
        tmp_path / "model", id2label={"2": "arousal", "0": "valence", "1": "dominance"}
    )
    assert audeering(folder).dimensions == ("valence", "dominance", "arousal")


def test_both_formats_of_weights_are_read(model_folder, tmp_path):
    spoken = utterance(tmp_path, "u", SPANS)
    pickled = audeering(save_audeering(tmp_path / "bin", "bin"))
    assert pickled.weights.name == "pytorch_model.bin"
    np.testing.assert_array_equal(
        pickled.word_vad([spoken])[0], audeering(model_folder).word_vad([spoken])[0]
    )
    assert pickled.identity["files"] != audeering(model_folder).identity["files"]


LAYER = "wav2vec2.encoder.layers.1.attention.k_proj.weight"
MISFITS = {
    "missing in the encoder": (lambda w: w.pop(LAYER), r"Missing key.*layers.1.attention.k_proj"),
    "missing in the head": (lambda w: w.pop("classifier.dense.bias"), r"Missing.*classifier.dense"),
    "one too many": (lambda w: w.update(extra=torch.ones(1)), r"Unexpected key.*extra"),
    "another shape": (lambda w: w.update({LAYER: torch.ones(3, 3)}), r"size mismatch.*k_proj"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_weights_that_do_not_fit_are_named_with_their_file(name, tmp_path):
    change, complaint = MISFITS[name]
    folder = save_audeering(tmp_path / "model")
    change_weights(folder, change)
    with pytest.raises(HproError, match=rf"model/model.safetensors does not fit .*{complaint}"):
        audeering(folder)


def test_the_embedding_of_masked_frames_may_be_there_or_not(tmp_path):
    folder = save_audeering(tmp_path / "model")
    change_weights(folder, lambda weights: weights.pop("wav2vec2.masked_spec_embed"))
    audeering(folder)


def test_another_model_or_an_incomplete_folder_is_refused(tmp_path):
    wrong = [
        ({"feat_extract_norm": "group"}, r"config.json: feat_extract_norm is 'group', but 'layer'"),
        ({"model_type": "hubert"}, r"config.json: model_type is 'hubert', but 'wav2vec2'"),
        ({"pooling_mode": "max"}, r"config.json: pooling_mode is 'max'"),
        ({"id2label": {"0": "joy", "1": "fear"}}, r"config.json: id2label names joy, fear"),
    ]
    for number, (change, complaint) in enumerate(wrong):
        with pytest.raises(HproError, match=complaint):
            audeering(save_audeering(tmp_path / str(number), **change))
    folder = save_audeering(tmp_path / "model")
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace("16000", "8000"))
    with pytest.raises(HproError, match=r"preprocessor_config.json: sampling_rate is 8000"):
        audeering(folder)
    (folder / "model.safetensors").write_bytes(b"broken")
    path.write_text(path.read_text().replace("8000", "16000"))
    with pytest.raises(HproError, match=r"model.safetensors is not a safetensors file"):
        audeering(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(HproError, match=r"model has neither .* download the whole folder"):
        audeering(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 10**6},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": "2"},
        {"intermediate_size": 10**9},
        {"conv_stride": [5, 2, 2, 2, 2, 2, 2000]},
        {"conv_kernel": [10, 3]},
        {"conv_dim": "x"},
        {"num_attention_heads": 5},
        {"hidden_act": "none"},
        {"id2label": {"0": "arousal", "1": True, "2": "valence"}},
        {"id2label": {"zero": "arousal", "1": "dominance", "2": "valence"}},
        {"layer_norm_eps": "small"},
        {"tdnn_kernel": [5, 3, 3, "a\nb", 1]},
    ],
    ids=str,
)
def test_a_config_that_makes_no_such_model_is_named(change, tmp_path):
    with pytest.raises(HproError, match=str(tmp_path)) as caught:
        audeering(save_audeering(tmp_path / "model", **change))
    assert str(caught.value).isprintable()


def test_a_preprocessor_that_does_not_run_is_named(tmp_path):
    folder = save_audeering(tmp_path / "model")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "up"}))
    with pytest.raises(HproError, match=rf"{folder}.*preprocessor_config\.json"):
        audeering(folder)


def test_windows_end_with_their_words_and_short_ones_are_widened():
    shortest = round(16000 * MIN_WINDOW_S)
    assert window_samples(0.5, 1.0, 32000) == slice(8000, 16000)
    assert window_samples(1.5, 2.5, 32000) == slice(24000, 32000)  # past the recording
    assert window_samples(1.0, 1.05, 32000) == slice(15600, 15600 + shortest)
    assert window_samples(0.0, 0.05, 32000) == slice(0, shortest)  # at its start
    assert window_samples(1.99, 2.0, 32000) == slice(32000 - shortest, 32000)  # at its end
    assert window_samples(5.0, 6.0, 32000) == slice(32000 - shortest, 32000)
    assert window_samples(0.0, 0.01, shortest) == slice(0, shortest)


def test_the_window_of_a_word_has_one_word_on_either_side(model_folder, tmp_path):
    spoken = utterance(tmp_path, "u", SPANS)
    teacher = audeering(model_folder)
    before = teacher.word_vad([spoken])[0]
    samples_T = soundfile.read(spoken.audio)[0]
    samples_T[round(16000 * SPANS[3][0]) : round(16000 * SPANS[3][1])] *= -20.0
    soundfile.write(spoken.audio, samples_T, 16000, subtype="FLOAT")
    changed = np.abs(teacher.word_vad([spoken])[0] - before).max(axis=1)
    assert changed[:2].max() < 1e-7
    assert changed[2:].min() > 1e-4


def test_what_leaves_the_unit_interval_is_clipped_and_counted(tmp_path, capsys):
    folder = save_audeering(tmp_path / "model")

    def plant(weights):
        weights["classifier.out_proj.bias"][:] = torch.tensor([3.0, 0.5, -3.0])

    change_weights(folder, plant)
    rows = audeering(folder).word_vad([utterance(tmp_path, "u", SPANS)])[0]
    assert rows[:, 0].tolist() == [1.0] * 5
    assert rows[:, 2].tolist() == [0.0] * 5
    assert "outside [0, 1], clipped: 5 of 5 words" in capsys.readouterr().out


def test_numbers_that_are_not_finite_and_short_audio_name_the_utterance(tmp_path):
    folder = save_audeering(tmp_path / "model")
    short = utterance(tmp_path, "brief_7", [(0.0, 0.05)], seconds=0.05)
    with pytest.raises(HproError, match=r"brief_7: .*wav has 800 samples, .* 1600"):
        audeering(folder).word_vad([short])

    def plant(weights):
        weights["classifier.out_proj.bias"][0] = float("nan")

    change_weights(folder, plant)
    with pytest.raises(HproError, match=r"u_3: .*model.safetensors for .*u_3.wav is not finite"):
        audeering(folder).word_vad([utterance(tmp_path, "u_3", SPANS)])


# --------------------------------------------------------------------------------------- shards


class Counting:
    """Both teachers; a word's value is a function of its utterance and place; counts its work."""

    classes = EMOTIONS
    dimensions = PUBLISHED_ORDER

    def __init__(self, die_at=None, weights="aa"):
        self.identity: dict[str, object] = {"weights": weights}
        self.asked: list[str] = []
        self.die_at = die_at

    def _begin(self, utterances):
        self.asked += [u.utt_id for u in utterances]
        if self.die_at in self.asked:
            raise KeyboardInterrupt

    def word_vad(self, utterances):
        self._begin(utterances)
        values = [np.arange(len(u.words))[:, None] + [0.1, 0.2, 0.3] for u in utterances]
        return [
            (rows + len(u.utt_id) + 0.01 * int(u.utt_id[1:])) / 20
            for u, rows in zip(utterances, values, strict=True)
        ]

    def posteriors(self, utterances):
        self._begin(utterances)
        rows = np.random.default_rng(len(utterances)).random((len(utterances), 9))
        return rows / rows.sum(axis=1, keepdims=True)


@pytest.fixture
def spoken(tmp_path):
    return [utterance(tmp_path / "audio", f"u{i}", SPANS[: 1 + i % 4], 1.6, i) for i in range(7)]


def test_a_killed_run_goes_on_without_doing_anything_twice(spoken, tmp_path, capsys):
    straight = cached_word_vad(Counting(), spoken, tmp_path / "straight", 2)
    work = tmp_path / "work"
    killed = Counting(die_at="u5")
    with pytest.raises(KeyboardInterrupt):
        cached_word_vad(killed, spoken, work, 2)
    assert sorted(path.name for path in work.iterdir()) == ["00000.parquet", "00001.parquet"]
    (work / ".00002.parquet.partial").write_bytes(b"half")
    resumed = Counting()
    rows = cached_word_vad(resumed, spoken, work, 2)
    assert resumed.asked == ["u4", "u5", "u6"]
    assert "4 shards, 2 found, 0 of other" in capsys.readouterr().out
    assert [part.tolist() for part in rows] == [part.tolist() for part in straight]
    assert [len(part) for part in rows] == [1, 2, 3, 4, 1, 2, 3]
    for path in work.glob("0*.parquet"):
        assert path.read_bytes() == (tmp_path / "straight" / path.name).read_bytes()
    again = Counting()
    cached_word_vad(again, spoken, work, 2)
    assert again.asked == []


def test_posteriors_are_sharded_too(spoken, tmp_path):
    first = cached_posteriors(Counting(), spoken, tmp_path / "work", 3)
    idle = Counting()
    second = cached_posteriors(idle, spoken, tmp_path / "work", 3)
    assert idle.asked == []
    assert first.shape == (7, 9)
    np.testing.assert_array_equal(first, second)


def test_stale_shards_are_refused(spoken, tmp_path, capsys):
    work = tmp_path / "work"

    def made_anew(utterances, **about):
        teacher = Counting(**about)
        cached_word_vad(teacher, utterances, work, 2)
        return teacher.asked

    assert len(made_anew(spoken)) == 7
    assert len(made_anew(spoken, weights="bb")) == 7
    assert "4 shards, 0 found, 4 of other settings" in capsys.readouterr().out
    assert made_anew(spoken, weights="bb") == []
    samples_T = soundfile.read(spoken[3].audio)[0]
    soundfile.write(spoken[3].audio, 0.5 * samples_T, 16000, subtype="FLOAT")
    assert made_anew(spoken, weights="bb") == ["u2", "u3"]
    spoken[6].spans_s[0, 1] += 0.01
    assert made_anew(spoken, weights="bb") == ["u6"]
    assert made_anew(spoken[1:], weights="bb") == ["u1", "u2", "u3", "u4", "u5", "u6"]


def test_a_broken_shard_and_lost_audio_are_named(spoken, tmp_path):
    work = tmp_path / "work"
    cached_word_vad(Counting(), spoken, work, 2)
    (work / "00001.parquet").write_bytes(b"no parquet")
    with pytest.raises(HproError, match=r"00001.parquet is not a readable table .* remove it"):
        cached_word_vad(Counting(), spoken, work, 2)
    spoken[0].audio.unlink()
    with pytest.raises(HproError, match=r"u0: .*u0.wav is missing: run `hpro corpus-read`"):
        cached_word_vad(Counting(), spoken, work, 2)


# ---------------------------------------------------------------------------------- emotion2vec


@pytest.fixture
def funasr(monkeypatch):
    use_stand_in(monkeypatch)


def test_tokens_are_mapped_by_name():
    assert tuple(class_names(TOKENS.split(), "t").values()) == EMOTIONS
    mixed = ["<unk>", "unuse_0", *TOKENS.split()[:-1][::-1]]
    expected = ["unknown", *[name for name in EMOTIONS[::-1] if name != "unknown"]]
    assert list(class_names(mixed, "t").values()) == expected
    for wrong in (TOKENS.split()[:-1], [*TOKENS.split(), "喜/joy"], ["a/angry"] * 9):
        with pytest.raises(HproError, match=r"tokens.txt names .* are needed"):
            class_names(wrong, "tokens.txt")


def test_the_order_of_tokens_does_not_matter_but_their_names_do(funasr, tmp_path):
    spoken = [utterance(tmp_path, f"u{i}", SPANS, seed=i) for i in range(3)]
    plain = Emotion2vecPosteriors(save_emotion2vec(tmp_path / "plain"), CPU)
    rows = reorder(plain.posteriors(spoken), plain.classes, EMOTIONS)
    assert rows.shape == (3, 9)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-6)
    assert np.ptp(rows, axis=0).max() > 1e-3
    order = [8, 3, 1, 0, 2, 7, 6, 5, 4]

    def permute(weights):
        for name in ("proj.weight", "proj.bias"):
            value = weights[name].clone()
            weights[name] = torch.cat([value[order], torch.full_like(value[:1], 99.0)])

    tokens = "\n".join([TOKENS.split()[index] for index in order] + ["unuse_0"])
    mixed = save_emotion2vec(tmp_path / "mixed", StandIn(SIZES, 9), tokens, permute)
    teacher = Emotion2vecPosteriors(mixed, CPU)
    assert teacher.classes != EMOTIONS
    moved = reorder(teacher.posteriors(spoken), teacher.classes, EMOTIONS)
    np.testing.assert_allclose(moved, rows, atol=1e-6)


def rename(weights):
    weights["d2v_model.odd"] = weights.pop("d2v_model.modality_encoders.AUDIO.scale")


EMOTION_MISFITS = {
    "missing": (lambda w: w.pop("proj.bias"), r"Missing key.*proj.bias"),
    "unexpected": (rename, r"Unexpected key.*odd"),
    "another number of classes": (
        lambda w: w.update({"proj.bias": torch.ones(5)}),
        r"size mismatch for proj.bias",
    ),
}


@pytest.mark.parametrize("name", EMOTION_MISFITS)
def test_weights_of_emotion2vec_that_do_not_fit_are_named(name, funasr, tmp_path):
    change, complaint = EMOTION_MISFITS[name]
    folder = save_emotion2vec(tmp_path / "model", change=change)
    with pytest.raises(HproError, match=rf"model/model.pt does not fit .*{complaint}"):
        Emotion2vecPosteriors(folder, CPU)


def test_what_only_pre_training_needs_is_left_out(funasr, tmp_path):
    def add(weights):
        weights[f"d2v_model.{DECODER}weight"] = torch.ones(7)
        weights["d2v_model._ema"] = torch.ones(7)

    Emotion2vecPosteriors(save_emotion2vec(tmp_path / "model", change=add), CPU)


def test_an_incomplete_or_odd_folder_of_emotion2vec_is_refused(funasr, tmp_path):
    folder = save_emotion2vec(tmp_path / "model", model_conf=SIZES | {"modalities": {"audio": {
        "feature_encoder_spec": "__import__('os').getcwd()"}}})  # fmt: skip
    with pytest.raises(
        HproError, match=r"config.yaml: feature_encoder_spec is .*not a list of layers"
    ):
        Emotion2vecPosteriors(folder, CPU)
    (folder / "config.yaml").write_text("model: Paraformer")
    with pytest.raises(HproError, match=r"config.yaml does not describe an Emotion2vec model"):
        Emotion2vecPosteriors(folder, CPU)
    save_emotion2vec(folder)
    torch.save({"model": SimpleNamespace()}, folder / "model.pt")
    with pytest.raises(HproError, match=r"model.pt cannot be read .*contains objects"):
        Emotion2vecPosteriors(folder, CPU)
    (folder / "tokens.txt").unlink()
    with pytest.raises(HproError, match=r"tokens.txt does not exist: download the whole folder"):
        Emotion2vecPosteriors(folder, CPU)


@pytest.mark.parametrize(
    "spec",
    ["[(8, 10, 5)] * 999999999", "[(8, 10, 5)] ** 9", "[9] * 99 * 99 * 99", "9 * [9]", "8" * 2000],
)
def test_layers_that_python_would_make_too_many_of_are_refused(spec, funasr, tmp_path):
    conf = SIZES | {
        "modalities": {"audio": SIZES["modalities"]["audio"] | {"feature_encoder_spec": spec}}
    }
    folder = save_emotion2vec(tmp_path / "model", model_conf=conf)
    with pytest.raises(HproError, match=r"config.yaml: feature_encoder_spec is .*not a list"):
        Emotion2vecPosteriors(folder, CPU)


@pytest.mark.parametrize(
    "change",
    [
        {"model_conf": SIZES | {"embed_dim": 10**9}},
        {"model_conf": SIZES | {"depth": 10**9}},
        {"model_conf": SIZES | {"embed_dim": "x"}},
        {"model_conf": SIZES | {"modalities": {}}},
        {"model_conf": SIZES | {"modalities": "audio"}},
        {"model_conf": "x"},
        {"model_conf": None},
        {"more": {1, 2}},
    ],
    ids=str,
)
def test_an_odd_config_of_emotion2vec_is_named(change, funasr, tmp_path):
    with pytest.raises(HproError, match=r"config\.yaml"):
        Emotion2vecPosteriors(save_emotion2vec(tmp_path / "model", **change), CPU)


def test_short_audio_is_refused_by_emotion2vec(funasr, tmp_path):
    teacher = Emotion2vecPosteriors(save_emotion2vec(tmp_path / "model"), CPU)
    short = utterance(tmp_path, "brief_7", [(0.0, 0.05)], seconds=0.05)
    with pytest.raises(HproError, match=r"brief_7: .*wav has 800 samples"):
        teacher.posteriors([short])


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "funasr", None)
    monkeypatch.delitem(sys.modules, "funasr.models.emotion2vec.model", raising=False)
    with pytest.raises(HproError, match=r"funasr .* not installed .*--no-deps funasr==1.4.16"):
        Emotion2vecPosteriors(save_emotion2vec(tmp_path / "model"), CPU)


def test_posteriors_are_those_of_funasr(tmp_path):
    """Its own class, loader and inference, on a tiny checkpoint as fairseq wrote them."""
    upstream = pytest.importorskip("funasr.models.emotion2vec.model")
    from funasr.train_utils.load_pretrained_model import load_pretrained_model
    from omegaconf import OmegaConf

    model = upstream.Emotion2vec(model_conf=OmegaConf.create(SIZES), vocab_size=9)
    folder = save_emotion2vec(tmp_path / "model", model)
    load_pretrained_model(str(folder / "model.pt"), model, scope_map=["d2v_model.", "none"])
    spoken = [utterance(tmp_path, f"u{i}", SPANS, 2.0 + i / 7, i) for i in range(3)]
    teacher = Emotion2vecPosteriors(folder, CPU)
    rows = teacher.posteriors(spoken)
    with torch.no_grad():
        results, _ = model.eval().inference(
            [str(u.audio) for u in spoken], key=["a", "b", "c"], device="cpu",
            tokenizer=SimpleNamespace(token_list=TOKENS.split()), extract_embedding=False,
        )  # fmt: skip
    np.testing.assert_allclose(rows, [r["scores"] for r in results], atol=1e-6)
    assert results[0]["labels"] == TOKENS.split()
    assert np.ptp(rows, axis=0).max() > 1e-4


# ------------------------------------------------------------------------- the stage, the workflow


@pytest.fixture
def run_folder(tmp_path):
    """Seven utterances of a corpus without labels, and one of a corpus with exact ones."""
    root = tmp_path / "run"
    rows, words = [], []
    for corpus, count in (("acted", 7), ("controlled", 1)):
        for index in range(count):
            spans = SPANS[: 1 + index % 4]
            spoken = utterance(
                root / f"corpus/{corpus}/audio", f"{corpus}_{index}", spans, 2, index
            )
            text = " ".join(spoken.words)
            audio = str(spoken.audio.relative_to(root))
            rows.append((spoken.utt_id, corpus, "ann", text, text, audio, 2.0, "train", "g", None,
                         None))  # fmt: skip
            words += [(spoken.utt_id, i, w, *spans[i], 1.0) for i, w in enumerate(spoken.words)]
    table = pd.DataFrame(rows, columns=list(UTTERANCES.columns))
    write_table(table, root / "corpus/utterances.parquet", UTTERANCES)
    write_table(
        pd.DataFrame(words, columns=list(WORDS.columns)), root / "align/words.parquet", WORDS
    )
    truth = pd.DataFrame([("controlled_0", 0, 0.9, 0.8, 0.7)], columns=list(WORD_VAD.columns))
    write_table(truth, root / "corpus/controlled/truth_vad.parquet", WORD_VAD)
    emotion = pd.DataFrame([("controlled_0", *np.eye(9)[3])], columns=["utt_id", *EMOTIONS])
    write_table(emotion, root / "corpus/controlled/truth_emotion.parquet", EMOTION_POSTERIORS)
    return root


def published_settings(tmp_path, **changes):
    values = {
        "emotion_teacher": "emotion2vec",
        "emotion2vec": str(save_emotion2vec(tmp_path / "emotion2vec")),
        "vad_teacher": "audeering",
        "audeering": str(save_audeering(tmp_path / "audeering")),
        "window_words": 1,
        "temperature": 0.25,
        "batch_size": 4,
        "shard_utterances": 2,
    }
    return Label.model_validate(values | changes)


def test_the_stage_labels_with_the_published_teachers(run_folder, funasr, tmp_path):
    settings = published_settings(tmp_path)
    stage.run(run_folder, settings, tmp_path, work=tmp_path / "work")
    vad = read_table(run_folder / "label/word_vad.parquet", WORD_VAD)
    emotion = read_table(run_folder / "label/emotion_posteriors.parquet", EMOTION_POSTERIORS)
    exact = vad[vad["utt_id"] == "controlled_0"]
    assert exact[list(VAD)].to_numpy().tolist() == [[0.9, 0.8, 0.7]]
    assert emotion.set_index("utt_id").loc["controlled_0", "happy"] == 1.0
    spoken = stage.aligned_utterances(run_folder)["acted"]
    teacher = audeering(tmp_path / "audeering", batch_size=4)
    expected = np.concatenate(teacher.word_vad(spoken))[:, [2, 0, 1]]  # to V, A, D
    acted = vad[vad["utt_id"] != "controlled_0"]
    np.testing.assert_allclose(acted[list(VAD)], expected, atol=1e-5)
    heard = Emotion2vecPosteriors(tmp_path / "emotion2vec", CPU).posteriors(spoken)
    np.testing.assert_allclose(emotion.iloc[:7][list(EMOTIONS)], heard, atol=1e-6)
    assert len(list((tmp_path / "work/acted/word_vad").glob("*.parquet"))) == 4
    assert len(list((tmp_path / "work/acted/emotion").glob("*.parquet"))) == 4
    assert not (tmp_path / "work/controlled").exists()


def test_a_killed_stage_ends_with_the_same_bytes(run_folder, funasr, tmp_path, monkeypatch):
    settings = published_settings(tmp_path)
    tables = [run_folder / f"label/{name}.parquet" for name in ("word_vad", "emotion_posteriors")]
    stage.run(run_folder, settings, tmp_path, work=tmp_path / "straight")
    straight = [path.read_bytes() for path in tables]
    for path in tables:
        path.unlink()
    heard = die_after_four(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        stage.run(run_folder, settings, tmp_path, work=tmp_path / "work")
    assert not any(path.exists() for path in tables)
    monkeypatch.setattr(AudeeringWordVad, "word_vad", None)  # its shards are all there
    stage.run(run_folder, settings, tmp_path, work=tmp_path / "work")
    assert heard[4:] == ["acted_2", "acted_3", "acted_4", "acted_5", "acted_6"]
    assert [path.read_bytes() for path in tables] == straight


def test_one_published_teacher_goes_with_a_weak_one(run_folder, tmp_path):
    settings = published_settings(tmp_path, emotion_teacher="weak")
    stage.run(run_folder, settings, tmp_path / "no norms needed", work=tmp_path / "work")
    emotion = read_table(run_folder / "label/emotion_posteriors.parquet", EMOTION_POSTERIORS)
    assert emotion.set_index("utt_id").loc["acted_0", "unknown"] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vad_teacher", "audeering", "label.audeering: name the folder wav2vec2-large-robust-12"),
        ("emotion_teacher", "emotion2vec", "label.emotion2vec: name the folder emotion2vec_plus"),
        (
            "emotion_teacher",
            "ear",
            "label.emotion_teacher: input should be 'weak' or",
        ),
        ("shard_utterances", 0, "label.shard_utterances: input should be greater than or equal to"),
    ],
)
def test_settings_of_teachers_that_do_not_fit_are_named(key, value, message):
    settings = p.read_yaml(REPO / "params.yaml")
    settings["label"][key] = value
    with pytest.raises(HproError, match=message):
        p.validate_section(settings, p.Params, "params.yaml")


@pytest.mark.full
@pytest.mark.workflow
def test_the_rule_asks_for_the_teachers_files_and_a_gpu(tmp_path):
    project = Project.copied(tmp_path / "project", data=False)
    rule = project.folder / "workflow/rules/label.smk"
    rule.write_text(rule.read_text().replace(" --threads {", " --gpu {resources.gpu} --threads {"))
    dry = ("snakemake", "--cores", "2", "--dry-run", "--printshellcmds", "--", "phase_label")
    asked = r"hpro label .* --work work/embedded/label --gpu {} --threads {} "
    assert re.search(asked.format(0, 1), project.run(*dry).stdout)
    settings = yaml.safe_load((project.folder / "params.yaml").read_text())
    settings["label"] |= {"emotion_teacher": "emotion2vec", "emotion2vec": "e2v"}
    settings["label"] |= {"vad_teacher": "audeering", "audeering": "w2v"}
    (project.folder / "params.yaml").write_text(yaml.safe_dump(settings))
    files = ["e2v/model.pt", "e2v/config.yaml", "e2v/tokens.txt", "w2v/config.json",
             "w2v/preprocessor_config.json", "w2v/pytorch_model.bin"]  # fmt: skip
    missing = project.run(*dry, check=False)
    assert missing.returncode == 1
    for name in files:
        assert name.replace("pytorch_model.bin", "model.safetensors") in missing.stdout
        (project.folder / name).parent.mkdir(exist_ok=True)
        (project.folder / name).touch()
    assert re.search(asked.format(1, 2), project.run(*dry).stdout)
