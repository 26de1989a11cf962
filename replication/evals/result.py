"""What an eval hands back: metrics, the per-item values behind them, and one sample row per item to read.

A metric is a mean over items with the standard error of that mean. A metric without items is left out: no number
stands for a missing one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One number over `n` items, with the standard error over items (None below two items)."""

    name: str
    value: float
    n: int
    stderr: float | None


@dataclass(frozen=True)
class ItemValues:
    """The values of one metric per item, for paired tests."""

    metric: str
    ids: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """Everything one eval found about one model. `samples`: asked, answered, graded, and why it failed."""

    metrics: tuple[Metric, ...]
    items: tuple[ItemValues, ...]
    samples: list[dict[str, Any]]

    def value(self, metric: str) -> float:
        """The value of a metric by name.

        Raises:
            ValueError: this eval did not measure it.
        """
        for found in self.metrics:
            if found.name == metric:
                return found.value
        raise ValueError(f"no metric {metric!r}; there are {[m.name for m in self.metrics]}")


def mean(name: str, values: Sequence[float]) -> Metric:
    """Mean over items with its standard error, sd / sqrt(n) with n - 1 degrees of freedom."""
    n = len(values)
    if n == 0:
        raise ValueError(f"metric {name!r} has no items; leave it out")
    value = math.fsum(values) / n
    if n == 1:
        return Metric(name, value, n, None)
    return Metric(name, value, n, math.sqrt(math.fsum((v - value) ** 2 for v in values) / (n - 1) / n))


def item_ids(rows: Sequence[dict[str, Any]], column: str = "id") -> tuple[str, ...]:
    """The rows' own ids, else their places.

    Raises:
        ValueError: an id occurs twice, so paired tests could not match items.
    """
    ids = tuple(str(row.get(column, i)) for i, row in enumerate(rows))
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"item id {twice!r} occurs more than once; ids must differ")
    return ids
