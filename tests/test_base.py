"""The shipped base: models packed small, taken whole, and never a test of what they know."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hpro_core import tables
from hpro_core.codec.training import load_codec, make_codec
from hpro_core.constants import EMOTIONS
from hpro_core.corpus import splits
from hpro_core.corpus.audio import write_wav
from hpro_core.errors import HproError
from hpro_core.io import read_json
from hpro_core.judges import affect, grading
from hpro_core.policy.sft import load_policy, make_policy, save_policy
from hpro_core.pretrained import base
from hpro_core.pretrained.packing import pack, rows_of_bytes, unpack
from hpro_core.pretrained.sentences import known_sentences, sentence_hashes
from hpro_core.speech.stage import load_tokenizer
from hpro_core.speech.tokenizer import SpeechTokenizer, TokenizerConfig
from hpro_core.speech.vocoder import ISTFT, Vocoder, VocoderConfig, load_vocoder
from hpro_core.train.checkpoint import save_model
from tests.rank_training import POLICY
from tests.test_corpus import settings
from tests.test_corpus_splits import PRESCRIBED, one_set, write_set

SHIPPED = Path(__file__).parents[1] / "data/base"
LOAD = {
    "tokenizer": load_tokenizer,
    "vocoder": load_vocoder,
    "codec": load_codec,
    "policy": load_policy,
    "judge": affect.load,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, examples) -> Path:
    """A run with untrained small models and eight utterances."""
    root = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    tokenizer = SpeechTokenizer(TokenizerConfig(width=16, speaker_dim=8))
    save_model(root / "speech/tokenizer", tokenizer, {"model": vars(tokenizer.config)})
    vocoder = Vocoder(VocoderConfig(width=16, blocks=1, pitch_width=16, pitch_blocks=1))
    save_model(root / "speech/vocoder", vocoder, {"kind": ISTFT, "model": vars(vocoder.config)})
    codec = make_codec("embedded")
    save_model(root / "codec/style", codec, {"model": vars(codec.config)})
    save_policy(root / "policy/sft/seed0", make_policy(POLICY, examples), variant="sft", seed=0)
    judge = affect.AffectJudge({"told": 3})
    judge.set_scale("told", [np.linspace(-30, 0.01, 680).reshape(10, 68).astype(np.float32)])
    affect.save(judge, root / "judge")
    utterances = one_set(words=list("abcdefgh"), split=PRESCRIBED)
    tables.write_table(utterances, root / "corpus/utterances.parquet", tables.UTTERANCES)
    return root


@pytest.fixture
def packed(run: Path, tmp_path: Path) -> Path:
    """The base made of that run."""
    folder = tmp_path / "base"
    base.pack_base(run, run / "policy/sft/seed0", folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


# --- packing


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "sentences.npy", "SHA256SUMS"]
)
def test_a_full_disk_leaves_nothing_under_the_name_of_a_packed_file(run, tmp_path, full_disk, name):
    full_disk(name)
    with pytest.raises(HproError, match=rf"{name} cannot be written \(No space left on device"):
        base.pack_base(run, run / "policy/sft/seed0", tmp_path / "base")
    assert not list((tmp_path / "base").rglob(f"*{name}*"))


def test_a_weight_is_off_by_half_a_step_of_its_row_at_most():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([0.01, 1.0, 50.0])[:, None, None]
    weight = sizes * torch.randn(3, 40, 5, generator=generator)
    steps, scale = map(torch.from_numpy, rows_of_bytes(weight.numpy()))
    assert (steps.dtype, steps.shape) == (torch.int8, weight.shape)
    assert (scale.dtype, scale.shape) == (torch.float16, (3,))
    error = (steps.float() * scale.float()[:, None, None] - weight).abs()
    rounded = 127 * torch.finfo(torch.float16).eps * scale.float()  # of the scale itself
    assert (error.flatten(1).amax(1) <= 0.5 * scale.float() + rounded).all()
    assert steps.flatten(1).abs().amax(1).min() >= 126


def test_rows_of_next_to_nothing_have_a_scale():
    row = torch.tensor([0.0, 1e-9, 1e-3, -1e-4])
    packed = rows_of_bytes(torch.stack([row, 0 * row]).numpy())
    steps, scale = map(torch.from_numpy, packed)
    assert (scale == 2**-14).all()
    assert (steps[0] * scale[0] - row).abs().max() <= 2**-15
    assert (steps[1] == 0).all()


def test_vectors_and_matrices_of_a_few_rows_have_16_bits(tmp_path: Path):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.linspace(-3, 3, 50))
            self.scales = nn.Parameter(torch.tensor([[-30.0, 0.01], [10.0, 0.001]]))
            self.matrix = nn.Parameter(torch.randn(64, 50))

    model = Model()
    save_model(tmp_path / "model", model, {"of": "three"})
    pack(tmp_path / "model", tmp_path / "packed")
    small = weights(tmp_path / "packed")
    assert {name: str(weight.dtype) for name, weight in small.items()} == {
        "bias": "torch.float16",
        "scales": "torch.float16",
        "matrix": "torch.int8",
        "matrix.scale": "torch.float16",
    }
    unpack(tmp_path / "packed", tmp_path / "again")
    again = weights(tmp_path / "again")
    assert {weight.dtype for weight in again.values()} == {torch.float32}
    for name in ("bias", "scales"):
        torch.testing.assert_close(again[name], getattr(model, name).data, rtol=5e-4, atol=0)
    assert read_json(tmp_path / "again/config.json") == {"of": "three"}


def test_what_is_no_model_is_named(tmp_path: Path):
    with pytest.raises(HproError, match=r"nowhere/model.safetensors does not exist: run the"):
        pack(tmp_path / "nowhere", tmp_path / "packed")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(
        HproError, match=r"model.safetensors is not a safetensors file .*: download it again"
    ):
        unpack(tmp_path, tmp_path / "again")


# --- make and take


@pytest.mark.parametrize("name", base.MODELS)
def test_a_model_comes_back_nearly_as_it_was(name: str, run: Path, packed: Path, tmp_path: Path):
    base.unpack_model(packed, name, tmp_path / "other")
    place = tmp_path / "other" / base.MODELS[name]
    source = run / ("policy/sft/seed0" if name == "policy" else base.MODELS[name])
    before, after = (LOAD[name](folder).state_dict() for folder in (source, place))
    assert read_json(place / "config.json") == read_json(source / "config.json")
    for key, weight in before.items():
        largest = weight.abs().flatten(1).amax(1) if weight.ndim > 1 else weight.abs()
        allowed = largest.reshape(-1, *[1] * (weight.ndim - 1)) / 250 + 1e-4
        assert ((after[key] - weight).abs() <= allowed).all(), key
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (packed / name, place)]
    assert sizes[0] < 0.5 * sizes[1]


def test_the_judge_of_a_base_gives_the_outputs_of_the_packed_one(
    run: Path, packed: Path, tmp_path: Path
):
    base.unpack_model(packed, "judge", tmp_path)
    frames_FC = np.linspace(-20, 0, 20 * 68).reshape(20, 68).astype(np.float32)
    judged = [
        affect.load(root / "judge").judge("told", frames_FC, [(0.0, 0.1), (0.1, 0.2)])
        for root in (run, tmp_path)
    ]
    for before, after in zip(*judged, strict=True):
        np.testing.assert_allclose(after, before, atol=0.02)


def test_making_a_base_again_gives_the_same_bytes(run: Path, packed: Path, tmp_path: Path):
    base.pack_base(run, run / "policy/sft/seed0", tmp_path / "again")
    for file in (*base.FILES, base.SUMS):
        assert (tmp_path / "again" / file).read_bytes() == (packed / file).read_bytes()


@pytest.mark.parametrize("file", base.FILES)
def test_a_changed_file_is_refused(file: str, packed: Path, tmp_path: Path):
    content = bytearray((packed / file).read_bytes())
    content[len(content) // 2] ^= 1
    (packed / file).write_bytes(content)
    with pytest.raises(HproError, match=rf"base/{file} differs from its hash in .*SHA256SUMS"):
        base.unpack_model(packed, "judge", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("file", base.FILES)
def test_a_missing_file_is_named(file: str, packed: Path, tmp_path: Path):
    (packed / file).unlink()
    with pytest.raises(HproError, match=rf"base/{file} is missing: restore it"):
        base.unpack_model(packed, "judge", tmp_path / "other")


def test_a_base_that_is_none_is_refused(packed: Path, tmp_path: Path):
    with pytest.raises(HproError, match=r"SHA256SUMS does not exist: name a base in params\.yaml"):
        base.unpack_model(tmp_path / "nowhere", "judge", tmp_path)
    with pytest.raises(
        HproError, match=r"no model 'aligner'; it has: tokenizer, vocoder, codec, policy"
    ):
        base.unpack_model(packed, "aligner", tmp_path)
    (packed / base.SUMS).write_text("")
    with pytest.raises(HproError, match="differs from its hash"):
        base.unpack_model(packed, "judge", tmp_path)


# --- the grade of its judge


def shouts(folder: Path, emotions: str = "happy,sad") -> Path:
    """A corpus of four short tones, labelled in turn."""
    (folder / "audio").mkdir(parents=True)
    lines = ["utterance,speaker,text,audio,emotion"]
    for index in range(4):
        tone_T = 0.1 * np.sin(np.arange(8000) * 0.02 * (1 + index))
        write_wav(folder / f"audio/{index}.wav", tone_T.astype(np.float32))
        lines.append(f"{index},ann,Oh!,audio/{index}.wav,{emotions.split(',')[index % 2]}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_grade_is_measured_and_written_to_the_base(packed: Path, tmp_path: Path, monkeypatch):
    asked = []

    def posterior(judge, test_set, frames_FC):
        """Happy in three of four clips, and unknown emotions are more probable than both."""
        asked.append((test_set, judge.scaled(test_set, frames_FC)))
        posterior_9 = np.ones(9)
        posterior_9[[EMOTIONS.index("happy"), EMOTIONS.index("sad")]] = 0.2, 0.1
        return posterior_9 if len(asked) < 4 else posterior_9 * np.eye(9)[EMOTIONS.index("sad")]

    monkeypatch.setattr(affect.AffectJudge, "posterior", posterior)
    grade = grading.grade_base(packed, shouts(tmp_path / "shouts"))
    assert grade == affect.Grade(corpus="shouts", recordings=4, classes=2, recall=0.75)
    assert {name for name, _ in asked} == {"shouts"}
    scaled = torch.cat([frames_FC for _, frames_FC in asked])
    assert scaled.mean(0).abs().max() < 1e-3  # by the corpus's own scale
    base.unpack_model(packed, "judge", tmp_path / "other")  # the hashes are those of now
    assert affect.load(tmp_path / "other/judge").grade == grade
    config = read_json(packed / "judge/config.json")
    assert config == {"trained_on": {"told": 3}, "grade": grade.model_dump()}


def test_a_corpus_that_gives_no_grade_is_refused(packed: Path, tmp_path: Path):
    before = (packed / "judge/config.json").read_bytes()
    for name, emotions, message in (
        ("told", "happy,sad", "was trained on told: grade it on another corpus"),
        ("one", "sad,sad", "one: a grade needs recordings of two emotions or more"),
        ("some", "happy,", r"some: 2 of 4 rows of metadata\.csv are faulty or have no emotion"),
    ):
        with pytest.raises(HproError, match=message):
            grading.grade_base(packed, shouts(tmp_path / name, emotions))
    (packed / "judge/config.json").write_bytes(before + b" ")
    with pytest.raises(HproError, match=r"config\.json differs from its hash"):
        grading.grade_base(packed, shouts(tmp_path / "shouts"))


def test_the_shipped_judge_knows_controlled_and_its_grade_is_below_the_bar(tmp_path: Path):
    base.unpack_model(SHIPPED, "judge", tmp_path)
    judge = affect.load(tmp_path / "judge")
    assert judge.trained_on == {"controlled": 3000}
    assert judge.grade is not None
    assert judge.grade.gain < affect.MIN_RECALL_GAIN
    reason = r"acted, and on an unknown corpus \(hedgewars, 208 rec.* 0\.30 \(chance 0\.25\)"
    assert re.search(reason, judge.withheld("acted") or "")


# --- what a base knows


def test_a_base_lists_the_sentences_of_train_and_judge(packed: Path):
    said = dict(zip("abcdefgh", PRESCRIBED, strict=True))
    known = known_sentences(packed, pd.Series([*said, "z"]))
    assert known.tolist() == [*(split in ("train", "judge") for split in said.values()), False]
    with pytest.raises(HproError, match=r"sentences\.npy does not exist"):
        known_sentences(packed.parent, pd.Series(["a"]))


def test_hashes_by_hand():
    assert sentence_hashes(["abc"])[0] == 0xBA7816BF8F01CFEA  # FIPS 180-2, example B.1
    assert sentence_hashes([]).dtype == np.uint64


def test_no_dev_or_test_sentence_may_be_known_to_the_base(packed: Path, tmp_path: Path):
    """The base was trained on a, b, c, d and f; here they are train, dev, test, test and judge."""
    root = tmp_path / "run"
    words = ["a", "x", "y", "z", "b", "f", "c", "d", "v", "w"]
    labels = ["train"] * 4 + ["dev", "judge", "test", "test", "test", "dev"]
    write_set(root, "mine", one_set(words=words, split=labels))
    corpus = settings(Path(), max_rejected_fraction=0.3)
    splits.split(root, corpus, packed)
    lost = tables.read_table(root / "corpus/rejected.parquet", tables.REJECTED)
    reason = "the base was trained on this sentence"
    assert lost.values.tolist()[1:] == [
        [f"mine_{index}", "corpus-split", reason] for index in (4, 6, 7)
    ]
    kept = tables.read_table(root / "corpus/utterances.parquet", tables.UTTERANCES)
    assert kept.words.tolist() == ["a", "x", "y", "z", "f", "v", "w"]
    with pytest.raises(HproError, match=r"3 of 10 utterances rejected, more than .* 0\.1 "):
        splits.split(root, settings(Path()), packed)
    splits.split(root, settings(Path()), None)
    assert len(tables.read_table(root / "corpus/utterances.parquet", tables.UTTERANCES)) == 10
