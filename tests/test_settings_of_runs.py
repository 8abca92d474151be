"""The measured runs keep their sizes, however small the default becomes."""

from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from hpro_core.params import Params, read_yaml
from hpro_core.plan.settings import without_null_sets

REPO = Path(__file__).parents[1]
RECORDED = Path(__file__).parent / "data" / "resolved_settings"

ADDED = {
    ("reward", "dev_evaluations"): 3,
    ("reward", "dev_sentences"): 48,
    ("evaluate", "asr_windows_s"): [20, 30],
    **{("evaluate", judge): "" for judge in ("utmos", "nisqa", "scoreq")},
    ("controlled", "drawn_voices"): 0,
    ("controlled", "text_renderings"): 1,
    ("speech", "voice_spread"): 0.0,
    ("speech", "channel_spread"): 0.0,
}
"""Settings that were constants in the code when the files were recorded, with their values then."""
OF_BASE = {
    ("controlled", "drawn_voices"): 200,
    ("controlled", "text_renderings"): 2,
    ("speech", "voice_spread"): 0.1,
    ("speech", "channel_spread"): 0.3,
}
"""The same of the base that is made now."""
ROUNDING = {("synthesis", "batch_size"): (32, 84)}
"""Settings that change no number but by rounding: what was recorded, and what is set now."""


def resolved(name: str) -> dict:
    settings = read_yaml(REPO / "params.yaml")
    update_config(settings, read_yaml(REPO / "config" / f"{name}.yaml"))
    return settings


@pytest.mark.parametrize("name", ["claims", "base", "acted", "paper"])
def test_a_measured_run_has_the_settings_that_it_was_measured_with(name: str) -> None:
    expected = yaml.safe_load((RECORDED / f"{name}.yaml").read_text(encoding="utf-8"))
    added = ADDED | OF_BASE if name == "base" else ADDED
    for (section, key), value in added.items():
        assert key not in expected[section]
        expected[section][key] = value
    for (section, key), (then, now) in ROUNDING.items():
        assert expected[section][key] == then
        expected[section][key] = now
    assert "external" not in expected
    expected["external"] = {}  # none was judged
    assert "vocoder" not in expected  # those runs had Griffin-Lim only
    expected["vocoder"] = resolved(name)["vocoder"]
    assert "tracking" not in expected  # no result depends on it
    expected["tracking"] = resolved(name)["tracking"]
    assert resolved(name) == expected


def test_the_tiny_run_is_valid_and_smaller_than_the_default() -> None:
    settings = resolved("tiny")
    settings |= without_null_sets(settings)
    tiny = Params.model_validate(settings)
    default = Params.model_validate(read_yaml(REPO / "params.yaml"))
    for small, large in (
        (tiny.controlled.train, default.controlled.train),
        (tiny.sft.steps, default.sft.steps),
        (tiny.reward.steps, default.reward.steps),
        (len(tiny.tables.comparison), len(default.tables.comparison)),
    ):
        assert small < large
    assert list(tiny.corpus.sets) == ["controlled"]
