"""Estimates over crossed raters and items: coverage on simulated raters; Krippendorff's alpha."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from hpro_core.listening.agreement import alpha
from hpro_core.listening.estimates import AdditiveModel, mean
from hpro_core.listening.orders import Orders, in_blocks
from tests.listening import Population, rated

KNOWN = Population({"a": 3.4, "b": 2.9, "c": 2.2})
"""The expected ratings of a and b differ by 0.48; ratings are whole numbers from 1 to 5."""

N_RATERS, N_ITEMS, PER_RATER, N_TESTS = 24, 45, 15, 1000
LOW, HIGH = (binom.ppf(tail, N_TESTS, 0.95) / N_TESTS for tail in (0.0005, 0.9995))
"""Bounds of the observed coverage of an exact 95 % interval, with a probability of 99.9 %:
0.926 and 0.971."""


@pytest.fixture(scope="module")
def crossed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Systems, raters and items of the naturalness part of a test as it is built."""
    orders = Orders(in_blocks(range(N_ITEMS), PER_RATER), ["naturalness"], 3, [], seed=0)
    rows = [
        (system, rater, item)
        for rater in range(N_RATERS)
        for item, system in orders.ratings(rater, "naturalness", range(N_ITEMS))
    ]
    systems_N, raters_N, items_N = np.array(rows).T
    return systems_N, raters_N, items_N


def simulated(crossed, seed: int) -> np.ndarray:
    """Ratings of one test of `KNOWN`, with new raters and new items, float (N,)."""
    systems_N, raters_N, items_N = crossed
    generator = np.random.default_rng(seed)
    latent_N = (
        np.array(list(KNOWN.levels.values()))[systems_N]
        + KNOWN.rater * generator.normal(size=N_RATERS)[raters_N]
        + KNOWN.item * generator.normal(size=N_ITEMS)[items_N]
        + KNOWN.rater_system * generator.normal(size=(N_RATERS, 3))[raters_N, systems_N]
        + KNOWN.item_system * generator.normal(size=(N_ITEMS, 3))[items_N, systems_N]
        + KNOWN.noise * generator.normal(size=len(systems_N))
    )
    return rated(latent_N)


@pytest.mark.parametrize("n_raters", [N_RATERS, 17], ids=["full cycle", "17 of 24 raters"])
def test_intervals_cover_the_known_difference_and_mean(crossed, n_raters):
    truth = {name: KNOWN.true_mean(name) for name in KNOWN.levels}
    gap = truth["b"] - truth["a"]
    kept_N = crossed[1] < n_raters
    systems_N, raters_N, items_N = (column[kept_N] for column in crossed)
    model = AdditiveModel(systems_N, raters_N, items_N, 3)
    covered = {"difference": 0, "mean": 0}
    n_found = 0
    for seed in range(N_TESTS):
        scores_N = simulated(crossed, seed)[kept_N]
        found = model.difference(scores_N, 1, 0)
        of_N = systems_N == 0
        level = mean(scores_N[of_N], raters_N[of_N], items_N[of_N], np.nan)
        covered["difference"] += found.lo <= gap <= found.hi
        covered["mean"] += level.lo <= truth["a"] <= level.hi
        n_found += found.p < 0.05
    assert {name for name, n in covered.items() if not LOW <= n / N_TESTS <= HIGH} == set(), covered
    assert n_found > 0.8 * N_TESTS  # the effect is seen


def test_without_a_difference_five_percent_are_significant(crossed):
    systems_N, raters_N, items_N = crossed
    equal_N = np.where(systems_N == 1, 0, systems_N)
    model = AdditiveModel(systems_N, raters_N, items_N, 3)
    n_found = 0
    for seed in range(N_TESTS):
        scores_N = simulated((equal_N, raters_N, items_N), seed)
        n_found += model.difference(scores_N, 1, 0).p < 0.05
    assert 1 - HIGH <= n_found / N_TESTS <= 1 - LOW


