"""The speech folder: features, tokenizer, decoder and its two stages, on tiny models and clips."""

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from hpro_core.constants import EMOTIONS, N_SPEECH_TOKENS, SAMPLE_RATE_HZ, VAD
from hpro_core.errors import HproError
from hpro_core.params import Compute, Speech
from hpro_core.speech import fsq, stage
from hpro_core.speech.crops import (
    N_AFFECT,
    Crops,
    CropSampler,
    Utterance,
    at_frequencies,
    at_tempo,
    by_corpus,
    channel_gain,
    labelled_words,
    load,
    pad_mels,
    read_audio,
)
from hpro_core.speech.decoder import TokenDecoder
from hpro_core.speech.features import (
    FRAMES_PER_TOKEN,
    N_MELS,
    SAMPLES_PER_TOKEN,
    SILENCE,
    MelFrontend,
    n_tokens,
)
from hpro_core.speech.losses import MelFeatureExtractor, affect_loss, phone_loss
from hpro_core.speech.stage import (
    TokenizerTraining,
    code_usage,
    encode,
    load_tokenizer,
    train,
    training_terms,
    utterances_to_encode,
)
from hpro_core.speech.tokenizer import (
    DIGITS,
    LEVELS,
    SpeechTokenizer,
    TokenizerConfig,
    codes_of,
)
from hpro_core.tables import (
    EMOTION_POSTERIORS,
    SPEECH_TOKENS,
    UTTERANCES,
    WORD_VAD,
    WORDS,
    read_table,
    write_table,
)
from hpro_core.text.phones import N_SYMBOLS, PADDING, phone_ids
from hpro_core.train.batching import spans_to_frames
from hpro_core.train.checkpoint import save_model
from tests.results import run_in

TINY = TokenizerConfig(width=32, speaker_dim=8, encoder_blocks=1, decoder_blocks=1, frame_blocks=1)
COMPUTE = Compute(threads=1, device="cpu", bf16=False)
SETTINGS = Speech(
    preset="embedded",
    path="",
    steps=20,
    batch_size=4,
    segment_s=0.8,
    learning_rate=2e-3,
    delta_weight=0.3,
    phone_weight=0.2,
    affect_weight=0.2,
    feature_matching_weight=1.0,
    tempo_spread=0.1,
    ema=0.9,
    width=32,
    speaker_dim=8,
    seed=0,
)


@pytest.fixture
def tiny() -> SpeechTokenizer:
    torch.manual_seed(0)
    return SpeechTokenizer(TINY).eval()


def vowel(seconds: float, pitch_hz: float) -> np.ndarray:
    """A buzz with two formant-like bumps."""
    time_s = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    harmonics = np.arange(1, int(7000 / pitch_hz))
    level = np.exp(-(((harmonics * pitch_hz - 700) / 400) ** 2)) + 0.3 * np.exp(
        -(((harmonics * pitch_hz - 1800) / 500) ** 2)
    )
    waves = level[:, None] * np.sin(2 * np.pi * pitch_hz * harmonics[:, None] * time_s)
    return (0.1 * waves.sum(0)).astype(np.float32)


