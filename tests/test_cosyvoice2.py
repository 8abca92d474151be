"""CosyVoice2's speech tokens and sound: what is refused, and the numbers where packages allow."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import soundfile
import torch
from onnx import TensorProto, helper, numpy_helper

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.speech import cosyvoice2, cosyvoice2_stage
from hpro_core.speech.cosyvoice2 import (
    CamPlus,
    DecoderSizes,
    FlowDecoder,
    Prompt,
    S3Tokenizer,
    check_tokens,
    mel_frames,
    prompt_of,
)
from hpro_core.speech.stage import utterances_to_encode, write_tokens
from hpro_core.synthesis.stage import load_decoder
from hpro_core.tables import SPEECH_TOKENS, UTTERANCES, read_table, write_table

TINY = DecoderSizes(
    encoder_blocks=1,
    encoder_hidden=32,
    estimator_width=64,
    estimator_blocks=1,
    estimator_middle=1,
    vocoder_width=16,
)


def need(module, package):
    """Skip without an optional package."""
    reason = f"the optional package {package} is not installed (docs/cosyvoice2.md)"
    return pytest.importorskip(module, reason=reason)


def tone(seconds, seed=0):
    """A chord with noise at 16 kHz, float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    notes = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(100, 3000, 4))
    return (0.1 * notes + 0.02 * rng.normal(size=len(t))).astype(np.float32)


def made_prompt(n=10, seed=0):
    rng = np.random.default_rng(seed)
    return Prompt(
        rng.integers(0, 6561, n),
        rng.normal(size=(2 * n, 80)).astype(np.float32),
        rng.normal(size=192).astype(np.float32),
    )


@pytest.fixture
def campplus(tmp_path):
    """A stand-in for CAM++ in its format: mean over time, then a projection to 192."""
    matrix = np.random.default_rng(0).normal(size=(80, 192)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "matrix"], ["output"]),
        ],
        "campplus",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, "T", 80])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 192])],
        [
            numpy_helper.from_array(np.array([1]), "axes"),
            numpy_helper.from_array(matrix, "matrix"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "campplus.onnx")
    return tmp_path


class Loud:
    """Stands in for the S3 model: the tokens are the loudness of each 40 ms."""

    def to(self, device):
        return self

    def eval(self):
        return self

    def quantize(self, mel_BMF, frames_B):
        codes = (100 * mel_BMF.mean(1)[:, ::4].abs()).int().clamp(max=6560)
        return codes, (frames_B + 3) // 4


@pytest.fixture
def s3_stand_in(monkeypatch):
    """What is asked of the package s3tokenizer around its model: loudness and padding."""

    def log_mel_spectrogram(audio_T):
        frames = audio_T[: len(audio_T) // 160 * 160].unflatten(0, (-1, 160))
        return frames.abs().mean(-1).expand(128, -1)

    def padding(mels):
        rows = torch.nn.utils.rnn.pad_sequence([mel.T for mel in mels], batch_first=True)
        return rows.mT, torch.tensor([mel.shape[1] for mel in mels])

    package = SimpleNamespace(log_mel_spectrogram=log_mel_spectrogram, padding=padding)
    monkeypatch.setattr(cosyvoice2, "_package", lambda module, name: package)


def test_tokens_outside_the_vocabulary_are_named():
    check_tokens([np.array([0, 6560])], ["a"])
    for token in (-1, 6561):
        with pytest.raises(HproError, match=rf"b: speech token {token} is not in 0..6560"):
            check_tokens([np.array([3]), np.array([5, token])], ["a", "b"])
    with pytest.raises(HproError, match=r"^a has no speech tokens"):
        check_tokens([np.array([], dtype=np.int64)], ["a"])


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (S3Tokenizer.load, "speech_tokenizer_v2.onnx"),
        (lambda folder: CamPlus.load(folder, 1), "campplus.onnx"),
        (FlowDecoder.load, "flow.pt"),
    ],
)
def test_a_missing_file_is_named(tmp_path, load, name):
    with pytest.raises(HproError, match=rf"{name} does not exist: copy it from the CosyVoice2"):
        load(tmp_path)


def test_another_tokenizer_is_refused(tmp_path):
    (tmp_path / "speech_tokenizer_v2.onnx").write_bytes(b"version 1")
    with pytest.raises(HproError, match=r"has sha256 .*, but S3 tokenizer v2 has d43342aa"):
        S3Tokenizer.load(tmp_path)


def test_a_broken_onnx_file_is_refused(tmp_path):
    (tmp_path / "campplus.onnx").write_bytes(b"not a model")
    with pytest.raises(HproError, match=r"campplus.onnx is not an ONNX model"):
        CamPlus.load(tmp_path, 1)


