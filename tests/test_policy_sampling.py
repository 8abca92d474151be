"""How tokens are drawn: hand-made logits with known draws, and whole distributions."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from hpro_core.constants import N_SPEECH_TOKENS
from hpro_core.policy.interface import END_OF_SPEECH, N_OUTPUTS, Cache
from hpro_core.policy.sampling import Sampling, _draw, sample
from hpro_core.speech.token_table import TokenMix, TokenTable, cached_rows
from hpro_core.train.batching import collate

RAS = Sampling("ras", top_p=0.8, top_k=25, temperature=1.0, min_ratio=0.0, max_ratio=2.0)


class Fixed:
    """A policy that always predicts the same distribution and remembers what it was given."""

    training = False

    def __init__(self, logits_V):
        self.logits_V, self.seen = logits_V, []

    def begin(self, batch, room, prompt=None):
        rows = len(batch.symbols_BS)
        cache = Cache.empty(0, torch.ones(rows, 1).bool(), torch.zeros(rows).long(), room)
        return torch.zeros(rows, 1), cache

    def read(self, tokens_BL, cache):
        self.seen.append(tokens_BL[:, 0].tolist())
        assert len(tokens_BL) == len(cache.mask_BT) == len(cache.position_B)
        return torch.zeros(len(tokens_BL), 1, 1)

    def modules(self):
        return iter(())

    def logits(self, hidden):
        return self.logits_V.expand(len(hidden), -1).clone()


def fixed(shares):
    """Logits over all output classes with these probabilities and no others."""
    logits = torch.full((N_OUTPUTS,), -torch.inf)
    for token, share in shares.items():
        logits[token] = torch.log(torch.tensor(share))
    return logits


def seeded(*uniforms):
    """A generator, by search, whose first numbers fall within 0.04 of those asked for."""
    for seed in range(200_000):
        found = torch.rand(len(uniforms), generator=torch.Generator().manual_seed(seed))
        if all(abs(f - u) < 0.04 for f, u in zip(found.tolist(), uniforms, strict=True)):
            return torch.Generator().manual_seed(seed)
    raise AssertionError("no such seed")


@pytest.fixture
def one(examples):
    return collate(examples[:1], [e.speaker_embedding for e in examples[:1]])


def test_a_repeat_is_drawn_again_from_the_whole_distribution():
    # 7 and 3 reach 0.81 together, so the nucleus holds no 2 and no 5; in the order of the ids the
    # whole distribution is 2: 0 to 0.1, 3: to 0.41, 5: to 0.5, 7: to 1.
    logits = fixed({7: 0.5, 3: 0.31, 2: 0.1, 5: 0.09})[None]
    known = (
        ([], (0.3,), 7),  # 0.3 of the nucleus is inside 7's 0.62
        ([], (0.9,), 3),
        ([7], (0.3, 0.05), 2),  # 7 is recent: 0.05 of the whole is a 2, which no nucleus holds
        ([7], (0.3, 0.455), 5),
        ([7], (0.3, 0.8), 7),  # the second draw may be a repeat again
        ([7], (0.9,), 3),  # not a repeat: drawn once
        ([7] + [1] * 9, (0.3, 0.05), 2),  # the tenth from the end still counts
        ([7] + [1] * 10, (0.3,), 7),  # the eleventh does not
    )
    for past, uniforms, expected in known:
        generator = seeded(*uniforms)
        assert _draw(logits, [generator], RAS, [past]).tolist() == [expected], (past, uniforms)


def test_the_threshold_is_a_share_of_the_window():
    logits = fixed({7: 0.9, 2: 0.1})[None]
    twice = Sampling("ras", 0.8, 25, 1.0, 0.0, 2.0, window=10, tau=0.2)
    for past, expected in (([7], 7), ([7, 7], 2)):
        assert _draw(logits, [seeded(0.5, 0.04)], twice, [past]).tolist() == [expected]


def test_rows_have_their_own_past_and_their_own_numbers():
    logits = fixed({7: 0.5, 3: 0.31, 2: 0.1, 5: 0.09}).expand(3, -1)
    generators = [seeded(0.3, 0.05), seeded(0.3, 0.05), seeded(0.3, 0.05)]
    assert _draw(logits, generators, RAS, [[7], [], [7]]).tolist() == [2, 7, 2]
    # A row that was drawn once has used one number, a row that was drawn twice has used two.
    third = [torch.rand((), generator=g).item() for g in generators]
    assert third[0] == third[2] != third[1]
    assert abs(third[1] - 0.05) < 0.05


def test_greedy_takes_the_likeliest_and_no_random_numbers():
    logits = fixed({7: 0.5, 3: 0.3, 2: 0.2})[None]
    generator = torch.Generator().manual_seed(3)
    greedy = Sampling("greedy", 0.8, 25, 1.0, 0.0, 2.0)
    assert _draw(logits, [generator], greedy, [[7, 7, 7]]).tolist() == [7]
    unused = torch.Generator().manual_seed(3)
    assert torch.rand((), generator=generator) == torch.rand((), generator=unused)


FIRST = 0.5 / 0.81  # share of the likeliest token in the nucleus


def test_more_candidates_than_there_are_classes_are_all_of_them():
    wide = replace(RAS, method="nucleus", top_p=1.0, top_k=N_OUTPUTS + 5)
    logits = fixed({3: 0.5, 9: 0.5})[None].expand(64, -1)
    generators = [torch.Generator().manual_seed(row) for row in range(64)]
    drawn = _draw(logits, generators, wide, [[] for _ in range(64)])
    assert set(drawn.tolist()) == {3, 9}


@pytest.mark.parametrize(
    ("past", "shares"),
    [
        ([], {7: FIRST, 3: 1 - FIRST}),
        # 7 is recent: whenever the nucleus says 7, the whole distribution decides.
        ([7], {3: 1 - FIRST + FIRST * 0.31, 7: FIRST * 0.5, 2: FIRST * 0.1, 5: FIRST * 0.09}),
        ([7, 3], {7: 0.5, 3: 0.31, 2: 0.1, 5: 0.09}),
    ],
)
def test_draws_have_the_distribution_of_the_definition(past, shares):
    rows = 4_000
    logits = fixed({7: 0.5, 3: 0.31, 2: 0.1, 5: 0.09}).expand(rows, -1)
    generator = torch.Generator().manual_seed(11)
    counts = Counter(_draw(logits, [generator] * rows, RAS, [past] * rows).tolist())
    assert set(counts) == set(shares)
    observed = [counts[token] for token in shares]
    assert chisquare(observed, [rows * share for share in shares.values()]).pvalue > 0.01


def test_temperature_sharpens_the_distribution(one):
    def share_of_seven(temperature):
        policy = Fixed(fixed({7: 0.6, 3: 0.4}))
        how = Sampling("nucleus", 1.0, 25, temperature, 0.0, 200.0)
        (result,) = sample(policy, one, [torch.Generator().manual_seed(0)], how)
        assert set(result.tokens.tolist()) == {3, 7}
        return (result.tokens == 7).float().mean().item()

    assert share_of_seven(1.0) == pytest.approx(0.6, abs=0.02)
    assert share_of_seven(0.5) == pytest.approx(0.36 / 0.52, abs=0.02)


@pytest.mark.parametrize("method", ["nucleus", "ras", "greedy"])
def test_limits_and_the_stop_hold_for_every_method(one, method):
    symbols = int(one.symbol_lengths_B[0])
    how = Sampling(method, 0.8, 25, 1.0, min_ratio=0.5, max_ratio=2.0)
    ending = fixed({END_OF_SPEECH: 0.9, 7: 0.06, 3: 0.04})
    (ended,) = sample(Fixed(ending), one, [torch.Generator().manual_seed(0)], how)
    assert ended.stopped
    assert len(ended.tokens) >= int(symbols * 0.5)
    assert len(ended.tokens) < symbols * 2
    endless = fixed({N_SPEECH_TOKENS + 2: 0.9, 7: 0.06, 3: 0.04})  # what cannot be spoken
    policy = Fixed(endless)
    (cut,) = sample(policy, one, [torch.Generator().manual_seed(0)], how)
    assert not cut.stopped
    assert len(cut.tokens) == symbols * 2
    assert set(cut.tokens.tolist()) <= {3, 7}
    assert [row[0] for row in policy.seen] == cut.tokens.tolist()[:-1]


def test_a_row_that_ends_leaves_the_others_as_they_are(examples):
    pair = collate(examples[:2], [e.speaker_embedding for e in examples[:2]])
    policy = Fixed(fixed({7: 0.5, 3: 0.3, 2: 0.1, 5: 0.05, END_OF_SPEECH: 0.05}))
    generators = [torch.Generator().manual_seed(s) for s in (0, 1)]
    together = sample(policy, pair, generators, RAS)
    assert len(together[0].tokens) != len(together[1].tokens)
    # What has ended is read no further: nothing follows an end, nor the last token allowed.
    expected = sum(len(spoken.tokens) - (not spoken.stopped) for spoken in together)
    assert sum(map(len, policy.seen)) == expected
    for i, example in enumerate(examples[:2]):
        single = collate([example], [example.speaker_embedding])
        (alone,) = sample(policy, single, [torch.Generator().manual_seed(i)], RAS)
        assert torch.equal(alone.tokens, together[i].tokens)
        assert alone.stopped == together[i].stopped


@pytest.mark.parametrize("factored", [False, True])
def test_a_mix_of_few_tokens_is_the_distribution_with_zeros(factored):
    table = TokenTable(4, extra=3, factored=factored)
    tokens = torch.tensor([[7, 6560, 0], [1, 2, 3]])
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], requires_grad=True)
    dense = torch.zeros(2, 6561).scatter(-1, tokens, shares)
    pull = torch.tensor([[1.0, -2.0, 3.0, 0.5]])
    found = []
    for vectors in (table(TokenMix(tokens, shares)), table(dense)):
        found.append((vectors, *torch.autograd.grad((vectors * pull).sum(), shares)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_rows_that_are_kept_are_those_of_the_weights():
    table = TokenTable(4, extra=3, factored=True)
    fresh = table.rows()
    with cached_rows([nn.Linear(1, 1), table]):
        assert table.rows() is table.rows()
        assert torch.equal(table.rows(), fresh)
        assert not table.rows().requires_grad
    with torch.no_grad():
        table.digits.add_(1.0)
    assert not torch.allclose(table.rows()[:10], fresh[:10])
    assert table.rows().requires_grad
