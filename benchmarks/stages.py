"""The stages of the default run: the reference and hpro_core on the same input.

A stage's two functions return what they computed, under the same names; `units` says of how much.
Where the reference takes long it does a part of what hpro_core does, and that part is compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of

import current
import numpy as np
import torch
from reference.batching import batch_at
from reference.codec import Codec
from reference.encoder import encoded, log_mel
from reference.generation import generate
from reference.judges import Affect, Quality, Recogniser, Voices, word_times
from reference.policy import Policy
from reference.reward import reward
from reference.sft import sft
from reference.vocoder import mel_of, sound_of
from reference.voice import Voice
from results import Result, Tolerance
from safetensors.torch import load_file
from torch import Tensor
from workload import Workload, move_policy

from hpro_core.pretrained.weights import find_weights
from hpro_core.reward.objective import TERMS, Objective, objective_of
from hpro_core.synthesis.stage import sampling_of
from hpro_core.train.batching import Batch

EXACT = Tolerance("equal")
TERM = Tolerance("relative", 1e-4)
GRADIENT = Tolerance("relative", 1e-3)


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of the stage, for `--only`.
        unit: what the seconds are of.
        reference: the straightforward way.
        current: hpro_core.
        units: of the reference and of hpro_core.
        tolerances: see `results`.
        recorded: names that are recorded, by the part before the slash; the others are long.
        more: further results of hpro_core that are compared but not timed.
    """

    name: str
    unit: str
    reference: Callable[[], Result]
    current: Callable[[], Result]
    units: tuple[int, int]
    tolerances: Mapping[str, Tolerance]
    recorded: tuple[str, ...]
    more: Callable[[], Result] = dict


def numbered(name: str, values: list) -> dict:
    """Values under a name and their place."""
    return {f"{name}/{place}": value for place, value in enumerate(values)}


def reward_objective(w: Workload) -> Objective:
    """Of the sentence stage, which has all terms."""
    return objective_of(w.params.variants["hpro"], w.params.reward)


@dataclass(frozen=True)
class RewardInput:
    """A reward step's policies and batch."""

    step: current.RewardStep
    policy: Policy
    frozen: Policy
    batch: Batch

    def noise(self, seeds: list[int]) -> Tensor:
        """The noise of each utterance by its own seed."""
        rows = [
            self.step.draw(self.batch, seed).noise_KRBLC[:, :, row]
            for row, seed in enumerate(seeds)
        ]
        return torch.stack(rows, dim=2)


def reward_input(w: Workload) -> RewardInput:
    """The base's policy with moved weights, and the base's as its reference."""
    move_policy(w.models / "policy", w.models / "moved")
    return RewardInput(
        current.RewardStep(w.models, reward_objective(w)),
        Policy(w.models / "moved"),
        Policy(w.models / "policy"),
        current.batches(w.examples, w.params.reward.batch_size, 0)(1),
    )


