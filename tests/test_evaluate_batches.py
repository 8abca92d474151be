"""What judges do together, or without a package's help, equals the straightforward way."""

import csv
import subprocess
import sys
from pathlib import Path

import ctranslate2
import librosa
import numpy as np
import onnxruntime
import pytest
import torch
import whisper
from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

from hpro_core import params as p
from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import decode_file, write_wav
from hpro_core.errors import HproError
from hpro_core.judges import apply, asr, dnsmos
from hpro_core.judges.apply import Clip, in_batches, load_recogniser
from hpro_core.judges.asr import BASE, TINY_EN, DecodingOptions, WhisperASR, padded_mel
from hpro_core.judges.mel import mel_filters, mel_spectrogram
from hpro_core.judges.speaker import embed_batch, load_encoder
from hpro_core.judges.whisper_parts import log_mel, normalisers
from hpro_core.pretrained.weights import find_weights

REPO = Path(__file__).parents[1]
EXCERPT = REPO / "data" / "raw" / "amazon_queen"
WEIGHTS = REPO / "weights"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Four clips of 1 to 5 s, one of 12 s, and noise."""
    with (EXCERPT / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if 1.0 < float(row["duration_s"]) < 5.0]
    spoken = [decode_file(EXCERPT / row["audio"]).astype(np.float32) for row in rows[:40:10]]
    noise = np.random.default_rng(0).normal(0, 0.1, 6000).astype(np.float32)
    return [*spoken, np.tile(spoken[2], 20)[: 12 * SAMPLE_RATE_HZ], noise]


# --- spectra


@pytest.mark.parametrize(("n_fft", "n_mels"), [(400, 40), (1024, 64)])
def test_mel_filters_are_librosas(n_fft: int, n_mels: int) -> None:
    expected = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=n_fft, n_mels=n_mels)
    np.testing.assert_allclose(mel_filters(n_fft, n_mels), expected, atol=1e-7)
    assert expected.max() > 1e-2


@pytest.mark.full  # librosa compiles itself when it is first imported: 17 s
@pytest.mark.parametrize(
    ("n_fft", "window", "n_mels", "power"), [(400, 400, 40, 2.0), (1024, 640, 64, 1.0)]
)
def test_mel_spectra_are_librosas(
    clips: list[np.ndarray], n_fft: int, window: int, n_mels: int, power: float
) -> None:
    for clip in (*clips[:2], clips[0][:1000], np.zeros(4000, np.float32)):
        found = mel_spectrogram(clip, n_fft, window, 160, n_mels, power)
        expected = librosa.feature.melspectrogram(
            y=clip, sr=SAMPLE_RATE_HZ, n_fft=n_fft, win_length=window, hop_length=160,
            n_mels=n_mels, power=power,
        )  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * max(expected.max(), 1))


@pytest.mark.parametrize("n_mels", [80, 128])
def test_whispers_spectrum_bit_for_bit(clips: list[np.ndarray], n_mels: int) -> None:
    expected = whisper.log_mel_spectrogram(clips[0], n_mels=n_mels).numpy()
    np.testing.assert_array_equal(log_mel(clips[0], n_mels), expected)


def test_normalisers_are_whispers() -> None:
    texts = ("Hmm... I won't pay Mr. King $20, the colour's £3.50!", "Uh, two hundred and one", "é")
    for found, expected in zip(
        normalisers(), (EnglishTextNormalizer(), BasicTextNormalizer()), strict=True
    ):
        assert [found(text) for text in texts] == [expected(text) for text in texts]


# --- recognisers


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "options"), [("whisper_tiny_en", TINY_EN), ("whisper_base", BASE)]
)
def test_texts_of_a_batch_are_those_of_one_by_one(
    clips: list[np.ndarray], name: str, options: DecodingOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other way: encoder and decoder in one call per clip, its own cap, one hypothesis."""
    recogniser = WhisperASR(find_weights(name, WEIGHTS), 1, options)
    uncut = [_alone(recogniser, clip, options) for clip in clips]
    assert recogniser.transcribe_batch(clips) == uncut
    assert [recogniser.transcribe(clip) for clip in clips[:2]] == uncut[:2]
    # So tight a cap changes texts, and the cap of a batch is another one.
    monkeypatch.setattr(asr, "TOKENS_PER_S", 3)
    monkeypatch.setattr(asr, "SPARE_TOKENS", 4)
    cut = [_alone(recogniser, clip, options) for clip in clips]
    assert sum(first != second for first, second in zip(cut, uncut, strict=True)) >= 2
    assert recogniser.transcribe_batch(clips) == cut
    assert recogniser.transcribe_batch(clips[::-1]) == cut[::-1]
    monkeypatch.setattr(WhisperASR, "_ended_before", lambda self, most, hypotheses: True)
    assert recogniser.transcribe_batch(clips) != cut


