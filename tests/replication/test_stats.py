"""Intervals against hand-computed values and against simulated truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as distributions

from replication import stats
from replication.stats import bootstrap_variance, contrast, mean_stderr, p_above, p_below, paired_bootstrap, unpaired


def _simulate(
    rng: np.random.Generator, seeds: int, items: int, seed_spread: float, *, arm: float = 0.4, noise: float = 0.3
) -> np.ndarray:
    """Differences with true mean 0: what items do (`arm`), what seeds do, and both together (`noise`)."""
    main = arm * rng.normal(size=items) + seed_spread * rng.normal(size=(seeds, 1))
    return main + noise * rng.normal(size=(seeds, items))


def _coverage(made: Callable[[], np.ndarray], *, pseudo: float = 0.0, studies: int = 4000) -> float:
    """How many of so many studies' intervals hold the truth, 0; the Monte Carlo error of 95 % is .35 %."""
    estimates = [contrast([made()], pseudo=[pseudo]) for _ in range(studies)]
    return float(np.mean([e.low <= 0 <= e.high for e in estimates]))


@pytest.fixture
def no_mde(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the search for the detectable effect, which takes most of the time and is not asked here."""
    monkeypatch.setattr(stats, "detectable", lambda *args, **kwargs: 0.0)


# (arm, noise, spread of the seeds in standard errors over items): items alone count; all alike; seeds; no items at all.
KINDS = [(1.0, 0.3, 0.0), (1.0, 1.0, 1.0), (1.0, 0.3, 3.0), (0.0, 1.0, 0.0)]
THREE = [(3, items, *kind) for items in (60, 250) for kind in KINDS]
ONE = [(1, 60, 1.0, 0.3, 0.0), (1, 250, 1.0, 0.3, 0.0)]


@pytest.mark.usefixtures("no_mde")
@pytest.mark.parametrize(("seeds", "items", "arm", "noise", "spread"), [*THREE, *ONE, (5, 100, 1.0, 1.0, 1.0)])
def test_the_interval_covers_the_truth_in_95_percent_to_within_one(
    seeds: int, items: int, arm: float, noise: float, spread: float
) -> None:
    """The designs of the study: three seeds, or one and then items alone, 60 to 250 items."""
    rng = np.random.default_rng(3)
    sd = spread / math.sqrt(items)
    assert 0.94 <= _coverage(lambda: _simulate(rng, seeds, items, sd, arm=arm, noise=noise)) <= 0.96


@pytest.mark.usefixtures("no_mde")
@pytest.mark.parametrize(("noise", "spread"), [(0.3, 1.0), (1.0, 0.0), (0.3, 3.0)])
def test_two_seeds_cover_95_to_98_percent(noise: float, spread: float) -> None:
    rng = np.random.default_rng(4)
    assert 0.945 <= _coverage(lambda: _simulate(rng, 2, 60, spread / math.sqrt(60), arm=1.0, noise=noise)) <= 0.982


def _binary(rng: np.random.Generator, seeds: int, items: int, *, between: float) -> np.ndarray:
    """Right or wrong of two arms alike, in a probit model; `between` is what arm and luck do to an item."""
    difficulty = 1.5 * rng.normal(size=items)
    arms = [difficulty + between * rng.normal(size=items) for _ in range(2)]
    first, second = (arm + between * rng.normal(size=(seeds, items)) > 0 for arm in arms)
    return first.astype(float) - second


@pytest.mark.usefixtures("no_mde")
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("between", [0.05, 0.3, 1.0])
def test_right_and_wrong_answers_are_covered_at_least_as_often(seeds: int, between: float) -> None:
    rng = np.random.default_rng(5)
    covered = _coverage(lambda: _binary(rng, seeds, 60, between=between), pseudo=1.0, studies=3000)
    # 1, 8 and 20 of 60 answers differ between the arms: the fewer, the more the two imaginary items widen.
    assert 0.94 <= covered <= (1.0 if between < 1 else 0.972)


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


def test_unpaired_scores_add_their_errors() -> None:
    estimate = unpaired([(1.0, 0.30, 0.03), (-1.0, 0.24, 0.04)], items=164)
    assert estimate.value == pytest.approx(0.06) and estimate.stderr == pytest.approx(0.05)
    assert (estimate.low, estimate.high) == pytest.approx((0.06 - 1.959964 * 0.05, 0.06 + 1.959964 * 0.05), abs=1e-7)
    # A fixed half width: the effect must lie .84 standard errors above it.
    assert estimate.mde == pytest.approx((1.959964 + 0.841621) * 0.05, abs=1e-7)
    assert (estimate.covers, estimate.items, estimate.seeds) == ("items, unpaired", 164, 1)
    # Its p value is that of the z test.
    assert p_above(estimate) == pytest.approx(distributions.norm.sf(0.06 / 0.05), rel=1e-4)
    assert p_below(estimate, 0.1) == pytest.approx(distributions.norm.sf(0.04 / 0.05), rel=1e-4)


def test_unpaired_scores_of_one_model_against_itself_still_differ_by_their_errors() -> None:
    same = unpaired([(0.5, 0.4, 0.02), (-0.5, 0.4, 0.02)], items=50)
    assert same.value == 0 and same.high == pytest.approx(1.959964 * 0.02 / math.sqrt(2), abs=1e-7)
    for wrong in ([], [(1.0, 0.4, -0.01)]):
        with pytest.raises(ValueError, match="unpaired scores need"):
            unpaired(wrong, items=50)


def test_unpaired_intervals_of_published_scores_cover_95_percent() -> None:
    rng = np.random.default_rng(9)
    covered = []
    for _ in range(4000):
        scores = rng.binomial(250, 0.4, size=2) / 250
        parts = [(w, p, math.sqrt(p * (1 - p) / 250)) for w, p in zip((1.0, -1.0), scores.tolist(), strict=True)]
        estimate = unpaired(parts, items=250)
        covered.append(estimate.low <= 0 <= estimate.high)
    assert 0.94 <= np.mean(covered) <= 0.96


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
    found = [contrast([size + _simulate(rng, 1, 200, 0.0)]).low > 0 for _ in range(1000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detectable_effect_estimated_from_three_seeds_is_found_in_63_to_86_percent(
    kind: tuple[float, float, float],
) -> None:
    """On average over studies, each with the effect that another study of the design called detectable."""
    arm, noise, spread = kind
    rng = np.random.default_rng(8)
    made = [contrast([_simulate(rng, 3, 100, spread / 10, arm=arm, noise=noise)]) for _ in range(600)]
    lows, sizes = (np.array([getattr(e, name) for e in made]) for name in ("low", "mde"))
    assert 0.61 <= np.mean(lows[:, None] + sizes[None] > 0) <= 0.87


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
