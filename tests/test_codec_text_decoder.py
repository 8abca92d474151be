"""The text decoder: transformers' Whisper blocks with the same weights, padding masked."""

import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperDecoder as TheirDecoder

from hpro_core.codec.text_decoder import TextDecoderSizes, WhisperDecoder

SIZES = TextDecoderSizes(
    vocabulary=30, width=24, blocks=2, heads=4, hidden=40, positions=16, padding=0
)


@pytest.fixture
def pair() -> tuple[WhisperDecoder, TheirDecoder]:
    """Ours and transformers', with the same weights."""
    torch.manual_seed(0)
    ours = WhisperDecoder(SIZES).eval()
    for weight in ours.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    config = WhisperConfig(
        vocab_size=SIZES.vocabulary,
        d_model=SIZES.width,
        decoder_layers=SIZES.blocks,
        decoder_attention_heads=SIZES.heads,
        decoder_ffn_dim=SIZES.hidden,
        max_target_positions=SIZES.positions,
        pad_token_id=SIZES.padding,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    config._attn_implementation = "eager"
    theirs = TheirDecoder(config).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def test_states_attention_and_gradients_are_those_of_transformers(pair):
    ours, theirs = pair
    text_BJ = torch.randint(1, 30, (3, 7))
    memory_BLH = torch.randn(3, 9, SIZES.width, requires_grad=True)
    seen = {}
    theirs.layers[-1].encoder_attn.register_forward_hook(
        lambda module, inputs, output: seen.update(weights=output[1][:, 0])
    )
    expected = theirs(text_BJ, encoder_hidden_states=memory_BLH).last_hidden_state
    states, attention = ours(text_BJ, memory_BLH, None, guided=True)
    torch.testing.assert_close(states, expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(attention, seen["weights"], atol=1e-6, rtol=1e-5)
    own, other = (torch.autograd.grad(s.square().sum(), memory_BLH)[0] for s in (states, expected))
    assert other.abs().max() > 1e-3
    torch.testing.assert_close(own, other, atol=1e-3, rtol=1e-4)


def test_masked_frames_change_nothing(pair):
    ours, _ = pair
    text_BJ = torch.randint(1, 30, (2, 5))
    memory_BLH = torch.randn(2, 6, SIZES.width)
    padded_BLH = torch.cat([memory_BLH, torch.randn(2, 3, SIZES.width)], dim=1)
    mask_BL = (torch.arange(9) < 6).expand(2, 9)
    alone, alone_attention = ours(text_BJ, memory_BLH, None, guided=True)
    padded, attention = ours(text_BJ, padded_BLH, mask_BL, guided=True)
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(attention[..., :6], alone_attention, atol=1e-6, rtol=0)
    assert (attention[..., 6:] == 0).all()
    assert not torch.allclose(ours(text_BJ, padded_BLH, None, guided=False)[0], alone)


def test_attention_is_computed_only_where_it_is_wanted(pair):
    states, attention = pair[0](torch.ones(1, 3, dtype=torch.int64), torch.randn(1, 4, 24), None,
                                guided=False)  # fmt: skip
    assert attention is None
    assert states.shape == (1, 3, 24)


def test_the_padding_token_starts_at_zero_and_is_not_learnt():
    decoder = WhisperDecoder(SIZES)
    assert (decoder.embed_tokens.weight[0] == 0).all()
    states, _ = decoder(torch.tensor([[1, 0, 2]]), torch.randn(1, 4, 24), None, guided=False)
    states.square().sum().backward()
    assert (decoder.embed_tokens.weight.grad[0] == 0).all()
    assert (decoder.embed_tokens.weight.grad[1] != 0).any()