def test_an_onnx_file_that_onnxruntime_cannot_run_is_refused(campplus):
    path = campplus / "campplus.onnx"
    content = path.read_bytes()
    for old, new in ((b"ReduceMean", b"ReduceNone"), (b"matrix", b"matrox"), (b"axes", b"axe\x80")):
        assert old in content
        path.write_bytes(content.replace(old, new, 1))
        with pytest.raises(HproError, match=r"campplus.onnx is not an ONNX model"):
            CamPlus.load(campplus, 1)


def test_a_missing_package_is_named(monkeypatch):
    def absent(module):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(cosyvoice2.importlib, "import_module", absent)
    with pytest.raises(HproError, match=r"s3tokenizer or one that it needs is not installed"):
        S3Tokenizer(Loud()).tokens([tone(1)], ["a"])
    with pytest.raises(HproError, match=r"token2wav-cosyvoice or one that it needs"):
        cosyvoice2.build(TINY)


def test_the_x_vector_is_of_the_centred_energies(campplus):
    audio = tone(1.5)
    vector = CamPlus.load(campplus, 1).x_vector(audio, "a")
    assert vector.shape == (192,)
    # Energies less their mean have mean zero: what is left after the stand-in's mean is rounding.
    assert np.abs(vector).max() < 1e-3
    with pytest.raises(HproError, match=r"^a is 31.0 s long, but the limit is 30 s"):
        CamPlus.load(campplus, 1).x_vector(tone(31), "a")


def test_a_prompt_has_two_mel_frames_per_token():
    audio = tone(1.0)
    assert mel_frames(audio).shape == (50, 80)
    for n_tokens, kept in ((25, 25), (27, 25), (20, 20)):
        prompt = prompt_of(audio, np.arange(n_tokens), np.zeros(192))
        assert len(prompt.tokens) == kept
        assert prompt.mel_FM.shape == (2 * kept, 80)


def test_a_mel_band_responds_to_its_own_tone():
    t = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    bands = [int(mel_frames(np.sin(2 * np.pi * hz * t))[25].argmax()) for hz in (200, 1000, 4000)]
    # Slaney's scale is linear up to 1 kHz and logarithmic above: 0 to 8 kHz over 80 bands.
    assert bands == sorted(bands)
    assert bands[0] in (4, 5)
    assert bands[1] in (26, 27)


class Recorder:
    """Stands in for flow and vocoder: loudness follows the tokens, noise the random numbers."""

    def to(self, device):
        return self

    eval = Loud.eval

    def inference(self, **given):
        if "speech_feat" in given:
            mel = given["speech_feat"]
            return (mel[:, 0].repeat_interleave(480, dim=1) + 1e-3 * torch.randn(1)).clamp(-1, 1), 0
        assert not given["streaming"]
        assert given["finalize"]
        frames = given["token"].float().repeat_interleave(2, dim=1) / 6561
        return frames[:, None].expand(-1, 80, -1), None


def test_sound_depends_on_tokens_and_prompt_alone():
    decoder = FlowDecoder(Recorder(), Recorder())
    rows, prompts = [np.array([5, 6000]), np.array([7])], [made_prompt(3), made_prompt(4)]
    torch.manual_seed(5)
    first = decoder.decode(rows, prompts)
    after = torch.rand(1)
    (alone,) = decoder.decode(rows[1:], prompts[1:])
    assert [len(sound) for sound in first] == [2 * 960, 960]
    assert np.array_equal(first[1], alone)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)  # the caller's random numbers were not used


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(np.array([1]), np.zeros((3, 80)), np.zeros(192)), r"mel frames .* \(3, 80\), but"),
        (
            Prompt(np.array([1]), np.zeros((2, 80)), np.zeros(64)),
            r"x-vector .* \(64,\), but",
        ),
        (Prompt(np.array([1]), np.full((2, 80), np.nan), np.zeros(192)), r"finite numbers"),
        (
            Prompt(np.array([6561]), np.zeros((2, 80)), np.zeros(192)),
            r"the prompt of utterance 0 of the batch: speech token 6561",
        ),
    ],
)
def test_a_wrong_prompt_is_named(prompt, message):
    with pytest.raises(HproError, match=message):
        FlowDecoder(Recorder(), Recorder()).decode([np.array([1])], [prompt])


def test_as_many_prompts_as_sequences():
    with pytest.raises(HproError, match=r"1 token sequences, but 2 prompts"):
        FlowDecoder(Recorder(), Recorder()).decode([np.array([1])], [made_prompt()] * 2)


