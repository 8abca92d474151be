"""Rewards: every term reaches the logits, none sees padding, weights and stages are the paper's."""

from pathlib import Path

import pytest
import torch

from hpro_core import params as p
from hpro_core.codec.training import make_codec
from hpro_core.engine.batching import collate
from hpro_core.policy.sft import make_policy
from hpro_core.reward import gumbel
from hpro_core.reward.objective import TERMS, Objective, objective_of, reward_terms
from hpro_core.reward.optimisation import gradient_shares

PARAMS = Path(__file__).parents[1] / "params.yaml"
ALL = Objective(dict.fromkeys(TERMS, 1.0), temperature=1.0, frame_norm="l1")


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(1)
    codec = make_codec("embedded").eval()
    codec.freeze(list(codec.children()))
    return codec


@pytest.fixture(scope="module")
def policies(examples):
    settings = p.Policy(preset="miniature", dropout=0.1)
    torch.manual_seed(2)
    return [make_policy(settings, examples).eval() for _ in range(2)]


def terms_of(policies, codec, batch, objective=ALL, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return reward_terms(*policies, codec, batch, objective, noise)


@pytest.mark.parametrize("term", TERMS)
def test_each_term_alone_gives_the_logits_a_gradient(term, policies, codec, batch, monkeypatch):
    seen = []
    forward = policies[0].logits

    def keep(hidden):
        logits = forward(hidden)
        logits.retain_grad()
        seen.append(logits)
        return logits

    monkeypatch.setattr(policies[0], "logits", keep)
    terms_of(policies, codec, batch)[term].backward()
    gradient = seen[0].grad
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
    mask = torch.nn.functional.pad(batch.token_mask_BL, (1, 0), value=True)
    assert gradient[~mask].abs().max() == 0  # nothing at positions after the end


def test_a_ragged_batch_is_the_mean_of_its_utterances(policies, codec, examples, monkeypatch):
    """Padding invariance of every term; the noise is taken away so that draws agree."""
    monkeypatch.setattr(gumbel, "gumbel_noise", lambda shape, generator: torch.zeros(shape))
    batch = collate(examples, [e.speaker_embedding for e in examples])
    together = terms_of(policies, codec, batch)
    alone = [terms_of(policies, codec, collate([e], [e.speaker_embedding])) for e in examples]
    sizes = {
        "kl": [len(e.tokens) + 1 for e in examples],
        "sp": [len(e.tokens) for e in examples],
        "cp": [len(e.tokens) for e in examples],
        "asr": [len(e.symbols) + 1 for e in examples],
        "wvad": [1] * len(examples),
        "ser": [1] * len(examples),
    }
    for term, weights in sizes.items():
        share = torch.tensor(weights) / sum(weights)
        want = (torch.stack([a[term] for a in alone]) * share).sum()
        torch.testing.assert_close(together[term], want, atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_weighted_sum(policies, codec, batch):
    objective = Objective(dict(zip(TERMS, (0.02, 2.0, 1.0, 5.0, 1.0, 0.5), strict=True)), 0.8, "l1")
    terms = terms_of(policies, codec, batch, objective)
    want = sum(weight * float(terms[name].detach()) for name, weight in objective.weights.items())
    assert float(terms["loss"]) == pytest.approx(want, rel=1e-5)


def test_the_codec_and_the_reference_get_no_gradient(policies, codec, batch):
    reference = policies[1]
    reference.requires_grad_(False)
    terms_of(policies, codec, batch)["loss"].backward()
    assert all(q.grad is None for q in [*codec.parameters(), *reference.parameters()])
    reference.requires_grad_(True)


def test_a_step_along_the_gradient_lowers_the_loss(examples, codec, batch):
    torch.manual_seed(3)
    policy = make_policy(p.Policy(preset="miniature", dropout=0.0), examples).eval()
    reference = make_policy(p.Policy(preset="miniature", dropout=0.0), examples).eval()
    reference.load_state_dict(policy.state_dict())
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    values = []
    for step in range(25):
        noise = torch.Generator().manual_seed(step)
        terms = reward_terms(policy, reference, codec, batch, ALL, noise)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        values.append(float(terms["loss"].detach()))
    assert sum(values[-5:]) < sum(values[:5])


def test_gumbel_samples_are_one_hot_and_follow_the_softmax():
    logits = torch.log(torch.tensor([0.6, 0.3, 0.1])).expand(1, 30_000, 3)
    rows = gumbel.sample(logits, 2.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.sum(-1), torch.ones(1, 30_000))
    share = rows.mean(1)[0]
    torch.testing.assert_close(share, torch.tensor([0.6, 0.3, 0.1]), atol=0.01, rtol=0)


def test_the_draw_does_not_depend_on_the_temperature_but_the_gradient_does():
    logits = torch.randn(2, 5, 20, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(20, generator=torch.Generator().manual_seed(1))
    draws, gradients = [], []
    for temperature in (2.0, 0.8):
        leaf = logits.clone().requires_grad_()
        rows = gumbel.sample(leaf, temperature, torch.Generator().manual_seed(0))
        (rows @ weights).sum().backward()
        draws.append(rows.detach().argmax(-1))
        gradients.append(leaf.grad)
    assert torch.equal(*draws)
    assert not torch.allclose(*gradients)


def test_end_of_speech_is_never_drawn():
    logits = torch.zeros(1, 4, 6564)
    logits[..., 6561:] = 100.0
    rows = gumbel.sample(logits, 1.0, torch.Generator().manual_seed(0))
    assert rows.shape[-1] == 6561


PAPER = {  # section III-B
    "frame": (2.0, dict(kl=0.05, sp=2.0, cp=1.0, asr=0.0, wvad=0.0, ser=0.0)),
    "word": (1.0, dict(kl=0.02, sp=2.0, cp=1.0, asr=5.0, wvad=1.0, ser=0.0)),
    "hpro": (0.8, dict(kl=0.02, sp=2.0, cp=1.0, asr=5.0, wvad=1.0, ser=0.5)),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_default_stages_are_the_papers(name):
    objective = objective_of(
        p.read_variant(PARAMS, name), p.read_section(PARAMS, "reward", p.Reward)
    )
    assert (objective.temperature, objective.weights) == PAPER[name]
    assert objective.frame_norm == "l1"


DROPPED = {  # Table III
    "no_content": {"cp", "asr"},
    "no_emotion": {"sp", "wvad", "ser"},
    "no_frame": {"cp", "sp"},
    "no_wvad": {"wvad"},
    "diffro": {"cp", "sp", "wvad"},
    "joint": set(),
}


@pytest.mark.parametrize("name", DROPPED)
def test_ablations_drop_the_papers_terms_and_start_from_sft(name):
    variant = p.read_variant(PARAMS, name)
    objective = objective_of(variant, p.read_section(PARAMS, "reward", p.Reward))
    assert variant.start == "sft"
    assert {t for t, w in objective.weights.items() if w == 0} == DROPPED[name]


def test_gradient_shares_sum_to_one_and_no_term_is_dead(policies, codec, batch):
    shares = gradient_shares(policies[0], terms_of(policies, codec, batch), ALL)
    assert sum(s["share"] for s in shares.values()) == pytest.approx(1.0)
    assert all(s["norm"] > 0 for s in shares.values())
