"""Intervals against hand-computed values and against simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as distributions

from replication.stats import bootstrap_variance, contrast, mean_stderr, paired_bootstrap


def _simulate(rng: np.random.Generator, seeds: int, items: int, seed_spread: float) -> np.ndarray:
    """Differences with true mean 0: item effects, seed effects, and both together."""
    main = 0.4 * rng.normal(size=items) + seed_spread * rng.normal(size=(seeds, 1))
    return main + 0.3 * rng.normal(size=(seeds, items))


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.0), (3, 0.02), (3, 0.1), (5, 0.05)])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds: int, spread: float) -> None:
    rng = np.random.default_rng(3)
    estimates = [contrast([_simulate(rng, seeds, 100, spread)]) for _ in range(1000)]
    covered = np.mean([e.low <= 0 <= e.high for e in estimates])
    assert 0.93 <= covered <= 0.985


def test_one_seed_covers_items_only_and_says_so() -> None:
    rng = np.random.default_rng(4)
    estimates = [contrast([_simulate(rng, 1, 100, 0.08)]) for _ in range(500)]
    assert {e.covers for e in estimates} == {"items"}
    # The reason for the word: about the method, such an interval is wrong far more often than one time in twenty.
    assert np.mean([e.low <= 0 <= e.high for e in estimates]) < 0.85


def test_one_seed_is_the_paired_t_interval() -> None:
    difference = np.array([[0.2, -0.1, 0.4, 0.3, 0.0]])
    estimate = contrast([difference])
    reference = distributions.ttest_1samp(difference[0], 0).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high))
    assert estimate.items == 5 and estimate.seeds == 1


def test_seeds_that_agree_on_every_item_add_nothing() -> None:
    values = np.array([0.2, -0.1, 0.4, 0.3, 0.0])
    one, three = contrast([values[None]]), contrast([np.tile(values, (3, 1))])
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_a_seed_spread_without_item_spread_is_the_t_interval_over_seeds() -> None:
    by_seed = np.array([0.1, 0.3, 0.2])
    estimate = contrast([np.tile(by_seed[:, None], (1, 50))])
    reference = distributions.ttest_1samp(by_seed, 0).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high))


def test_no_disagreement_still_has_a_width() -> None:
    zero = np.zeros((1, 100))
    assert contrast([zero]).high == 0
    # Two imaginary items of size 1: variance 2 / 101 / 102.
    assert contrast([zero], pseudo=[1.0]).high == pytest.approx(
        float(distributions.t.ppf(0.975, 99)) * math.sqrt(2 / 101 / 102)
    )


def test_pairing_finds_what_unpaired_scores_hide() -> None:
    rng = np.random.default_rng(5)
    difficulty = rng.random(200)
    left, right = (difficulty < 0.55).astype(float), (difficulty < 0.50).astype(float)
    paired = contrast([(left - right)[None]], pseudo=[1.0])
    unpaired = math.hypot(mean_stderr(left), mean_stderr(right))
    assert paired.low > 0
    assert paired.value < 1.96 * unpaired


def test_groups_add_up() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.normal(size=(1, 40)), rng.normal(size=(1, 90))
    estimate = contrast([first / 2, second / 2])
    assert estimate.value == pytest.approx((first.mean() + second.mean()) / 2)
    assert estimate.stderr == pytest.approx(math.hypot(mean_stderr(first[0]), mean_stderr(second[0])) / 2)
    with pytest.raises(ValueError, match="same seeds"):
        contrast([first, np.zeros((2, 9))])


def test_the_minimum_detectable_effect_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(7)
    size = float(np.mean([contrast([_simulate(rng, 1, 200, 0.0)]).mde for _ in range(50)]))
    found = [contrast([size + _simulate(rng, 1, 200, 0.0)]).low > 0 for _ in range(600)]
    assert 0.72 <= np.mean(found) <= 0.88


def test_the_bootstrap_agrees_with_the_formula_and_with_itself() -> None:
    rng = np.random.default_rng(8)
    left, right = rng.normal(size=300), rng.normal(size=300) + 0.2
    low, high = paired_bootstrap(left, right, draws=4000, rng=np.random.default_rng(0))
    formula = contrast([(left - right)[None]])
    assert (low, high) == pytest.approx((formula.low, formula.high), abs=0.03)
    assert paired_bootstrap(left, right, draws=50, rng=np.random.default_rng(1)) == paired_bootstrap(
        left, right, draws=50, rng=np.random.default_rng(1)
    )
    variance = bootstrap_variance(lambda w: float(w[0] @ left), [300], draws=2000, rng=np.random.default_rng(2))
    assert math.sqrt(variance) == pytest.approx(mean_stderr(left), rel=0.1)
    with pytest.raises(ValueError, match="paired items"):
        paired_bootstrap(left, right[:5], draws=5, rng=rng)


def test_the_stderr_of_zeros_and_ones_is_binomial() -> None:
    values = np.array([1.0] * 30 + [0.0] * 70)
    assert mean_stderr(values) == pytest.approx(math.sqrt(0.3 * 0.7 / 99))
    with pytest.raises(ValueError, match="two or more"):
        mean_stderr(values[:1])
