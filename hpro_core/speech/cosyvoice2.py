"""CosyVoice2's speech tokenizer and token decoder, with published code and user-supplied weights.

The package `s3tokenizer` (S3 tokenizer v2) encodes audio to tokens. The flow and the HiFT vocoder
of the package `token2wav-cosyvoice` decode tokens to audio, without streaming. Both packages are
optional. The weights are those of a CosyVoice2-0.5B folder: speech_tokenizer_v2.onnx,
campplus.onnx, flow.pt, hift.pt.

Letters: B batch, L speech token, F = 2 L mel frame at 50 Hz, M = 80 mel band, T sample.
"""

import importlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpro_core.constants import N_SPEECH_TOKENS, SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import reason_of, sha256_of
from hpro_core.train.checkpoint import state_dict_of

ORIGIN = "the model folder CosyVoice2-0.5B"
"""Source of the files, for error messages."""

KIND = "cosyvoice2"
"""Value of `kind` in speech/tokenizer/config.json of a run with these tokens."""

VOCODER_RATE_HZ = 24_000
"""Sampling rate of the vocoder's output."""

FRAMES_PER_TOKEN = 2
MAX_DURATION_S = 30
"""Longest input of S3 tokenizer v2, in seconds."""

X_VECTOR_SIZE = 192
_MELS = 80
_FFT, _HOP = 1920, 480
TOKENIZER_SHA256 = "d43342aa12163a80bf07bffb94c9de2e120a8df2f9917cd2f642e7f4219c6f71"


