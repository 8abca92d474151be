"""UTMOS, NISQA and SCOREQ: tiny random weights in the published formats.

UTMOS is compared with torchaudio's wav2vec2, NISQA with plain loops over the weights in the file,
SCOREQ with the formula of a small ONNX network. Outside the tests (2026-11-30), `Nisqa` was
compared with the code and the weights of gabrielmittag/NISQA (nisqa.tar, nisqa_mos_only.tar, six
recordings: equal within 1e-6), and `Utmos` with the code of tarepan/SpeechMOS at full size with
random weights (five clips: equal).
"""

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.corpus.audio import write_wav
from hpro_core.errors import HproError
from hpro_core.judges import stage
from hpro_core.judges.apply import Clip, load_quality_judges
from hpro_core.judges.files import published_judge_files, quality_judge_files
from hpro_core.judges.mel import mel_filters
from hpro_core.judges.nisqa import Nisqa, segments
from hpro_core.judges.realignment import read_wav
from hpro_core.judges.scoreq import Scoreq
from hpro_core.judges.utmos import Utmos
from hpro_core.params import Compute, Evaluate
from tests.published import NISQA_ARGS, save_nisqa, save_scoreq, save_utmos

CPU = torch.device("cpu")
SETTINGS = Evaluate(
    judge_epochs=1,
    judge_learning_rate=1e-3,
    check_every=1,
    dnsmos_windows=1,
    bootstrap_samples=20,
    seed=0,
)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    n = round(seconds * SAMPLE_RATE_HZ)
    return np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32)


# --- UTMOS


def test_utmos_equals_torchaudios_wav2vec2_and_its_head(tmp_path: Path) -> None:
    path = tmp_path / "utmos22_strong_step7459_v1.pt"
    encoder, head, condition = save_utmos(path)
    judge, values = Utmos(path, CPU), []
    for seed, seconds in enumerate((0.5, 1.0, 1.333)):
        samples_1T = torch.from_numpy(noise(seconds, seed))[None]
        with torch.inference_mode():
            frames_1FD, _ = encoder(samples_1T)
            rows = [w.expand(frames_1FD.shape[1], -1)[None] for w in condition.values()]
            hidden_1FD, _ = head["blstm"](torch.cat([frames_1FD, *rows], dim=2))
            expected = 3 + 2 * head["projection"](hidden_1FD).mean()
        values.append(judge._score(samples_1T[0].numpy()))
        assert values[-1] == pytest.approx(expected.item(), abs=1e-5)
    assert len(set(values)) == 3


@pytest.mark.parametrize("name", ["blstm.weight_hh_l0", "wav2vec2.encoder.layers.1.fc1.bias"])
def test_an_utmos_without_a_weight_is_refused(tmp_path: Path, name: str) -> None:
    save_utmos(tmp_path / "utmos.pt")
    stored = torch.load(tmp_path / "utmos.pt", weights_only=True)
    torch.save({n: w for n, w in stored.items() if n != name}, tmp_path / "utmos.pt")
    with pytest.raises(HproError, match=r"utmos.pt.*: use utmos22_strong_step7459_v1.pt"):
        Utmos(tmp_path / "utmos.pt", CPU)


# --- NISQA


