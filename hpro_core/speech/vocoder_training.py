"""The stage `hpro vocoder`: trains the vocoder on recordings and on decoded speech tokens.

Half of the mel frames of a batch are those of recordings, the other half are what the tokenizer's
decoder makes of their tokens, with the recordings as target of both. The vocoder so learns to undo
a part of the decoder's blur. Letters as in `vocoder` and `sound_crops`.
"""

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from hpro_core.io import fingerprint, write_json
from hpro_core.params import Compute
from hpro_core.params import Vocoder as Settings
from hpro_core.speech.features import MelFrontend
from hpro_core.speech.sound_crops import SoundCrops, SoundSampler, load_sounds, token_files
from hpro_core.speech.stage import load_tokenizer
from hpro_core.speech.tokenizer import SpeechTokenizer, codes_of
from hpro_core.speech.vocoder import GRIFFIN_LIM, ISTFT, Pitch, Vocoder, VocoderConfig
from hpro_core.speech.vocoder_losses import (
    AudioDiscriminator,
    MultiResolutionMel,
    discriminator_loss,
    frozen,
    generator_losses,
    pitch_loss,
)
from hpro_core.train.checkpoint import save_model
from hpro_core.train.loop import Loop, autocast, clear, device_of, fit, mean_terms, set_threads
from hpro_core.train.prefetch import Prefetch
from hpro_core.train.run import Run

_DEV_BATCHES = 4
_MEL_WEIGHT = 5.0  # ours: the mel term has about four times the gradient of the adversarial one
_BETAS = (0.8, 0.99)  # HiFi-GAN (Kong et al. 2020, arXiv 2010.05646)


def train(run: Run, settings: Settings) -> None:
    """Train the vocoder on the train split of all corpora and write speech/vocoder/.

    With `settings.method` griffin_lim nothing is trained, and config.json names the method.

    Args:
        run: reads utterances, their audio and speech tokens, and the tokenizer of its results.
        settings: section `vocoder`.

    Raises:
        HproError: an input is missing or invalid, or what `fit` raises.
    """
    out = run.root / "speech/vocoder"
    if settings.method == GRIFFIN_LIM:
        write_json(out / "config.json", {"kind": GRIFFIN_LIM})
        return
    set_threads(run.compute.threads)
    device = device_of(run.compute.device)
    train_sampler, dev_sampler = (
        SoundSampler(load_sounds(run.root, split), settings.batch_size, settings.segment_s, seed)
        for split, seed in (("train", settings.seed), ("dev", 0))
    )
    torch.manual_seed(settings.seed)
    tokenizer = load_tokenizer(run.root / "speech/tokenizer")
    model = VocoderTraining(Vocoder(VocoderConfig()), tokenizer).to(device)
    batch_at: Callable[[int], SoundCrops] = train_sampler.batch_at
    if device.type != "cpu":  # a GPU step is faster than one core reads the audio
        batch_at = Prefetch(batch_at, settings.steps, max(1, run.compute.threads - 1))
    dev_batches = [dev_sampler.batch_at(settings.steps + i) for i in range(_DEV_BATCHES)]

    def loss_terms(batch: SoundCrops) -> dict[str, Tensor]:
        return training_terms(model, batch.to(device), settings, run.compute)

    def dev_terms() -> dict[str, float]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return mean_terms(loss_terms, dev_batches)

    inputs = (
        run.root / "corpus/utterances.parquet", *token_files(run.root),
        run.root / "speech/tokenizer/model.safetensors",
    )  # fmt: skip
    loop = Loop(
        label="vocoder", steps=settings.steps, seed=settings.seed, out=out, work=run.work,
        warmup_steps=50, decay_fraction=0.4, ema=settings.ema, clip_norm=10.0,
        identity=fingerprint(run.params, *inputs), profile=run.profile, tracker=run.tracker,
        params=run.params,
    )  # fmt: skip
    optimiser = torch.optim.AdamW(
        model.trained(), lr=settings.learning_rate, betas=_BETAS, weight_decay=0.01
    )
    fit(model, optimiser, loss_terms, batch_at, dev_terms, loop)
    config = asdict(model.vocoder.config)
    save_model(out, model.vocoder, {"kind": ISTFT, "model": config})
    clear(loop.work)


