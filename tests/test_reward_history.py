"""The history that the rewarded policy reads: its own speech, at the recording's timing."""

from dataclasses import replace

import pytest
import torch

from hpro_core import params as p
from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.policy.sft import make_policy
from hpro_core.reward.objective import TERMS, Objective, Rewarder, draw_noise, reward_terms
from hpro_core.reward.sampling import jacobi_history, noise_for

TOP_P, TOP_K = 0.8, 25
SWEEPS = Objective(
    dict.fromkeys(TERMS, 1.0), 1.0, "l1", jacobi_iterations=3, top_p=TOP_P, top_k=TOP_K
)


@pytest.fixture(scope="module")
def policy(examples):
    torch.manual_seed(3)
    policy = make_policy(p.Policy(preset="miniature", dropout=0.1), examples).eval()
    with torch.no_grad():
        policy.head_bias.copy_(3 * torch.randn(policy.head_bias.shape))  # candidates that differ
    return policy


@pytest.fixture
def noise(batch):
    return noise_for(batch.tokens_BL, torch.Generator().manual_seed(5), 1, TOP_K)


@torch.no_grad()
def spoken_alone(policy, batch, noise, n):
    """The first n tokens, drawn one after the other by the plain definition."""
    hidden, cache = policy.begin(batch, batch.tokens_BL.shape[1])
    tokens = []
    for t in range(n):
        logits = policy.logits(hidden)[:, :N_SPEECH_TOKENS].float()
        said = []
        for row in range(len(logits)):
            values, order = logits[row].softmax(-1).sort(descending=True)
            kept, total = [], 0.0
            for value, token in zip(values.tolist(), order.tolist(), strict=True):
                if total >= TOP_P or len(kept) == TOP_K:
                    break
                kept.append(token)
                total += value
            perturbed = logits[row, kept] + noise[0, row, t, : len(kept)]
            said.append(kept[int(perturbed.argmax())])
        tokens.append(torch.tensor(said))
        hidden = policy.read(tokens[-1][:, None], cache)[:, 0]
    return torch.stack(tokens, dim=1)


def test_no_sweep_leaves_the_recording(policy, batch, noise):
    assert jacobi_history(policy, batch, noise[0], 0, TOP_P, TOP_K) is batch


def test_after_k_sweeps_the_first_k_tokens_are_what_it_says_alone(policy, batch, noise):
    alone = spoken_alone(policy, batch, noise, 4)
    for sweeps in (1, 2, 4):
        swept = jacobi_history(policy, batch, noise[0], sweeps, TOP_P, TOP_K)
        assert torch.equal(swept.history_BL[:, :sweeps], alone[:, :sweeps])
        assert torch.equal(swept.tokens_BL, batch.tokens_BL)
        padding = ~batch.token_mask_BL
        assert torch.equal(swept.history_BL[padding], batch.tokens_BL[padding])
    assert not torch.equal(alone, batch.tokens_BL[:, :4])


def test_policy_and_reference_read_that_history(policy, codec, batch, noise):
    swept = jacobi_history(policy, batch, noise[0], 3, TOP_P, TOP_K)
    read = []

    def reference(batch):
        read.append(batch.history_BL)
        return policy(batch)

    terms = reward_terms(policy, reference, codec, batch, SWEEPS, noise[None])
    assert len(read) == 1
    assert torch.equal(read[0], swept.history_BL)
    assert float(terms["kl"].detach()) == pytest.approx(0.0, abs=1e-6)
    plain = reward_terms(
        policy, policy, codec, swept, replace(SWEEPS, jacobi_iterations=0), noise[None]
    )
    for term in TERMS:
        torch.testing.assert_close(terms[term], plain[term])


def test_no_gradient_goes_through_the_sweeps(policy, codec, batch, noise):
    own = replace(SWEEPS, jacobi_iterations=0)
    grads = []
    swept = jacobi_history(policy, batch, noise[0], 3, TOP_P, TOP_K)
    for given, objective in ((batch, SWEEPS), (swept, own)):
        policy.zero_grad()
        reward_terms(policy, policy, codec, given, objective, noise[None])["wvad"].backward()
        grads.append([w.grad.clone() for w in policy.parameters() if w.grad is not None])
    for swept, plain in zip(*grads, strict=True):
        torch.testing.assert_close(swept, plain)
    policy.zero_grad()


def test_the_pull_at_the_logits_is_taken_after_that_history(policy, codec, batch):
    rewarder = Rewarder(policy, policy, codec, SWEEPS, torch.device("cpu"), bf16=False)
    drawn = rewarder.draw_noise(batch, 7)
    swept = jacobi_history(policy, drawn.batch, drawn.noise_KRBLC[0, 0], 3, TOP_P, TOP_K)
    plain = Rewarder(
        policy, policy, codec, replace(SWEEPS, jacobi_iterations=0), torch.device("cpu"), bf16=False
    )
    again = draw_noise(swept, torch.Generator().manual_seed(7), SWEEPS)
    assert torch.equal(again.noise_KRBLC, drawn.noise_KRBLC)
    want = plain.gradient_norms_at_logits(again)
    assert rewarder.gradient_norms_at_logits(drawn) == pytest.approx(want, rel=1e-4)
    assert rewarder.gradient_norms_at_logits(drawn) != pytest.approx(
        plain.gradient_norms_at_logits(drawn), rel=1e-4
    )
