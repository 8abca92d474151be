"""DistillMOS equals its package, however the clips are padded or windowed.

tests/data/distillmos.json has the output of the package distillmos 0.9.1 (xls-r-sqa 0.1.0, torch
2.11) for `clips()`. To record it again, install both packages without their dependencies elsewhere:
`ConvTransformerSQAModel().eval()(torch.from_numpy(clip)[None]).item()` for each clip.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import decode_file, write_wav
from hpro_core.errors import HproError
from hpro_core.judges import distillmos
from hpro_core.judges.apply import Clip, in_batches
from hpro_core.judges.distillmos import HOP, WINDOW, DistillMos, load_distillmos, score
from hpro_core.pretrained.weights import find_weights

REPO = Path(__file__).parents[1]
EXCERPT = REPO / "data" / "raw" / "amazon_queen"
RECORDED = json.loads((REPO / "tests/data/distillmos.json").read_text())


def clips() -> dict[str, np.ndarray]:
    """Two recordings, one of 12 s with six windows, and a robotic voice: a train of pulses."""
    with (EXCERPT / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if 1.5 < float(row["duration_s"]) < 4.0]
    short, other = (decode_file(EXCERPT / rows[i]["audio"]).astype(np.float32) for i in (0, 20))
    pulses = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    pulses[::160] = 0.3
    long = np.tile(np.concatenate([short, other]), 8)[: 12 * SAMPLE_RATE_HZ]
    return {"short": short, "other": other, "long": long, "pulses": pulses}


@pytest.fixture(scope="module")
def network() -> DistillMos:
    torch.set_num_threads(1)
    return load_distillmos(find_weights("distillmos", REPO / "weights"))


@pytest.mark.parametrize("name", RECORDED)
def test_scores_are_those_of_the_package(network: DistillMos, name: str) -> None:
    assert score(network, clips()[name]) == pytest.approx(RECORDED[name], abs=1e-3)


@pytest.mark.parametrize("length", [1, 161, 40_000, 40_080, WINDOW - 18 * HOP, WINDOW - 1, WINDOW])
def test_copied_padding_equals_computed_padding(network: DistillMos, length: int) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    window_1T = torch.from_numpy(np.pad(audio, (0, WINDOW - length)))[None]
    spectrum = distillmos._spectrum(window_1T)
    with torch.inference_mode():
        found = network._convolve(spectrum)
        expected = network.convolutions(spectrum).flatten(1, 2)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_silence_has_a_score(network: DistillMos) -> None:
    assert 1 <= score(network, np.zeros(16_000, np.float32)) <= 5


def test_a_batch_gives_what_single_clips_give(network: DistillMos, tmp_path: Path) -> None:
    every = list(clips().values())
    paths = [tmp_path / f"{i}.wav" for i in range(len(every))]
    for path, clip in zip(paths, every, strict=True):
        write_wav(path, clip)
    waiting = [Clip(p.stem, "", "", (), np.empty((0, 2)), p, "") for p in paths]
    judge = in_batches(lambda audios: [score(network, a) for a in audios], 8, "DistillMOS")
    alone = [judge([clip], tmp_path)[0] for clip in waiting]
    assert judge(waiting, tmp_path) == alone


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"cnn.cnn.0.weight": torch.zeros(1)}}, tmp_path / "distill_mos_v7.pt")
    with pytest.raises(HproError, match=r"distill_mos_v7.pt does not fit the DistillMOS network"):
        load_distillmos(tmp_path)
