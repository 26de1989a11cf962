"""Spearman's rank correlation of points whose scores have item noise, with an interval.

The points are given (the arms, lengths and rates of the study); what is uncertain is where each lies. So items are
resampled jointly over all points and the ranks taken anew in each draw, and the spread over seeds comes from the
correlation among each seed's own points. The interval is cut at -1 and 1.

Where points come in blocks that share what made them (all lengths of one LoRA rank), `of_blocks` asks how often whole
blocks put together at random agree as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from math import prod
from statistics import NormalDist

import numpy as np

from replication.stats import Covers, Estimate, bootstrap_variance, combine

DRAWS = 400  # relative error of the variance .07
ORDERS = 20_000  # of blocks that are all tried; where there are more, as many are drawn


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Correlation of the ranks, ties sharing their mean rank; 0 where one side does not vary. Both of shape (points,).

    Raises:
        ValueError: fewer than three points.
    """
    if len(left) != len(right) or len(left) < 3:
        raise ValueError(f"a rank correlation needs three or more pairs, not {len(left)} and {len(right)} values")
    ranks = [ranks_of(side) - (len(left) + 1) / 2 for side in (left, right)]
    norm = float(np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    return float(ranks[0] @ ranks[1]) / norm if norm else 0.0


def ranks_of(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, those of equal values being their mean; shape (points,)."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def estimate(
    statistic: Callable[[Sequence[np.ndarray]], float],
    counts: Sequence[int],
    by_seed: Sequence[float],
    *,
    rng: np.random.Generator,
) -> Estimate:
    """A correlation's estimate over items and seeds.

    Args:
        statistic: from item weights (one vector per eval, each summing to 1) to the correlation over all points.
        counts: items of each eval.
        by_seed: the correlation among each seed's own points; only their spread is used, and only of two or more.
    """
    value = statistic([np.full(n, 1 / n) for n in counts])
    variance = bootstrap_variance(statistic, counts, draws=DRAWS, rng=rng)
    spread = np.array(by_seed) - np.mean(by_seed) + value if len(by_seed) > 1 else np.array([value])
    made = combine(spread, item_variance=variance, items=sum(counts))
    return replace(made, low=max(made.low, -1.0), high=min(made.high, 1.0))


def of_blocks(groups: Sequence[tuple[np.ndarray, np.ndarray]], *, seeds: int, rng: np.random.Generator) -> Estimate:
    """Mean over groups of the rank correlation of points in blocks, each side of shape (blocks, points of a block).

    Under the null hypothesis any block of the one side may belong to any block of the other, within a group. The p
    value is the share of such orders with a mean as far out; what the places within a block have in common (the
    length) is in every order, so it alone cannot make a correlation. The interval is the normal one with that p value
    (Altman and Bland, 2011), so three blocks, whose six orders give p = 1/6 at best, decide nothing by themselves.
    """
    by_order = [
        np.array([spearman(x.ravel(), y[list(order)].ravel()) for order in permutations(range(len(x)))])
        for x, y in groups
    ]
    if prod(len(one) for one in by_order) <= ORDERS:
        orders = list(np.meshgrid(*by_order, indexing="ij"))
    else:
        orders = [rng.choice(one, ORDERS) for one in by_order]
    null = np.mean(orders, axis=0).ravel()
    value = float(np.mean([one[0] for one in by_order]))  # the first order is the one that was found
    tail = float(np.mean(np.copysign(1.0, value) * (null - value) >= -1e-12))
    quantile = NormalDist().inv_cdf(1 - min(max(tail, 1 / len(null)), 0.49))
    stderr = max(abs(value) / quantile, float(null.std()))
    low, high = max(value - 1.96 * stderr, -1.0), min(value + 1.96 * stderr, 1.0)
    covers: Covers = "items and seeds" if seeds > 1 else "items"
    points = sum(x.size for x, _ in groups)
    return Estimate(value, low, high, stderr, points, seeds, covers, (1.96 + 0.84) * stderr)
