"""The authors' model.pt in and out: strict, whole, and refusing what is not it in one line."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from hpro_core.codec import commands
from hpro_core.codec.model import PRESETS, CodecConfig
from hpro_core.codec.released import (
    ORIGIN,
    UnstoredSettings,
    export_codec,
    from_released,
    import_codec,
    to_released,
)
from hpro_core.codec.state_dict_map import UNUSED_ADAPTER, WHISPER_ENCODER, whisper_encoder_names
from hpro_core.codec.training import load_codec, make_codec
from hpro_core.errors import HproError
from hpro_core.train.checkpoint import state_dict_of
from tests.test_codec_whisper import save_whisper

GOLDEN = Path(__file__).parent / "data" / "codec_golden"
HEADS = UnstoredSettings(text_heads=4)


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """A whole state dict of the released class, small."""
    tensors = load_file(GOLDEN / "golden.safetensors")
    return {n.removeprefix("state."): v for n, v in tensors.items() if n.startswith("state.")}


def saved(state: object, folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save(state, path)
    return path


def refusal(call, *arguments) -> str:
    """The message of an error that has to be one line."""
    with pytest.raises(HproError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_name_of_the_class_is_known(released):
    names = json.loads((GOLDEN / "golden.json").read_text())["state_shapes"]
    assert released.keys() == names.keys()
    from_released(released, "model.pt", HEADS)


def test_import_writes_a_folder_that_loads_as_the_reward(released, tmp_path):
    source = saved({**released, "epoch": 3, "step": 1200}, tmp_path)
    codec = import_codec(source, tmp_path / "codec", HEADS)
    again = load_codec(tmp_path / "codec")
    assert not any(weight.requires_grad for weight in again.parameters())
    for name, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    provenance = json.loads((tmp_path / "codec" / "config.json").read_text())["provenance"]
    assert provenance["file"] == "model.pt"
    assert len(provenance["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(provenance)


def test_there_and_back_is_the_same_file(released):
    codec = from_released(released, "model.pt", HEADS)
    encoder = {
        name.removeprefix(WHISPER_ENCODER): value
        for name, value in released.items()
        if name.startswith(WHISPER_ENCODER)
    }
    back = to_released(codec, encoder, "whisper")
    assert back.keys() == released.keys()
    for name, value in released.items():
        twin = name.replace(UNUSED_ADAPTER, "emotion_adapter.")  # never called: a copy will do
        assert torch.equal(back[name], released[twin]), name
        assert back[name].shape == value.shape
    again = from_released(back, "back", HEADS)
    for name, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_whisper_encoder_names_are_transformers(released):
    stored = {n.removeprefix(WHISPER_ENCODER) for n in released if n.startswith(WHISPER_ENCODER)}
    assert whisper_encoder_names(1) == stored


def test_half_precision_is_read_as_float32(released):
    codec = from_released({n: v.half() for n, v in released.items()}, "model.pt", HEADS)
    assert {weight.dtype for weight in codec.parameters()} == {torch.float32}


def test_missing_and_unknown_names_are_listed(released):
    state = dict(released)
    del state["emotion_FSQ_affine_linear.bias"], state["combiner.after_norm.weight"]
    state["spk_embed_affine_layer.weight"] = torch.zeros(2)
    message = refusal(from_released, state, "model.pt", HEADS)
    assert "missing combiner.after_norm.weight, emotion_FSQ_affine_linear.bias" in message
    assert "unknown spk_embed_affine_layer.weight" in message


@pytest.mark.parametrize("name", [
    "emotion_encoder.after_norm.weight",
    WHISPER_ENCODER + "conv1.weight",
    "content_token_encoder.proj_out.weight",
    "content_token_encoder.whisper_model.model.decoder.layer_norm.bias",
])  # fmt: skip
def test_what_is_left_out_has_to_be_there(released, name):
    state = {n: v for n, v in released.items() if n != name}
    assert f"missing {name}" in refusal(from_released, state, "model.pt", HEADS)


def test_a_copy_that_differs_is_an_error(released):
    name = "content_token_encoder.whisper_model.proj_out.weight"
    state = {**released, name: released[name] + 1}
    assert f"{name} differ" in refusal(from_released, state, "model.pt", HEADS)


def test_another_size_is_an_error(released):
    state = {**released, "content_decoupler.after_norm.bias": torch.zeros(33)}
    message = refusal(from_released, state, "model.pt", HEADS)
    assert "content_decoupler.after_norm.bias [33] instead of [32]" in message


def test_another_vocabulary_is_an_error(released):
    state = {**released, "speech_token_embedding.weight": torch.zeros(4096, 32)}
    assert "4096 speech tokens, not the 6561" in refusal(from_released, state, "model.pt", HEADS)


def test_heads_that_do_not_divide_are_an_error(released):
    message = refusal(from_released, released, "model.pt", UnstoredSettings(text_heads=7))
    assert "text_width 48 does not split into 7 heads" in message


def test_another_model_is_an_error(tmp_path):
    path = saved({"llm.weight": torch.zeros(3)}, tmp_path)
    message = refusal(import_codec, path, tmp_path / "codec", UnstoredSettings())
    assert "is no codec of the released class" in message
    assert not (tmp_path / "codec").exists()


class Code:
    """What must not be run."""

    def __reduce__(self):
        return (Path("ran").write_text, ("",))


def test_a_pickle_with_code_is_refused_and_not_run(released, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = saved({**released, "extra": Code()}, tmp_path)
    assert "could run code" in refusal(state_dict_of, path, ORIGIN)
    path.write_bytes(pickle.dumps(Code(), protocol=2))
    assert "not a PyTorch file of version 1.6" in refusal(state_dict_of, path, ORIGIN)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_state_dict_are_refused(released, tmp_path):
    assert "is not a plain file" in refusal(state_dict_of, tmp_path, ORIGIN)
    assert "does not exist" in refusal(state_dict_of, tmp_path / "absent.pt", ORIGIN)
    path = saved([1, 2], tmp_path)
    assert "holds a list" in refusal(state_dict_of, path, ORIGIN)
    path = saved({"model": {"a": torch.zeros(1)}, "epoch": 1}, tmp_path)
    assert "'model' is not a weight" in refusal(state_dict_of, path, ORIGIN)
    path = saved(released, tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    assert "is truncated" in refusal(state_dict_of, path, ORIGIN)
    path.write_bytes(b"")
    assert str(path) in refusal(state_dict_of, path, ORIGIN)
    path.write_text("not a model")
    assert "not a PyTorch file" in refusal(state_dict_of, path, ORIGIN)


def test_a_form_that_the_class_lacks_is_not_exported():
    message = refusal(to_released, make_codec("embedded"), {}, "whisper")
    assert "only a codec of the preset `released` can be exported" in message


def test_an_encoder_that_does_not_fit_is_not_exported(released):
    codec = from_released(released, "model.pt", HEADS)
    assert "conv1.bias" in refusal(to_released, codec, {}, "whisper")


def test_the_command_imports(released, tmp_path):
    source = saved({**released, "epoch": 0, "step": 5}, tmp_path)
    arguments = ["import", str(source), str(tmp_path / "codec"), "--text-heads", "4"]
    result = CliRunner().invoke(commands.released, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "codec" / "model.safetensors").is_file()
    assert "weights from model.pt" in result.output


def test_export_takes_the_encoder_from_a_whisper_folder(released, tmp_path):
    save_whisper(tmp_path / "whisper", width=48)
    codec = from_released(released, "model.pt", HEADS)
    export_codec(codec, tmp_path / "out" / "model.pt", tmp_path / "whisper")
    state = state_dict_of(tmp_path / "out" / "model.pt", ORIGIN)
    again = from_released(state, "model.pt", HEADS)
    assert torch.equal(again.to_tokens.weight, codec.to_tokens.weight)


@pytest.mark.slow
def test_the_released_size_is_recognised():
    """About 245 M weights of ours, and Whisper small's encoder beside them: 4 GB, a minute."""
    torch.manual_seed(0)
    codec = make_codec("released")
    encoder = {name: torch.zeros(768) for name in whisper_encoder_names(12)}
    state = to_released(codec, encoder, "whisper")
    encoders = 2 * (6 + 5 * 19) + 4 * (6 + 3 * 19) + (6 + 8 * 19)
    whisper = (12 * 15 + 7) + 2 * (12 * 24 + 4) + 2
    assert len(state) == encoders + whisper + 30  # tables, heads, affine layers, modulation
    again = from_released(state, "model.pt", UnstoredSettings())
    assert again.config == CodecConfig(**PRESETS["released"], word_edges="truncate")
    for name, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