def test_a_complete_design_gives_the_difference_of_means_and_the_two_way_variance():
    """Each rater rates each item in both systems: the variance as sums over d = b - a."""
    generator = np.random.default_rng(0)
    scores_KRI = generator.normal(size=(2, 6, 8)) + generator.normal(size=(1, 6, 1))
    system, rater, item = (axis.ravel() for axis in np.indices(scores_KRI.shape))
    found = AdditiveModel(system, rater, item, 2).difference(scores_KRI.ravel(), 1, 0)
    gap_RI = scores_KRI[1] - scores_KRI[0]
    assert found.value == pytest.approx(gap_RI.mean(), abs=1e-12)
    # By plain loops: residuals of the additive model, influences, clusters.
    fitted = (
        scores_KRI.mean(axis=(1, 2), keepdims=True)
        + scores_KRI.mean(axis=(0, 2), keepdims=True)
        + scores_KRI.mean(axis=(0, 1), keepdims=True)
        - 2 * scores_KRI.mean()
    )
    n, n_parameters = 96, 2 + 5 + 7
    residual = (scores_KRI - fitted) * np.sqrt(n / (n - n_parameters))
    influence = np.array([-1, 1])[:, None, None] * residual / 48
    raters = sum(influence[:, r].sum() ** 2 for r in range(6)) * 6 / 5
    items = sum(influence[:, :, i].sum() ** 2 for i in range(8)) * 8 / 7
    error = np.sqrt(raters + items - (influence**2).sum())
    assert found.hi - found.value == pytest.approx(2.570582 * error, rel=1e-6)  # t of 5 freedoms


def test_values_are_known_with_one_rater_but_intervals_are_not():
    scores, one, items = np.array([1.0, 2.0, 4.0]), np.zeros(3), np.arange(3)
    found = mean(scores, one, items, 0.5)
    assert found.value == pytest.approx(7 / 3)
    assert np.isnan(found[1:]).all()
    assert np.isnan(mean(np.zeros(0), np.zeros(0), np.zeros(0), 0.5)).all()


def test_equal_scores_have_a_point_as_interval():
    raters, items = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    assert mean(np.full(6, 0.5), raters, items, 0.5) == (0.5, 0.5, 0.5, 1.0)
    assert mean(np.full(6, 1.0), raters, items, 0.5) == (1.0, 1.0, 1.0, 0.0)


def test_systems_that_no_rater_and_item_connect_are_not_compared():
    systems, raters = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    model = AdditiveModel(systems, raters, np.arange(4), 2)
    assert np.isnan(model.difference(np.arange(4.0), 1, 0)).all()


PUBLISHED = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Section D of Krippendorff 2011: four observers, twelve units, missing values."""


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_the_published_example(level, published):
    cells = [
        (int(value), unit)
        for line in PUBLISHED.strip().split("\n")
        for unit, value in enumerate(line.split())
        if value != "."
    ]
    values, units = np.array(cells).T
    assert alpha(values, units, level) == pytest.approx(published, abs=5e-4)


def test_alpha_of_agreement_chance_and_nothing():
    units = np.repeat(np.arange(2000), 2)
    assert alpha(np.repeat(np.arange(2000) % 5, 2), units, "ordinal") == 1
    drawn = np.random.default_rng(0).integers(1, 6, size=4000)
    assert alpha(drawn, units, "ordinal") == pytest.approx(0, abs=0.07)
    assert np.isnan(alpha(np.ones(4), np.array([0, 0, 1, 1]), "interval"))
    assert np.isnan(alpha(np.arange(3), np.arange(3), "interval"))
    with pytest.raises(ValueError, match="level 'ratio'"):
        alpha(drawn, units, "ratio")


def test_the_true_means_of_the_simulation_are_those_of_many_draws():
    generator = np.random.default_rng(0)
    spread = np.sqrt(0.5**2 + 0.4**2 + 0.2**2 + 0.3**2 + 0.7**2)
    latent = KNOWN.levels["c"] + spread * generator.normal(size=200_000)
    drawn = rated(latent).mean()
    assert KNOWN.true_mean("c") == pytest.approx(drawn, abs=0.01)
    assert all(one > other for one, other in pairwise(map(KNOWN.true_mean, KNOWN.levels)))
