"""One step of each training: at a size for tests, and at the paper's (slow)."""

import math
from pathlib import Path

import pytest
import torch

from hpro_core.benchmark import FULL_SIZE, TRAININGS, Workload, measure, random_batch
from hpro_core.codec.model import CodecConfig
from hpro_core.params import Reward, read_section
from hpro_core.policy.cosyvoice2 import CosyVoice2Config

SETTINGS = Path(__file__).parents[1] / "params.yaml"
SMALL = Workload(
    CosyVoice2Config(width=32, blocks=2, heads=4, key_heads=2, hidden=64, vocabulary=100),
    CodecConfig(
        width=32, extractor_blocks=1, adapter_blocks=1, heads=4, hidden=64, combiner_blocks=1,
        combiner_heads=4, combiner_hidden=64, emotion_heads=4, text_vocabulary=50, text_width=32,
        text_blocks=1, text_heads=2, text_hidden=64,
    ),
    utterances=2,
    duration_s=2.0,
)  # fmt: skip


def test_the_batch_is_as_long_as_it_says():
    batch = random_batch(SMALL)
    assert batch.tokens_BL.shape == (2, 50)
    assert int(batch.spans_BW2.max()) <= 50
    assert int(batch.transcript_BJ.max()) < SMALL.codec.text_vocabulary


@pytest.mark.parametrize("training", TRAININGS)
def test_a_small_step_is_measured(training):
    cost = measure(training, SMALL, read_section(SETTINGS, "reward", Reward), "cpu", 1, steps=1)
    assert math.isfinite(cost.last_loss)
    assert cost.last_loss != cost.first_loss
    assert cost.tflop_per_step > 0
    assert cost.mfu is None


@pytest.mark.slow
@pytest.mark.parametrize("training", TRAININGS)
def test_full_size_step_on_cpu(training):
    """Also a bound on memory: 24 GB, policy, reference, codec and Adam's moments together."""
    reward = read_section(SETTINGS, "reward", Reward)
    cost = measure(training, FULL_SIZE, reward, "cpu", torch.get_num_threads(), steps=1)
    assert math.isfinite(cost.last_loss)
    assert cost.peak_memory_gb < 24
