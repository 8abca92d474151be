"""Each loss: a hand-worked value, a plain loop, an exact gradient, padding, constant input."""

import math

import numpy as np
import pytest
import torch

from hpro_core.codec import losses
from hpro_core.reward.losses import code_loss, kl_divergence


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MASK = torch.tensor([[True, True, True, True], [True, True, True, False]])


def ccc_in_numpy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Lin's concordance with unbiased moments, one dimension."""
    covariance = np.cov(truth, predicted, ddof=1)
    distance = (truth.mean() - predicted.mean()) ** 2
    return 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + distance)


def test_concordance_equals_the_formula_row_by_row():
    truth, predicted = numbers(2, 4, 3), numbers(2, 4, 3, seed=1)
    got = losses.concordance(truth, predicted, MASK)
    for row, dimension in [(0, 0), (0, 2), (1, 1)]:
        n = int(MASK[row].sum())
        want = ccc_in_numpy(
            truth[row, :n, dimension].numpy(), predicted[row, :n, dimension].numpy()
        )
        assert float(got[row, dimension]) == pytest.approx(want, abs=1e-6)


def test_concordance_by_hand():
    # means 2 and 3, variances 1 and 4, covariance 2: 2*2 / (1 + 4 + 1) = 2/3
    truth = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1)
    predicted = torch.tensor([1.0, 3.0, 5.0]).view(1, 3, 1)
    value = losses.concordance(truth, predicted, torch.ones(1, 3, dtype=torch.bool))
    assert float(value) == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.parametrize("truth_constant", [False, True])
def test_equal_predictions_keep_loss_and_gradient_finite(truth_constant):
    truth = torch.full((1, 4, 3), 0.6) if truth_constant else numbers(1, 4, 3).float()
    predicted = torch.full((1, 4, 3), 0.5, requires_grad=True)
    loss = losses.word_vad_loss(truth, predicted, torch.ones(1, 4, dtype=torch.bool)).value
    loss.backward()
    assert float(loss.detach()) == pytest.approx(3.0, abs=1e-4)
    assert torch.isfinite(predicted.grad).all()


def test_one_word_gives_the_squared_error_and_no_word_nothing():
    truth, predicted = torch.zeros(2, 2, 3), torch.full((2, 2, 3), 0.5)
    mask = torch.tensor([[True, False], [False, False]])
    assert float(losses.word_vad_loss(truth, predicted, mask).value) == pytest.approx(0.25)


def test_no_word_at_all_is_an_error():
    nothing = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="no utterance of the batch has a word"):
        losses.word_vad_loss(nothing, nothing, torch.zeros(1, 2, dtype=torch.bool))


def test_soft_cross_entropy_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    target = torch.tensor([[0.2, 0.8, 0.0]])
    want = -(0.2 * math.log(0.5) + 0.8 * math.log(0.25))
    assert float(losses.soft_cross_entropy(logits, target).value) == pytest.approx(want, rel=1e-6)


def test_text_cross_entropy_leaves_padding_out():
    logits, target = numbers(2, 4, 7).float(), torch.tensor([[1, 2, 3, 6], [4, 5, 6, 0]])
    value = losses.text_cross_entropy(logits, target, MASK).value
    log_p = logits.log_softmax(-1)
    terms = [-log_p[b, j, target[b, j]] for b in range(2) for j in range(4) if MASK[b, j]]
    assert float(value) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-6)


def test_kl_by_hand_and_zero_for_equal_policies():
    policy = torch.log(torch.tensor([[[0.5, 0.5]]]))
    reference = torch.log(torch.tensor([[[0.25, 0.75]]]))
    mask = torch.ones(1, 1, dtype=torch.bool)
    want = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert float(kl_divergence(policy, reference, mask, "mean").value) == pytest.approx(
        want, rel=1e-5
    )
    assert float(kl_divergence(policy, policy, mask, "mean").value) == 0.0


@pytest.mark.parametrize(("norm", "want"), [("l1", (0.1 + 0.3) / 2), ("mse", (0.01 + 0.09) / 2)])
def test_code_loss_by_hand(norm, want):
    generated = torch.tensor([[[0.1, 0.7], [9.0, 9.0]]])
    preference = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, False]])
    assert float(code_loss(generated, preference, mask, norm).value) == pytest.approx(want)


SPANS = torch.tensor([[[0, 2], [2, 5], [5, 5]], [[1, 4], [0, 0], [0, 0]]])


