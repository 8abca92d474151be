"""The nine traps of the released codec (docs/method.md), each mended and named.

Where a mend changes a number, the `RELEASED` form still shows the old one: the test holds both, so
that neither can be lost unseen.
"""

import jiwer
import pytest
import torch
from torch import nn

from hpro_core.codec import losses
from hpro_core.codec.compatibility import CORRECTED, RELEASED, Compatibility
from hpro_core.codec.model import PRESETS, CodecConfig, HdEmo
from hpro_core.codec.training import content_terms, style_terms, text_of
from hpro_core.speech import fsq
from hpro_core.train.batching import collate, spans_to_frames


def make(compatibility: Compatibility) -> HdEmo:
    torch.manual_seed(0)
    return HdEmo(CodecConfig(**PRESETS["embedded"]), compatibility).eval()


def read(codec, batch, tokens=None):
    text, *_ = text_of(batch, codec.compatibility)
    tokens = batch.tokens_BL if tokens is None else tokens
    return codec(tokens, batch.token_lengths_B, batch.spans_BW2, text)


def asr(codec, batch) -> torch.Tensor:
    with torch.no_grad():
        return content_terms(codec, batch, guided_attention_weight=0.0)["asr"]


def alone_and_together(examples):
    """The shortest utterance alone, and the same in a batch with longer ones."""
    one = collate(examples[:1], [examples[0].speaker_embedding])
    return one, collate(examples, [e.speaker_embedding for e in examples])


def test_every_correction_is_on_by_default_and_off_in_the_released_form():
    assert all(vars(CORRECTED).values())
    assert not any(vars(RELEASED).values())


@pytest.mark.parametrize("compatibility", [CORRECTED, RELEASED])
def test_trap_1_the_embedding_moves_under_the_frozen_extractor(compatibility, batch):
    codec = make(compatibility)
    codec.freeze(codec.frozen_parts())
    before = codec.content_features(batch.tokens_BL, batch.token_lengths_B).detach()
    trained = [p for p in codec.parameters() if p.requires_grad]
    style_terms(codec, batch)["loss"].backward()
    torch.optim.Adam(trained, lr=1e-2).step()
    after = codec.content_features(batch.tokens_BL, batch.token_lengths_B)
    assert torch.equal(before, after) == compatibility.embedding_frozen


@pytest.mark.parametrize("compatibility", [CORRECTED, RELEASED])
def test_trap_2_train_brings_dropout_back_to_frozen_parts(compatibility):
    codec = make(compatibility)
    codec.freeze(codec.frozen_parts())
    codec.train()
    dropouts = [m for m in codec.content_extractor.modules() if isinstance(m, nn.Dropout)]
    assert dropouts
    assert all(m.training != compatibility.frozen_in_eval for m in dropouts)
    assert codec.style_extractor.training


def test_trap_2_a_loaded_reward_is_not_random_even_in_training_mode(batch):
    codec = make(CORRECTED)
    codec.freeze(list(codec.children()))
    codec.train()
    first, second = read(codec, batch), read(codec, batch)
    assert torch.equal(first.emotion_B9, second.emotion_B9)
    assert torch.equal(first.text_BJV, second.text_BJV)


