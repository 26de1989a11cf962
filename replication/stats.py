"""Intervals for differences between models scored on the same items, over items and training seeds.

Every comparison of the study is a contrast: a weighted sum of scores, each the mean of one value per item. Two models
answer the same items, so the weights are applied item by item before anything is averaged (paired), which removes
the spread of item difficulty. With d[s, i] the contrast at seed s on item i,

    effect   mean of d over seeds and items
    V_item   var_i(mean_s d) / K            other items might have been asked
    V_seed   var_s(mean_i d) / S            other seeds might have been trained
    V_both   residual variance / (S K)      counted by both of the above, so taken off once
    interval effect +- sqrt(t(K-1)^2 V_item + t(S-1)^2 max(V_seed - V_both, 0))

Each part keeps its own t quantile: pooling them (Satterthwaite) trusts a seed spread estimated from two or three
runs as if it came from a hundred items. Simulated coverage of the 95 % interval, seed spread from none to six times
V_item, 60 or 200 items: 94-97 % with 3 or 5 seeds, 91-97 % with 2 (tests/replication/test_stats.py repeats it).

With one seed the seed part cannot be known. The interval then covers items alone and says so (`covers`): it is about
these weights, not about the method. Simulated coverage for the method falls to 75 % when the seeds' spread equals
1.6 standard errors over items.

Scores in a known range get one imaginary item each way (Bonett and Price's adjustment of paired proportions), so
that a comparison without a single disagreement has a width of about 3 / K and not zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats as distributions

Covers = Literal["items", "items and seeds"]


@dataclass(frozen=True)
class Estimate:
    """An effect with its interval; `mde` is the smallest true effect that this design would find."""

    value: float
    low: float
    high: float
    stderr: float
    items: int
    seeds: int
    covers: Covers
    mde: float


def contrast(groups: Sequence[np.ndarray], *, pseudo: Sequence[float] | None = None, level: float = 0.95) -> Estimate:
    """Sum of the groups' means with an interval over items and seeds.

    Args:
        groups: one array per set of items, shape (seeds, items); the same seeds in the same order in each. The
            forgetting score is three groups, one per benchmark, each already divided by three.
        pseudo: per group, the size of the two imaginary items (the largest weight times the range of the score);
            None for values without a range, such as losses.
        level: confidence level of the interval.

    Raises:
        ValueError: fewer than two items in a group, or groups with different numbers of seeds.
    """
    arrays = [_checked(group) for group in groups]
    seeds = {a.shape[0] for a in arrays}
    if len(seeds) != 1:
        raise ValueError(f"groups have {sorted(seeds)} seeds; a contrast needs the same seeds in every group")
    sizes = pseudo if pseudo is not None else [0.0] * len(arrays)
    parts = [_item_variance(a, size) for a, size in zip(arrays, sizes, strict=True)]
    by_seed = np.sum([a.mean(axis=1) for a in arrays], axis=0)  # (seeds,)
    return combine(
        by_seed,
        item_variance=sum(v for v, _ in parts),
        shared_variance=sum(shared for _, shared in parts),
        items=sum(a.shape[1] for a in arrays),
        level=level,
    )


def combine(
    by_seed: np.ndarray, *, item_variance: float, shared_variance: float = 0.0, items: int, level: float = 0.95
) -> Estimate:
    """The interval above from its parts, for effects whose item variance comes from elsewhere (a bootstrap).

    Args:
        by_seed: the effect at each seed, shape (seeds,).
        item_variance: variance of the mean effect over items.
        shared_variance: the part of it that the spread over seeds contains as well.
    """
    seeds = len(by_seed)
    tail = (1 + level) / 2
    item_t = float(distributions.t.ppf(tail, max(items - 1, 1)))
    squares = item_t**2 * item_variance
    variance = item_variance
    if seeds > 1:
        extra = max(float(np.var(by_seed, ddof=1)) / seeds - shared_variance, 0.0)
        squares += float(distributions.t.ppf(tail, seeds - 1)) ** 2 * extra
        variance += extra
    half, value = math.sqrt(squares), float(np.mean(by_seed))
    # Power 80 %: the effect must exceed the half width by another .84 standard errors.
    mde = half + float(distributions.norm.ppf(0.8)) * math.sqrt(variance)
    covers: Covers = "items and seeds" if seeds > 1 else "items"
    return Estimate(value, value - half, value + half, math.sqrt(variance), items, seeds, covers, mde)


def bootstrap_variance(
    statistic: Callable[[Sequence[np.ndarray]], float],
    counts: Sequence[int],
    *,
    draws: int,
    rng: np.random.Generator,
) -> float:
    """Variance over items of any statistic of jointly resampled items (paired bootstrap).

    Args:
        statistic: from item weights to a number; one weight vector per set of items, shape (items,), summing to 1.
        counts: number of items in each set.
        draws: number of resamples; the relative error of the variance is about sqrt(2 / draws).
    """
    weights = [rng.multinomial(n, np.full(n, 1 / n), size=draws) / n for n in counts]
    values = [statistic([w[draw] for w in weights]) for draw in range(draws)]
    return float(np.var(values, ddof=1))


def paired_bootstrap(
    left: np.ndarray, right: np.ndarray, *, draws: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of mean(left - right) with the items resampled jointly; both of shape (items,)."""
    if left.shape != right.shape or left.ndim != 1 or len(left) < 2:
        raise ValueError(f"paired items need two equal vectors of two or more, not {left.shape} and {right.shape}")
    difference, n = left - right, len(left)
    means = rng.multinomial(n, np.full(n, 1 / n), size=draws) @ difference / n
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_stderr(values: np.ndarray) -> float:
    """Standard error of the mean of one value per item, shape (items,); for 0/1 values the binomial one."""
    if len(values) < 2:
        raise ValueError(f"a standard error needs two or more values, not {len(values)}")
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def _item_variance(values: np.ndarray, pseudo: float) -> tuple[float, float]:
    """Variance of the mean over items, and the part of it due to seeds acting differently on different items."""
    seeds, items = values.shape
    per_item = values.mean(axis=0)
    squares = float(np.sum((per_item - per_item.mean()) ** 2)) + 2 * pseudo**2
    count = items + (2 if pseudo else 0)
    variance = squares / (count - 1) / count
    if seeds == 1:
        return variance, 0.0
    residual = values - per_item - values.mean(axis=1, keepdims=True) + values.mean()
    shared = float(np.sum(residual**2)) / ((seeds - 1) * (items - 1)) / (seeds * items)
    return variance, shared


def _checked(group: np.ndarray) -> np.ndarray:
    values = np.asarray(group, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(f"a group has shape {values.shape}; expected (seeds, items) with two or more items")
    if not np.isfinite(values).all():
        raise ValueError("a group holds a value that is not finite")
    return values