class S3Tokenizer:
    """S3 tokenizer v2: 16 kHz audio to speech tokens at 25 Hz."""

    def __init__(self, model: Any, device: torch.device | str = "cpu"):
        """`model`: an s3tokenizer.S3TokenizerV2; it is moved to the device, in eval mode."""
        self.model = model.to(device).eval()
        self.device = torch.device(device)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "S3Tokenizer":
        """Load the published tokenizer, speech_tokenizer_v2.onnx of a CosyVoice2 folder.

        Raises:
            HproError: the package or the file is missing, or the SHA-256 of the file differs.
        """
        path = _file(folder, "speech_tokenizer_v2.onnx")
        found = sha256_of(path)
        if found != TOKENIZER_SHA256:
            raise HproError(
                f"{path} has sha256 {found}, but S3 tokenizer v2 has {TOKENIZER_SHA256}: "
                "use the file of CosyVoice2-0.5B"
            )
        model = _package("s3tokenizer", "s3tokenizer").S3TokenizerV2("speech_tokenizer_v2_25hz")
        model.init_from_onnx(str(path))
        return cls(model, device)

    @torch.no_grad()
    def tokens(self, audios: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Encode audio clips; the tokens of a clip do not depend on the other clips.

        Args:
            audios: float32 (T,) each, 16 kHz mono in [-1, 1], at most 30 s.
            names: names of the clips, for messages.

        Returns:
            int64 (L,) each, in 0..6560.

        Raises:
            HproError: a clip is empty, too long, too short for a token or not finite.
        """
        package = _package("s3tokenizer", "s3tokenizer")
        for audio, name in zip(audios, names, strict=True):
            _check_audio(audio, name)
        mels = [package.log_mel_spectrogram(torch.tensor(a, dtype=torch.float32)) for a in audios]
        mel_BMF, frames_B = package.padding(mels)
        codes_BL, lengths_B = self.model.quantize(mel_BMF.to(self.device), frames_B.to(self.device))
        rows = zip(codes_BL.cpu().numpy(), lengths_B.tolist(), strict=True)
        tokens = [row[:length].astype(np.int64) for row, length in rows]
        check_tokens(tokens, names)
        return tokens


class CamPlus:
    """CAM++ speaker encoder: one x-vector per utterance."""

    def __init__(self, session: Any):
        """`session`: an onnxruntime.InferenceSession of campplus.onnx."""
        self.session = session

    @classmethod
    def load(cls, folder: Path, threads: int) -> "CamPlus":
        """Load campplus.onnx of a CosyVoice2 folder, to run on `threads` CPU threads.

        Raises:
            HproError: the file is missing or is not an ONNX model.
        """
        import onnxruntime

        path = _file(folder, "campplus.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        try:
            return cls(onnxruntime.InferenceSession(path, options, providers=providers))
        except Exception as error:  # onnxruntime has a type for each kind of broken file
            raise HproError(f"{path} is not an ONNX model: {reason_of(error)}") from error

    def x_vector(self, audio_T: np.ndarray, name: str) -> np.ndarray:
        """Compute the x-vector of a clip from mean-normalised log-mel energies, float32 (192,).

        Args:
            audio_T: float32, 16 kHz mono in [-1, 1], at most 30 s.
            name: name of the clip, for messages.

        Raises:
            HproError: the clip is empty, too long or not finite.
        """
        from torchaudio.compliance import kaldi

        _check_audio(audio_T, name)
        wave_1T = torch.tensor(audio_T, dtype=torch.float32)[None]
        fbank = kaldi.fbank(wave_1T, num_mel_bins=_MELS, dither=0, sample_frequency=SAMPLE_RATE_HZ)
        fbank = (fbank - fbank.mean(dim=0, keepdim=True)).numpy()[None]
        (vector,) = self.session.run(None, {self.session.get_inputs()[0].name: fbank})
        return np.asarray(vector, dtype=np.float32).ravel()


@dataclass(frozen=True)
class Prompt:
    """A reference utterance as input of the flow, which continues it in the same voice."""

    tokens: np.ndarray  # int64 (L,)
    mel_FM: np.ndarray  # float32 (2 L, 80), of the same audio
    x_vector: np.ndarray  # float32 (192,)


def prompt_of(audio_T: np.ndarray, tokens: np.ndarray, x_vector: np.ndarray) -> Prompt:
    """Build a prompt; tokens and mel frames are cut to the same length, as in upstream.

    Args:
        audio_T: reference audio, float32, 16 kHz mono.
        tokens: its speech tokens, integer (L,).
        x_vector: its CAM++ speaker embedding, (192,).

    Raises:
        HproError: the audio is empty, too long or not finite.
    """
    _check_audio(audio_T, "the reference")
    mel_FM = mel_frames(audio_T)
    length = min(len(mel_FM) // FRAMES_PER_TOKEN, len(tokens))
    return Prompt(
        np.asarray(tokens[:length], dtype=np.int64),
        mel_FM[: FRAMES_PER_TOKEN * length],
        np.asarray(x_vector, dtype=np.float32),
    )


def mel_frames(audio_T: np.ndarray) -> np.ndarray:
    """Compute the log-mel frames of CosyVoice2's flow, float32 (F, 80) at 50 Hz.

    The audio, 16 kHz mono, is resampled to 24 kHz first, as in upstream.
    """
    import librosa
    from torchaudio.functional import resample

    wave_T = resample(torch.tensor(audio_T, dtype=torch.float32), SAMPLE_RATE_HZ, VOCODER_RATE_HZ)
    edge = (_FFT - _HOP) // 2
    padded = nn.functional.pad(wave_T[None], (edge, edge), mode="reflect")[0]
    window = torch.hann_window(_FFT)
    spectrum = torch.stft(padded, _FFT, _HOP, window=window, center=False, return_complex=True)
    magnitude = (spectrum.abs().square() + 1e-9).sqrt()
    filters = librosa.filters.mel(sr=VOCODER_RATE_HZ, n_fft=_FFT, n_mels=_MELS, fmin=0, fmax=8000)
    mel_MF = torch.from_numpy(filters).float() @ magnitude
    return mel_MF.clamp(min=1e-5).log().T.contiguous().numpy()


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of flow and vocoder; the defaults are those of CosyVoice2-0.5B (its cosyvoice2.yaml).

    The chunk sizes in that file affect streaming only.
    """

    encoder_blocks: int = 6
    encoder_hidden: int = 2048
    estimator_width: int = 256
    estimator_blocks: int = 4
    estimator_middle: int = 12
    vocoder_width: int = 512


class FlowDecoder:
    """Flow and vocoder: speech tokens to 24 kHz audio in the voice of a reference."""

    def __init__(self, flow: Any, vocoder: Any, device: torch.device | str = "cpu"):
        """`flow`, `vocoder`: upstream's; both are moved to the device, in eval mode."""
        self.flow = flow.to(device).eval()
        self.vocoder = vocoder.to(device).eval()
        self.device = torch.device(device)

    @classmethod
    def load(
        cls, folder: Path, device: torch.device | str = "cpu", sizes: DecoderSizes | None = None
    ) -> "FlowDecoder":
        """Load flow.pt and hift.pt of a CosyVoice2 folder; `sizes` default to those of the 0.5B.

        Raises:
            HproError: the package or a file is missing, a file contains code, or a weight is
                missing, unexpected or of another shape.
        """
        flow_path, vocoder_path = _file(folder, "flow.pt"), _file(folder, "hift.pt")
        flow, vocoder = build(sizes or DecoderSizes())
        _fill(flow, state_dict_of(flow_path, ORIGIN), flow_path)
        # Upstream's loader drops the prefix too: the vocoder is a submodule in its GAN training.
        named = state_dict_of(vocoder_path, ORIGIN)
        weights = {name.replace("generator.", ""): value for name, value in named.items()}
        _fill(vocoder, weights, vocoder_path)
        return cls(flow, vocoder, device)

    def decode(self, tokens: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> list[np.ndarray]:
        """Decode token sequences to audio, each as a function of its tokens and prompt only.

        Args:
            tokens: one integer array (L,) per utterance, each id in 0..6560, L at least 1.
            prompts: prompt of each utterance.

        Returns:
            float32 (960 L,) per utterance in [-1, 1], 24 kHz.

        Raises:
            HproError: an utterance has no tokens or one outside 0..6560, a prompt has wrong shapes
                or is not finite, or the numbers of sequences and prompts differ.
        """
        if len(tokens) != len(prompts):
            raise HproError(f"{len(tokens)} token sequences, but {len(prompts)} prompts")
        names = [f"utterance {i} of the batch" for i in range(len(tokens))]
        check_tokens(tokens, names)
        check_tokens([p.tokens for p in prompts], [f"the prompt of {name}" for name in names])
        for i, prompt in enumerate(prompts):
            _check_prompt(prompt, i)
        return [self._sound(*pair) for pair in zip(tokens, prompts, strict=True)]

    @torch.no_grad()
    def _sound(self, tokens_L: np.ndarray, prompt: Prompt) -> np.ndarray:
        token_1L, prompt_1L = (self._row(t, torch.int32) for t in (tokens_L, prompt.tokens))
        mel_1FM = self._row(prompt.mel_FM, torch.float32)
        with _own_randomness():  # the vocoder's noise
            mel_1MF, _ = self.flow.inference(
                token=token_1L,
                token_len=self._length(token_1L),
                prompt_token=prompt_1L,
                prompt_token_len=self._length(prompt_1L),
                prompt_feat=mel_1FM,
                prompt_feat_len=self._length(mel_1FM),
                embedding=self._row(prompt.x_vector, torch.float32),
                streaming=False,
                finalize=True,
            )
            sound_1T, _ = self.vocoder.inference(speech_feat=mel_1MF)
        return sound_1T[0].float().cpu().numpy()

    def _row(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self.device)[None]

    def _length(self, row: Tensor) -> Tensor:
        return torch.tensor([row.shape[1]], dtype=torch.int32, device=self.device)


def build(sizes: DecoderSizes) -> tuple[Any, Any]:
    """Build upstream's flow and vocoder with random weights; random states are not changed."""
    with _own_randomness():  # the flow reseeds every generator when it is built
        return _flow(sizes), _vocoder(sizes)


def _flow(sizes: DecoderSizes) -> Any:
    encoder = _upstream("transformer.upsample_encoder").UpsampleConformerEncoder(
        input_size=512, output_size=512, attention_heads=8, linear_units=sizes.encoder_hidden,
        num_blocks=sizes.encoder_blocks, dropout_rate=0.1, positional_dropout_rate=0.1,
        attention_dropout_rate=0.1, normalize_before=True, input_layer="linear",
        pos_enc_layer_type="rel_pos_espnet", selfattention_layer_type="rel_selfattn",
        use_cnn_module=False, macaron_style=False,
    )  # fmt: skip
    estimator = _upstream("flow.decoder").CausalConditionalDecoder(
        in_channels=4 * _MELS, out_channels=_MELS, channels=[sizes.estimator_width], dropout=0.0,
        attention_head_dim=64, n_blocks=sizes.estimator_blocks,
        num_mid_blocks=sizes.estimator_middle, num_heads=8, act_fn="gelu",
    )  # fmt: skip
    settings = _package("omegaconf", "token2wav-cosyvoice").DictConfig(
        dict(
            sigma_min=1e-6, solver="euler", t_scheduler="cosine", training_cfg_rate=0.2,
            inference_cfg_rate=0.7, reg_loss_type="l1",
        )
    )  # fmt: skip
    matching = _upstream("flow.flow_matching").CausalConditionalCFM(
        in_channels=3 * _MELS, cfm_params=settings, n_spks=1, spk_emb_dim=_MELS, estimator=estimator
    )
    return _upstream("flow.flow").CausalMaskedDiffWithXvec(
        input_size=512, output_size=_MELS, spk_embed_dim=X_VECTOR_SIZE, output_type="mel",
        vocab_size=N_SPEECH_TOKENS, input_frame_rate=25, only_mask_loss=True,
        token_mel_ratio=FRAMES_PER_TOKEN, pre_lookahead_len=3, encoder=encoder, decoder=matching,
    )  # fmt: skip


def _vocoder(sizes: DecoderSizes) -> Any:
    pitch = _upstream("hifigan.f0_predictor").ConvRNNF0Predictor(
        num_class=1, in_channels=_MELS, cond_channels=sizes.vocoder_width
    )
    dilations = [[1, 3, 5]] * 3
    return _upstream("hifigan.generator").HiFTGenerator(
        in_channels=_MELS, base_channels=sizes.vocoder_width, nb_harmonics=8,
        sampling_rate=VOCODER_RATE_HZ, nsf_alpha=0.1, nsf_sigma=0.003, nsf_voiced_threshold=10,
        upsample_rates=[8, 5, 3], upsample_kernel_sizes=[16, 11, 7],
        istft_params={"n_fft": 16, "hop_len": 4}, resblock_kernel_sizes=[3, 7, 11],
        resblock_dilation_sizes=dilations, source_resblock_kernel_sizes=[7, 7, 11],
        source_resblock_dilation_sizes=dilations, lrelu_slope=0.1, audio_limit=0.99,
        f0_predictor=pitch,
    )  # fmt: skip


def check_tokens(rows: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Check that every row, integers (L,), has tokens and all are speech tokens.

    Raises:
        HproError: a row has no tokens, or one outside 0..6560.
    """
    for row, name in zip(rows, names, strict=True):
        if not len(row):
            raise HproError(f"{name} has no speech tokens")
        outside = [token for token in row if not 0 <= token < N_SPEECH_TOKENS]
        if outside:
            raise HproError(
                f"{name}: speech token {outside[0]} is not in 0..{N_SPEECH_TOKENS - 1}: remove the "
                "special tokens of a policy before decoding"
            )


def _fill(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise HproError(f"{path} does not fit CosyVoice2-0.5B: {reason_of(error)}") from error


def _check_audio(audio_T: np.ndarray, name: str) -> None:
    if np.ndim(audio_T) != 1 or not len(audio_T) or not np.isfinite(audio_T).all():
        raise HproError(
            f"{name} is not mono audio (shape {np.shape(audio_T)}), or not finite: run the corpus "
            "stage again"
        )
    seconds = len(audio_T) / SAMPLE_RATE_HZ
    if seconds > MAX_DURATION_S:
        raise HproError(
            f"{name} is {seconds:.1f} s long, but the limit is {MAX_DURATION_S} s: shorten it"
        )


def _check_prompt(prompt: Prompt, i: int) -> None:
    frames = (FRAMES_PER_TOKEN * len(prompt.tokens), _MELS)
    for name, value, shape in (
        ("mel frames", prompt.mel_FM, frames),
        ("x-vector", prompt.x_vector, (X_VECTOR_SIZE,)),
    ):
        if np.shape(value) != shape or not np.isfinite(value).all():
            raise HproError(
                f"utterance {i} of the batch: {name} of the prompt have shape {np.shape(value)}, "
                f"but {shape} finite numbers are expected: build the prompt with prompt_of"
            )


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Seed the torch generators with 0 inside the context; restore all random states after it."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise HproError(f"{path} does not exist: copy it from the CosyVoice2-0.5B model folder")
    return path


def _upstream(module: str) -> ModuleType:
    return _package(f"cosyvoice.{module}", "token2wav-cosyvoice")


def _package(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise HproError(
            f"the optional package {name} or one that it needs is not installed ({error.name}): "
            "see docs/cosyvoice2.md"
        ) from error
