"""The codec: causal, blind to padding, attached where it rewards, detached where it trains."""

import pytest
import torch
from torch.nn import functional

from hpro_core.codec.encoder import Encoder, RelativeAttention, _distances
from hpro_core.codec.training import (
    attention_guide,
    content_terms,
    make_codec,
    style_terms,
    text_of,
)
from hpro_core.engine.batching import collate


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
    end = int(target.max())
    assert torch.equal((target == end).sum(1), torch.ones(len(target), dtype=torch.long))
    assert torch.equal(mask.sum(1), batch.symbol_lengths_B + 1)
    assert torch.equal(text[:, 1:][batch.symbol_mask_BS], target[:, :-1][batch.symbol_mask_BS])


def test_the_guide_is_zero_when_attention_is_on_the_word(batch):
    spans = batch.spans_BW2.gather(1, batch.symbol_word_BS[..., None].expand(-1, -1, 2))
    attention = functional.one_hot(spans[..., 0], batch.tokens_BL.shape[1]).float()
    assert float(attention_guide(attention, batch)) == pytest.approx(0.0, abs=1e-6)
    uniform = torch.full_like(attention, 1 / attention.shape[2])
    assert float(attention_guide(uniform, batch)) > 1


@pytest.mark.parametrize("stage", ["content", "style"])
def test_one_batch_can_be_learnt(stage, batch):
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
