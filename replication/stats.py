"""Intervals for differences between models scored on the same items, over items and training seeds.

Every comparison of the study is a contrast: a weighted sum of scores, each the mean of one value per item. Two models
answer the same items, so the weights are applied item by item before anything is averaged (paired), which removes
the spread of item difficulty. With d[s, i] the contrast at seed s on item i,

    effect   mean of d over S seeds and K items
    V_item   var_i(mean_s d) / K            other items might have been asked
    V_seed   var_s(mean_i d) / S            other seeds might have been trained
    V_both   residual variance / (S K)      contained in both of the above
    a        sqrt(max(V_item - V_both, 0))  of the items alone
    b        sqrt(V_seed)                   of the seeds, with what seed and item do together
    interval effect +- ((t(K-1) a)^k + (t(S-1) b)^k)^(1/k),  k = 2 + 4 (S - 2)^-1.4

`a` is well known and `b` rests on S - 1 degrees of freedom: the Behrens-Fisher problem with one variance known. The
square root of the sum of squares (k = 2) covers 97.7 % with three seeds, the wider of both (k infinite) 94.2 % at
worst; the k above lies within 94.6 and 95.6 % for three or more seeds at any ratio of the variances. Taking V_both off
V_seed would be a third narrower where seeds hardly differ, and cover 90.8 % at worst. Levels beyond 95 % (p values of
many comparisons) come out too wide rather than too narrow: 99.0-99.5 % for 99. Seeds may agree by chance, so the
interval is never narrower than `LEAST` of the items' own, at the cost of half a percent where items have no effect.

Simulated coverage of the 95 % interval, 60 or 250 items, the seeds' spread from none to three standard errors over
items (6,000 studies each, so +-.3 %; tests/replication/test_stats.py repeats the main ones):

    three seeds                                    94.5-95.9 %
    five seeds                                     94.4-95.7 %
    one seed, of the items alone                   94.6-95.4 %
    two seeds: too wide, for t(1) has no better    94.9-97.8 %
    right or wrong answers, 20 or more that differ between the models    94.6-96.0 %
    right or wrong answers, 8 to 15 that differ: too wide                95.1-97.1 %
    right or wrong answers, 1 to 5 that differ: too wide                 98.0-100 %

With one seed the seed part cannot be known. The interval then covers items alone and says so (`covers`): it is about
these weights, not about the method. Simulated coverage for the method falls to 75 % when the seeds' spread equals
1.6 standard errors over items. Published scores without values per item are compared by their standard errors
(`unpaired`): for a difference of two models on the same items that is wider than pairing, by whatever the items'
difficulty shares; where weights of equal sign are summed, shared difficulty can make it too narrow.

Scores in a known range get one imaginary item each way (Bonett and Price's adjustment of paired proportions), so
that a comparison without a single disagreement has a width of about 3 / K and not zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import special

Covers = Literal["items", "items and seeds", "items, unpaired"]
LEAST = 0.4  # narrowest interval over seeds and items, as a share of the interval over items alone
POWER = 0.8
NODES = 60  # of the quadrature over the spread that another study's seeds would show


@dataclass(frozen=True)
class Estimate:
    """An effect with its 95 % interval; `mde` is the true effect that such a design finds to be above 0 in 80 %.

    `item_error` and `seed_error` are a and b above; both 0 where the interval was made in another way.
    """

    value: float
    low: float
    high: float
    stderr: float
    items: int
    seeds: int
    covers: Covers
    mde: float
    item_error: float = 0.0
    seed_error: float = 0.0


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
    seeds, value = len(by_seed), float(np.mean(by_seed))
    several = seeds > 1
    seed_variance = float(np.var(by_seed, ddof=1)) / seeds if several else 0.0
    item_error = math.sqrt(max(item_variance - shared_variance, 0.0) if several else item_variance)
    half = _one_half(item_error, math.sqrt(seed_variance), seeds, items, (1 + level) / 2)
    least = LEAST * float(special.stdtrit(max(items - 1, 1), (1 + level) / 2)) * math.sqrt(item_variance)
    # What is known of the seeds' variance apart from their spread: it holds at least what they share with the items.
    seeds_true = math.sqrt(max(seed_variance, shared_variance)) if several else 0.0
    return Estimate(
        value,
        value - max(half, least),
        value + max(half, least),
        math.hypot(item_error, seeds_true),
        items,
        seeds,
        "items and seeds" if several else "items",
        detectable(item_error, seeds_true, seeds=seeds, items=items, least=least, level=level),
        item_error,
        math.sqrt(seed_variance),
    )


def unpaired(parts: Sequence[tuple[float, float, float]], *, items: int, level: float = 0.95) -> Estimate:
    """A weighted sum of published scores whose items cannot be paired: their errors add, also where scores are equal.

    Args:
        parts: (weight, score, standard error of the score) each.
        items: number of items behind all scores.
    """
    if not parts or any(error < 0 for _, _, error in parts):
        raise ValueError(f"unpaired scores need a weight, a score and an error of 0 or more each, not {list(parts)}")
    value = sum(weight * score for weight, score, _ in parts)
    stderr = math.sqrt(sum((weight * error) ** 2 for weight, _, error in parts))
    half = float(special.ndtri((1 + level) / 2)) * stderr
    mde = half + float(special.ndtri(POWER)) * stderr
    return Estimate(value, value - half, value + half, stderr, items, 1, "items, unpaired", mde, stderr)


def p_above(est: Estimate, null: float = 0.0) -> float:
    """One-sided p value of "the true effect is above `null`"; below .025 exactly if the 95 % interval is.

    The half width grows with the level as in the module's formula. An interval made in another way (no item_error)
    is taken to grow as t over its seeds, or as the normal quantile where it has one seed.
    """
    return _tail(est, est.value - null, est.value - est.low, est.high - est.value)


def p_below(est: Estimate, null: float = 0.0) -> float:
    """One-sided p value of "the true effect is below `null`"."""
    return _tail(est, null - est.value, est.high - est.value, est.value - est.low)


def holm(p: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several tests survive Holm's correction: at most `level` chance of a single false one among them."""
    order = np.argsort(p, kind="stable")
    kept = [False] * len(p)
    for place, index in enumerate(order):
        if p[index] > level / (len(p) - place):
            break
        kept[index] = True
    return kept


