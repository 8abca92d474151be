"""Each reward term by itself: by hand, against a plain loop, by gradcheck, on constant input."""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch.autograd import gradcheck

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.policy.interface import END_OF_SPEECH, N_OUTPUTS
from hpro_core.reward import diagnostics, sampling
from hpro_core.reward.losses import (
    affect_loss,
    code_loss,
    emotion_loss,
    intelligibility_loss,
    kl_divergence,
)
from hpro_core.reward.sampling import Candidates
from hpro_core.train.batching import length_mask


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def frames(*lengths):
    return length_mask(torch.tensor(lengths), max(lengths))


def words(*counts):
    """Spans of one frame per word, padded with (0, 0): what a batch has of them."""
    spans = torch.zeros(len(counts), max(counts), 2, dtype=torch.int64)
    for row, count in enumerate(counts):
        spans[row, :count, 0] = torch.arange(count)
        spans[row, :count, 1] = torch.arange(count) + 1
    return spans


# --- KL: policy logits (B, L, V), reference logits, mask


def test_kl_by_hand():
    policy = torch.log(torch.tensor([[[0.5, 0.5]]]))
    reference = torch.log(torch.tensor([[[0.9, 0.1]]]))
    value = kl_divergence(policy, reference, frames(1), "mean").value
    assert float(value) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert float(value) == pytest.approx(0.510826, abs=1e-6)


def test_kl_is_over_positions_and_goes_from_policy_to_reference():
    policy, reference, mask = random(2, 4, 7), random(2, 4, 7, seed=1), frames(4, 2)
    values = []
    for b, length in enumerate((4, 2)):
        for t in range(length):
            p = policy[b, t].exp() / policy[b, t].exp().sum()
            q = reference[b, t].exp() / reference[b, t].exp().sum()
            values.append(sum(float(x) * math.log(x / y) for x, y in zip(p, q, strict=True)))
    want = sum(values) / 6
    assert float(kl_divergence(policy, reference, mask, "mean").value) == pytest.approx(
        want, rel=1e-12
    )
    by_utterance = kl_divergence(policy, reference, mask, "sum").value
    assert float(by_utterance) == pytest.approx(sum(values) / 2, rel=1e-12)
    assert float(kl_divergence(reference, policy, mask, "mean").value) != pytest.approx(
        want, rel=0.01
    )


def test_kl_is_over_all_outputs_the_end_of_speech_among_them():
    reference = torch.zeros(1, 1, N_OUTPUTS, dtype=torch.float64)
    policy = reference.clone()
    policy[..., END_OF_SPEECH] = 5.0
    p = math.exp(5) / (math.exp(5) + N_OUTPUTS - 1)
    rest = (1 - p) / (N_OUTPUTS - 1)
    want = p * math.log(p * N_OUTPUTS) + (1 - p) * math.log(rest * N_OUTPUTS)
    assert float(kl_divergence(policy, reference, frames(1), "mean").value) == pytest.approx(
        want, rel=1e-4
    )


# --- frame terms: generated codes (B, L, D), codes of the recording, mask


@pytest.mark.parametrize(("norm", "want"), [("l1", 1.8 / 6), ("mse", 1.06 / 6)])
def test_frame_loss_by_hand(norm, want):
    generated = torch.tensor([[[0.2, 0.5], [0.9, 0.9]], [[0.1, 1.0], [0.0, 0.0]]])
    preference = torch.tensor([[[0.2, 0.0], [0.5, 0.9]], [[0.0, 0.2], [1.0, 1.0]]])
    # differences at the real frames: 0, .5; .4, 0; .1, .8; the last frame is padding
    value = code_loss(generated, preference, frames(2, 1), norm).value
    assert float(value) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("norm", ["l1", "mse"])
def test_frame_loss_is_a_loop(norm):
    generated, preference = random(3, 5, 4).sigmoid(), random(3, 5, 4, seed=1).sigmoid()
    values = []
    for b, length in enumerate((5, 1, 3)):
        for t in range(length):
            for d in range(4):
                difference = abs(float(generated[b, t, d] - preference[b, t, d]))
                values.append(difference if norm == "l1" else difference**2)
    value = code_loss(generated, preference, frames(5, 1, 3), norm).value
    assert float(value) == pytest.approx(sum(values) / len(values), rel=1e-12)


# --- word terms