def crops_of(mels: list[np.ndarray]) -> Crops:
    """A batch in which every crop is its own reference."""
    phones = torch.tensor([[7 + i, 9] for i in range(len(mels))])
    mel_BFM, lengths_B = pad_mels(mels)
    affect_BLA = torch.full((len(mels), mel_BFM.shape[1] // FRAMES_PER_TOKEN, N_AFFECT), math.nan)
    for i, row_LA in enumerate(affect_BLA):
        row_LA[1] = torch.eye(N_AFFECT)[i]  # a word of one token
    phone_lengths_B = torch.full((len(mels),), 2)
    spoken = phones, phone_lengths_B, affect_BLA
    return Crops(mel_BFM, lengths_B, mel_BFM, lengths_B, *spoken)


def random_mels(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shape = N_MELS
    return [rng.normal(0, 2, (n * FRAMES_PER_TOKEN, shape)).astype(np.float32) for n in lengths]


# ---------------------------------------------------------------- tokens


def test_every_code_survives_a_round_trip():
    tokens = torch.arange(N_SPEECH_TOKENS)
    codes = codes_of(tokens)
    assert len(codes.unique(dim=0)) == N_SPEECH_TOKENS == LEVELS**DIGITS
    assert set(codes.unique().tolist()) == {0.0, 0.5, 1.0}
    assert torch.equal(fsq.to_indices(codes, LEVELS), tokens)


def test_every_code_survives_bfloat16():
    tokens = torch.arange(N_SPEECH_TOKENS)
    latent = (codes_of(tokens) * 0.9 + 0.05).bfloat16()
    assert torch.equal(fsq.to_indices(fsq.quantise(latent, LEVELS), LEVELS), tokens)


def test_a_token_is_its_ternary_digits_lowest_first():
    assert codes_of(torch.tensor([1 + 2 * 3**7])).tolist() == [[0.5, 0, 0, 0, 0, 0, 0, 1.0]]


@pytest.mark.parametrize("wrong", [-1, 6561, 6563])
def test_a_token_outside_the_codebook_is_named(wrong: int):
    with pytest.raises(HproError, match=f"{wrong} is not in 0..6560"):
        codes_of(torch.tensor([[3, wrong]]))


def test_code_use_of_a_worked_example():
    use = code_usage([np.array([0, 0], dtype=np.int16), np.array([7, 6560], dtype=np.int16)])
    entropy = 0.5 * math.log(2) + 0.5 * math.log(4)
    assert use["tokens"] == 4
    assert use["codes_used"] == 3
    assert use["perplexity"] == pytest.approx(math.exp(entropy))


# ---------------------------------------------------------------- features


@pytest.mark.parametrize(
    ("samples", "tokens"), [(1, 1), (639, 1), (640, 1), (641, 2), (16_000, 25), (16_001, 26)]
)
def test_length_is_rounded_up(samples: int, tokens: int):
    assert n_tokens(samples) == tokens
    mel = MelFrontend().analyse(torch.zeros(samples))
    assert mel.shape == (tokens * FRAMES_PER_TOKEN, N_MELS)


def test_silence_is_the_floor():
    assert torch.allclose(MelFrontend().analyse(torch.zeros(3200)), torch.tensor(SILENCE))


def test_a_click_is_centred_on_its_frame():
    audio = torch.zeros(6400)
    audio[160 * 21 + 80] = 1.0  # frame 21, the second of token 5
    level = MelFrontend().analyse(audio).mean(1)
    assert int(level.argmax()) == 21
    assert torch.allclose(level[20], level[22], atol=1e-4)


def test_griffin_lim_finds_the_spectrum_again():
    frontend = MelFrontend()
    mel = frontend.analyse(torch.from_numpy(vowel(0.6, 150.0)))
    audio = frontend.synthesise(mel)
    again = frontend.analyse(audio)
    assert len(audio) == len(mel) // FRAMES_PER_TOKEN * SAMPLES_PER_TOKEN
    assert float((again - mel)[4:-4].abs().mean()) < 0.25


def test_griffin_lim_is_deterministic_and_leaves_the_random_state_alone():
    frontend, mel = MelFrontend(), torch.randn(24, N_MELS)
    state = torch.get_rng_state()
    first, second = frontend.synthesise(mel), frontend.synthesise(mel)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, frontend.synthesise(mel, seed=1))


# ---------------------------------------------------------------- model


def test_padding_changes_no_token_no_embedding_and_no_frame(tiny: SpeechTokenizer):
    mels = random_mels([3, 11, 7])
    together, lengths = pad_mels(mels)
    together[0, 3 * FRAMES_PER_TOKEN :] = 50.0  # padding is never read, whatever it holds
    with torch.no_grad():
        tokens = tiny.tokens(together, lengths)
        speakers = tiny.speaker(together, lengths)
        rebuilt = tiny.mel(codes_of(tokens), lengths, speakers)
        for i, mel in enumerate(mels):
            alone, length = pad_mels([mel])
            n = int(length)
            assert torch.equal(tokens[i, :n], tiny.tokens(alone, length)[0])
            assert torch.allclose(speakers[i], tiny.speaker(alone, length)[0], atol=1e-6)
            speaker = speakers[i : i + 1]
            single = tiny.mel(codes_of(tokens[i : i + 1, :n]), length, speaker)
            assert torch.allclose(rebuilt[i, : n * FRAMES_PER_TOKEN], single[0], atol=1e-4)


def test_tokens_are_in_range_and_embeddings_of_unit_length(tiny: SpeechTokenizer):
    mel, lengths = pad_mels(random_mels([40]))
    tokens = tiny.tokens(mel, lengths)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < N_SPEECH_TOKENS
    assert float(tiny.speaker(mel, lengths).detach().norm()) == pytest.approx(1.0, abs=1e-5)


def test_every_part_gets_a_gradient(tiny: SpeechTokenizer):
    batch = crops_of(random_mels([8, 8]))
    learner = TokenizerTraining(tiny)
    training_terms(learner, batch, SETTINGS)["loss"].backward()
    silent = [n for n, p in learner.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []


def test_each_term_alone_reaches_the_encoder(tiny: SpeechTokenizer):
    batch = crops_of(random_mels([8, 8]))
    for name in ("mel", "delta", "phones", "affect", "features"):
        tiny.zero_grad()
        training_terms(TokenizerTraining(tiny), batch, SETTINGS)[name].backward()
        gradient = tiny.to_digits.weight.grad
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0, name


def test_loss_terms_of_a_worked_example(tiny: SpeechTokenizer, monkeypatch: pytest.MonkeyPatch):
    silence = np.zeros((4, N_MELS), dtype=np.float32)
    batch = crops_of([silence, np.zeros((8, N_MELS), dtype=np.float32)])
    batch = Crops(*(getattr(batch, f.name)[:1] for f in fields(Crops)))  # 2 tokens, 1 is padding
    guess = torch.zeros(1, 8, N_MELS)
    guess[0, :4] = torch.tensor([1.0, 3.0, 2.0, 2.0])[:, None]
    guess[0, 4:] = 99.0
    monkeypatch.setattr(tiny, "mel", lambda *_: guess + batch.mel_BFM)
    monkeypatch.setattr(stage, "phone_loss", lambda *_: torch.tensor(7.0))
    monkeypatch.setattr(stage, "affect_loss", lambda *_: torch.tensor(5.0))
    monkeypatch.setattr(MelFeatureExtractor, "distance", lambda *_: torch.tensor(0.25))
    weights = {"delta_weight": 0.5, "phone_weight": 0.1, "affect_weight": 0.3}
    settings = SETTINGS.model_copy(update=weights | {"feature_matching_weight": 4.0})
    terms = training_terms(TokenizerTraining(tiny), batch, settings)
    assert float(terms["mel"].detach()) == pytest.approx((1 + 3 + 2 + 2) / 4)
    assert float(terms["delta"].detach()) == pytest.approx((2 + 1 + 0) / 3)
    assert float(terms["loss"].detach()) == pytest.approx(
        2.0 + 0.5 * 1.0 + 0.1 * 7.0 + 0.3 * 5.0 + 4.0 * 0.25 + (7.0 + 0.3 * 5.0)
    )


def test_feature_matching_moves_the_rebuilt_spectra_only():
    torch.manual_seed(0)
    listener = MelFeatureExtractor()
    mel_BFM, lengths_B = pad_mels(random_mels([6, 3]))
    _, layers = listener(mel_BFM, lengths_B)
    assert float(listener.distance(layers, mel_BFM, lengths_B).detach()) == 0.0
    rebuilt_BFM = (mel_BFM + 0.3).requires_grad_()
    distance = listener.distance(layers, rebuilt_BFM, lengths_B)
    distance.backward()
    assert float(distance.detach()) > 0
    assert rebuilt_BFM.grad is not None
    moved_BF = rebuilt_BFM.grad.abs().sum(-1) > 0
    assert moved_BF[0].all()
    assert moved_BF[1, : 3 * FRAMES_PER_TOKEN].all()
    assert not moved_BF[1, 3 * FRAMES_PER_TOKEN :].any()
    assert all(p.grad is None for p in listener.parameters())
    longer_BFM = rebuilt_BFM.detach().clone()
    longer_BFM[1, 3 * FRAMES_PER_TOKEN :] = 50.0  # padding is never read
    assert float(listener.distance(layers, longer_BFM, lengths_B)) == float(distance.detach())


def test_the_phones_of_a_worked_example():
    """Two tokens can say phone 3 in three ways; crops of no or too many phones are left out."""
    share = torch.full((3, 2, N_SYMBOLS), 0.1 / (N_SYMBOLS - 2))
    share[:, :, PADDING], share[:, :, 3] = 0.5, 0.4
    phones = torch.tensor([[3, 0], [0, 0], [3, 3]])  # the last needs a blank between, 3 tokens
    lengths = torch.tensor([1, 0, 2])
    told = share.log().requires_grad_()
    loss = phone_loss(told, torch.tensor([2, 2, 2]), phones, lengths)
    assert float(loss.detach()) == pytest.approx(-math.log(0.4 * 0.4 + 2 * 0.4 * 0.5), abs=1e-5)
    loss.backward()
    assert told.grad.isfinite().all()
    assert not told.grad[1:].any()
    none = phone_loss(share[1:].log(), torch.tensor([2, 2]), phones[1:], lengths[1:])
    assert float(none) == 0.0


def test_the_affect_of_a_worked_example():
    """Of three tokens two are in a word that is half angry, half sad; one of them is told right."""
    truth = torch.full((1, 3, N_AFFECT), math.nan)
    posterior = [0.5 * (name in ("angry", "sad")) for name in EMOTIONS]
    truth[0, :2] = torch.tensor([*posterior, 0.2, 0.5, 0.8])
    told = torch.full((1, 3, N_AFFECT), 99.0)
    told[0, 0] = torch.tensor([*([0.0] * len(EMOTIONS)), 0.2, 0.5, 0.8])
    told[0, 1] = torch.tensor([*([0.0] * len(EMOTIONS)), 0.3, 0.5, 0.8])
    expected = math.log(len(EMOTIONS)) + 20.0 * 0.1**2 / (2 * len(VAD))
    assert float(affect_loss(told, truth)) == pytest.approx(expected, abs=1e-5)
    assert float(affect_loss(told[:, 2:], truth[:, 2:])) == 0.0


def test_one_batch_overfits():
    torch.manual_seed(0)
    model = TokenizerTraining(SpeechTokenizer(TINY))
    frontend = MelFrontend()
    mels = [frontend.analyse(torch.from_numpy(vowel(0.4, hz))).numpy() for hz in (110.0, 220.0)]
    batch = crops_of(mels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(80):
        loss = training_terms(model, batch, SETTINGS)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.35 * losses[0]


# ---------------------------------------------------------------- batches


def made_up_utterances() -> list[Utterance]:
    mels = [mel.astype(np.float16) for mel in random_mels([30, 60, 12, 45, 50])]
    corpora = ["acted", "acted", "acted", "controlled", "controlled"]
    speakers = ["tam", "tam", "joe", "one", "one"]
    columns = zip(corpora, speakers, mels, strict=True)
    return [spoken(str(i), *row) for i, row in enumerate(columns)]


def spoken(
    utt_id: str,
    corpus: str,
    speaker: str,
    mel_FM: np.ndarray,
    edges: Sequence[tuple[int, int]] = (),
    phones: tuple[tuple[int, ...], ...] = (),
) -> Utterance:
    """An utterance whose affect says the number of the word."""
    edges_W2 = np.array(edges, dtype=np.int64).reshape(-1, 2)
    affect_LA = np.full((len(mel_FM) // FRAMES_PER_TOKEN, N_AFFECT), np.nan, dtype=np.float32)
    for word, (first, end) in enumerate(edges):
        affect_LA[first:end] = word
    return Utterance(utt_id, corpus, speaker, mel_FM, edges_W2, phones, affect_LA)


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_crops_hold_whole_words_their_phones_and_their_affect(spread: float):
    """Frame i of the mel says in which token it lies; words are three tokens long, two apart."""
    size = 60
    mel = np.repeat(np.arange(size), FRAMES_PER_TOKEN)[:, None].repeat(N_MELS, 1)
    edges = [(start, start + 3) for start in range(4, size - 4, 5)]
    phones = tuple((10 + w, 30 + w) for w in range(len(edges)))
    whole = spoken("u", "acted", "tam", mel.astype(np.float16), edges, phones)
    batch = CropSampler([whole], 64, 0.8, 0, spread).batch_at(1)
    seen = set()
    for row, length in enumerate(batch.lengths_B.tolist()):
        assert 3 * (1 - spread) <= length <= 20 * (1 + 1.2 * spread)
        first, last = (round(float(batch.mel_BFM[row, f, 0])) for f in (0, 4 * length - 1))
        inside = [w for w, (a, b) in enumerate(edges) if first <= a and b <= last + 1]
        cut = [w for w, (a, b) in enumerate(edges) if w not in inside and a <= last and first < b]
        assert cut == []
        found = batch.phones_BJ[row, : batch.phone_lengths_B[row]].tolist()
        assert found == [p for w in inside for p in phones[w]]
        assert found
        affect_L = batch.affect_BLA[row, :length, 0]
        assert affect_L[affect_L.isfinite()].unique().tolist() == inside
        assert batch.affect_BLA[row, length:].isnan().all()
        token_L = batch.mel_BFM[row, : 4 * length, 0].unflatten(0, (-1, 4)).mean(1).round()
        for said, token in zip(affect_L.tolist(), token_L.tolist(), strict=True):
            near = [w for w, (a, b) in enumerate(edges) if a - 1 <= token <= b]
            assert said in near if said == said else token not in (a + 1 for a, _ in edges)
        seen.update(inside)
    assert seen == set(range(len(edges)))


def test_a_word_longer_than_a_crop_is_kept_whole():
    mel = np.zeros((160, N_MELS), dtype=np.float16)
    one = spoken("u", "acted", "tam", mel, [(3, 38)], ((11, 12),))
    batch = CropSampler([one], 8, 0.4, seed=0).batch_at(1)
    assert all(35 <= length <= 38 for length in batch.lengths_B.tolist())
    assert batch.phone_lengths_B.tolist() == [2] * 8


def test_a_slower_voice_of_a_worked_example():
    mel = np.add.outer(np.sin(np.arange(40.0) / 4), 100 * np.arange(N_MELS)).astype(np.float32)
    assert at_tempo(mel, 1.0) == pytest.approx(mel, abs=1e-3)
    slower = at_tempo(mel, 1.2)
    assert slower.shape == (48, N_MELS)
    assert slower.dtype == np.float32
    assert slower[:, 0] == pytest.approx(np.sin(np.linspace(0, 39, 48) / 4), abs=2e-3)
    assert slower[[0, 47]] == pytest.approx(mel[[0, 39]], abs=1e-3)
    assert at_tempo(mel[:4], 0.3).shape == (4, N_MELS)


def test_crops_are_slower_or_faster_and_their_references_as_they_were():
    mel = np.tile(np.arange(200, dtype=np.float16)[:, None], N_MELS)
    members = [spoken(n, "acted", "tam", mel, [(3, 38)], ((11, 12),)) for n in "uv"]
    batch = CropSampler(members, 32, 1.0, 0, tempo_spread=0.2).batch_at(1)
    last_B = batch.mel_BFM[torch.arange(32), FRAMES_PER_TOKEN * batch.lengths_B - 1, 0]
    before_B = (last_B - batch.mel_BFM[:, 0, 0] + 1) / FRAMES_PER_TOKEN
    longer_B = batch.lengths_B / before_B
    assert 0.8 <= float(longer_B.min()) < 0.9 < 1.1 < float(longer_B.max()) <= 1.24
    assert (batch.reference_BFM.diff(dim=1) == 1).all()
    assert batch.reference_lengths_B.tolist() == [25] * 32
    assert batch.phone_lengths_B.tolist() == [2] * 32


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_frequencies_are_those_of_a_tone_that_was_moved(factor: float):
    time_s = np.arange(16000, dtype=np.float32) / SAMPLE_RATE_HZ
    frontend = MelFrontend()
    for hz in (300.0, 1000.0, 3000.0):
        plain, moved = (
            frontend.analyse(torch.from_numpy(0.5 * np.sin(2 * np.pi * f * time_s))).numpy()[50]
            for f in (hz, hz * factor)
        )
        found = at_frequencies(plain[None], factor)[0]
        assert found.dtype == np.float32
        weight = {name: np.exp(mel) ** 2 for name, mel in (("found", found), ("moved", moved))}
        band = {name: (w @ np.arange(N_MELS)) / w.sum() for name, w in weight.items()}
        assert band["found"] == pytest.approx(band["moved"], abs=0.25)


def test_a_channel_is_a_smooth_gain_of_the_given_size():
    gains = np.stack([channel_gain(np.random.default_rng(i), 0.3) for i in range(2000)])
    assert gains.shape == (2000, N_MELS)
    assert gains.mean(1).std() == pytest.approx(0.3, rel=0.1)
    assert np.abs(np.diff(gains, axis=1)).max() < 0.06
    assert (gains[:, 0] - gains[:, -1]).std() == pytest.approx(2 * 0.15, rel=0.1)


def test_a_crop_and_its_reference_change_voice_and_channel_together():
    rng = np.random.default_rng(0)
    rows = rng.uniform(0, 1, (2, N_MELS)).astype(np.float16)
    members = [
        spoken(n, "acted", "tam", np.tile(rows[i], (100, 1)), [], ()) for i, n in enumerate("uv")
    ]
    plain = CropSampler(members, 8, 1.0, 0).batch_at(1)
    for changes in ({"channel_spread": 0.3}, {"voice_spread": 0.2}):
        batch = CropSampler(members, 8, 1.0, 0, **changes).batch_at(1)
        assert not torch.allclose(batch.mel_BFM, plain.mel_BFM, atol=1e-2)
        assert (batch.mel_BFM >= SILENCE).all()
        assert batch.mel_BFM.diff(dim=1).abs().max() == 0  # the same for every frame
    gain = CropSampler(members, 8, 1.0, 0, channel_spread=0.3).batch_at(1)
    torch.testing.assert_close(
        gain.mel_BFM - plain.mel_BFM, gain.reference_BFM - plain.reference_BFM
    )
    same = [members[0], spoken("w", "acted", "tam", members[0].mel_FM, [], ())]
    voice = CropSampler(same, 8, 1.0, 0, voice_spread=0.2).batch_at(1)
    assert torch.equal(voice.mel_BFM, voice.reference_BFM)


def test_crops_depend_on_seed_and_step_only():
    first = CropSampler(made_up_utterances(), 6, 1.0, seed=3)
    second = CropSampler(made_up_utterances(), 6, 1.0, seed=3)
    second.batch_at(1)
    assert torch.equal(first.batch_at(2).mel_BFM, second.batch_at(2).mel_BFM)
    assert not torch.equal(first.batch_at(2).mel_BFM, first.batch_at(3).mel_BFM)
    assert int(first.batch_at(2).lengths_B.max()) <= 25


def test_every_set_has_its_share_and_the_reference_is_another_utterance():
    utterances = made_up_utterances()
    sampler = CropSampler(utterances, 8, 1.0, seed=0)
    rng = np.random.default_rng(0)
    for utterance in utterances:
        for _ in range(10):
            reference = sampler._reference(utterance, rng)
            assert reference.speaker == utterance.speaker
            assert (reference is utterance) == (utterance.speaker == "joe")
    sampler._sets = {"acted": utterances[:1], "controlled": utterances[3:4]}
    lengths = sampler.batch_at(1).lengths_B  # both are longer than a crop
    assert lengths.tolist() == [25] * 8
    assert utterances[0].mel_FM.shape[0] == 120


@pytest.mark.parametrize(
    ("samples", "rate_hz", "message"),
    [
        (np.zeros((800, 2)), 16_000, "16 kHz mono"),
        (np.zeros(800), 8_000, "8000 Hz"),
        (np.zeros(0), 16_000, "is empty"),
    ],
)
def test_audio_of_another_kind_is_named(
    tmp_path: Path, samples: np.ndarray, rate_hz: int, message: str
):
    soundfile.write(tmp_path / "clip.wav", samples, rate_hz)
    with pytest.raises(HproError, match=message) as error:
        read_audio(tmp_path / "clip.wav")
    assert "clip.wav" in str(error.value)


def test_missing_audio_is_named(tmp_path: Path):
    with pytest.raises(HproError, match=r"nowhere\.wav"):
        read_audio(tmp_path / "nowhere.wav")


# ---------------------------------------------------------------- tokens to sound


def test_decoding_is_deterministic_of_the_right_length_and_alone_as_in_a_batch(
    tiny: SpeechTokenizer, tmp_path: Path
):
    save_model(tmp_path, tiny, {"model": vars(TINY)})
    decoder = TokenDecoder.load(tmp_path)
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, N_SPEECH_TOKENS, n).astype(np.int16) for n in (9, 1, 20)]
    embeddings = [np.full(8, 8**-0.5, dtype=np.float32)] * 3
    audio = decoder.decode(tokens, embeddings)
    assert [len(a) for a in audio] == [n * SAMPLES_PER_TOKEN for n in (9, 1, 20)]
    for first, second in zip(audio, decoder.decode(tokens, embeddings), strict=True):
        assert np.array_equal(first, second)
        assert first.dtype == np.float32
        assert np.abs(first).max() <= 1.0
    alone = decoder.decode(tokens[:1], embeddings[:1])[0]
    assert np.array_equal(alone, audio[0])


def test_tokens_of_silence_decode(tiny: SpeechTokenizer):
    mel = MelFrontend().analyse(torch.zeros(6400))[None]
    lengths = torch.tensor([10])
    with torch.no_grad():
        tokens = tiny.tokens(mel, lengths)[0].numpy()
        speaker = tiny.speaker(mel, lengths)[0].numpy()
    audio = TokenDecoder(tiny).decode([tokens], [speaker])[0]
    assert len(audio) == 6400
    assert np.isfinite(audio).all()


def test_what_cannot_be_decoded_is_named(tiny: SpeechTokenizer):
    decoder = TokenDecoder(tiny)
    good = np.zeros(8, dtype=np.float32)
    with pytest.raises(HproError, match="2 token sequences, but 1 embeddings"):
        decoder.decode([np.array([1]), np.array([2])], [good])
    with pytest.raises(HproError, match="utterance 1 of the batch has no speech tokens"):
        decoder.decode([np.array([1]), np.array([], dtype=np.int16)], [good, good])
    with pytest.raises(HproError, match=r"shape \(3,\)"):
        decoder.decode([np.array([1])], [np.zeros(3)])
    with pytest.raises(HproError, match="finite"):
        decoder.decode([np.array([1])], [np.full(8, np.nan)])
    with pytest.raises(HproError, match="6561"):
        decoder.decode([np.array([6561])], [good])


# ---------------------------------------------------------------- stages


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run with eight short utterances of two speakers; one belongs to the judges, one to none."""
    splits = ["train", "train", "train", "train", "dev", "test", "judge", ""]
    rows = []
    (tmp_path / "corpus/toy/audio").mkdir(parents=True)
    for i, split in enumerate(splits):
        utt_id, audio = f"toy_{i}", vowel(0.5 + 0.1 * i, 110.0 + 20 * i)
        path = f"corpus/toy/audio/{utt_id}.wav"
        soundfile.write(tmp_path / path, audio, SAMPLE_RATE_HZ)
        seconds = len(audio) / SAMPLE_RATE_HZ
        rows.append(
            (utt_id, "toy", f"s{i % 2}", "Ah.", "ah", path, seconds, split, utt_id, None, None)
        )
    table = pd.DataFrame(rows, columns=list(UTTERANCES.columns))
    write_table(table, tmp_path / "corpus/utterances.parquet", UTTERANCES)
    words = [(f"toy_{i}", 0, "ah", 0.1, 0.4 + 0.1 * i, None) for i in range(1, len(splits))]
    table = pd.DataFrame(words, columns=list(WORDS.columns))  # the first was not aligned
    write_table(table, tmp_path / "align/words.parquet", WORDS)
    posteriors = table[["utt_id"]].assign(**dict.fromkeys(EMOTIONS, 0.0)).assign(sad=1.0)
    write_table(posteriors, tmp_path / "label/emotion_posteriors.parquet", EMOTION_POSTERIORS)
    affect = table[["utt_id", "word_index"]].assign(**dict.fromkeys(VAD, 0.5))
    write_table(affect, tmp_path / "label/word_vad.parquet", WORD_VAD)
    return tmp_path


def test_a_word_without_a_label_is_named(root: Path):
    affect = read_table(root / "label/word_vad.parquet", WORD_VAD)
    assert labelled_words(root)[[*EMOTIONS, *VAD]].notna().all(axis=None)
    write_table(affect[1:], root / "label/word_vad.parquet", WORD_VAD)
    with pytest.raises(HproError, match="1 words have no label; the first is word 0 of toy_1"):
        labelled_words(root)


def test_train_and_encode(root: Path):
    train(run_in(root), SETTINGS)
    encode(root, SETTINGS, COMPUTE)
    curves = pd.read_csv(root / "speech/tokenizer/training.csv")
    dev = curves[(curves["split"] == "dev") & (curves["term"] == "mel")].sort_values("step")
    assert dev["value"].iloc[-1] < dev["value"].iloc[0]
    terms = {"loss", "mel", "delta", "phones", "affect", "features", "extractor", "mel_toy"}
    assert terms | {"codes_used"} <= set(curves["term"])
    tokens = read_table(root / "speech/speech_tokens.parquet", SPEECH_TOKENS).set_index("utt_id")
    assert list(tokens.index) == [f"toy_{i}" for i in range(6)]
    for utt_id, row in tokens.iterrows():
        audio = read_audio(root / f"corpus/toy/audio/{utt_id}.wav")
        assert row["tokens"].dtype == np.int16
        assert len(row["tokens"]) == n_tokens(len(audio))
        assert row["speaker_embedding"].dtype == np.float32
        assert row["speaker_embedding"].shape == (8,)
    assert load_tokenizer(root / "speech/tokenizer").config.width == 32


def test_encoding_twice_gives_the_same_tokens(root: Path, tiny: SpeechTokenizer):
    save_model(root / "speech/tokenizer", tiny, {"model": vars(TINY)})
    encode(root, SETTINGS, COMPUTE)
    first = read_table(root / "speech/speech_tokens.parquet", SPEECH_TOKENS)
    encode(root, SETTINGS.model_copy(update={"batch_size": 1}), COMPUTE)
    second = read_table(root / "speech/speech_tokens.parquet", SPEECH_TOKENS)
    for one, other in zip(first["tokens"], second["tokens"], strict=True):
        assert np.array_equal(one, other)


def in_memory(root: Path, table: pd.DataFrame, words: pd.DataFrame) -> list[Utterance]:
    """Utterances as `crops.load` makes them, all in memory."""
    frontend, made = MelFrontend(), []
    for row in table.to_dict("records"):
        audio = torch.from_numpy(read_audio(root / row["audio"]))
        mel_FM = frontend.analyse(audio).half().numpy()
        mine = words[words["utt_id"] == row["utt_id"]].sort_values("word_index")
        size = len(mel_FM) // FRAMES_PER_TOKEN
        edges_W2 = spans_to_frames(mine[["start_s", "end_s"]].to_numpy(), size)
        affect_LA = np.full((size, N_AFFECT), np.nan, dtype=np.float32)
        affect_WA = mine[[*EMOTIONS, *VAD]].to_numpy(dtype=np.float32)
        for label_A, (first, end) in zip(affect_WA, edges_W2, strict=True):
            affect_LA[first:end] = label_A
        phones = tuple(phone_ids(word) for word in mine["word"])
        voice = row["utt_id"], row["corpus"], row["speaker"]
        made.append(Utterance(*voice, mel_FM, edges_W2, phones, affect_LA))
    return made


def test_tokens_are_those_of_all_spectra_in_memory_to_the_last_bit(
    root: Path, tiny: SpeechTokenizer
):
    save_model(root / "speech/tokenizer", tiny, {"model": vars(TINY)})
    encode(root, SETTINGS.model_copy(update={"batch_size": 4}), COMPUTE)
    found = read_table(root / "speech/speech_tokens.parquet", SPEECH_TOKENS).set_index("utt_id")
    table = utterances_to_encode(root, None)
    ordered = sorted(in_memory(root, table, labelled_words(root)), key=lambda u: len(u.mel_FM))
    assert list(found.index) == table["utt_id"].tolist()
    for start in range(0, len(ordered), 4):
        chunk = ordered[start : start + 4]
        mel_BFM, lengths_B = pad_mels([u.mel_FM for u in chunk])
        with torch.no_grad():
            tokens_BL = tiny.tokens(mel_BFM, lengths_B).numpy()
            speakers_BE = tiny.speaker(mel_BFM, lengths_B).numpy()
        for row, utterance in enumerate(chunk):
            known = found.loc[utterance.utt_id]
            assert np.array_equal(known["tokens"], tokens_BL[row, : lengths_B[row]])
            assert np.array_equal(known["speaker_embedding"], speakers_BE[row])


def test_crops_of_mapped_spectra_are_those_of_a_list(root: Path, tmp_path: Path):
    table = read_table(root / "corpus/utterances.parquet", UTTERANCES)
    table["corpus"] = ["toy", "toy", "other", "toy", "other", "toy", "other", "toy"]
    words = labelled_words(root)
    mapped = load(root, table, "mel spectra", words, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
    listed = in_memory(root, table, words)
    pairs = [(mapped, listed), (mapped[1:7:2], listed[1:7:2])]
    pairs.append((mapped[2:][1:], listed[3:]))
    for one, other in pairs:
        assert [u.utt_id for u in one] == [u.utt_id for u in other]
        assert [*by_corpus(one)] == [*dict.fromkeys(u.corpus for u in other)]
        samplers = [CropSampler(u, 6, 0.4, 3, tempo_spread=0.1) for u in (one, other)]
        for step in range(6):
            ours, theirs = (sampler.batch_at(step) for sampler in samplers)
            for field in fields(Crops):
                a, b = getattr(ours, field.name), getattr(theirs, field.name)
                assert torch.equal(a.nan_to_num(-7.0), b.nan_to_num(-7.0))


@pytest.mark.full
def test_training_twice_gives_the_same_weights(root: Path):
    train(run_in(root), SETTINGS)
    first = load_tokenizer(root / "speech/tokenizer").state_dict()
    train(run_in(root), SETTINGS)
    second = load_tokenizer(root / "speech/tokenizer").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_split_without_utterances_is_named(root: Path):
    table = read_table(root / "corpus/utterances.parquet", UTTERANCES)
    table.loc[table["split"] == "dev", "split"] = "train"
    write_table(table, root / "corpus/utterances.parquet", UTTERANCES)
    with pytest.raises(HproError, match="no utterance in split 'dev'"):
        train(run_in(root), SETTINGS)


def test_encoding_without_a_tokenizer_says_what_to_run(root: Path):
    with pytest.raises(HproError, match=r"config\.json does not exist"):
        encode(root, SETTINGS, COMPUTE)