def reward_step(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Four samples of each of twelve utterances, after three sweeps of history, with gradients."""
    given, codec, objective = reward_input(w), Codec(w.models / "codec"), reward_objective(w)
    noise_KRBLC = given.noise(seeds["reward_step"])
    drawn = replace(given.step.draw(given.batch, 0), noise_KRBLC=noise_KRBLC)

    def by_reference() -> Result:
        forget(given.policy)
        found = reward(given.policy, given.frozen, codec, given.batch, objective, noise_KRBLC)
        found.terms["loss"].backward()
        norm = current.gradient_norm(given.policy.weights.values())
        terms = {name: float(term.detach()) for name, term in found.terms.items()}
        return {**terms, "gradient_norm": norm, "history": found.history_BL.numpy()}

    def by_current() -> Result:
        terms, norm = given.step(drawn)
        return {
            **{name: terms[name] for name in terms if name in tolerances},
            "gradient_norm": norm,
        }

    names = ("loss", *TERMS)
    tolerances = {**dict.fromkeys(names, TERM), "gradient_norm": GRADIENT, "history": EXACT}
    return Stage(
        "reward_step",
        "step",
        by_reference,
        by_current,
        (1, 1),
        tolerances,
        tuple(tolerances),
        lambda: {"history": given.step.history(drawn).numpy()},
    )


def sft_step(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Sixteen utterances with gradients, dropout off."""
    settings = w.params.sft
    batch = current.batches(w.examples, settings.batch_size, 0)(1)
    policy, step = Policy(w.models / "policy"), current.SftStep(w.models, settings)

    def by_reference() -> Result:
        forget(policy)
        terms = sft(policy, batch, settings.guided_attention_weight, settings.emotion_weight)
        terms["loss"].backward()
        norm = current.gradient_norm(policy.weights.values())
        return {**{n: float(t.detach()) for n, t in terms.items()}, "gradient_norm": norm}

    def by_current() -> Result:
        terms, norm = step(batch)
        return {
            **{name: terms[name] for name in terms if name in tolerances},
            "gradient_norm": norm,
        }

    names = ("loss", "ce", "attention_guide", "text_emotion")
    tolerances = {**dict.fromkeys(names, TERM), "gradient_norm": GRADIENT}
    return Stage(
        "sft_step", "step", by_reference, by_current, (1, 1), tolerances, tuple(tolerances)
    )


def forget(policy: Policy) -> None:
    """Drop the gradients of the last call."""
    for weight in policy.weights.values():
        weight.grad = None


N_GENERATED = 4


def sampling(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Speech tokens of a batch of 32 sentences; the reference says the first four."""
    how = sampling_of(w.params.synthesis)
    examples = w.examples[: w.params.synthesis.batch_size]
    chosen = [*seeds["sampling"], *range(len(examples) - len(seeds["sampling"]))]
    policy, say = Policy(w.models / "policy"), current.Speaker(w.models)
    references = [w.references[e.utt_id] for e in examples]

    def by_reference() -> Result:
        said = [
            generate(policy, current.single(e, r), torch.Generator().manual_seed(seed), how)[0]
            for e, r, seed in zip(examples[:N_GENERATED], references, chosen, strict=False)
        ]
        return numbered("tokens", [np.array(tokens) for tokens in said])

    def by_current() -> Result:
        said = say(examples, references, chosen, how)
        return numbered("tokens", [np.array(tokens) for tokens in said[:N_GENERATED]])

    return Stage(
        "sampling",
        "utterance",
        by_reference,
        by_current,
        (N_GENERATED, len(examples)),
        {"tokens": EXACT},
        ("tokens",),
    )


def token_decoder(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Speech tokens to log-mel frames, utterance by utterance."""
    examples = w.examples[:16]
    weights = load_file(w.models / "tokenizer" / "model.safetensors")
    decoder = current.Decoder(w.models / "tokenizer")

    @torch.no_grad()
    def by_reference() -> Result:
        made = [
            mel_of(weights, torch.from_numpy(e.tokens), torch.from_numpy(e.speaker_embedding))
            for e in examples
        ]
        return numbered("log_mel", [mel_FM.numpy() for mel_FM in made])

    def by_current() -> Result:
        made = [decoder.mel(e.tokens, e.speaker_embedding).numpy() for e in examples]
        return numbered("log_mel", made) | numbered("mean", [m.mean(0) for m in made])

    size = len(examples)
    tolerances = {"log_mel": Tolerance("absolute", 1e-3), "mean": Tolerance("absolute", 1e-3)}
    return Stage(
        "token_decoder", "utterance", by_reference, by_current, (size, size), tolerances, ("mean",)
    )


def griffin_lim(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Log-mel frames of recordings to sound."""
    mels = [log_mel(torch.from_numpy(audio_T)) for audio_T in w.audios[:4]]
    decoder = current.Decoder(w.models / "tokenizer")

    def heard(audios: list[np.ndarray]) -> Result:
        spectra = [log_mel(torch.from_numpy(audio_T)).numpy() for audio_T in audios]
        distances = [
            np.abs(spectrum - mel_FM.numpy()).mean()
            for spectrum, mel_FM in zip(spectra, mels, strict=True)
        ]
        return {
            **numbered("samples", audios),
            **numbered("log_mel_distance", distances),
            **numbered("band_means", [spectrum.mean(0) for spectrum in spectra]),
        }

    return Stage(
        "griffin_lim",
        "clip",
        lambda: heard([sound_of(mel_FM).numpy() for mel_FM in mels]),
        lambda: heard([decoder.sound(mel_FM) for mel_FM in mels]),
        (len(mels), len(mels)),
        {
            "samples": Tolerance("absolute", 5e-3),
            "log_mel_distance": Tolerance("absolute", 2e-3),
            "band_means": Tolerance("absolute", 2e-2),
        },
        ("log_mel_distance", "band_means"),
    )


def encoding(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Sound to speech tokens and speaker embeddings."""
    audios = w.audios[:16]
    weights = load_file(w.models / "tokenizer" / "model.safetensors")
    encoder = current.Encoder(w.models / "tokenizer")

    def named(rows: list[tuple[np.ndarray, np.ndarray]]) -> Result:
        tokens, voices = zip(*rows, strict=True)
        return numbered("tokens", list(tokens)) | numbered("speaker_embedding", list(voices))

    @torch.no_grad()
    def by_reference() -> Result:
        rows = [encoded(weights, torch.from_numpy(audio_T)) for audio_T in audios]
        return named([(tokens.numpy(), voice.numpy()) for tokens, voice in rows])

    return Stage(
        "encoding",
        "clip",
        by_reference,
        lambda: named(encoder(audios)),
        (len(audios), len(audios)),
        {
            "tokens": Tolerance("share", 0.02),
            "speaker_embedding": Tolerance("absolute", 1e-4),
        },
        ("tokens", "speaker_embedding"),
    )


def voice(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Sentences of the controlled corpus rendered."""
    plans = w.plans[:4]
    reference, speaker = Voice(), current.voice()

    def named(rows: list[tuple[np.ndarray, np.ndarray]]) -> Result:
        samples, spans = zip(*rows, strict=True)
        levels = [20 * np.log10(np.sqrt(np.mean(audio_T**2))) for audio_T in samples]
        return {
            **numbered("samples", list(samples)),
            **numbered("word_times_s", list(spans)),
            **numbered("level_db", levels),
        }

    return Stage(
        "voice",
        "sentence",
        lambda: named([reference.synthesise(plan) for plan in plans]),
        lambda: named([current.render(speaker, plan) for plan in plans]),
        (len(plans), len(plans)),
        {
            "samples": Tolerance("absolute", 1e-3),
            "word_times_s": Tolerance("absolute", 1e-6),
            "level_db": Tolerance("absolute", 1e-2),
        },
        ("word_times_s", "level_db"),
    )


def alignment(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Words placed in recordings."""
    audios, words = w.audios[:6], [e.words for e in w.examples[:6]]
    align = current.word_times()

    def by_reference() -> Result:
        found = [word_times(a, list(words_W)) for a, words_W in zip(audios, words, strict=True)]
        return numbered("word_times_s", [np.array(spans) for spans in found])

    return Stage(
        "alignment",
        "clip",
        by_reference,
        lambda: numbered("word_times_s", align(audios, words)),
        (len(audios), len(audios)),
        {"word_times_s": Tolerance("absolute", 1e-3, recorded=0.011)},  # 0.01 s: a frame
        ("word_times_s",),
    )


def whisper(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Transcripts by the judge, Whisper tiny.en with a beam of 5."""
    prompt = ["<|startoftranscript|>", "<|notimestamps|>"]
    reference = Recogniser(find_weights("whisper_tiny_en", w.weights), prompt, [20, 30], 5)
    return _transcripts("whisper", w.audios[:8], reference, current.transcripts(w.weights, False))


def whisper_check(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Transcripts by the second recogniser, Whisper base without a beam."""
    prompt = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    reference = Recogniser(find_weights("whisper_base", w.weights), prompt, [10, 20, 30], 1)
    write = current.transcripts(w.weights, True)
    return _transcripts("whisper_check", w.audios[:8], reference, write)


def _transcripts(name: str, audios: list[np.ndarray], reference: Recogniser, write) -> Stage:
    return Stage(
        name,
        "clip",
        lambda: numbered("transcript", [reference.write(audio_T) for audio_T in audios]),
        lambda: numbered("transcript", write(audios)),
        (len(audios), len(audios)),
        {"transcript": EXACT},
        ("transcript",),
    )


def speaker(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """GE2E voices, and how alike the first is to the others."""
    audios = w.audios[:16]
    reference = Voices(find_weights("ge2e", w.weights) / "pretrained.pt")
    embed = current.voices(w.weights)

    def named(voices: list[np.ndarray]) -> Result:
        return numbered("voice", voices) | {"cosine": np.array([voices[0] @ v for v in voices])}

    return Stage(
        "speaker",
        "clip",
        lambda: named([reference.voice(audio_T) for audio_T in audios]),
        lambda: named(list(embed(audios))),
        (len(audios), len(audios)),
        {"voice": Tolerance("absolute", 1e-4), "cosine": Tolerance("absolute", 1e-4)},
        ("cosine",),
    )


def dnsmos(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """DNSMOS, its first window."""
    audios = w.audios[:4]
    reference = Quality(find_weights("dnsmos", w.weights) / "sig_bak_ovr.onnx")
    score = current.quality(w.weights, w.params.evaluate.dnsmos_windows)
    return Stage(
        "dnsmos",
        "clip",
        lambda: {"ovrl": np.array([reference.score(audio_T) for audio_T in audios])},
        lambda: {"ovrl": np.array(score(audios))},
        (len(audios), len(audios)),
        {"ovrl": Tolerance("absolute", 2e-3)},
        ("ovrl",),
    )


def affect(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Emotion of clips and affect of their words."""
    audios = w.audios[:8]
    spans = [[(float(a), float(b)) for a, b in e.spans_s] for e in w.examples[:8]]
    reference = Affect(w.models / "judge", "controlled")
    judge_clips = current.judged_affect(w.models / "judge")

    def named(rows: list[tuple[np.ndarray, np.ndarray]]) -> Result:
        posteriors, words = zip(*rows, strict=True)
        return numbered("posterior", list(posteriors)) | numbered("word_vad", list(words))

    return Stage(
        "affect",
        "clip",
        lambda: named([reference.judge(a, s) for a, s in zip(audios, spans, strict=True)]),
        lambda: named(judge_clips(audios, spans)),
        (len(audios), len(audios)),
        {"posterior": Tolerance("absolute", 1e-3), "word_vad": Tolerance("absolute", 1e-3)},
        ("posterior", "word_vad"),
    )


def batching(w: Workload, seeds: Mapping[str, list[int]]) -> Stage:
    """Batches of a reward training."""
    size, steps = w.params.reward.batch_size, range(1, 9)
    of_step = current.batches(w.examples, size, 0)

    def named(batches: list[dict[str, Tensor]]) -> Result:
        return {
            f"batch/{step}/{name}": tensor.numpy()
            for step, batch in enumerate(batches)
            for name, tensor in batch.items()
        }

    def by_current() -> Result:
        made = [of_step(step) for step in steps]
        return named([{f.name: getattr(b, f.name) for f in fields_of(b)} for b in made])

    return Stage(
        "batching",
        "batch",
        lambda: named([batch_at(w.examples, size, 0, step) for step in steps]),
        by_current,
        (len(steps), len(steps)),
        {"batch": EXACT},
        (),
    )


ALL = (
    voice, alignment, encoding, batching, sft_step, reward_step, sampling, token_decoder,
    griffin_lim, whisper, whisper_check, speaker, dnsmos, affect,
)  # fmt: skip
"""In the order of the run."""
