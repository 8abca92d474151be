"""Both stages of the codec as they are run: reproducible, frozen where they should be, checked."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hpro_core.codec.model import PRESETS, CodecConfig
from hpro_core.codec.training import (
    check_text,
    check_words,
    load_codec,
    train_content,
    train_style,
)
from hpro_core.errors import HproError
from hpro_core.params import Codec, CodecStage
from tests.results import run_in, write_dataset

SETTINGS = Codec(
    preset="embedded", checkpoint="", whisper="", content=CodecStage(steps=2),
    style=CodecStage(steps=2), batch_size=4, learning_rate=1e-3, guided_attention_weight=0.3,
    token_noise=0.3, decay_fraction=0.3, ema=0.9, seed=3,
)  # fmt: skip


def both_stages(examples, folder):
    links = {f"codec/{stage}": folder / stage for stage in ("content", "style")}
    run = run_in(folder / "results", folder / "work_a", links)
    write_dataset(run.root, examples[:6], examples[6:])
    train_content(run, SETTINGS)
    train_style(replace(run, work=folder / "work_b"), SETTINGS)
    return [load_file(folder / stage / "model.safetensors") for stage in ("content", "style")]


def test_a_seed_makes_the_same_codec_whatever_came_before(examples, tmp_path):
    torch.manual_seed(1)
    first = both_stages(examples, tmp_path / "a")
    torch.manual_seed(2)
    second = both_stages(examples, tmp_path / "b")
    for ours, theirs in zip(first, second, strict=True):
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_stage_b_leaves_the_content_branch_alone_and_trains_the_rest(examples, tmp_path):
    content, style = both_stages(examples, tmp_path)
    frozen = ("embedding.", "content_extractor.", "content_adapter.", "text_decoder.")
    moved = {name.split(".")[0] for name in content if not torch.equal(content[name], style[name])}
    assert not any(part.startswith(tuple(f.rstrip(".") for f in frozen)) for part in moved)
    assert {"style_extractor", "emotion_head", "word_vad_head", "combiner"} <= moved
    assert not list((tmp_path / "work_b").glob("*"))


@pytest.mark.parametrize(
    ("config", "says"),
    [({"model": {"blocks": 2}}, "model.blocks is unknown"), ({"kind": "x"}, "has no 'model'")],
)
def test_a_folder_of_something_else_is_no_codec(tmp_path, config, says):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(HproError, match=says):
        load_codec(tmp_path)


def test_an_utterance_whose_words_cover_no_frame_is_named(examples):
    config = CodecConfig(**PRESETS["embedded"])
    short = replace(examples[0], spans_s=np.array([[0.05, 0.07]]), vad=np.full((1, 3), 0.5))
    check_words([short], config)
    with pytest.raises(HproError, match=r"made_0: none of its 1 words covers a frame of 40 ms"):
        check_words([short], replace(config, word_edges="truncate"))


@pytest.mark.parametrize("marks", [(50257, 50362, 50256), (50258, 50364, 50257)])
def test_a_whisper_with_other_marks_is_refused(examples, marks):
    config = CodecConfig(**PRESETS["released"])
    right = replace(examples[0], transcript=np.array([50258, 50363, 9906, 50257]))
    check_text([right], config, 0.0)
    begin, no_timestamps, end = marks
    wrong = replace(right, transcript=np.array([begin, no_timestamps, 9906, end]))
    with pytest.raises(HproError, match=r"made_0: its transcript lacks the special tokens \[50257"):
        check_text([wrong], config, 0.0)
