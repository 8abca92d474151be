"""The vocoder and its training, on tiny models and synthetic voices."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from torch import nn

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import read_json
from hpro_core.params import Compute
from hpro_core.params import Vocoder as Settings
from hpro_core.speech import sound_crops, vocoder_training
from hpro_core.speech.decoder import TokenDecoder
from hpro_core.speech.features import HOP, N_MELS, SAMPLES_PER_TOKEN, MelFrontend, n_tokens
from hpro_core.speech.sound_crops import SoundSampler, frame_f0, load_sounds
from hpro_core.speech.tokenizer import SpeechTokenizer, TokenizerConfig
from hpro_core.speech.vocoder import (
    ISTFT,
    N_FFT,
    Pitch,
    Vocoder,
    VocoderConfig,
    load_vocoder,
    pulse_train,
    white_noise,
)
from hpro_core.speech.vocoder_losses import (
    AudioDiscriminator,
    MultiResolutionMel,
    discriminator_loss,
    frozen,
    generator_losses,
    pitch_loss,
)
from hpro_core.speech.vocoder_training import VocoderTraining, training_terms
from hpro_core.tables import SPEECH_TOKENS, UTTERANCES, write_table
from hpro_core.train.checkpoint import save_model
from hpro_core.train.run import Run

TINY = VocoderConfig(width=16, blocks=1, pitch_width=16, pitch_blocks=1)
TOKENIZER = TokenizerConfig(
    width=16, speaker_dim=8, encoder_blocks=1, decoder_blocks=1, frame_blocks=1
)
SETTINGS = Settings(
    method="istft", steps=6, adversarial_from=3, batch_size=4, segment_s=0.4,
    learning_rate=2e-3, ema=0.0, seed=0,
)  # fmt: skip
COMPUTE = Compute(device="cpu", bf16=False)


def voice(seconds: float, f0_hz: float, seed: int = 0) -> np.ndarray:
    """Harmonics of a pitch under a falling envelope, with a little noise."""
    time_T = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    harmonics = [np.cos(2 * np.pi * k * f0_hz * time_T) / k for k in range(1, 20)]
    noise_T = np.random.default_rng(seed).normal(size=len(time_T))
    return (0.1 * np.sum(harmonics, axis=0) + 0.003 * noise_T).astype(np.float32)


@pytest.fixture
def tiny() -> Vocoder:
    torch.manual_seed(0)
    made = Vocoder(TINY).eval()
    nn.init.normal_(made.out.weight, std=0.05)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run with audio, speech tokens and a tokenizer, all untrained."""
    torch.manual_seed(0)
    tokenizer = SpeechTokenizer(TOKENIZER).eval()
    save_model(tmp_path / "speech/tokenizer", tokenizer, {"model": vars(TOKENIZER)})
    frontend, rows, tokens = MelFrontend(), [], []
    (tmp_path / "corpus/toy/audio").mkdir(parents=True)
    for i, split in enumerate(["train"] * 5 + ["dev"] * 3):
        audio_T = voice(0.3 if i == 4 else 0.7 + 0.05 * i, 100.0 + 20 * i, i)
        path = f"corpus/toy/audio/toy_{i}.wav"
        soundfile.write(tmp_path / path, audio_T, SAMPLE_RATE_HZ)
        rows.append((f"toy_{i}", "toy", f"s{i % 2}", "Ah.", "ah", path,
                     len(audio_T) / SAMPLE_RATE_HZ, split, f"{i}", None, None))  # fmt: skip
        mel_1FM = frontend.analyse(torch.from_numpy(audio_T))[None]
        lengths_1 = torch.tensor([n_tokens(len(audio_T))])
        with torch.no_grad():
            tokens_L = tokenizer.tokens(mel_1FM, lengths_1)[0].numpy().astype(np.int16)
            speaker_E = tokenizer.speaker(mel_1FM, lengths_1)[0].numpy()
        tokens.append((f"toy_{i}", tokens_L, speaker_E))
    table = pd.DataFrame(rows, columns=list(UTTERANCES.columns))
    write_table(table, tmp_path / "corpus/utterances.parquet", UTTERANCES)
    table = pd.DataFrame(tokens, columns=list(SPEECH_TOKENS.columns))
    write_table(table, tmp_path / "speech/speech_tokens.parquet", SPEECH_TOKENS)
    return tmp_path


