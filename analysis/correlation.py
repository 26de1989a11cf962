"""Spearman's rank correlation of points whose scores have item noise, with an interval.

The points are given (the arms, lengths and rates of the study); what is uncertain is where each lies. So items are
resampled jointly over all points and the ranks taken anew in each draw, and the spread over seeds comes from the
correlation among each seed's own points. The interval is cut at -1 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from replication.stats import Estimate, bootstrap_variance, combine

DRAWS = 400  # relative error of the variance .07


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