@pytest.fixture
def run_folder(tmp_path):
    """Three utterances of a run, 16 kHz."""
    rows = []
    for i, seconds in enumerate((1.2, 0.8, 1.0)):
        soundfile.write(tmp_path / f"u{i}.wav", tone(seconds, i), SAMPLE_RATE_HZ)
        rows.append(
            {
                "utt_id": f"u{i}", "corpus": "made", "group": f"g{i}", "speaker": "s",
                "text": "a b", "words": "a b", "audio": f"u{i}.wav", "duration_s": seconds,
                "split": ("train", "test", "judge")[i], "emotion": None, "label": None,
            }
        )  # fmt: skip
    write_table(pd.DataFrame(rows), tmp_path / "corpus/utterances.parquet", UTTERANCES)
    return tmp_path


def test_the_stage_writes_tokens_of_all_but_the_judges_split(run_folder, campplus, s3_stand_in):
    tokenizer, speakers = S3Tokenizer(Loud()), CamPlus.load(campplus, 1)
    wanted = utterances_to_encode(run_folder, None)
    rows = cosyvoice2_stage.encoded(run_folder, wanted, tokenizer, speakers, batch_size=2)
    write_tokens(run_folder, None, wanted, rows)
    table = read_table(run_folder / "speech/speech_tokens.parquet", SPEECH_TOKENS)
    assert table["utt_id"].tolist() == ["u0", "u1"]
    assert [len(t) for t in table["tokens"]] == [30, 20]
    assert [len(v) for v in table["speaker_embedding"]] == [192, 192]


def test_the_stage_names_an_utterance_that_it_cannot_encode(run_folder, campplus, s3_stand_in):
    soundfile.write(run_folder / "u0.wav", tone(31), SAMPLE_RATE_HZ)
    wanted = utterances_to_encode(run_folder, None)
    models = S3Tokenizer(Loud()), CamPlus.load(campplus, 1)
    with pytest.raises(HproError, match=rf"^u0 \({run_folder}/u0\.wav\) is 31.0 s long"):
        list(cosyvoice2_stage.encoded(run_folder, wanted, *models, batch_size=2))


def test_a_run_says_which_decoder_its_tokens_have(run_folder, monkeypatch):
    cosyvoice2_stage.describe(run_folder, Path("models/CosyVoice2-0.5B"))
    seen = []

    def load(folder, device):
        seen.append(str(folder))
        return FlowDecoder(Recorder(), Recorder(), device)

    monkeypatch.setattr(FlowDecoder, "load", load)
    sound_of = load_decoder(run_folder, torch.device("cpu"))
    assert seen == ["models/CosyVoice2-0.5B"]
    reference = SimpleNamespace(
        utt_id="u1", tokens=np.arange(20), speaker_embedding=np.zeros(192, dtype=np.float32)
    )
    (audio,) = sound_of([np.array([3000] * 25)], [reference])
    assert len(audio) == SAMPLE_RATE_HZ  # 25 tokens are a second, at the judges' rate


# Below: against the optional packages themselves.


@pytest.fixture
def s3_model():
    model_v2 = need("s3tokenizer.model_v2", "s3tokenizer")
    torch.manual_seed(0)
    config = model_v2.ModelConfig(n_audio_state=128, n_audio_head=2, n_audio_layer=2)
    return model_v2.S3TokenizerV2("v2", config)


def test_s3_tokens_do_not_depend_on_the_batch(s3_model):
    tokenizer = S3Tokenizer(s3_model)
    clips = [tone(seconds, i) for i, seconds in enumerate((2.0, 0.7, 1.33, 0.31))]
    together = tokenizer.tokens(clips, list("abcd"))
    for clip, tokens in zip(clips, together, strict=True):
        assert np.array_equal(tokenizer.tokens([clip], ["a"])[0], tokens)
        assert abs(len(tokens) / 25 - len(clip) / SAMPLE_RATE_HZ) <= 0.04
        assert tokens.dtype == np.int64
    assert len(np.unique(np.concatenate(together))) > 10
    assert len(tokenizer.tokens([tone(30)], ["a"])[0]) == 750


def test_s3_refuses_what_it_would_cut_or_garble(s3_stand_in):
    tokenizer = S3Tokenizer(Loud())
    assert len(tokenizer.tokens([tone(30)], ["a"])[0]) == 750
    for clip, message in (
        (tone(30.1), r"is 30.1 s long, but the limit is 30 s"),
        (np.zeros((2, 16000), dtype=np.float32), r"is not mono audio \(shape \(2, 16000\)\)"),
        (np.full(16000, np.nan, dtype=np.float32), r"or not finite"),
        (np.zeros(0, dtype=np.float32), r"is not mono audio"),
        (np.zeros(9, dtype=np.float32), r"has no speech tokens"),
    ):
        with pytest.raises(HproError, match=rf"^b .*{message}"):
            tokenizer.tokens([tone(1), clip], ["a", "b"])


def test_s3_mel_is_whispers(s3_model):
    import s3tokenizer
    import whisper

    audio = torch.tensor(tone(1.7))
    theirs = whisper.log_mel_spectrogram(audio, n_mels=128)
    torch.testing.assert_close(s3tokenizer.log_mel_spectrogram(audio), theirs)