def test_affect_loss_by_hand():
    """Truth 0, 1; prediction 0, 0.5: covariance 1/4, variances 1/2 and 1/8, means 1/4 apart."""
    truth = torch.tensor([[[0.0] * 3, [1.0] * 3]])
    heard = torch.tensor([[[0.0] * 3, [0.5] * 3]])
    batch = SimpleNamespace(vad_BW3=truth, spans_BW2=words(2))
    want = 3 * (1 - 2 * 0.25 / (0.5 + 0.125 + 0.0625))
    assert float(affect_loss(SimpleNamespace(vad_BW3=heard), batch).value) == pytest.approx(want)


def test_affect_loss_is_a_loop_over_utterances():
    """Three words: 1 - CCC. One word: the squared error. A word without a frame: left out."""
    truth, heard = random(3, 4, 3).sigmoid(), random(3, 4, 3, seed=1).sigmoid()
    spans = words(4, 1, 3)
    spans[0, 1] = 0
    kept = {0: [0, 2, 3], 1: [0], 2: [0, 1, 2]}
    losses = []
    for b, chosen in kept.items():
        t, h = truth[b, chosen], heard[b, chosen]
        if len(chosen) == 1:
            losses.append(float(((t - h) ** 2).mean()))
            continue
        total = 0.0
        for k in range(3):
            x, y = t[:, k], h[:, k]
            covariance = float(((x - x.mean()) * (y - y.mean())).sum()) / (len(chosen) - 1)
            spread = float(x.var() + y.var() + (x.mean() - y.mean()) ** 2)
            total += 1 - 2 * covariance / spread
        losses.append(total)
    batch = SimpleNamespace(vad_BW3=truth, spans_BW2=spans)
    value = affect_loss(SimpleNamespace(vad_BW3=heard), batch).value
    assert float(value) == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_intelligibility_loss_by_hand_and_as_a_loop():
    mask, target = frames(3, 1), torch.tensor([[1, 4, 2], [3, 0, 0]])
    flat = SimpleNamespace(text_BJV=torch.zeros(2, 3, 5))
    assert float(intelligibility_loss(flat, target, mask).value) == pytest.approx(math.log(5))
    logits = random(2, 3, 5)
    values = []
    for b, j in ((0, 0), (0, 1), (0, 2), (1, 0)):
        row = logits[b, j]
        values.append(float(row.exp().sum().log() - row[target[b, j]]))
    value = intelligibility_loss(SimpleNamespace(text_BJV=logits), target, mask).value
    assert float(value) == pytest.approx(sum(values) / 4, rel=1e-12)


# --- sentence term


def test_emotion_loss_by_hand_and_as_a_loop():
    posterior = random(2, 9, seed=1).softmax(-1)
    flat = SimpleNamespace(emotion_B9=torch.zeros(2, 9))
    batch = SimpleNamespace(emotion_B9=posterior)
    assert float(emotion_loss(flat, batch).value) == pytest.approx(math.log(9))
    logits = random(2, 9)
    values = []
    for b in range(2):
        total = float(logits[b].exp().sum())
        shares = [math.exp(float(x)) / total for x in logits[b]]
        values.append(
            -sum(float(p) * math.log(q) for p, q in zip(posterior[b], shares, strict=True))
        )
    value = emotion_loss(SimpleNamespace(emotion_B9=logits), batch).value
    assert float(value) == pytest.approx(sum(values) / 2, rel=1e-12)


# --- all terms alike: a function of one tensor, and that tensor

TARGET, TEXT = torch.tensor([[1, 4, 2], [3, 0, 0]]), frames(3, 1)
AFFECT = SimpleNamespace(vad_BW3=random(3, 4, 3, seed=5).sigmoid(), spans_BW2=words(4, 1, 2))
EMOTION = SimpleNamespace(emotion_B9=random(2, 9, seed=6).softmax(-1))
CODES = torch.full((2, 4, 3), 0.4, dtype=torch.float64)
REFERENCE = random(2, 4, 6, seed=7)

TERMS = {
    "kl": (lambda x: kl_divergence(x, REFERENCE, frames(4, 2), "sum").value, (2, 4, 6)),
    "frame_l1": (lambda x: code_loss(x, CODES, frames(4, 2), "l1").value, (2, 4, 3)),
    "frame_mse": (lambda x: code_loss(x, CODES, frames(4, 2), "mse").value, (2, 4, 3)),
    "asr": (
        lambda x: intelligibility_loss(SimpleNamespace(text_BJV=x), TARGET, TEXT).value,
        (2, 3, 5),
    ),
    "wvad": (lambda x: affect_loss(SimpleNamespace(vad_BW3=x), AFFECT).value, (3, 4, 3)),
    "ser": (lambda x: emotion_loss(SimpleNamespace(emotion_B9=x), EMOTION).value, (2, 9)),
}