def _alone(recogniser: WhisperASR, clip: np.ndarray, options: DecodingOptions) -> str:
    window_s = next(s for s in options.windows_s if len(clip) <= s * SAMPLE_RATE_HZ)
    padding = window_s * SAMPLE_RATE_HZ - len(clip)
    mel_1CF = whisper.log_mel_spectrogram(clip, padding=padding).numpy()[None]
    result = recogniser._model.generate(
        ctranslate2.StorageView.from_array(np.ascontiguousarray(mel_1CF)),
        [recogniser._prompt],
        beam_size=options.beam_size,
        max_length=len(recogniser._prompt) + asr.max_tokens(clip),
    )
    return recogniser._tokenizer.decode(result[0].sequences_ids[0])


def test_windows_of_the_settings(
    clips: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = p.read_section(REPO / "params.yaml", "evaluate", p.Evaluate)
    assert p.Evaluate.model_fields["asr_windows_s"].default == list(TINY_EN.windows_s)
    shorter = settings.model_copy(update={"asr_windows_s": [2, 30]})
    windows = []

    def noted(audio_T: np.ndarray, windows_s: tuple[int, ...]) -> np.ndarray:
        windows.append(windows_s)
        return padded_mel(audio_T, windows_s)

    monkeypatch.setattr(asr, "padded_mel", noted)
    judge_clips = load_recogniser(shorter, WEIGHTS, p.Compute(device="cpu", bf16=False))
    judge_clips([_clip(tmp_path, "a", clips[0][:SAMPLE_RATE_HZ])], tmp_path)
    assert windows == [(2, 30)]


@pytest.mark.parametrize("windows_s", [[], [20], [30, 20, 30], [20, 20, 30], [0, 30], [40, 30]])
def test_windows_must_ascend_to_30(windows_s: list[int], tmp_path: Path) -> None:
    values = p.read_yaml(REPO / "params.yaml")["evaluate"] | {"asr_windows_s": windows_s}
    with pytest.raises(HproError, match=r"asr_windows_s: \[.*ascending seconds"):
        p.validate_section(values, p.Evaluate, "params.yaml", "evaluate")


# --- quality


def test_quality_of_a_period_is_that_of_the_whole_window(clips: list[np.ndarray]) -> None:
    path = find_weights("dnsmos", WEIGHTS) / "sig_bak_ovr.onnx"
    network = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    judge = dnsmos.Dnsmos(path.parent, 1)
    whole_frames = max(clips[:4], key=len)[: 12800 + 160]
    lengths = {len(whole_frames): True, len(whole_frames) - 1: False, 160: True}
    for length, repeats in lengths.items():
        assert (dnsmos._period_frames(length) is not None) == repeats
        [window_T] = dnsmos._windows(whole_frames[:length], 1)
        expected = network.run(None, {"input_1": window_T[None]})[0]
        found = judge._raw(window_T, dnsmos._period_frames(length))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert dnsmos._period_frames(160 * 900) is None  # nothing is repeated


# --- voices


def test_voices_of_a_batch_are_those_of_one_by_one(clips: list[np.ndarray]) -> None:
    encoder = load_encoder(find_weights("ge2e", WEIGHTS))
    expected = [embed_batch(encoder, [clip])[0] for clip in clips]
    np.testing.assert_allclose(embed_batch(encoder, clips), expected, atol=1e-5)


# --- batches


def test_batches_keep_the_order_of_the_clips(clips: list[np.ndarray], tmp_path: Path) -> None:
    spoken = [_clip(tmp_path, f"u{i}", clip) for i, clip in enumerate(clips)]
    sizes: list[int] = []

    def lengths(audios: list[np.ndarray]) -> list[int]:
        sizes.append(len(audios))
        return [len(audio_T) for audio_T in audios]

    judge_clips = in_batches(lengths, 4, "lengths")
    assert judge_clips(spoken, tmp_path) == [len(clip) for clip in clips]
    assert sizes == [4, 2]
    assert judge_clips([], tmp_path) == []
    spoken[3].audio.unlink()
    with pytest.raises(HproError, match=r"u3\.wav does not exist"):
        judge_clips(spoken, tmp_path)


def _clip(folder: Path, name: str, audio_T: np.ndarray) -> Clip:
    write_wav(folder / f"{name}.wav", audio_T)
    return Clip(name, "", "", (), np.empty((0, 2)), folder / f"{name}.wav", corpus="acted")


def test_commands_start_without_packages_that_take_seconds() -> None:
    slow = {"librosa", "numba", "sklearn", "transformers", "whisper", "torchaudio"}
    assert not {*slow, "scipy"} & _loaded("hpro_core.judges.stage")
    assert not {*slow, "scipy", "torch"} & _loaded("hpro_core.analysis.tables")
    assert not {*slow, "torch"} & _loaded("hpro_core.report.stage")
    assert not {*slow, "torch"} & _loaded("hpro_core.analysis.claims")


def _loaded(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert module in names
    return set(names)


def test_the_identity_of_published_judges_hashes_files_that_exist() -> None:
    assert len(str(apply._code()["judged_by"])) == 64
