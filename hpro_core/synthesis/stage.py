"""Synthesis of the test sentences by a policy, from the recordings' tokens, or as recorded.

Zero-shot as in the paper (section III-C): the reference is another utterance of the same speaker.
It is drawn once per test utterance and is the same for every system.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import soxr
import torch

from hpro_core.constants import SAMPLE_RATE_HZ
from hpro_core.errors import HproError
from hpro_core.io import check_type, read_json, write_in_place
from hpro_core.params import Compute, Synthesis
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.policy.sampling import GeneratedTokens, Sampling, sample
from hpro_core.policy.sft import load_policy
from hpro_core.progress import track
from hpro_core.speech import cosyvoice2
from hpro_core.speech.crops import read_audio
from hpro_core.speech.decoder import TokenDecoder
from hpro_core.tables import GENERATED_TOKENS, SYNTHESIS, UTTERANCES, read_table, write_table
from hpro_core.train.batching import Example, collate
from hpro_core.train.examples import SpeakerIndex, positions
from hpro_core.train.loop import device_of, set_threads


def synthesise(
    root: Path,
    system: str,
    seed: int,
    settings: Synthesis,
    compute: Compute,
    test: list[Example],
    others: Sequence[Example],
) -> None:
    """Write synthesis.parquet and tokens.parquet to eval/<system>/seed<k>, and the audio.

    Recordings have no audio there: that of the corpus is named.

    Args:
        root: results folder of the run.
        system: "recordings", "tokenrecon" or the name of a variant.
        seed: seed of the policy; the sampling depends on it, the references do not.
        settings: section `synthesis`.
        compute: device and threads.
        test: test utterances.
        others: utterances that can be the reference if the test split has only one of a speaker.

    Raises:
        HproError: a test speaker has no second utterance, or the policy generates no token for a
            sentence.
    """
    set_threads(compute.threads)
    device = device_of(compute.device)
    folder = Path("eval") / system / f"seed{seed}"
    references = references_of(test, test, others, settings.seed)
    rows = pd.DataFrame(
        {
            "utt_id": [e.utt_id for e in test],
            "corpus": [e.corpus for e in test],
            "speaker": [e.speaker for e in test],
            "text": [e.text for e in test],
            "words": [" ".join(e.words) for e in test],
            "reference": [references[e.utt_id].utt_id for e in test],
        }
    )
    if system in ("recordings", "tokenrecon"):
        sampled = {e.utt_id: GeneratedTokens(torch.as_tensor(e.tokens), True) for e in test}
    else:
        policy = load_policy(root / "policy" / system / f"seed{seed}").to(device)
        sampled = sample_tokens(policy, test, references, settings, seed, device, system)
    if system == "recordings":
        audio = _recordings(root, test)
    else:
        audio = _write_audio(root, folder, test, sampled, references, settings.batch_size, device)
    tokens = {u: result.tokens.numpy().astype(np.int16) for u, result in sampled.items()}
    generated = pd.DataFrame({"utt_id": list(tokens), "tokens": list(tokens.values())})
    write_table(generated, root / folder / "tokens.parquet", GENERATED_TOKENS)
    write_table(rows.merge(audio, on="utt_id"), root / folder / "synthesis.parquet", SYNTHESIS)


def references_of(
    examples: Sequence[Example], test: Sequence[Example], others: Sequence[Example], seed: int
) -> dict[str, Example]:
    """Choose another utterance of the same speaker as reference of each utterance, by utt_id.

    The choice depends on the seed and the utt_id only. Candidates are `test`, or `others` if `test`
    has no other utterance of the speaker.

    Raises:
        HproError: a speaker has no other utterance.
    """
    ids = [e.utt_id for e in examples]
    places = [(among, SpeakerIndex(among), positions(among, ids)) for among in (test, others)]
    found = {}
    for example in examples:
        for among, speakers, own in places:
            members = speakers.members(example.corpus, example.speaker)
            candidates = members[members != own.get(example.utt_id, -1)]
            if len(candidates):
                chosen = candidates[_number(seed, example.utt_id) % len(candidates)]
                found[example.utt_id] = among[int(chosen)]
                break
        else:
            raise HproError(
                f"{example.utt_id}: speaker {example.speaker!r} has no other utterance to be the "
                "reference of zero-shot synthesis; add one or leave the speaker out"
            )
    return found


def _number(seed: int, utt_id: str) -> int:
    """Hash the seed and the utt_id to a number of 48 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed} {utt_id}".encode()).digest()[:6], "big")