@pytest.mark.parametrize("term", TERMS)
def test_gradients_are_those_of_finite_differences(term):
    loss, shape = TERMS[term]
    inputs = random(*shape, seed=2).requires_grad_()
    assert loss(inputs).dtype == torch.float64
    assert gradcheck(loss, (inputs,), atol=1e-6)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("constant", [0.0, 0.4, 1.0])
def test_constant_input_gives_finite_values_and_gradients(term, constant):
    loss, shape = TERMS[term]
    inputs = torch.full(shape, constant, dtype=torch.float32, requires_grad=True)
    value = loss(inputs)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(inputs.grad).all()


@pytest.mark.parametrize("term", TERMS)
def test_half_types_are_computed_in_at_least_float32(term):
    loss, shape = TERMS[term]
    inputs = random(*shape, seed=2).to(torch.bfloat16)
    assert loss(inputs).dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(
        loss(inputs).float(), loss(inputs.float()).float(), rtol=1e-6, atol=0
    )


# --- the sample


def noise_of(shape, seed=0):
    return sampling.gumbel_noise(shape, torch.Generator().manual_seed(seed))


def test_samples_are_one_hot_and_follow_the_softmax():
    """Chi-square of 30 000 draws; the seed is fixed, so the test does not flicker."""
    share = torch.tensor([0.45, 0.25, 0.15, 0.1, 0.05])
    logits = share.log().expand(1, 30_000, 5)
    rows = sampling.sample(Candidates(logits), 2.0, noise_of((1, 1, 30_000, 5)))
    torch.testing.assert_close(rows.sum(-1), torch.ones(1, 30_000))
    assert set(rows.round().unique().tolist()) == {0.0, 1.0}
    found = rows.round().sum((0, 1)).numpy()
    assert stats.chisquare(found, 30_000 * share.double().numpy()).pvalue > 0.01
    uniform = stats.chisquare(found)
    assert uniform.pvalue < 1e-6  # the test can fail


def test_noise_is_standard_gumbel():
    noise = noise_of((100_000,)).double()
    assert stats.kstest(noise[:5000].numpy(), "gumbel_r").pvalue > 0.01
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)  # Euler's constant
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.03)
    assert torch.isfinite(noise_of((2_000_000,))).all()


def test_the_draw_does_not_depend_on_the_temperature():
    logits, noise = random(2, 5, 20), noise_of((1, 2, 5, 20))
    hot, cold = (sampling.sample(Candidates(logits), tau, noise).argmax(-1) for tau in (2.0, 0.8))
    assert torch.equal(hot, cold)


@pytest.mark.parametrize("temperature", [2.0, 1.0, 0.8])
def test_the_gradient_is_the_softmax_jacobian_over_the_temperature(temperature):
    logits, noise = random(6), noise_of((6,)).double()
    weights = random(6, seed=1)
    soft = ((logits + noise) / temperature).softmax(-1)
    jacobian = (soft.diag() - soft[:, None] * soft[None]) / temperature

    def drawn(x):
        return sampling.sample(Candidates(x[None, None]), temperature, noise[None, None, None])[
            0, 0
        ]

    found = torch.autograd.functional.jacobian(drawn, logits)
    torch.testing.assert_close(found, jacobian, atol=1e-12, rtol=0)
    explicit, straight = (logits.clone().requires_grad_() for _ in range(2))
    (((explicit + noise) / temperature).softmax(-1) @ weights).backward()
    (drawn(straight) @ weights).backward()
    torch.testing.assert_close(straight.grad, explicit.grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, N_SPEECH_TOKENS), (0.8, 25)])
def test_end_of_speech_is_never_drawn(top_p, top_k):
    logits = torch.zeros(1, 4, N_OUTPUTS)
    logits[..., END_OF_SPEECH:] = 100.0
    candidates = sampling.within_nucleus(logits, top_p, top_k)
    noise = sampling.noise_for(torch.zeros(1, 4), torch.Generator().manual_seed(0), 2, top_k)
    assert candidates.logits_BLC.shape == noise.shape[1:] == (1, 4, top_k)
    assert len(noise) == 3
    assert int(candidates.draw_tokens(noise[0]).max()) < N_SPEECH_TOKENS


