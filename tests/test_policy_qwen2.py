"""The decoder: transformers' Qwen2 with the same weights, the cache, and what it spares."""

from dataclasses import replace

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model

from hpro_core.params import Policy
from hpro_core.policy.interface import SpeechPolicy
from hpro_core.policy.qwen2 import KeyValueCache, Qwen2, Qwen2Sizes, causal_mask
from hpro_core.policy.sft import make_policy
from hpro_core.reward.sampling import jacobi_history, noise_for, within_nucleus
from hpro_core.train.batching import Batch

PLAIN = Qwen2Sizes(width=24, blocks=3, heads=4, key_heads=4, hidden=40, vocabulary=11)
GROUPED = replace(PLAIN, key_heads=2, rope_theta=1e6, norm_eps=1e-5)


def made(sizes: Qwen2Sizes) -> Qwen2:
    torch.manual_seed(0)
    decoder = Qwen2(sizes)
    for weight in decoder.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return decoder


def reference(decoder: Qwen2) -> Qwen2Model:
    """transformers' model with the same weights, its attention spelled out."""
    sizes = decoder.sizes
    config = Qwen2Config(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=sizes.hidden,
        num_hidden_layers=sizes.blocks,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_heads,
        rms_norm_eps=sizes.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
        use_cache=False,
    )
    config._attn_implementation = "eager"
    model = Qwen2Model(config)
    model.load_state_dict(decoder.state_dict(), strict=True)
    return model


def ragged(sizes: Qwen2Sizes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors, positions that are no integers, and a mask with gaps."""
    generator = torch.Generator().manual_seed(1)
    x_BPH = torch.randn(3, 12, sizes.width, generator=generator)
    positions_BP = (torch.arange(12) * 1.7 - 2).expand(3, 12)
    real_BP = torch.ones(3, 12, dtype=torch.bool)
    real_BP[1, 4:7] = False
    real_BP[2, 9:] = False
    return x_BPH, positions_BP, causal_mask(12, real_BP)


def additive(allowed: torch.Tensor) -> torch.Tensor:
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("sizes", [PLAIN, GROUPED])
def test_states_and_gradients_are_those_of_transformers(sizes):
    decoder = made(sizes)
    theirs = reference(decoder)
    x_BPH, positions_BP, allowed = ragged(sizes)
    ours = decoder(x_BPH, positions_BP, allowed)
    expected = theirs(
        inputs_embeds=x_BPH,
        position_ids=positions_BP,
        attention_mask={"full_attention": additive(allowed)},
    ).last_hidden_state
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-5)
    for states in (ours, expected):
        states.square().sum().backward()
    expected = dict(theirs.named_parameters())
    for name, weight in decoder.named_parameters():
        if name != "embed_tokens.weight":  # vectors are read, no text
            assert expected[name].grad.abs().max() > 1e-3  # a gradient that could differ
            torch.testing.assert_close(weight.grad, expected[name].grad, atol=1e-3, rtol=1e-4)


def test_the_guided_head_is_the_one_of_transformers():
    decoder = made(PLAIN)
    x_BPH, positions_BP, allowed = ragged(PLAIN)
    states, weights = decoder.forward_guided(x_BPH, positions_BP, allowed)
    torch.testing.assert_close(states, decoder(x_BPH, positions_BP, allowed))
    theirs = reference(decoder)
    seen = {}
    theirs.layers[1].self_attn.register_forward_hook(
        lambda module, inputs, output: seen.update(weights=output[1][:, 0])
    )
    theirs(
        inputs_embeds=x_BPH,
        position_ids=positions_BP,
        attention_mask={"full_attention": additive(allowed)},
    )
    torch.testing.assert_close(weights, seen["weights"], atol=1e-6, rtol=1e-5)


def test_fresh_weights_are_drawn_as_in_transformers():
    decoder = Qwen2(replace(PLAIN, width=256, hidden=512))
    for name, weight in decoder.named_parameters():
        if name.endswith("norm.weight"):
            assert (weight == 1).all()
        elif name.endswith("bias"):
            assert (weight == 0).all()
        elif name != "embed_tokens.weight":
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("sizes", [PLAIN, GROUPED])
@torch.no_grad()
def test_a_cache_read_in_pieces_and_rewound_gives_the_same_states(sizes):
    decoder = made(sizes)
    x_BPH, positions_BP, allowed = ragged(sizes)
    whole = decoder(x_BPH, positions_BP, allowed)
    cache = KeyValueCache(sizes.blocks, 12)
    for _ in range(2):  # the second time over what the first time wrote
        cache.rewind(0)
        pieces = [
            decoder(x_BPH[:, a:b], positions_BP[:, a:b], allowed[:, :, a:b, :b], cache)
            for a, b in ((0, 5), (5, 6), (6, 12))
        ]
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=0)
    kept = torch.tensor([2, 0])
    cache.rewind(6)
    cache.select_rows(kept)
    last = decoder(x_BPH[kept, 6:], positions_BP[kept, 6:], allowed[kept, :, 6:], cache)
    torch.testing.assert_close(last, whole[kept, 6:], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_cache_that_is_full_is_refused():
    decoder = made(PLAIN)
    x_BPH, positions_BP, allowed = ragged(PLAIN)
    with pytest.raises(ValueError, match="a cache of 11 positions cannot hold 12"):
        decoder(x_BPH, positions_BP, allowed, KeyValueCache(PLAIN.blocks, 11))


@torch.no_grad()
def recomputed_history(policy: SpeechPolicy, batch: Batch, noise_BLC, sweeps: int) -> Batch:
    """`jacobi_history` the straightforward way: every sweep reads text and history anew."""
    for _ in range(sweeps):
        candidates = within_nucleus(policy(batch).logits_BLV[:, :-1], 0.8, 25)
        drawn_BL = candidates.draw_tokens(noise_BLC)
        history_BL = torch.where(batch.token_mask_BL, drawn_BL, batch.tokens_BL)
        batch = replace(batch, history_BL=history_BL)
    return batch


def test_sweeps_behind_a_kept_prefix_draw_the_same_tokens(examples, batch):
    torch.manual_seed(3)
    policy = make_policy(Policy(preset="miniature", path="", dropout=0.1), examples).eval()
    for weight in policy.qwen.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # so that the history matters
    noise = noise_for(batch.tokens_BL, torch.Generator().manual_seed(0), candidates=25)[0]
    histories = [batch.tokens_BL]
    for sweeps in (1, 2, 3):
        expected = recomputed_history(policy, batch, noise, sweeps).history_BL
        assert torch.equal(
            jacobi_history(policy, batch, noise, sweeps, 0.8, 25).history_BL, expected
        )
        assert not torch.equal(expected, histories[-1])  # each sweep changed something
        histories.append(expected)