class VocoderTraining(nn.Module):
    """The vocoder with what its training needs besides: none of that is saved.

    Attributes:
        vocoder: the vocoder.
        discriminator: tells recordings from synthesised audio.
        distance: mel distance of audio.
        frontend: mel frames of recordings.
        tokenizer: mel frames of tokens; not trained.
    """

    def __init__(self, vocoder: Vocoder, tokenizer: SpeechTokenizer):
        super().__init__()
        self.vocoder = vocoder
        self.discriminator = AudioDiscriminator()
        self.distance = MultiResolutionMel()
        self.frontend = MelFrontend()
        self.tokenizer = tokenizer.requires_grad_(False)

    def trained(self) -> list[nn.Parameter]:
        """Parameters of vocoder and discriminator."""
        return [*self.vocoder.parameters(), *self.discriminator.parameters()]

    @torch.no_grad()
    def mel(self, batch: SoundCrops) -> Tensor:
        """Mel frames, float32 (B, F, 80): the first half of the rows decoded, the rest recorded."""
        n_decoded, n_tokens = len(batch.tokens_BL) // 2, batch.tokens_BL.shape[1]
        lengths = torch.full((n_decoded,), n_tokens, device=batch.tokens_BL.device)
        codes = codes_of(batch.tokens_BL[:n_decoded])
        decoded = self.tokenizer.mel(codes, lengths, batch.speaker_BE[:n_decoded])
        with torch.autocast(decoded.device.type, enabled=False):
            recorded = self.frontend.analyse_batch(batch.audio_BT[n_decoded:])
        return torch.cat([decoded, recorded])


def training_terms(
    model: VocoderTraining, batch: SoundCrops, settings: Settings, compute: Compute
) -> dict[str, Tensor]:
    """Compute the losses of vocoder and discriminator, whose gradients do not mix.

    - mel: distance of log-mel spectra of three window lengths (`MultiResolutionMel`).
    - pitch: pitch and voicing of the recordings (`pitch_loss`).
    - adversarial, features: least-squares and feature-matching loss (HiFi-GAN); gradients reach the
      vocoder only. Only from step `settings.adversarial_from` on, as the next.
    - discriminator: its loss; gradients reach the discriminator only.

    Args:
        model: vocoder, discriminator and the rest.
        batch: crops on the device of the model.
        settings: section `vocoder`.
        compute: whether layers run in bfloat16.

    Returns:
        The terms by name and their weighted sum "loss", scalars with gradients.
    """
    device = batch.audio_BT.device
    with autocast(device, compute.bf16):
        mel_BFM = model.mel(batch)
        pitch = model.vocoder.pitch(mel_BFM)
        followed = Pitch(pitch.f0_BF.detach(), pitch.voicing_BF.detach())
        audio_BT = model.vocoder(mel_BFM, torch.randn_like(batch.audio_BT), followed)
    mel = model.distance(audio_BT, batch.audio_BT)
    terms = {"mel": mel, "pitch": pitch_loss(pitch, batch.f0_BF)}
    loss = _MEL_WEIGHT * mel + terms["pitch"]
    if batch.step < settings.adversarial_from:
        return {"loss": loss, **terms}
    # The discriminator takes most of the time: it gets every other crop.
    recorded_BT, made_BT = batch.audio_BT[::2], audio_BT[::2]
    with autocast(device, compute.bf16):
        real = model.discriminator(recorded_BT)
        discriminator = discriminator_loss(real, model.discriminator(made_BT.detach()))
        adversarial, features = generator_losses(real, frozen(model.discriminator, made_BT))
    loss = loss + adversarial + features + discriminator
    terms |= {"adversarial": adversarial, "features": features, "discriminator": discriminator}
    return {"loss": loss, **terms}
