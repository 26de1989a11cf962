"""The points of a study's grid: what one array task of a cluster trains, in one go and in this order.

A point is a run, or a trunk with the branches that start from it. Seeds come outermost, so that the points of one seed
are the first points of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from replication.config import Full, Run

Method = Literal["full", "lora"]
Point = tuple[Run, ...]


def points(runs: Sequence[Run], method: Method | None) -> list[Point]:
    """Grid points of runs, in their order; those of full fine-tuning or of LoRA alone, if a method is given."""
    chosen = [run for run in runs if method is None or isinstance(run.method, Full) == (method == "full")]
    families: dict[str, list[Run]] = {}
    for run in chosen:
        families.setdefault(run.branch.parent if run.branch else run.name(), []).append(run)
    return [tuple(family) for family in families.values()]


def point(runs: Sequence[Run], method: Method | None, index: int) -> Point:
    """The grid point of that index.

    Raises:
        ValueError: the grid has no such point; the message says how many it has.
    """
    found = points(runs, method)
    if not 0 <= index < len(found):
        kind = f" of method {method}" if method else ""
        advice = f"pass sbatch --array=0-{len(found) - 1}" if found else "there is nothing to do"
        raise ValueError(f"--index {index}: the grid has {len(found)} points{kind}; {advice}")
    return found[index]