def nisqa_by_hand(w: dict[str, Tensor], segments_SCK: Tensor) -> float:
    """The score from the weights of the file, with a loop over segments and queries."""
    rows = []
    for segment_CK in segments_SCK:
        x = segment_CK[None, None]
        for i in range(1, 7):
            bn = [w[f"cnn.model.bn{i}.{part}"] for part in ("running_mean", "running_var")]
            scale = [w[f"cnn.model.bn{i}.{part}"] for part in ("weight", "bias")]
            own = [w[f"cnn.model.conv{i}.{part}"] for part in ("weight", "bias")]
            x = functional.conv2d(x, *own, padding=(1, 0 if i == 6 else 1))
            x = functional.batch_norm(x, *bn, *scale).relu()
            if pool := {1: (24, 7), 2: (12, 5), 4: (6, 3)}.get(i):
                x = functional.adaptive_max_pool2d(x, pool)
        rows.append(x.reshape(-1))
    s = "time_dependency.model."

    def normed(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (8,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = normed(linear(torch.stack(rows), f"{s}linear"), f"{s}norm1")
    for layer in (0, 1):
        own = f"{s}layers.{layer}."
        projected = x @ w[f"{own}self_attn.in_proj_weight"].T + w[f"{own}self_attn.in_proj_bias"]
        query, key, value = projected.split(8, dim=1)
        attended = torch.stack([torch.softmax(key @ q / 8**0.5, dim=0) @ value for q in query])
        x = normed(x + linear(attended, f"{own}self_attn.out_proj"), f"{own}norm1")
        x = normed(x + linear(linear(x, f"{own}linear1").relu(), f"{own}linear2"), f"{own}norm2")
    p = "pool_layers.0.model."
    weight = torch.softmax(linear(linear(x, f"{p}linear1").relu(), f"{p}linear2"), dim=0)
    return linear((weight * x).sum(dim=0), f"{p}linear3").item()


@pytest.mark.parametrize("one_head", [False, True])
def test_nisqa_equals_a_plain_loop_over_the_weights(tmp_path: Path, one_head: bool) -> None:
    weights = save_nisqa(tmp_path / "nisqa.tar", one_head)
    judge, values = Nisqa(tmp_path / "nisqa.tar", CPU), []
    for seed, seconds in enumerate((0.5, 1.7)):
        audio_T = noise(seconds, seed)
        expected = nisqa_by_hand(weights, torch.from_numpy(segments(audio_T, NISQA_ARGS)))
        values.append(judge._score(audio_T))
        assert values[-1] == pytest.approx(expected, abs=1e-5)
    assert values[0] != values[1]


@pytest.mark.filterwarnings("ignore:Empty filters")  # those above half the sample rate
def test_segments_are_those_of_a_plain_spectrum() -> None:
    audio_T = noise(0.6)
    filters = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=4096, n_mels=48, fmax=20000)
    np.testing.assert_allclose(mel_filters(4096, 48, 20000.0), filters, atol=1e-7)
    padded_T = np.pad(audio_T.astype(np.float64), 2048, mode="reflect")
    hann = np.pad(np.hanning(321)[:-1], 1888)
    frames = [padded_T[start : start + 4096] * hann for start in range(0, len(audio_T) + 1, 160)]
    mel_CF = filters @ np.abs(np.fft.rfft(frames, axis=1)).T
    level_CF = 20 * np.log10(np.maximum(1e-4, mel_CF))
    level_CF = np.maximum(level_CF, level_CF.max() - 80)
    starts = range(0, level_CF.shape[1] - 14, 4)
    expected = np.stack([level_CF[:, start : start + 15] for start in starts])
    np.testing.assert_allclose(segments(audio_T, NISQA_ARGS), expected, atol=1e-3)


def test_another_nisqa_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nisqa_tts.tar"
    save_nisqa(path, cnn_model="standard", td="lstm")
    with pytest.raises(HproError, match=r"cnn_model is 'standard', not 'adapt': use nisqa.tar"):
        Nisqa(path, CPU)
    save_nisqa(path, td_sa_d_model=16)
    with pytest.raises(HproError, match=r"nisqa_tts.tar: weights do not fit its args"):
        Nisqa(path, CPU)
    torch.save({"model": {}}, path)
    with pytest.raises(HproError, match=r"has no 'args' and 'model_state_dict'"):
        Nisqa(path, CPU)


# --- SCOREQ


def test_scoreq_gets_whole_strides(tmp_path: Path) -> None:
    save_scoreq(tmp_path / "adapt_nr_synthetic.onnx")
    judge = Scoreq(tmp_path / "adapt_nr_synthetic.onnx", 1)
    for n_samples in (8000, 16_001):
        audio_T = noise(1.1)[:n_samples]
        padded = -(-n_samples // 320) * 320
        expected = float((audio_T.astype(float) ** 2).sum() / padded)
        assert judge._score(audio_T) == pytest.approx(expected, rel=1e-5)


def test_a_scoreq_with_reference_is_refused(tmp_path: Path) -> None:
    save_scoreq(tmp_path / "fixed_nmr_synthetic.onnx", outputs=4)
    with pytest.raises(HproError, match=r"does not run .*: use adapt_nr_synthetic.onnx"):
        Scoreq(tmp_path / "fixed_nmr_synthetic.onnx", 1)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(HproError, match=r"broken.onnx cannot be read .*: use adapt_nr"):
        Scoreq(tmp_path / "broken.onnx", 1)


# --- together


def test_noise_has_the_stated_level(tmp_path: Path) -> None:
    audio_T = noise(2.0) / 2
    write_wav(tmp_path / "a.wav", audio_T)
    clip = Clip("a", "", "", (), np.empty((0, 2)), tmp_path / "a.wav", "acted")
    (tmp_path / "noisy").mkdir()
    noisy = stage._with_noise(clip, tmp_path / "noisy")
    added_T = read_wav(noisy.audio) - read_wav(clip.audio)
    snr_db = 10 * np.log10(np.mean(audio_T**2) / np.mean(added_T**2))
    assert snr_db == pytest.approx(stage.NOISE_SNR_DB, abs=0.1)


def test_configured_judges_score_clips_and_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: str(tmp_path / f"{name}.file") for name in ("utmos", "nisqa", "scoreq")}
    save_utmos(Path(files["utmos"]))
    save_nisqa(Path(files["nisqa"]))
    save_scoreq(Path(files["scoreq"]))
    settings = SETTINGS.model_copy(update=files)
    assert quality_judge_files(SETTINGS) == {}
    assert list(published_judge_files(settings)) == [Path(path) for path in files.values()]
    clips = []
    for i, seconds in enumerate((0.2, 1.0)):  # the first is padded
        path = tmp_path / f"{i}.wav"
        write_wav(path, noise(seconds, i))
        clips.append(Clip(str(i), "", "", (), np.empty((0, 2)), path, "acted"))
    on_cpu, weights = Compute(device="cpu", bf16=False), Path(__file__).parents[1] / "weights"
    embedded = ["dnsmos", "distillmos"]
    assert list(load_quality_judges(SETTINGS, weights, on_cpu)) == embedded
    judges = load_quality_judges(settings, weights, on_cpu)
    found = {name: judge(clips, tmp_path / "work" / name) for name, judge in judges.items()}
    assert list(found) == [*embedded, *files]
    assert all(np.isfinite(scores).all() and len(set(scores)) == 2 for scores in found.values())
    for kind in (Utmos, Nisqa, Scoreq):
        monkeypatch.setattr(kind, "predict", None)  # every score is in a shard
    again = load_quality_judges(settings, weights, on_cpu)
    assert {n: judge(clips, tmp_path / "work" / n) for n, judge in again.items()} == found


def test_a_score_that_is_not_finite_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_scoreq(tmp_path / "scoreq.onnx")
    write_wav(tmp_path / "a.wav", noise(1.0))
    clip = Clip("a", "", "", (), np.empty((0, 2)), tmp_path / "a.wav", "acted")
    judge = Scoreq(tmp_path / "scoreq.onnx", 1)
    monkeypatch.setattr(judge, "_score", lambda audio_T: float("nan"))
    with pytest.raises(HproError, match=r"a: .*scoreq.onnx returns a score that is not finite"):
        judge.predict([clip])
