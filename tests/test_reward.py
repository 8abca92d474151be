"""The objective on batches: what each term does to the policy; the paper's stages and ablations.

The terms one by one are in test_reward_terms.py.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpro_core import params as p
from hpro_core.policy.sft import make_policy
from hpro_core.reward.objective import TERMS, Objective, draw_noise, objective_of, reward_terms
from hpro_core.reward.sampling import noise_for
from hpro_core.train.batching import collate

PARAMS = Path(__file__).parents[1] / "params.yaml"
ALL = Objective(dict.fromkeys(TERMS, 1.0), temperature=1.0, frame_norm="l1")
METRIC_DIRECTION = {
    "code_agreement_content",
    "code_agreement_style",
    "emotion_similarity",
    "symbol_error_rate",
    "entropy",
    "stop_at_end",
    "stop_before_end",
}


@pytest.fixture(scope="module")
def policies(examples):
    settings = p.Policy(preset="miniature", dropout=0.1)
    torch.manual_seed(2)
    return [make_policy(settings, examples).eval() for _ in range(2)]


def terms_of(policies, codec, batch, objective=ALL, seed=0):
    noise = noise_for(batch.tokens_BL, torch.Generator().manual_seed(seed))[None]
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


def test_several_samples_of_an_utterance_count_as_their_mean(policies, codec, batch):
    noise = draw_noise(batch, torch.Generator().manual_seed(4), replace(ALL, samples=3)).noise_KRBLC
    assert len({float(one.sum()) for one in noise}) == 3
    together = reward_terms(*policies, codec, batch, ALL, noise)
    alone = [reward_terms(*policies, codec, batch, ALL, one[None]) for one in noise]
    for name, value in together.items():
        mean = torch.stack([terms[name] for terms in alone]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)
    gradients = [
        torch.autograd.grad(terms["loss"], policies[0].speech_head.digits)[0]
        for terms in (together, *alone)
    ]
    torch.testing.assert_close(
        gradients[0], torch.stack(gradients[1:]).mean(0), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize(("norm", "kl_reduction"), [("l1", "sum"), ("mse", "mean")])
def test_a_ragged_batch_is_the_mean_of_its_utterances(
    norm, kl_reduction, policies, codec, examples
):
    """Padding changes no term and no sign: each row has the noise that it had in the batch."""
    objective = replace(ALL, frame_norm=norm, kl_reduction=kl_reduction)
    batch = collate(examples, [e.speaker_embedding for e in examples])
    noise = noise_for(batch.tokens_BL, torch.Generator().manual_seed(3), 2)[None]
    together = reward_terms(*policies, codec, batch, objective, noise)
    alone = []
    for row, example in enumerate(examples):
        own = noise[:, :, row : row + 1, : len(example.tokens)]
        single = collate([example], [example.speaker_embedding])
        alone.append(reward_terms(*policies, codec, single, objective, own))
    frames = [len(e.tokens) for e in examples]
    symbols = [len(e.symbols) + 1 for e in examples]  # with the end symbol
    ones = [1] * len(examples)
    per_frame = ("sp", "cp", "code_agreement_content", "code_agreement_style")
    per_utterance = ("wvad", "ser", "emotion_similarity", "stop_at_end", "stop_before_end")
    positions = [n + 1 for n in frames]  # with the end
    sizes = {"entropy": positions, "kl": positions if kl_reduction == "mean" else ones}
    sizes |= dict.fromkeys(per_frame, frames)
    sizes |= dict.fromkeys(("asr", "symbol_error_rate"), symbols)
    sizes |= dict.fromkeys(per_utterance, ones)
    assert set(sizes) == {*TERMS, *METRIC_DIRECTION} == set(together) - {"loss"}
    for term, weights in sizes.items():
        share = torch.tensor(weights) / sum(weights)
        want = (torch.stack([a[term] for a in alone]) * share).sum()
        torch.testing.assert_close(together[term], want, atol=1e-5, rtol=1e-5)
        assert batch.counts()[together.means[term].over] == sum(weights)


def test_rows_of_a_batch_are_the_batch_of_the_rows(examples):
    batch = collate(examples, [e.speaker_embedding for e in examples])
    part = batch.rows(2, 5)
    want = collate(examples[2:5], [e.speaker_embedding for e in examples[2:5]])
    for name, value in vars(want).items():
        assert torch.equal(getattr(part, name), value), name


def test_all_that_the_released_reward_returns_is_logged(policies, codec, batch):
    """Its nine numbers: five losses, emotion similarity, error rate, two index accuracies."""
    nine = {"ser", "wvad", "asr", "sp", "cp", "emotion_similarity", "symbol_error_rate"}
    nine |= {"code_agreement_style", "code_agreement_content"}
    terms = terms_of(policies, codec, batch)
    assert nine | {"kl", "loss"} | METRIC_DIRECTION == set(terms)
    assert not any(terms[name].requires_grad for name in METRIC_DIRECTION)
    assert all(torch.isfinite(value) for value in terms.values())


def test_kl_and_its_gradient_are_zero_at_the_start(policies, codec, batch):
    policy = policies[0]
    terms = terms_of([policy, policy], codec, batch)
    assert float(terms["kl"].detach()) == 0.0
    gradients = torch.autograd.grad(terms["kl"], policy.parameters(), allow_unused=True)
    assert max(float(g.abs().max()) for g in gradients if g is not None) < 1e-6


def test_under_autocast_terms_and_sample_stay_float32(policies, codec, batch, monkeypatch):
    seen = []
    forward = codec.forward
    monkeypatch.setattr(
        codec, "forward", lambda tokens, *rest: seen.append(tokens.dtype) or forward(tokens, *rest)
    )
    with torch.autocast("cpu", torch.bfloat16):
        logits = policies[0](batch).logits_BLV
        terms = terms_of(policies, codec, batch)
        content, style = codec.preference_codes(batch.tokens_BL, batch.token_lengths_B)
    assert logits.dtype == torch.bfloat16  # so what follows is up to the terms themselves
    assert seen == [torch.float32]
    assert {value.dtype for value in terms.values()} == {torch.float32}
    assert {content.dtype, style.dtype} == {torch.float32}
    exact = terms_of(policies, codec, batch)
    for name in TERMS:
        torch.testing.assert_close(terms[name], exact[name], rtol=0.1, atol=0.02)


def test_the_loss_is_the_weighted_sum(policies, codec, batch):
    objective = Objective(dict(zip(TERMS, (0.02, 2.0, 1.0, 5.0, 1.0, 0.5), strict=True)), 0.8, "l1")
    terms = terms_of(policies, codec, batch, objective)
    want = sum(weight * float(terms[name].detach()) for name, weight in objective.weights.items())
    assert float(terms["loss"].detach()) == pytest.approx(want, rel=1e-5)


def test_the_codec_and_the_reference_get_no_gradient(policies, codec, batch):
    reference = policies[1]
    reference.requires_grad_(False)
    terms_of(policies, codec, batch)["loss"].backward()
    assert all(q.grad is None for q in [*codec.parameters(), *reference.parameters()])
    reference.requires_grad_(True)


def test_a_step_along_the_gradient_lowers_the_loss(examples, codec, batch):
    batch = batch.rows(0, 4)
    torch.manual_seed(3)
    policy = make_policy(p.Policy(preset="miniature", dropout=0.0), examples).eval()
    reference = make_policy(p.Policy(preset="miniature", dropout=0.0), examples).eval()
    reference.load_state_dict(policy.state_dict())
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    values = []
    for step in range(25):
        terms = terms_of([policy, reference], codec, batch, seed=step)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        values.append(float(terms["loss"].detach()))
    assert sum(values[-5:]) < sum(values[:5])


PAPER = {  # section III-B: temperature and lambdas of stages I, II, III
    "frame": (2.0, dict(kl=0.05, sp=2.0, cp=1.0, asr=0.0, wvad=0.0, ser=0.0)),
    "word": (1.0, dict(kl=0.02, sp=2.0, cp=1.0, asr=5.0, wvad=1.0, ser=0.0)),
    "hpro": (0.8, dict(kl=0.02, sp=2.0, cp=1.0, asr=5.0, wvad=1.0, ser=0.5)),
}
STARTS = {"frame": "sft", "word": "frame", "hpro": "word"}


@pytest.mark.parametrize("name", PAPER)
def test_the_default_stages_are_the_papers(name):
    variant = p.read_variant(PARAMS, name)
    objective = objective_of(variant, p.read_section(PARAMS, "reward", p.Reward))
    assert variant.start == STARTS[name]
    assert (objective.temperature, objective.weights) == PAPER[name]
    assert objective.frame_norm == "l1"


OVERRIDDEN = {
    "frame_norm": {"frame_norm": "mse"},
    "kl_reduction": {"kl_reduction": "mean"},
    "temperature": {"temperature": 3.0},
    "samples": {"samples": 7},
    "top_k": {"top_k": 6561},
}


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_an_override_changes_one_part_of_the_objective(name):
    reward = p.read_section(PARAMS, "reward", p.Reward)
    plain = p.Variant(start="sft", stage="word", drop=["asr"])
    other = plain.model_copy(update={"override": p.Override(**OVERRIDDEN[name])})
    before, after = (objective_of(variant, reward) for variant in (plain, other))
    assert after == replace(before, **OVERRIDDEN[name]) != before


def test_an_override_replaces_the_weights_that_it_names():
    reward = p.read_section(PARAMS, "reward", p.Reward)
    variant = p.Variant(start="sft", stage="word", override={"weights": {"wvad": 3.0, "ser": 0.5}})
    expected = PAPER["word"][1] | {"wvad": 3.0, "ser": 0.5}
    assert objective_of(variant, reward).weights == expected
    assert reward.word.weights.wvad == 1.0
    assert variant.applied_to(reward).sentence == reward.sentence


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
    third = PAPER["hpro"][1]
    assert {t: w for t, w in objective.weights.items() if w} == {
        t: w for t, w in third.items() if t not in DROPPED[name]
    }
    assert objective.temperature == (1.0 if name == "diffro" else 0.8)
