"""Do the two axes of forgetting agree? Benchmarks lost against held-out loss gained, over the points of a setting.

    forgetting_axes   Spearman's correlation of (base - benchmark mean) with the source loss, over all points: arms,
                      lengths and, where scored, the rates of the sweep

1 means that both axes order the points alike, so a verdict does not hang on the choice. The points are those that the
study has; the interval is about where each of them lies, not about points it might have had instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis import correlation, grid
from replication.scale import Setting
from replication.stats import Estimate

Groups = Sequence[Sequence[grid.Point]]  # the seeds of each point


def of_axes(
    tables: grid.Tables, setting: Setting, groups: Groups, by_seed: Sequence[Groups], *, rng: np.random.Generator
) -> tuple[str, Estimate] | None:
    """The correlation over all groups in words and as an estimate; None without the items of both axes.

    `by_seed` holds the points of each seed, for the spread over seeds. A scale without forgetting benchmarks has one
    axis only.
    """
    if not tables.scale.forgetting or not tables.scale.source_loss:
        return None
    asked = grid.questions(tables.scale, setting, "forgetting"), grid.questions(tables.scale, setting, "source_loss")
    stack = _stack(tables, [*asked[0], *asked[1]], groups)
    if stack is None or len(groups) < 3:
        return None

    def statistic(weights: Sequence[np.ndarray]) -> float:
        return _correlation(stack, weights)

    counts = [block.shape[1] for block in stack]
    if min(counts) < 2:
        return None
    stacks = [_stack(tables, [*asked[0], *asked[1]], own) for own in by_seed]
    spread = [_correlation(s, [np.full(n, 1 / n) for n in counts]) for s in stacks if s is not None and len(s[0]) > 2]
    words = f"rank correlation of benchmark points lost with source loss over {len(groups)} points"
    return words, correlation.estimate(statistic, counts, spread, rng=rng)


def _correlation(stack: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> float:
    *kept, loss = [block @ w for block, w in zip(stack, weights, strict=True)]
    return correlation.spearman(-np.sum(kept, axis=0), loss)


def _stack(tables: grid.Tables, asked: Sequence[grid.Question], groups: Groups) -> list[np.ndarray] | None:
    """Seed-mean item values of every eval times its weight, shape (points, items); None if any is missing."""
    made = []
    for name, metric, weight in asked:
        columns = [[grid.item_values(tables, point, name, metric) for point in group] for group in groups]
        present = [[c for c in group if c is not None] for group in columns]
        if not groups or any(len(some) < len(group) for some, group in zip(present, groups, strict=True)):
            return None
        flat = grid.aligned([c for group in present for c in group])
        ends = np.cumsum([len(group) for group in present])[:-1]
        made.append(weight * np.array([part.mean(axis=0) for part in np.split(flat, ends)]))
    return made