def released_concordance(truth: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """The formula as the paper's authors compute it: correlation times deviations."""
    centred = truth - truth.mean(), predicted - predicted.mean()
    correlation = (centred[0] * centred[1]).sum() / (
        centred[0].square().sum().sqrt() * centred[1].square().sum().sqrt() + 1e-8
    )
    top = 2 * correlation * truth.std() * predicted.std()
    bias = (truth.mean() - predicted.mean()) ** 2
    return top / (truth.var() + predicted.var() + bias + 1e-8)


@pytest.mark.parametrize("words", [2, 3, 9])
def test_trap_3_the_concordance_has_the_released_value(words):
    generator = torch.Generator().manual_seed(words)
    truth, predicted = torch.rand(2, words, generator=generator, dtype=torch.float64)
    mask = torch.ones(1, words, dtype=torch.bool)
    got = losses.concordance(truth[None, :, None], predicted[None, :, None], mask)
    assert float(got) == pytest.approx(float(released_concordance(truth, predicted)), abs=1e-6)


def test_trap_3_equal_predictions_have_a_finite_gradient():
    truth, mask = torch.tensor([0.1, 0.5, 0.9]), torch.ones(1, 3, dtype=torch.bool)
    released = torch.full((3,), 0.5, requires_grad=True)
    released_concordance(truth, released).backward()
    assert torch.isnan(released.grad).any()
    mended = torch.full((3,), 0.5, requires_grad=True)
    losses.concordance(truth[None, :, None], mended[None, :, None], mask).sum().backward()
    assert torch.isfinite(mended.grad).all()
    assert mended.grad.abs().max() > 0  # it still says where to go


def test_trap_4_padding_of_the_text_does_not_count(examples):
    _, together = alone_and_together(examples)
    rows = [collate([e], [e.speaker_embedding]) for e in examples]
    targets = torch.stack([row.transcript_lengths_B[0] - 1 for row in rows])
    mended = make(CORRECTED)
    each = torch.stack([asr(mended, row) for row in rows])
    mean = (each * targets).sum() / targets.sum()
    assert torch.allclose(asr(mended, together), mean, atol=1e-5)
    assert not torch.allclose(asr(make(RELEASED), together), mean, atol=1e-5)


def test_trap_4_as_released_every_position_counts_and_padding_is_the_end(examples):
    _, batch = alone_and_together(examples)
    text, target, mask = text_of(batch, RELEASED)
    end = int(batch.transcript_BJ[0, batch.transcript_lengths_B[0] - 1])
    assert text.shape == target.shape == batch.transcript_BJ.shape
    assert mask.all()
    padding = torch.arange(text.shape[1]) >= batch.transcript_lengths_B[:, None]
    assert (text[padding] == end).all()
    assert torch.equal(target[:, :-1], text[:, 1:])


@pytest.mark.parametrize("compatibility", [CORRECTED, RELEASED])
def test_trap_4_the_text_decoder_sees_no_padded_frame(compatibility, examples):
    one, together = alone_and_together(examples)
    codec = make(compatibility)
    positions = int(one.transcript_lengths_B[0]) - 1
    with torch.no_grad():
        alone = read(codec, one).text_BJV[0, :positions]
        among = read(codec, together).text_BJV[0, :positions]
    assert torch.allclose(alone, among, atol=1e-5) == compatibility.frame_padding_hidden


def test_trap_5_words_are_pooled_in_one_product_as_a_loop_would():
    features = torch.randn(3, 11, 4, generator=torch.Generator().manual_seed(0))
    spans = torch.tensor([[[0, 3], [3, 11]], [[2, 2], [4, 5]], [[0, 0], [0, 11]]])
    got = losses.pool_words(features, spans)
    for b in range(3):
        for w, (start, end) in enumerate(spans[b].tolist()):
            want = features[b, start:end].mean(0) if end > start else torch.zeros(4)
            torch.testing.assert_close(got[b, w], want)


def test_trap_6_no_word_error_rate_is_computed_in_a_step(batch, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a training step computed a word error rate")

    for name in ("wer", "process_words"):
        monkeypatch.setattr(jiwer, name, refuse)
    codec = make(CORRECTED)
    assert "asr" in content_terms(codec, batch, 0.3)
    assert "rec" in style_terms(codec, batch)


@pytest.mark.parametrize("compatibility", [CORRECTED, RELEASED])
def test_trap_7_the_content_reward_reaches_the_tokens(compatibility, batch):
    codec = make(compatibility)
    codec.freeze(list(codec.children()))
    soft = nn.functional.one_hot(batch.tokens_BL, 6561).float().requires_grad_()
    content = read(codec, batch, soft).content_BLD
    assert content.requires_grad == compatibility.content_attached
    if compatibility.content_attached:
        content[batch.token_mask_BL].sum().backward()
        assert soft.grad.abs().max() > 0


def test_trap_7_the_value_of_the_content_code_is_the_same(batch):
    with torch.no_grad():
        codes = [
            read(make(compatibility), batch).content_BLD for compatibility in (CORRECTED, RELEASED)
        ]
    assert torch.equal(*codes)


def test_trap_8_bfloat16_does_not_merge_codes(batch):
    every = torch.arange(6**4)
    codes = fsq.from_indices(every, 6, 4)
    digits = torch.round(codes.bfloat16() * 5)
    places = torch.tensor([1, 6, 36, 216], dtype=torch.bfloat16)
    assert len((digits * places).sum(-1).unique()) < 1296 / 2  # what the mend prevents
    assert torch.equal(fsq.to_indices(codes.bfloat16(), 6), every)
    codec = make(CORRECTED)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        reading = read(codec, batch)
        preferred = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
    assert {reading.content_BLD.dtype, reading.style_BLD.dtype} == {torch.float32}
    for code, levels in zip(preferred, (6, 5), strict=True):
        steps = code * (levels - 1)
        torch.testing.assert_close(steps, steps.round(), atol=1e-5, rtol=0)


def test_trap_9_word_edges_are_rounded_and_stay_in_the_utterance():
    times = [[1.16, 1.48]]  # 1.16 * 25 is 28.999.. in float64
    assert spans_to_frames(times, 40).tolist() == [[29, 37]]
    assert spans_to_frames(times, 40, rounding="truncate").tolist() == [[28, 37]]
    assert spans_to_frames(times, 33).tolist() == [[29, 33]]


def test_trap_9_a_word_that_truncating_empties_is_left_out_with_its_label():
    spans = torch.tensor([[[0, 4], [4, 4], [4, 9]]])
    kept = losses.covered_words(spans)
    assert kept.tolist() == [[True, False, True]]
    truth = torch.tensor([[[0.1] * 3, [0.9] * 3, [0.4] * 3]])
    guess = torch.tensor([[[0.2] * 3, [0.0] * 3, [0.6] * 3]])
    without = losses.word_vad_loss(
        truth[:, ::2], guess[:, ::2], torch.ones(1, 2, dtype=torch.bool)
    ).value
    torch.testing.assert_close(losses.word_vad_loss(truth, guess, kept).value, without)