@pytest.fixture
def upstream():
    return need("cosyvoice.cli.model", "token2wav-cosyvoice")


def sound_models(seed=0):
    flow, vocoder = cosyvoice2.build(TINY)
    torch.manual_seed(seed)
    for model in (flow, vocoder):
        for value in model.parameters():
            torch.nn.init.normal_(value, std=0.05)
    return flow, vocoder


def test_building_leaves_every_random_number_as_it_was(upstream):
    def numbers():
        return torch.rand(1).item(), np.random.rand(), random.random()

    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    expected = numbers()
    torch.random.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    cosyvoice2.build(TINY)
    assert numbers() == expected


def test_sound_is_upstreams(upstream):
    flow, vocoder = sound_models()
    theirs = upstream.CosyVoice2Model(None, flow.eval(), vocoder.eval())
    theirs.device = torch.device("cpu")
    theirs.hift_cache_dict["one"] = None
    prompt, tokens = made_prompt(12), np.random.default_rng(1).integers(0, 6561, 30)
    (ours,) = FlowDecoder(flow, vocoder).decode([tokens], [prompt])
    torch.manual_seed(0)
    with torch.no_grad():
        expected = theirs.token2wav(
            torch.tensor(tokens)[None],
            torch.tensor(prompt.tokens)[None],
            torch.tensor(prompt.mel_FM)[None],
            torch.tensor(prompt.x_vector)[None],
            token_offset=0,
            uuid="one",
            finalize=True,
        )
    torch.testing.assert_close(torch.tensor(ours), expected[0])
    assert len(ours) == 30 * 960
    assert np.abs(ours).max() <= 1
    assert ours.std() > 1e-4


def test_mel_frames_are_upstreams(upstream):
    audio_tools = need("matcha.utils.audio", "token2wav-cosyvoice")
    from torchaudio.transforms import Resample

    audio = tone(1.3)
    wave = Resample(16_000, 24_000)(torch.tensor(audio))[None]
    theirs = audio_tools.mel_spectrogram(wave, 1920, 80, 24_000, 480, 1920, 0, 8000, center=False)
    torch.testing.assert_close(torch.tensor(mel_frames(audio)), theirs[0].T, atol=1e-4, rtol=1e-4)


def test_the_x_vector_is_upstreams(upstream, campplus):
    frontend = need("cosyvoice.cli.frontend", "token2wav-cosyvoice")
    audio = tone(1.1)
    session = onnxruntime.InferenceSession(campplus / "campplus.onnx")
    stand_in = SimpleNamespace(campplus_session=session, device="cpu")
    theirs = frontend.CosyVoiceFrontEnd._extract_spk_embedding(stand_in, torch.tensor(audio)[None])
    ours = CamPlus(session).x_vector(audio, "a")
    np.testing.assert_allclose(ours, theirs[0].numpy(), atol=1e-5)


@pytest.fixture
def sound_folder(upstream, tmp_path):
    flow, vocoder = sound_models()
    torch.save(flow.state_dict() | {"epoch": 1, "step": 2}, tmp_path / "flow.pt")
    state = {f"generator.{name}": value for name, value in vocoder.state_dict().items()}
    torch.save(state, tmp_path / "hift.pt")
    return tmp_path


def test_weights_come_from_the_files_strictly(sound_folder):
    decoder = FlowDecoder.load(sound_folder, sizes=TINY)
    prompt, tokens = made_prompt(6), np.arange(8)
    (loaded,) = decoder.decode([tokens], [prompt])
    (expected,) = FlowDecoder(*sound_models()).decode([tokens], [prompt])
    assert np.array_equal(loaded, expected)
    with pytest.raises(HproError, match=r"flow.pt does not fit CosyVoice2-0.5B: Error"):
        FlowDecoder.load(sound_folder)
    weights = torch.load(sound_folder / "hift.pt", weights_only=True)
    del weights["generator.conv_post.bias"]
    torch.save(weights, sound_folder / "hift.pt")
    with pytest.raises(HproError, match=r"hift.pt does not fit .*Missing key.*conv_post.bias"):
        FlowDecoder.load(sound_folder, sizes=TINY)
    torch.save({"a": SimpleNamespace()}, sound_folder / "flow.pt")
    with pytest.raises(
        HproError, match=r"flow.pt is no PyTorch file or holds objects that could run code"
    ):
        FlowDecoder.load(sound_folder, sizes=TINY)


@pytest.mark.slow
def test_full_size_flow_and_vocoder_make_sound(upstream):
    decoder = FlowDecoder(*cosyvoice2.build(DecoderSizes()))
    (sound,) = decoder.decode([np.arange(50)], [made_prompt(25)])
    assert len(sound) == 50 * 960
    assert np.isfinite(sound).all()