def test_only_the_nucleus_is_drawn_and_learns():
    """Of shares .5, .25, .15, .1: the first two hold .75, so that the third completes .8."""
    shares = torch.tensor([0.1, 0.5, 0.15, 0.25], dtype=torch.float64)
    logits = shares.log().expand(1, 1, 4).clone().requires_grad_()
    for top_p, top_k, kept in ((0.8, 3, [1, 3, 2]), (0.8, 2, [1, 3]), (0.5, 3, [1])):
        candidates = sampling.within_nucleus(logits, top_p, top_k)
        assert candidates.tokens_BLC[0, 0, : len(kept)].tolist() == kept
        assert torch.equal(candidates.logits_BLC[0, 0, : len(kept)], logits[0, 0, kept])
        assert candidates.logits_BLC[0, 0, len(kept) :].isinf().all()
    mix = sampling.sample(
        sampling.within_nucleus(logits, 0.8, 3), 1.0, noise_of((2, 1, 1, 3)).double()
    )
    values = torch.tensor([3.0, 1.0, 4.0, 2.0], dtype=torch.float64)
    (mix.shares * values[mix.tokens]).sum().backward()
    assert logits.grad[0, 0, 0] == 0
    assert (logits.grad[0, 0, 1:] != 0).all()


def test_few_candidates_are_the_same_sample_as_all_with_the_others_cut_off():
    """Value and gradient at the logits, where a linear reader takes the sample."""
    logits = (3 * random(2, 5, 40)).requires_grad_()
    few, all_of_them = (sampling.within_nucleus(logits, 0.8, k) for k in (39, 40))
    assert few.logits_BLC.isinf().any()
    assert all_of_them.tokens_BLC is None
    noise = noise_of((2, 5, 40)).double()
    at_rank = noise.gather(-1, few.tokens_BLC)  # few candidates have theirs by rank
    assert torch.equal(few.draw_tokens(at_rank), all_of_them.draw_tokens(noise))
    table, found = random(40, 6, seed=1), []
    mix = sampling.sample(few, 0.7, at_rank[None])
    rows = sampling.sample(all_of_them, 0.7, noise[None])
    for read in ((mix.shares[..., None] * table[mix.tokens]).sum(-2), rows @ table):
        (gradient,) = torch.autograd.grad((read * random(2, 5, 6, seed=2)).sum(), logits)
        found.append((read, gradient))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert found[0][1].abs().max() > 0


def test_redrawn_noise_is_that_which_would_have_drawn_the_same():
    """Against the definition: of fresh noise, that whose largest is the drawn token."""
    logits = torch.tensor([0.5, -0.3, 1.0, -torch.inf], dtype=torch.float64)
    noise = noise_of((200_000, 4), seed=1).double()
    drawn = torch.full((200_000, 1), 1)
    found = sampling._conditional_gumbel(logits.expand(200_000, 4), drawn, noise)
    assert (found.argmax(-1) == 1).all()
    assert (found[:, 3] == -torch.inf).all()
    fresh = logits + noise_of((200_000, 4), seed=2).double()
    fresh = fresh[fresh.argmax(-1) == 1]
    for c in range(3):
        same = stats.ks_2samp(found[:5000, c].numpy(), fresh[:5000, c].numpy())
        assert same.pvalue > 0.01
        other = stats.ks_2samp(noise[:5000, c].numpy() + float(logits[c]), fresh[:5000, c].numpy())
        assert other.pvalue < 1e-6  # the test can fail


def test_redraws_leave_the_mean_gradient_and_steady_it():
    logits, pull = random(1, 1, 6), random(6, seed=3)
    draws = 4000
    noise, found = noise_of((9, 1, draws, 6), seed=4).double(), {}
    for gumbel_rao_samples in (0, 8):
        many = logits.expand(1, draws, 6).clone().requires_grad_()
        rows = sampling.sample(Candidates(many), 0.8, noise[: 1 + gumbel_rao_samples])
        (rows @ pull).square().sum().backward()  # the reader's pull depends on the token drawn
        found[gumbel_rao_samples] = (rows.detach(), many.grad[0])
    assert torch.equal(found[0][0].argmax(-1), found[8][0].argmax(-1))  # the same sample
    one, many = found[0][1], found[8][1]
    error = ((one.var(0) + many.var(0)) / draws).sqrt()
    assert ((one.mean(0) - many.mean(0)).abs() < 4 * error).all()
    assert float(many.var(0).sum()) < 0.9 * float(one.var(0).sum())


def test_gradients_stay_finite_where_candidates_are_cut_off():
    logits = random(1, 3, 30).requires_grad_()
    candidates = sampling.within_nucleus(logits, 0.5, 20)
    assert candidates.logits_BLC.isinf().any()
    mix = sampling.sample(candidates, 0.8, noise_of((5, 1, 3, 20)).double())
    (mix.shares * random(1, 3, 20, seed=1)).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad != 0).any()
    torch.testing.assert_close(mix.shares.sum(-1), torch.ones(1, 3, dtype=torch.float64))