def run_in(root: Path) -> Run:
    params = root / "vocoder.yaml"
    params.write_text(yaml.safe_dump(SETTINGS.model_dump()))
    return Run(root, params, root / "work", COMPUTE)


# ---------------------------------------------------------------- model


def test_the_inverse_of_the_spectrum_is_the_audio(tiny: Vocoder):
    audio_BT = torch.randn(2, 12 * HOP, generator=torch.Generator().manual_seed(0))
    spectrum_BFK = tiny.spectrum(audio_BT)
    assert spectrum_BFK.shape == (2, 12, N_FFT // 2 + 1)
    torch.testing.assert_close(tiny.audio(spectrum_BFK), audio_BT, atol=1e-5, rtol=1e-5)


def test_frames_of_the_spectrum_are_centred_as_those_of_the_mel_frontend(tiny: Vocoder):
    click_1T = torch.zeros(1, 8 * HOP)
    click_1T[0, 3 * HOP + HOP // 2] = 1.0
    energy_F = tiny.spectrum(click_1T)[0].abs().sum(-1)
    mel_F = MelFrontend().analyse(click_1T[0]).sum(-1)
    assert energy_F.argmax() == mel_F.argmax() == 3


def test_pulses_are_all_harmonics_with_unit_power():
    pulses_1T = pulse_train(torch.full((1, 100), 200.0))
    assert pulses_1T.square().mean().item() == pytest.approx(1.0, rel=0.02)
    spectrum = torch.fft.rfft(pulses_1T[0, -8000:]).abs() / 4000  # bins of 2 Hz
    harmonics = spectrum[100:3900:100].clone()
    assert harmonics.min() == pytest.approx(float(harmonics.max()), rel=1e-3)
    spectrum[::100] = 0.0
    assert spectrum.max() < 1e-3 * harmonics.max()


def test_pulses_are_a_sum_of_cosines():
    f0_hz = 3000.0
    time_T = torch.arange(1, 4 * HOP + 1, dtype=torch.float64) / SAMPLE_RATE_HZ
    expected = sum((2 * math.pi * k * f0_hz * time_T).cos() for k in (1, 2))
    torch.testing.assert_close(pulse_train(torch.full((1, 4), f0_hz))[0], expected.float())


@pytest.mark.parametrize("f0_hz", [90.0, 240.0])
def test_an_untrained_vocoder_has_the_pitch_and_the_level_of_the_frames(f0_hz: float):
    audio_T = torch.from_numpy(voice(1.0, f0_hz))
    frontend = MelFrontend()
    mel_FM = frontend.analyse(audio_T)
    pitch = Pitch(torch.full((1, len(mel_FM)), f0_hz), torch.full((1, len(mel_FM)), 4.0))
    with torch.no_grad():
        made_T = Vocoder(TINY).eval()(mel_FM[None], white_noise(len(mel_FM), 0), pitch)[0]
    assert made_T.shape == (len(mel_FM) * HOP,)
    assert made_T.square().mean().sqrt() == pytest.approx(
        float(audio_T.square().mean().sqrt()), rel=0.5
    )
    assert np.nanmedian(frame_f0(made_T.numpy())) == pytest.approx(f0_hz, rel=0.02)


def test_the_minimum_phase_is_that_of_a_pole(tiny: Vocoder):
    """Log-mel frames of a one-pole filter give its phase, but for the width of the bands."""
    radians_K = torch.arange(N_FFT // 2 + 1) * 2 * math.pi / N_FFT
    response_K = 1 / (1 - 0.7 * torch.polar(torch.ones_like(radians_K), -radians_K))
    mel_M = (response_K.abs() @ tiny.bank_KM).log()
    phase_K = tiny.minimum_phase(mel_M[None, None])[0, 0]
    assert (phase_K - response_K.angle()).abs().max() < 0.1


def test_the_output_depends_on_frames_and_noise_only(tiny: Vocoder):
    mel_1FM = torch.randn(1, 20, N_MELS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, again = (tiny(mel_1FM, white_noise(20, 3)) for _ in range(2))
        other = tiny(mel_1FM, white_noise(20, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_audio_is_the_recorded_one(tiny: Vocoder):
    """A golden value: nobody changes the sound of trained weights unnoticed."""
    mel_FM = MelFrontend().analyse(torch.from_numpy(voice(0.4, 130.0)))
    with torch.no_grad():
        for i, parameter in enumerate(tiny.parameters()):
            wave = torch.sin(torch.arange(parameter.numel()) + i)
            parameter.copy_(0.05 * wave.view_as(parameter))
        audio_T = tiny(mel_FM[None], white_noise(len(mel_FM), 0))[0]
    found = [float(audio_T[i]) for i in (500, 2000, 3500, 5000)]
    rms = float(audio_T.square().mean().sqrt())
    np.testing.assert_allclose([*found, rms], GOLDEN, rtol=2e-3, atol=2e-5)


GOLDEN = [-0.123715, 0.063963, -0.067946, 0.001619, 0.062351]


# ---------------------------------------------------------------- losses


def test_the_mel_distance_is_zero_for_equal_audio_and_a_logarithm_of_level():
    audio_BT = torch.from_numpy(voice(0.5, 120.0))[None]
    distance = MultiResolutionMel()
    assert distance(audio_BT, audio_BT) == 0
    assert distance(2 * audio_BT, audio_BT).item() == pytest.approx(math.log(2), rel=1e-3)


def test_the_pitch_loss_of_an_octave_and_of_unvoiced_frames():
    f0_BF = torch.tensor([[100.0, 200.0, math.nan]])
    sure = torch.tensor([[50.0, 50.0, -50.0]])
    right = Pitch(torch.tensor([[100.0, 200.0, 77.0]]), sure)
    assert pitch_loss(right, f0_BF).item() == pytest.approx(0.0, abs=1e-6)
    wrong = Pitch(torch.tensor([[200.0, 200.0, 77.0]]), sure)
    assert pitch_loss(wrong, f0_BF).item() == pytest.approx(4 * 0.5)
    unvoiced = pitch_loss(Pitch(f0_BF.nan_to_num(77.0), torch.zeros(1, 3)), f0_BF * math.nan)
    assert unvoiced.item() == pytest.approx(math.log(2))


def test_adversarial_losses_by_hand():
    ones, zeros = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    real, made = [[2 * ones, ones]], [[ones, zeros]]
    assert discriminator_loss(real, made) == 0
    assert discriminator_loss(made, real) == 2
    scores, features = generator_losses(real, made)
    assert (scores.item(), features.item()) == (1.0, 0.5)
    assert generator_losses(real, real)[0] == 0


def test_gradients_of_vocoder_and_discriminator_do_not_mix():
    torch.manual_seed(0)
    discriminator = AudioDiscriminator(width=4)
    audio_BT = torch.randn(1, 3200, requires_grad=True)
    real, made = discriminator(audio_BT.detach()), frozen(discriminator, audio_BT)
    scores, _ = generator_losses(real, made)
    scores.backward()
    assert audio_BT.grad is not None
    assert audio_BT.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in discriminator.parameters())


# ---------------------------------------------------------------- crops


def test_pitch_of_frames():
    f0_F = frame_f0(voice(0.8, 150.0))
    assert f0_F.shape == (80,)
    assert np.nanmedian(f0_F) == pytest.approx(150.0, rel=0.01)
    assert np.isnan(frame_f0(np.zeros(SAMPLES_PER_TOKEN * 5, dtype=np.float32))).all()


def test_crops_are_audio_with_its_own_tokens_and_another_utterances_speaker(root: Path):
    sounds = load_sounds(root, "train")
    sampler = SoundSampler(sounds, 8, 0.4, seed=1)
    batch = sampler.batch_at(3)
    assert batch.audio_BT.shape == (8, 10 * SAMPLES_PER_TOKEN)
    assert batch.tokens_BL.shape == (8, 10)
    assert torch.equal(batch.audio_BT, sampler.batch_at(3).audio_BT)
    assert not torch.equal(batch.audio_BT, sampler.batch_at(4).audio_BT)
    whole = [soundfile.read(sound.path, dtype="float32")[0] for sound in sounds]
    for audio_T, tokens_L, speaker_E in zip(
        batch.audio_BT.numpy(), batch.tokens_BL.numpy(), batch.speaker_BE.numpy(), strict=True
    ):
        found = [
            (sound, start)
            for sound, recorded_T in zip(sounds, whole, strict=True)
            for start in range(len(recorded_T) // SAMPLES_PER_TOKEN - 9)
            if np.array_equal(recorded_T[start * SAMPLES_PER_TOKEN :][: len(audio_T)], audio_T)
        ]
        ((sound, start),) = found
        assert np.array_equal(sound.tokens_L[start : start + 10], tokens_L)
        owner = next(s for s in sounds if np.array_equal(s.speaker_embedding, speaker_E))
        assert owner.speaker == sound.speaker
        assert owner.path != sound.path


def test_what_cannot_be_cropped_is_named(root: Path):
    sounds = load_sounds(root, "train")
    with pytest.raises(HproError, match=r"none of 5 utterances is longer than 3 s"):
        SoundSampler(sounds, 2, 3.0, seed=0)
    table = pd.read_parquet(root / "speech/speech_tokens.parquet")
    write_table(table[1:], root / "speech/speech_tokens.parquet", SPEECH_TOKENS)
    with pytest.raises(HproError, match="toy_0 has no speech tokens"):
        load_sounds(root, "train")


def test_tokens_of_shards_are_read_together(root: Path):
    whole = load_sounds(root, "train")
    table = pd.read_parquet(root / "speech/speech_tokens.parquet")
    for shard, part in enumerate((table[:3], table[3:])):
        path = root / f"speech/shards/{shard:05d}/speech_tokens.parquet"
        write_table(part.reset_index(drop=True), path, SPEECH_TOKENS)
    (root / "speech/speech_tokens.parquet").unlink()
    for one, other in zip(whole, load_sounds(root, "train"), strict=True):
        assert one.path == other.path
        assert np.array_equal(one.tokens_L, other.tokens_L)


# ---------------------------------------------------------------- training


def test_terms_and_whom_they_train(root: Path):
    torch.manual_seed(0)
    tokenizer = SpeechTokenizer(TOKENIZER)
    model = VocoderTraining(Vocoder(TINY), tokenizer)
    sampler = SoundSampler(load_sounds(root, "train"), 4, 0.4, seed=0)
    early = training_terms(model, sampler.batch_at(2), SETTINGS, COMPUTE)
    assert set(early) == {"loss", "mel", "pitch"}
    terms = training_terms(model, sampler.batch_at(3), SETTINGS, COMPUTE)
    assert {"adversarial", "features", "discriminator"} < set(terms)
    terms["loss"].backward()
    assert all(weight.grad is not None for weight in model.trained())
    assert all(weight.grad is None for weight in tokenizer.parameters())
    assert len(list(model.trained())) == len([w for w in model.parameters() if w.requires_grad])


def test_half_of_the_frames_are_decoded_and_half_recorded(root: Path):
    model = VocoderTraining(Vocoder(TINY), SpeechTokenizer(TOKENIZER).eval())
    batch = SoundSampler(load_sounds(root, "train"), 4, 0.4, seed=0).batch_at(1)
    mel_BFM = model.mel(batch)
    for audio_T, mel_FM in zip(batch.audio_BT[2:], mel_BFM[2:], strict=True):
        torch.testing.assert_close(mel_FM, model.frontend.analyse(audio_T), atol=1e-5, rtol=1e-5)
    decoder = TokenDecoder(model.tokenizer)
    expected = decoder.mel(batch.tokens_BL[1].numpy(), batch.speaker_BE[1].numpy())
    torch.testing.assert_close(mel_BFM[1], expected, atol=1e-4, rtol=1e-4)


def test_a_batch_is_overfitted(root: Path):
    torch.manual_seed(0)
    model = VocoderTraining(Vocoder(TINY), SpeechTokenizer(TOKENIZER).eval())
    batch = SoundSampler(load_sounds(root, "train"), 4, 0.4, seed=0).batch_at(1)
    optimiser = torch.optim.AdamW(model.trained(), lr=5e-3)
    losses = []
    for _ in range(40):
        terms = training_terms(model, batch, SETTINGS, COMPUTE)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        losses.append(float(terms["loss"].detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_a_stopped_training_goes_on_to_the_same_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = SETTINGS.model_copy(update={"steps": 30, "batch_size": 2, "adversarial_from": 10})
    vocoder_training.train(run_in(root), settings)
    straight = load_vocoder(root / "speech/vocoder")
    assert straight is not None

    class Killed(Exception):
        pass

    batch_at = sound_crops.SoundSampler.batch_at

    def killed(self: SoundSampler, step: int) -> sound_crops.SoundCrops:
        if step == 26:
            raise Killed
        return batch_at(self, step)

    monkeypatch.setattr(sound_crops.SoundSampler, "batch_at", killed)
    with pytest.raises(Killed):
        vocoder_training.train(run_in(root), settings)
    assert list((root / "work").glob("checkpoint_*.pt"))
    monkeypatch.setattr(sound_crops.SoundSampler, "batch_at", batch_at)
    vocoder_training.train(run_in(root), settings)
    again = load_vocoder(root / "speech/vocoder")
    assert again is not None
    for name, weight in straight.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not list((root / "work").glob("checkpoint_*.pt"))


def test_griffin_lim_trains_nothing(root: Path):
    settings = SETTINGS.model_copy(update={"method": "griffin_lim"})
    vocoder_training.train(run_in(root), settings)
    assert read_json(root / "speech/vocoder/config.json") == {"kind": "griffin_lim"}
    assert TokenDecoder.load(root / "speech/tokenizer").vocoder is None


# ---------------------------------------------------------------- tokens to audio


def test_the_decoder_uses_the_vocoder_beside_the_tokenizer(root: Path, tiny: Vocoder):
    without = TokenDecoder.load(root / "speech/tokenizer")
    assert without.vocoder is None
    save_model(root / "speech/vocoder", tiny, {"kind": ISTFT, "model": vars(TINY)})
    decoder = TokenDecoder.load(root / "speech/tokenizer")
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, 6561, n).astype(np.int16) for n in (9, 1, 20)]
    embeddings = [np.full(8, 8**-0.5, dtype=np.float32)] * 3
    audio = decoder.decode(tokens, embeddings)
    assert [len(a) for a in audio] == [n * SAMPLES_PER_TOKEN for n in (9, 1, 20)]
    for first, again in zip(audio, decoder.decode(tokens, embeddings), strict=True):
        assert np.array_equal(first, again)
        assert first.dtype == np.float32
        assert np.abs(first).max() <= 1.0
    assert np.array_equal(decoder.decode(tokens[:1], embeddings[:1])[0], audio[0])
    assert not np.array_equal(without.decode(tokens[:1], embeddings[:1])[0], audio[0])


def test_an_unknown_kind_of_vocoder_is_named(root: Path, tiny: Vocoder):
    save_model(root / "speech/vocoder", tiny, {"kind": "hifigan", "model": vars(TINY)})
    with pytest.raises(HproError, match=r"vocoder/config.json: kind is 'hifigan', not istft or"):
        load_vocoder(root / "speech/vocoder")
