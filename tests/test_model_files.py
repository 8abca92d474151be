"""Models on disk: sizes are compared with the weights before memory is taken."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from hpro_core.errors import HproError
from hpro_core.policy.model import PolicyConfig, SpeechLM
from hpro_core.policy.sft import load_policy, save_policy
from hpro_core.pretrained.base import MODELS, unpack_model
from hpro_core.train.checkpoint import load_weights, save_model

REPO = Path(__file__).parents[1]
TINY = PolicyConfig(width=16, blocks=2, heads=2, hidden=32, n_symbols=20, reference_width=8)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_policy(tmp_path, SpeechLM(TINY), variant="sft", seed=0)
    return tmp_path


def changed(folder, **values):
    """The config.json with other sizes; None leaves one out."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["model"] |= values
    config["model"] = {k: v for k, v in config["model"].items() if v is not None}
    path.write_text(json.dumps(config))


def test_a_policy_comes_back_equal(folder):
    torch.manual_seed(0)
    expected = SpeechLM(TINY).state_dict()
    found = load_policy(folder).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"width": 10**9},
            "width is 1000000000, larger than any size of its",
        ),
        ({"hidden": 10**30}, "larger than any size of its weights"),
        ({"blocks": 10**7}, "larger than any size of its weights"),
        ({"width": 6560}, "they need more elements than the weights have"),
        ({"width": -16}, "no model can be built with these sizes"),
        ({"heads": 0}, "no model can be built with these sizes"),
        ({"heads": 3}, "does not fit its config.json"),
        ({"blocks": 3}, "it lacks"),
        ({"hidden": 24}, "does not fit its config.json"),
        ({"width": "16"}, "model.width is '16'"),
        ({"width": [16]}, r"model.width is \[16\]"),
        ({"width": 16.5}, "model.width is 16.5"),
        ({"dropout": float("nan")}, "model.dropout is nan"),
        ({"width": None}, "model.width is missing"),
        ({"depth": 3}, "model.depth is unknown to this version"),
    ],
)
def test_absurd_and_wrong_sizes_are_named(folder, values, says):
    changed(folder, **values)
    with pytest.raises(HproError, match=says) as caught:
        load_policy(folder)
    assert str(folder) in str(caught.value)


def test_models_are_read_without_pytorchs_compiler(tmp_path):
    """Its import takes 1.5 s, in each of some twenty jobs."""
    for model in MODELS:
        unpack_model(REPO / "data/base", model, tmp_path)
    code = """
import sys
from pathlib import Path
from hpro_core.codec.training import load_codec
from hpro_core.judges import affect
from hpro_core.policy.sft import load_policy
from hpro_core.speech.stage import load_tokenizer
from hpro_core.speech.vocoder import load_vocoder

root = Path(sys.argv[1])
load_policy(root / "policy/base"), load_codec(root / "codec/style")
load_tokenizer(root / "speech/tokenizer"), affect.load(root / "judge")
assert load_vocoder(root / "speech/vocoder") is not None
print(*sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, check=True, text=True)
    assert "hpro_core.speech.stage" in run.stdout.split()
    assert "torch._dynamo" not in run.stdout.split()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"policy": "embedded"}', '{"policy": 1, "model": {}}',
                '{"policy": "embedded", "model": []}']
)  # fmt: skip
def test_a_config_of_another_kind_is_named(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(HproError, match=r"config\.json"):
        load_policy(folder)


def test_weights_of_other_names_and_not_finite_ones_are_refused(folder):
    other = torch.nn.Linear(3, 2)
    save_model(folder, other, {})
    with pytest.raises(HproError, match=r"lacks .* \(\d+ such weights\)"):
        load_weights(folder, SpeechLM(TINY))
    with torch.no_grad():
        other.weight[0, 0] = torch.nan
    from safetensors.torch import save

    from hpro_core.train.checkpoint import write_safetensors_bytes

    write_safetensors_bytes(folder / "model.safetensors", save(other.state_dict()))
    with pytest.raises(HproError, match="weight weight is not finite"):
        load_weights(folder, torch.nn.Linear(3, 2))


def test_the_sizes_are_those_that_were_written(folder):
    assert json.loads((folder / "config.json").read_text())["model"] == asdict(TINY)