def detectable(
    item_error: float,
    seed_error: float,
    *,
    seeds: int,
    items: int,
    least: float = 0.0,
    level: float = 0.95,
    power: float = POWER,
) -> float:
    """The true effect whose interval lies above 0 in 80 % (`power`) of studies with these errors.

    The half width is random, for the seeds' spread is: with three seeds the effect must be 1.4 times what a fixed half
    width would ask. Args as in the module's formula; `least` is the narrowest half width.
    """
    sd = math.hypot(item_error, seed_error)
    if sd == 0:
        return least
    half = np.maximum(_half(item_error, seed_error * _spreads(seeds), seeds, items, (1 + level) / 2), least)
    low, high = 0.0, float(half.max()) + 4 * sd
    for _ in range(40):
        middle = (low + high) / 2
        found = float(np.mean(special.ndtr((middle - half) / sd))) > power
        low, high = (low, middle) if found else (middle, high)
    return high


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


def _half(item_error: float, seed_error: np.ndarray, seeds: int, items: int, tail: float) -> np.ndarray:
    """Half width of the interval at upper probability `tail`; several seed errors at once."""
    of_items = special.stdtrit(max(items - 1, 1), tail) * item_error
    if seeds == 1:
        return np.full_like(seed_error, of_items)
    of_seeds = special.stdtrit(seeds - 1, tail) * seed_error
    wider = np.maximum(of_items, of_seeds)
    if seeds == 2:
        return wider
    k = 2 + 4 * (seeds - 2) ** -1.4
    narrower = np.minimum(of_items, of_seeds)
    ratio = np.divide(narrower, wider, out=np.zeros_like(wider), where=wider > 0)
    return wider * (1 + ratio**k) ** (1 / k)


def _tail(est: Estimate, distance: float, towards: float, away: float) -> float:
    """Level at which the half width, `towards` at .025, just spans `distance`; of a negative one the complement."""
    if distance < 0:
        return 1 - _tail(est, -distance, away, towards)
    if distance == 0 or towards <= 0:
        return 0.5 if distance == 0 else 0.0
    item, seed = est.item_error, est.seed_error
    if item == 0 and seed == 0:
        item, seed = (1.0, 0.0) if est.seeds == 1 else (0.0, 1.0)
    items = 10**6 if est.covers == "items, unpaired" else est.items  # t of so many is the normal quantile
    scale = towards / _one_half(item, seed, est.seeds, items, 0.975)
    low, high = math.log(1e-15), math.log(0.5)
    for _ in range(40):
        middle = (low + high) / 2
        wide = scale * _one_half(item, seed, est.seeds, items, -math.expm1(middle)) > distance
        low, high = (middle, high) if wide else (low, middle)
    return math.exp((low + high) / 2)


def _one_half(item_error: float, seed_error: float, seeds: int, items: int, tail: float) -> float:
    """`_half` of a single seed error, in plain floats: twenty times faster, for the search of a p value."""
    of_items = float(special.stdtrit(max(items - 1, 1), tail)) * item_error
    of_seeds = float(special.stdtrit(seeds - 1, tail)) * seed_error if seeds > 1 else 0.0
    wider, narrower = max(of_items, of_seeds), min(of_items, of_seeds)
    if seeds <= 2 or wider == 0:
        return wider
    k = 2 + 4 * (seeds - 2) ** -1.4
    return float(wider * (1 + (narrower / wider) ** k) ** (1 / k))


@lru_cache
def _spreads(seeds: int) -> np.ndarray:
    """Equally likely ratios of a standard deviation estimated from so many seeds to the true one."""
    if seeds == 1:
        return np.zeros(1)
    upper = 1 - (np.arange(NODES) + 0.5) / NODES
    return np.sqrt(special.chdtri(seeds - 1, upper) / (seeds - 1))


def _item_variance(values: np.ndarray, pseudo: float) -> tuple[float, float]:
    """Variance of the mean over items, and the part of it due to seeds acting differently on different items."""
    seeds, items = values.shape
    per_item = values.mean(axis=0)
    squares = float(np.sum((per_item - per_item.mean()) ** 2))
    residual = values - per_item - values.mean(axis=1, keepdims=True) + values.mean()
    both = float(np.sum(residual**2)) / ((seeds - 1) * (items - 1)) / seeds if seeds > 1 else 0.0
    # Where each seed answers an item afresh, an imaginary item is one answer of S, so it counts 1 / S squared.
    afresh = min(both * (items - 1) / squares, 1.0) if squares > 0 else 0.0
    imaginary = 2 * pseudo**2 * (1 - afresh + afresh / seeds**2)
    count = items + (2 if pseudo else 0)
    return (squares + imaginary) / (count - 1) / count, both / items


def _checked(group: np.ndarray) -> np.ndarray:
    values = np.asarray(group, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(f"a group has shape {values.shape}; expected (seeds, items) with two or more items")
    if not np.isfinite(values).all():
        raise ValueError("a group holds a value that is not finite")
    return values