def _recordings(root: Path, test: list[Example]) -> pd.DataFrame:
    wanted = {"utt_id": [e.utt_id for e in test]}
    audio = read_table(root / "corpus" / "utterances.parquet", UTTERANCES, only=wanted)
    tokens = {e.utt_id: len(e.tokens) for e in test}
    return audio[["utt_id", "audio", "duration_s"]].assign(
        n_tokens=audio["utt_id"].map(tokens), stopped=True
    )


def sample_tokens(
    policy: SpeechPolicy,
    examples: list[Example],
    references: dict[str, Example],
    settings: Synthesis,
    seed: int,
    device: torch.device,
    label: str,
) -> dict[str, GeneratedTokens]:
    """Sample speech tokens for the texts of utterances.

    Args:
        policy: policy in eval mode, on `device`.
        examples: utterances; their own speech is not used.
        references: reference of each utterance, by the utterance's utt_id.
        settings: section `synthesis`.
        seed: seed of the policy; the random numbers of an utterance depend on it, on
            `settings.seed` and on the utt_id only.
        device: device of the batches.
        label: label of the progress line.

    Returns:
        Speech tokens by utt_id.

    Raises:
        HproError: the policy ends an utterance before its first token.
    """
    results: dict[str, GeneratedTokens] = {}
    chunks = list(_by_length(examples, settings.batch_size, lambda e: len(e.symbols)))
    for chunk in track(chunks, len(chunks), f"{label}: speech tokens, batches"):
        prompts = [references[e.utt_id] for e in chunk]
        sampled = sample_batch(policy, chunk, prompts, settings, seed, device)
        results.update(zip([e.utt_id for e in chunk], sampled, strict=True))
    without_tokens = [utt_id for utt_id, result in results.items() if not len(result.tokens)]
    if without_tokens:
        raise HproError(
            f"{label}: {without_tokens[0]}: the policy generated no speech token "
            f"({len(without_tokens)} of "
            f"{len(results)} sentences): raise synthesis.min_ratio, now {settings.min_ratio:g}"
        )
    return results


def sample_batch(
    policy: SpeechPolicy,
    examples: Sequence[Example],
    prompts: Sequence[Example],
    settings: Synthesis,
    seed: int,
    device: torch.device,
) -> list[GeneratedTokens]:
    """Sample speech tokens for the texts of one batch.

    Args:
        policy: policy in eval mode, on `device`.
        examples: utterances; their own speech is not used.
        prompts: reference of each: its speaker embedding, text symbols and speech tokens.
        settings: section `synthesis`.
        seed: as in `sample_tokens`.
        device: device of the batch.

    Returns:
        Speech tokens of each utterance; empty where the policy ends before its first token.
    """
    voices = [p.speaker_embedding for p in prompts]
    numbers = [_number(settings.seed + 1000 * seed + 1, e.utt_id) for e in examples]
    generators = [torch.Generator(device).manual_seed(n) for n in numbers]
    batch, prompt = collate(examples, voices).to(device), collate(prompts, voices).to(device)
    return sample(policy, batch, generators, sampling_of(settings), prompt)


def sampling_of(settings: Synthesis) -> Sampling:
    """Convert section `synthesis` to sampling settings."""
    return Sampling(
        method=settings.method,
        top_p=settings.top_p,
        top_k=settings.top_k,
        temperature=settings.temperature,
        min_ratio=settings.min_ratio,
        max_ratio=settings.max_ratio,
        window=settings.window,
        tau=settings.tau,
    )


