"""The policy: layout, cache, sampling, learning."""

import pytest
import torch

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.engine.batching import collate
from hpro_core.errors import HproError
from hpro_core.params import Policy
from hpro_core.policy.model import END_OF_SPEECH, speech_targets
from hpro_core.policy.sampling import _nucleus_draw, sample
from hpro_core.policy.sft import (
    alignment_guide,
    flip_digits,
    load_policy,
    make_policy,
    save_policy,
    sft_terms,
)
from hpro_core.policy.synthesis import reference_of


@pytest.fixture(scope="module")
def policy(examples):
    torch.manual_seed(0)
    return make_policy(Policy(preset="miniature", dropout=0.1), examples).eval()


def test_targets_end_with_the_end_symbol_at_each_length(batch):
    targets, mask = speech_targets(batch)
    for row, length in enumerate(batch.token_lengths_B.tolist()):
        assert targets[row, length] == END_OF_SPEECH
        assert torch.equal(targets[row, :length], batch.tokens_BL[row, :length])
        assert mask[row].sum() == length + 1


def test_a_ragged_batch_equals_one_by_one(policy, examples):
    batch = collate(examples, [e.speaker_embedding for e in examples])
    together = policy(batch).logits_BLV
    for i, example in enumerate(examples):
        alone = policy(collate([example], [example.speaker_embedding])).logits_BLV[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-5, rtol=0)


def test_a_token_is_predicted_from_the_past_alone(policy, batch):
    base = policy(batch).logits_BLV
    changed = batch.tokens_BL.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % N_SPEECH_TOKENS
    got = policy(batch, changed).logits_BLV
    torch.testing.assert_close(got[:, :11], base[:, :11], atol=1e-5, rtol=0)
    assert not torch.allclose(got[:, 12], base[:, 12])


def test_the_cache_gives_the_teacher_forced_logits(policy, batch):
    forced = policy(batch).logits_BLV
    hidden, cache = policy.begin(batch)
    for t in range(8):
        torch.testing.assert_close(policy.logits(hidden), forced[:, t], atol=1e-5, rtol=0)
        hidden = policy.advance(batch.tokens_BL[:, t], cache)


def speak(policy, batch, seed=0, **changes):
    settings = dict(top_p=0.8, top_k=25, temperature=1.0, min_ratio=0.5, max_ratio=2.0) | changes
    rows = range(len(batch.symbols_BS))
    return sample(
        policy, batch, [torch.Generator().manual_seed(seed + r) for r in rows], **settings
    )


def test_sampling_repeats_with_the_seed_and_keeps_the_limits(policy, batch):
    first, again, other = (speak(policy, batch, seed) for seed in (0, 0, 99))
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a.tokens, b.tokens) for a, b in zip(first, other, strict=True))
    for result, symbols in zip(first, batch.symbol_lengths_B.tolist(), strict=True):
        assert symbols * 0.5 - 1 <= len(result.tokens) <= symbols * 2
        assert int(result.tokens.max()) < N_SPEECH_TOKENS
        assert result.stopped == (len(result.tokens) < int(symbols * 2))


def test_the_end_symbol_stops_a_row(policy, batch):
    bias = policy.head_bias.detach().clone()
    with torch.no_grad():
        policy.head_bias[END_OF_SPEECH] += 50
    results = speak(policy, batch)
    with torch.no_grad():
        policy.head_bias.copy_(bias)
    for result, symbols in zip(results, batch.symbol_lengths_B.tolist(), strict=True):
        assert result.stopped
        assert len(result.tokens) == int(symbols * 0.5)  # as soon as it may


def test_the_nucleus_keeps_the_likeliest_and_their_proportions():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).expand(20_000, -1)
    one = torch.Generator().manual_seed(0)
    drawn = _nucleus_draw(logits, [one] * len(logits), top_p=0.75, top_k=3)
    counts = torch.bincount(drawn, minlength=4) / len(logits)
    # 0.5 and 0.3 reach 0.75 together; the third starts at 0.8 and is out.
    torch.testing.assert_close(counts, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.02, rtol=0)


def test_a_flipped_token_differs_in_one_digit():
    torch.manual_seed(0)
    tokens = torch.randint(0, N_SPEECH_TOKENS, (4, 500))
    flipped = flip_digits(tokens, 0.3)
    place = 3 ** torch.arange(8)
    digits = (tokens[..., None] // place % 3) != (flipped[..., None] // place % 3)
    assert set(digits.sum(-1).unique().tolist()) == {0, 1}
    assert 0.25 < digits.any(-1).float().mean() < 0.35
    assert flipped.min() >= 0
    assert flipped.max() < N_SPEECH_TOKENS


def test_the_guide_counts_attention_to_the_spoken_word(batch):
    rows, frames = len(batch.tokens_BL), batch.tokens_BL.shape[1] + 1
    symbols = batch.symbols_BS.shape[1]
    attention = torch.zeros(rows, frames, symbols)
    for b in range(rows):
        length = int(batch.symbol_lengths_B[b])
        for w, (start, end) in enumerate(batch.spans_BW2[b, : batch.word_lengths_B[b]].tolist()):
            own = (batch.symbol_word_BS[b, :length] == w).nonzero()[:, 0]
            for t in range(start, end):
                attention[b, t, own[(t - start) * len(own) // (end - start)]] = 1.0
    assert float(alignment_guide(attention, batch)) == pytest.approx(0.0, abs=1e-6)
    wrong_word = attention.roll(8, dims=2)
    assert float(alignment_guide(wrong_word, batch)) > 5
    assert float(alignment_guide(torch.full_like(attention, 1 / symbols), batch)) > 0.5


def test_one_batch_can_be_learnt(examples, batch):
    torch.manual_seed(0)
    policy = make_policy(Policy(preset="miniature", dropout=0.0), examples)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    values = []
    for _ in range(40):
        terms = sft_terms(policy, batch, guide_weight=0.3, noise=0.0)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        values.append(float(terms["ce"].detach()))
    assert values[-1] < 0.6 * values[0]


def test_a_saved_policy_comes_back_and_another_size_is_refused(policy, batch, tmp_path):
    save_policy(tmp_path, policy, variant="sft", seed=0)
    again = load_policy(tmp_path)
    assert torch.equal(again(batch).logits_BLV, policy(batch).logits_BLV)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"blocks": 2', '"blocks": 3'))
    with pytest.raises(HproError, match=r"model.safetensors does not fit"):
        load_policy(tmp_path)


def test_references_are_other_utterances_of_the_speaker_and_fixed(examples):
    for example in examples:
        chosen = reference_of(example, examples, [], seed=0)
        assert chosen.speaker == example.speaker
        assert chosen.utt_id != example.utt_id
        assert chosen is reference_of(example, examples, [], seed=0)
    with pytest.raises(HproError, match="has no other utterance"):
        reference_of(examples[0], examples[:1], [], seed=0)