def test_the_whole_nucleus_is_every_speech_token():
    logits = random(1, 2, N_OUTPUTS)
    whole = sampling.within_nucleus(logits, 1.0, N_SPEECH_TOKENS)
    assert torch.equal(whole.logits_BLC, logits[..., :N_SPEECH_TOKENS])
    assert whole.tokens_BLC is None
    all_but_one = sampling.within_nucleus(logits, 1.0, N_SPEECH_TOKENS - 1)
    assert all_but_one.logits_BLC.shape == (1, 2, N_SPEECH_TOKENS - 1)
    assert all_but_one.logits_BLC.isfinite().all()


@pytest.mark.parametrize(
    ("given", "made"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2],
)
def test_the_sample_is_float32_at_least(given, made):
    with torch.autocast("cpu", torch.bfloat16):
        candidates = sampling.within_nucleus(random(1, 3, 8).to(given), 1.0, 8)
        rows = sampling.sample(candidates, 1.0, noise_of((2, 1, 3, 8)))
    assert rows.dtype == made
    assert rows.sum(-1) == pytest.approx(1.0, abs=1e-6)


# --- signs


def test_stopping_by_hand():
    """Ends with probability .2, .5 before the end and .7 at it; a padded row does not count."""
    logits = torch.zeros(2, 3, N_OUTPUTS, dtype=torch.float64)
    for row, shares in enumerate(((0.2, 0.5, 0.7), (0.1, 0.6, 0.99))):
        for t, share in enumerate(shares):
            logits[row, t, END_OF_SPEECH] = math.log(share / (1 - share) * (N_OUTPUTS - 1))
    at_end, before_end = (
        mean.value for mean in diagnostics.stop_probabilities(logits, torch.tensor([2, 1]))
    )
    assert float(at_end) == pytest.approx((0.7 + 0.6) / 2)
    assert float(before_end) == pytest.approx((1 - 0.8 * 0.5 + 0.1) / 2)


def test_stopping_is_finite_when_the_end_is_certain():
    logits = torch.zeros(1, 3, N_OUTPUTS)
    logits[..., END_OF_SPEECH] = 200.0
    at_end, before_end = (
        mean.value for mean in diagnostics.stop_probabilities(logits, torch.tensor([2]))
    )
    assert (float(at_end), float(before_end)) == pytest.approx((1.0, 1.0), abs=1e-5)


def test_entropy_of_a_uniform_policy():
    flat = torch.zeros(1, 3, N_OUTPUTS)
    assert float(diagnostics.entropy(flat, frames(3)).value) == pytest.approx(
        math.log(N_OUTPUTS), rel=1e-5
    )


def test_code_agreement_counts_real_frames_alone():
    truth = torch.tensor([[[0.0, 0.2], [0.4, 0.6], [1.0, 1.0]]])
    heard = torch.tensor([[[0.05, 0.22], [0.4, 0.9], [0.0, 0.0]]])  # same cell, another, padding
    mask = torch.tensor([[True, True, False]])
    assert float(diagnostics.code_agreement(heard, truth, 6, mask).value) == 0.5


def test_similarity_and_errors_are_loops(batch):
    logits, target = random(8, 9, dtype=torch.float32), batch.transcript_BJ[:, 1:]
    mask = length_mask(batch.transcript_lengths_B - 1, target.shape[1])
    written = torch.where(torch.arange(target.shape[1]) % 3 == 0, target + 1, target) % 120
    reading = SimpleNamespace(
        content_BLD=torch.zeros(*batch.tokens_BL.shape, 4),
        style_BLD=torch.zeros(*batch.tokens_BL.shape, 3),
        emotion_B9=logits,
        text_BJV=torch.nn.functional.one_hot(written, 121).float(),
    )
    codes = torch.zeros(*batch.tokens_BL.shape, 4), torch.zeros(*batch.tokens_BL.shape, 3)
    found = diagnostics.codec_diagnostics(
        reading, *codes, target, mask, batch, SimpleNamespace(content_levels=6, style_levels=5),
    )  # fmt: skip
    cosines, errors, total = [], 0, 0
    for b in range(8):
        p, q = logits[b].softmax(-1), batch.emotion_B9[b]
        cosines.append(float(p @ q / (p.norm() * q.norm())))
        for j in range(int(batch.transcript_lengths_B[b]) - 1):
            errors += int(written[b, j] != target[b, j])
            total += 1
    assert float(found["emotion_similarity"].value) == pytest.approx(sum(cosines) / 8, rel=1e-5)
    assert float(found["symbol_error_rate"].value) == pytest.approx(errors / total)
    assert float(found["code_agreement_content"].value) == 1.0