def test_pooling_matches_a_plain_loop():
    features = numbers(2, 6, 3)
    want = torch.zeros(2, 3, 3, dtype=torch.float64)
    for b, w in [(0, 0), (0, 1), (1, 0)]:
        start, end = SPANS[b, w].tolist()
        want[b, w] = features[b, start:end].mean(0)
    torch.testing.assert_close(losses.pool_words(features, SPANS), want)


LOSSES = {
    "word_vad": lambda x: losses.word_vad_loss(numbers(2, 4, 3, seed=3), x, MASK).value,
    "soft_ce": lambda x: (
        losses.soft_cross_entropy(x[:, 0], torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])).value
    ),
    "text": lambda x: (
        losses.text_cross_entropy(x, torch.tensor([[0, 1, 2, 0], [2, 1, 0, 0]]), MASK).value
    ),
    "tokens": lambda x: (
        losses.token_cross_entropy(x, torch.tensor([[0, 1, 2, 0], [2, 1, 0, 0]]), MASK).value
    ),
    "frame": lambda x: code_loss(x, numbers(2, 4, 3, seed=4).round(), MASK, "l1").value,
    "kl": lambda x: kl_divergence(x, numbers(2, 4, 3, seed=5), MASK, "mean").value,
    "pool": lambda x: losses.pool_words(x, SPANS[:, :, :].clamp(max=4)).sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_exact(name):
    assert torch.autograd.gradcheck(LOSSES[name], numbers(2, 4, 3, seed=2).requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_float64_stays_and_half_types_are_raised_to_float32(name):
    values = numbers(2, 4, 3, seed=2)
    assert LOSSES[name](values).dtype == torch.float64
    if name != "pool":  # a mean of features, in their own type; the losses after it raise it
        assert LOSSES[name](values.bfloat16()).dtype in (torch.float32, torch.float64)


def test_concordance_equals_numpy_in_float64():
    """Against numpy's covariance, to the last digits: the epsilon of 1e-8 is all that differs."""
    truth, predicted = numbers(3, 40, 3), numbers(3, 40, 3, seed=1)
    mask = torch.arange(40) < torch.tensor([[40], [17], [2]])
    got = losses.concordance(truth, predicted, mask).numpy()
    for row in range(3):
        for dimension in range(3):
            n = int(mask[row].sum())
            columns = truth[row, :n, dimension].numpy(), predicted[row, :n, dimension].numpy()
            np.testing.assert_allclose(got[row, dimension], ccc_in_numpy(*columns), atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_constant_input_keeps_value_and_gradient_finite(name):
    values = torch.full((2, 4, 3), 0.5, requires_grad=True)
    loss = LOSSES[name](values)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(values.grad).all()


def test_token_cross_entropy_equals_a_loop():
    logits, tokens = numbers(2, 4, 5), torch.tensor([[1, 2, 3, 4], [0, 1, 4, 2]])
    terms = []
    for b, t in MASK.nonzero().tolist():
        terms.append(-math.log(float(logits[b, t].exp()[tokens[b, t]] / logits[b, t].exp().sum())))
    value = losses.token_cross_entropy(logits, tokens, MASK).value
    assert float(value) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_word_vad_loss_equals_a_loop_over_utterances():
    truth, predicted = numbers(4, 5, 3), numbers(4, 5, 3, seed=1)
    counts = [5, 1, 0, 3]
    mask = torch.arange(5) < torch.tensor(counts)[:, None]
    each = []
    for row, n in enumerate(counts):
        t, p = truth[row, :n].numpy(), predicted[row, :n].numpy()
        if n >= 2:
            each.append(sum(1 - ccc_in_numpy(t[:, k], p[:, k]) for k in range(3)))
        elif n == 1:
            each.append(((t - p) ** 2).mean())
    value = losses.word_vad_loss(truth, predicted, mask).value
    assert float(value) == pytest.approx(sum(each) / 3, abs=1e-6)


def test_words_without_a_frame_do_not_count():
    assert losses.covered_words(SPANS).tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize("name", ["word_vad", "text", "tokens", "frame", "kl"])
def test_what_stands_in_the_padding_changes_nothing(name):
    values = numbers(2, 4, 3, seed=2)
    changed = torch.where(MASK[..., None], values, values + 7)
    assert float(LOSSES[name](values)) == float(LOSSES[name](changed))
