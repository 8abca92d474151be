"""The codec: causal, blind to padding, attached where it rewards, detached where it trains."""

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
import torch
from torch.nn import functional

from hpro_core.codec.encoder import Encoder, RelativeAttention, _distances
from hpro_core.codec.model import PRESETS, CodecConfig
from hpro_core.codec.noise import training_noise
from hpro_core.codec.training import (
    STYLE_WEIGHTS,
    attention_guide,
    check_text,
    content_terms,
    make_codec,
    style_terms,
    text_of,
)
from hpro_core.errors import HproError
from hpro_core.text.phones import BEGIN_TEXT, END_TEXT
from hpro_core.train.batching import collate
from hpro_core.train.terms import Terms, cut


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return make_codec("embedded").eval()


def test_relative_attention_equals_a_loop_over_pairs():
    torch.manual_seed(0)
    frames, width, heads = 5, 8, 2
    attention = RelativeAttention(width, heads).double()
    x = torch.randn(1, frames, width, dtype=torch.float64)
    distances = _distances(frames, width, x.device).double()
    allowed = torch.ones(1, frames, frames, dtype=torch.bool).tril()
    got = attention(x, distances, allowed)

    q, k, v = (
        layer(x)[0].view(frames, heads, -1)
        for layer in (attention.linear_q, attention.linear_k, attention.linear_v)
    )
    p = attention.linear_pos(distances).view(-1, heads, width // heads)
    rows = []
    for i in range(frames):
        mixed = []
        for h in range(heads):
            scores = torch.stack([
                (q[i, h] + attention.pos_bias_u[h]) @ k[j, h]
                + (q[i, h] + attention.pos_bias_v[h]) @ p[frames - 1 - (i - j), h]
                for j in range(i + 1)
            ])  # fmt: skip
            weights = (scores / (width // heads) ** 0.5).softmax(0)
            mixed.append(sum(w * v[j, h] for j, w in enumerate(weights)))
        rows.append(torch.cat(mixed))
    want = attention.linear_out(torch.stack(rows))[None]
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)


def test_no_frame_sees_the_future_or_the_padding():
    torch.manual_seed(0)
    encoder = Encoder(16, blocks=2, heads=2, hidden=32, dropout=0.1).eval()
    x, lengths = torch.randn(2, 9, 16), torch.tensor([9, 6])
    base = encoder(x, lengths)
    later, padding = x.clone(), x.clone()
    later[0, 5:] += 1
    padding[1, 6:] += 1
    assert torch.equal(encoder(later, lengths)[0, :5], base[0, :5])
    assert torch.equal(encoder(padding, lengths)[1, :6], base[1, :6])


def test_a_ragged_batch_equals_one_by_one(codec, examples):
    batch = collate(examples, [e.speaker_embedding for e in examples])
    text, *_ = text_of(batch)
    together = codec(batch.tokens_BL, batch.token_lengths_B, batch.spans_BW2, text)
    for i, example in enumerate(examples):
        one = collate([example], [example.speaker_embedding])
        alone = codec(one.tokens_BL, one.token_lengths_B, one.spans_BW2, text_of(one)[0])
        frames, words, symbols = len(example.tokens), len(example.words), len(example.symbols)
        for got, want in [
            (together.content_BLD[i, :frames], alone.content_BLD[0]),
            (together.style_BLD[i, :frames], alone.style_BLD[0]),
            (together.emotion_B9[i], alone.emotion_B9[0]),
            (together.vad_BW3[i, :words], alone.vad_BW3[0]),
            (together.text_BJV[i, : symbols + 1], alone.text_BJV[0]),
        ]:
            torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_one_hot_distributions_are_read_like_the_tokens(codec, batch):
    text, *_ = text_of(batch)
    onehot = functional.one_hot(batch.tokens_BL, 6561).float()
    a = codec(batch.tokens_BL, batch.token_lengths_B, batch.spans_BW2, text)
    b = codec(onehot, batch.token_lengths_B, batch.spans_BW2, text)
    mask = batch.token_mask_BL
    torch.testing.assert_close(a.content_BLD[mask], b.content_BLD[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(a.emotion_B9, b.emotion_B9, atol=1e-5, rtol=0)


def test_rebuilding_cannot_move_the_content_extractor(batch):
    codec = make_codec("embedded")
    style_terms(codec, batch)["loss"].backward()
    assert all(p.grad is None for p in codec.content_extractor.parameters())
    assert codec.to_content_code.weight.grad.abs().sum() > 0


def test_frozen_parts_stay_in_eval_mode_and_unchanged(batch):
    codec = make_codec("embedded")
    codec.freeze(codec.content_parts())
    before = codec.embedding.weight.clone()
    codec.train()
    assert codec.style_extractor.training
    assert not codec.content_extractor.training
    assert not codec.content_extractor.blocks[0].dropout.training
    trained = [p for p in codec.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-2)
    style_terms(codec, batch)["loss"].backward()
    optimiser.step()
    assert torch.equal(codec.embedding.weight, before)


def test_text_targets_end_each_utterance_once(batch):
    text, target, mask = text_of(batch)
    assert torch.equal((target == END_TEXT).sum(1), torch.ones(len(target), dtype=torch.long))
    assert torch.equal(mask.sum(1), batch.transcript_lengths_B - 1)
    assert (text[:, 0] == BEGIN_TEXT).all()
    assert torch.equal(text[:, 1:][mask[:, 1:]], target[:, :-1][mask[:, 1:]])
    assert torch.equal(target[:, :-1][batch.symbol_mask_BS], batch.symbols_BS[batch.symbol_mask_BS])


def test_the_guide_is_zero_when_attention_is_on_the_word(batch):
    spans = batch.spans_BW2.gather(1, batch.symbol_word_BS[..., None].expand(-1, -1, 2))
    attention = functional.one_hot(spans[..., 0], batch.tokens_BL.shape[1]).float()
    assert float(attention_guide(attention, batch).value) == pytest.approx(0.0, abs=1e-6)
    uniform = torch.full_like(attention, 1 / attention.shape[2])
    assert float(attention_guide(uniform, batch).value) > 1


def terms_of(codec, batch) -> Terms:
    """Every term of both stages, by name."""
    with torch.no_grad():
        content, style = content_terms(codec, batch, 0.3), style_terms(codec, batch)
    terms = Terms({**content.means, **style.means}, STYLE_WEIGHTS)
    del terms["loss"]
    return terms


def test_every_term_of_a_ragged_batch_is_the_mean_of_its_utterances(codec, examples):
    together = terms_of(codec, collate(examples, [e.speaker_embedding for e in examples]))
    rows = [collate([e], [e.speaker_embedding]) for e in examples]
    alone = [terms_of(codec, row) for row in rows]
    assert together.means.keys() == together.keys()
    for name, value in together.items():
        share = torch.tensor([row.counts()[together.means[name].over] for row in rows])
        want = (torch.stack([terms[name] for terms in alone]) * share / share.sum()).sum()
        torch.testing.assert_close(value, want, atol=1e-5, rtol=1e-5)


def test_positional_dropout_acts_on_input_and_distances_in_training_alone():
    torch.manual_seed(0)
    encoder = Encoder(16, blocks=1, heads=2, hidden=32, dropout=0.0, positional_dropout=0.5)
    x, lengths, seen = torch.randn(1, 6, 16), torch.tensor([6]), []
    encoder.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[:2]))
    encoder.train()(x, lengths)
    encoder.eval()(x, lengths)
    (scaled, distances), (scaled_eval, distances_eval) = seen
    assert (scaled == 0).float().mean() > 0.3
    assert (distances == 0).float().mean() > 0.3
    torch.testing.assert_close(scaled_eval, encoder.input(x) * 4)
    torch.testing.assert_close(distances_eval, _distances(6, 16, x.device))


@pytest.mark.parametrize("stage", ["content", "style"])
def test_micro_batches_add_up_to_the_batch(stage, codec, examples):
    batch = collate(examples, [e.speaker_embedding for e in examples])
    if stage == "content":
        terms = lambda b: content_terms(codec, b, 0.3)  # noqa: E731
    else:
        terms = lambda b: style_terms(codec, b)  # noqa: E731
    parts = cut(batch, 3)
    with torch.no_grad():
        whole, found = terms(batch), [terms(part) for part in parts]
    for name, value in reduce(Terms.plus, found).items():
        torch.testing.assert_close(value, whole[name], atol=1e-5, rtol=1e-5)
    shares = [t.share(p.counts(), batch.counts()) for t, p in zip(found, parts, strict=True)]
    torch.testing.assert_close(torch.stack(shares).sum(), whole["loss"], atol=1e-5, rtol=1e-5)


def test_rebuilt_tokens_do_not_see_the_padding(codec, examples):
    batch = collate(examples, [e.speaker_embedding for e in examples])
    codes = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
    together = codec.reconstruct(*codes, batch.token_lengths_B)
    for row, length in enumerate(batch.token_lengths_B.tolist()):
        one = [code[row : row + 1, :length] for code in codes]
        alone = codec.reconstruct(*one, torch.tensor([length]))[0]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=0)


def test_without_a_guide_the_words_of_the_symbols_are_not_asked(codec, batch):
    assert "attention_guide" not in content_terms(codec, batch, 0.0)
    guided = content_terms(codec, batch, 0.3)
    want = guided["asr"] + 0.3 * guided["attention_guide"]
    torch.testing.assert_close(guided["loss"], want)


@pytest.mark.parametrize(("transcript", "changes", "guide", "message"), [
    ([50258, 11, 50257], {}, 0.3, "set dataset.codec_text to phones for the embedded preset"),
    ([BEGIN_TEXT, 3, END_TEXT], {"text_vocabulary": 51865}, 0.0, "Whisper's folder for the others"),
    ([50258, 11, 60000], {"text_vocabulary": 51865}, 0.0, "one is 60000, there are 51865"),
    ([BEGIN_TEXT, *[3] * 9, END_TEXT], {"text_positions": 9}, 0.3, "10 text tokens are more"),
    ([50258, 11, 50257], {"text_vocabulary": 51865}, 0.3, "weight is 0.3, but only phones"),
])  # fmt: skip
def test_text_that_the_decoder_does_not_write_is_an_error(
    examples, transcript, changes, guide, message
):
    config = CodecConfig(**{**PRESETS["embedded"], **changes})
    wrong = replace(examples[0], transcript=np.array(transcript))
    with pytest.raises(HproError, match=message) as caught:
        check_text([wrong], config, guide)
    assert "\n" not in str(caught.value)


def test_text_that_the_decoder_writes_is_none(examples):
    check_text(examples, CodecConfig(**PRESETS["embedded"]), 0.3)
    whisper = [replace(examples[0], transcript=np.array([50258, 50363, 11, 50257]))]
    check_text(whisper, CodecConfig(), 0.0)


def test_noise_is_added_in_training_alone(codec, batch):
    torch.manual_seed(0)
    quiet = [style_terms(codec, batch)["rec"] for _ in range(2)]
    assert torch.equal(*quiet)
    assert style_terms(codec, batch)["content_code_kept"] == 1
    noise = training_noise(codec.config.content_levels, codec.config.style_levels)
    noisy = style_terms(codec, batch, noise)
    assert 0.3 < noisy["content_code_kept"] < 1
    assert 0.3 < noisy["style_code_kept"] < 1


@pytest.mark.parametrize(("levels", "share"), [(6, 0.6), (5, 0.4)])
def test_noise_has_the_released_deviations(levels, share):
    noise = training_noise(content_levels=6, style_levels=5)
    add = noise.content if levels == 6 else noise.style
    torch.manual_seed(0)
    steps = torch.cat([add(torch.zeros(20, 25, 4)) for _ in range(200)]) * (levels - 1)
    per_frame = steps.square().mean().sqrt()
    # Half of `share` of the frames, on average, at 1/6 of a step and the others at 1/8.
    want = (share / 2 / 36 + (1 - share / 2) / 64) ** 0.5
    assert float(per_frame) == pytest.approx(want, rel=0.02)
    assert float(steps.mean()) == pytest.approx(0.0, abs=2e-3)


@pytest.mark.parametrize("stage", ["content", "style"])
def test_one_batch_can_be_learnt(stage, batch):
    batch = batch.rows(0, 4)
    torch.manual_seed(0)
    codec = make_codec("embedded")
    optimiser = torch.optim.Adam(codec.parameters(), lr=2e-3)
    values = []
    for _ in range(30):
        terms = (
            content_terms(codec, batch, 0.3) if stage == "content" else style_terms(codec, batch)
        )
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        values.append(float(terms["loss"].detach()))
    assert values[-1] < 0.75 * values[0]