def _write_audio(
    root: Path,
    folder: Path,
    test: list[Example],
    sampled: dict[str, GeneratedTokens],
    references: dict[str, Example],
    batch_size: int,
    device: torch.device,
) -> pd.DataFrame:
    decode_audio = load_decoder(root, device)
    audio_folder = root / folder / "audio"
    audio_folder.mkdir(parents=True, exist_ok=True)
    rows = []
    chunks = list(_by_length(test, batch_size, lambda e: len(sampled[e.utt_id].tokens)))
    for chunk in track(chunks, len(chunks), f"{folder.parent.name}: sound, batches"):
        audios = decode_audio(
            [sampled[e.utt_id].tokens.numpy() for e in chunk], [references[e.utt_id] for e in chunk]
        )
        for example, audio in zip(chunk, audios, strict=True):
            name = f"{example.utt_id}.wav"
            content = BytesIO()
            soundfile.write(content, audio, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
            write_in_place(audio_folder / name, content.getvalue())
            result = sampled[example.utt_id]
            seconds = len(audio) / SAMPLE_RATE_HZ
            where = str(folder / "audio" / name)
            rows.append((example.utt_id, where, seconds, len(result.tokens), result.stopped))
    return pd.DataFrame(rows, columns=["utt_id", "audio", "duration_s", "n_tokens", "stopped"])


AudioDecoder = Callable[[Sequence[np.ndarray], Sequence[Example]], list[np.ndarray]]
"""Function from speech tokens and reference of each utterance to its 16 kHz audio."""


def load_decoder(root: Path, device: torch.device) -> AudioDecoder:
    """Load the decoder of a run's speech tokens.

    Args:
        root: results folder of the run; speech/tokenizer/config.json names the decoder.
        device: device of CosyVoice2's flow; the small decoder runs on the CPU, where its output is
            the same on every machine.

    Raises:
        HproError: a file is missing or does not fit.
    """
    path = root / "speech" / "tokenizer" / "config.json"
    config = read_json(path)
    if config.get("kind") == cosyvoice2.KIND:
        folder = check_type(config.get("folder"), str, f"{path}, folder")
        flow = cosyvoice2.FlowDecoder.load(Path(folder), device)
        utterances = read_table(root / "corpus" / "utterances.parquet", UTTERANCES)
        paths = dict(zip(utterances["utt_id"], utterances["audio"], strict=True))
        return flow_decoder(flow, lambda utt_id: read_audio(root / paths[utt_id]))
    decoder = TokenDecoder.load(root / "speech" / "tokenizer")
    return lambda tokens, references: decoder.decode(
        tokens, [reference.speaker_embedding for reference in references]
    )


def flow_decoder(
    decoder: cosyvoice2.FlowDecoder, audio_of: Callable[[str], np.ndarray]
) -> AudioDecoder:
    """Return CosyVoice2's decoder as an `AudioDecoder`.

    Args:
        decoder: flow and vocoder.
        audio_of: function from the utt_id of a reference to its 16 kHz audio, float32 (T,).
    """

    def decode_audio(
        tokens: Sequence[np.ndarray], references: Sequence[Example]
    ) -> list[np.ndarray]:
        prompts = [
            cosyvoice2.prompt_of(audio_of(r.utt_id), r.tokens, r.speaker_embedding)
            for r in references
        ]
        audios = decoder.decode(tokens, prompts)
        return [
            soxr.resample(audio, cosyvoice2.VOCODER_RATE_HZ, SAMPLE_RATE_HZ) for audio in audios
        ]

    return decode_audio


def _by_length(
    examples: list[Example], size: int, length: Callable[[Example], int]
) -> Iterator[list[Example]]:
    ordered = sorted(examples, key=lambda e: (length(e), e.utt_id))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
