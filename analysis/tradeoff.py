"""Learning against forgetting (Figure 3), and how far one arm's front lies above another's.

A point is one (arm, length, rate): the main runs, and the runs of the learning-rate sweep where they were scored. A
claim about forgetting at one rate is a claim about that rate, so the figure and the gap use them all.

The front of an arm is the upper edge of its points and the base in the plane (learning, forgetting score): the
points that no other point beats on both. Between them it is taken as straight. The gap between two fronts is the mean
difference of their heights over the learning that both reach, from the base up to the smaller of the two maxima:

    gap = mean over L in [base, min(max L of left, max L of right)] of left(L) - right(L)

Items are resampled jointly over all points (paired bootstrap); the spread over seeds comes from the fronts of each
seed's own points. Both enter the interval as in `replication/stats.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis import command, curves, grid, rows
from replication.results import RunRow
from replication.scale import Setting
from replication.stats import Estimate, bootstrap_variance, combine

DRAWS = 400  # relative error of the variance .07
STEPS = 21


@dataclass(frozen=True)
class Place:
    """One point of the plane: an arm at a length and a rate, with the runs (seeds) that stand there."""

    arm: str
    length: float
    lr: float
    swept: bool
    runs: tuple[RunRow, ...]


def places(tables: grid.Tables, study: str) -> list[Place]:
    """All points of a setting that have runs, main ones first; a swept run that repeats a main one is left out."""
    main: dict[tuple[str, float, float], list[RunRow]] = {}
    for (arm, length, _), row in sorted(grid.cells(tables, study).items()):
        main.setdefault((arm, length, row.lr), []).append(row)
    sweep: dict[tuple[str, float, float], list[RunRow]] = {}
    setting = grid.settings(tables.scale)[study]
    for arm, row in grid.swept(tables, study):
        # A sweep at its own length keeps it; one at the setting's takes the setting's spelling of it.
        length = grid.length_of(row, setting) or row.length
        if (arm, length, row.lr) not in main:
            sweep.setdefault((arm, length, row.lr), []).append(row)
    return [
        Place(*key, swept=is_swept, runs=tuple(found))
        for table, is_swept in ((main, False), (sweep, True))
        for key, found in table.items()
    ]


def front(learning: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Indices of the points that no other point beats on both axes, by rising learning."""
    order = np.lexsort((-kept, -learning))  # most learning first, and of equals the one that kept most
    best, chosen = -np.inf, []
    for index in order:
        if kept[index] > best:
            best = kept[index]
            chosen.append(index)
    return np.array(chosen[::-1], dtype=np.int64)


def front_gap(left: np.ndarray, right: np.ndarray) -> float:
    """Mean height of one front above another over the learning both reach.

    Both fronts start at the base, so the limit of an empty range is 0.

    Args:
        left: points (learning, forgetting score), shape (points, 2), the base first; right likewise.
    """
    start = max(left[0, 0], right[0, 0])
    stop = min(left[:, 0].max(), right[:, 0].max())
    if stop <= start:
        return 0.0
    at = np.linspace(start, stop, STEPS)
    heights = []
    for points in (left, right):
        edge = points[front(points[:, 0], points[:, 1])]
        heights.append(np.interp(at, edge[:, 0], edge[:, 1]))
    return float(np.mean(heights[0] - heights[1]))


def tradeoff(tables: grid.Tables) -> list[rows.Row]:
    """One row per point of every setting, and one for the base (arm "base", no rate)."""
    made = []
    for study, setting in tables.scale.settings:
        found = [row for place in places(tables, study) for row in _row(tables, study, setting, place)]
        base = _values(tables, setting, [grid.base_point()])
        made += _with_front([_named(study, grid.BASE, 0.0, None, False, base), *found] if base else found)
    return made


def gap(
    tables: grid.Tables, study: str, left: str, right: str, *, rng: np.random.Generator
) -> tuple[Estimate, str] | None:
    """Estimate of the front gap between two arms of a setting and what it rests on.

    None if points are missing, an eval has a single item, or one of the arms never learnt beyond the base.
    """
    setting = grid.settings(tables.scale)[study]
    sides = [[p for p in places(tables, study) if p.arm == arm] for arm in (left, right)]
    stacks = [_stack(tables, setting, [_points(p) for p in side]) for side in sides]
    if any(stack is None or len(stack[0]) < 2 for stack in stacks):
        return None
    whole = [s for s in stacks if s is not None]
    if any(block.shape[1] < 2 for block in whole[0]):
        return None  # one document: nothing to resample
    if min(float(stack[0][1:].mean(axis=1).max()) for stack in whole) <= float(whole[0][0][0].mean()):
        return None  # one arm never learnt beyond the base: no learning at which to compare

    def statistic(weights: Sequence[np.ndarray]) -> float:
        return front_gap(*[_plane(stack, weights) for stack in whole])

    counts = [block.shape[1] for block in whole[0]]
    even = [np.full(n, 1 / n) for n in counts]
    value = statistic(even)
    variance = bootstrap_variance(statistic, counts, draws=DRAWS, rng=rng)
    by_seed = _by_seed(tables, setting, sides)
    spread = by_seed - by_seed.mean() + value if len(by_seed) > 1 else np.array([value])
    used = sum(len(stack[0]) - 1 for stack in whole)
    swept = sum(p.swept for side in sides for p in side)
    return combine(spread, item_variance=variance, items=sum(counts)), f"{used} points, {swept} of them from the sweep"


def _by_seed(tables: grid.Tables, setting: Setting, sides: Sequence[Sequence[Place]]) -> np.ndarray:
    """The gap at each seed that every main point of both arms has, from that seed's main points alone."""
    main = [[p for p in side if not p.swept] for side in sides]
    shared = set.intersection(*[{r.seed for r in p.runs} for side in main for p in side])
    gaps = []
    for seed in sorted(shared):
        own = [[[grid.point(r) for r in p.runs if r.seed == seed] for p in side] for side in main]
        stacks = [_stack(tables, setting, side) for side in own]
        planes = [_plane(stack, [np.full(b.shape[1], 1 / b.shape[1]) for b in stack]) for stack in stacks if stack]
        if len(planes) == 2:
            gaps.append(front_gap(*planes))
    return np.array(gaps)


def _points(place: Place) -> list[grid.Point]:
    return [grid.point(row) for row in place.runs]


def _stack(tables: grid.Tables, setting: Setting, groups: Sequence[Sequence[grid.Point]]) -> list[np.ndarray] | None:
    """Seed-mean item values per eval, base first, each of shape (points, items); points without values left out."""
    asked = _both(tables, setting)
    base = _columns(tables, [grid.base_point()], asked)
    if base is None:
        return None
    columns = [base, *(c for group in groups if (c := _columns(tables, group, asked)) is not None)]
    return [grid.aligned([point[k] for point in columns]) for k in range(len(asked))]


def _columns(
    tables: grid.Tables, points: Sequence[grid.Point], asked: Sequence[grid.Question]
) -> list[grid.Column] | None:
    """Per eval, the mean over seeds of each item."""
    made = []
    for name, metric, _ in asked:
        found = [grid.item_values(tables, point, name, metric) for point in points]
        present = [f for f in found if f is not None]
        if not present or len(present) < len(found):
            return None
        made.append(grid.Column(grid.shared_ids(present), grid.aligned(present).mean(axis=0)))
    return made


def _both(tables: grid.Tables, setting: Setting) -> list[grid.Question]:
    return [*grid.questions(tables.scale, setting, "learning"), *grid.questions(tables.scale, setting, "forgetting")]


def _plane(stack: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Points (learning, forgetting score) under item weights; the forgetting evals count alike."""
    learning, *kept = [block @ w for block, w in zip(stack, weights, strict=True)]
    return np.column_stack([learning, np.mean(kept, axis=0)])


def _row(tables: grid.Tables, study: str, setting: Setting, place: Place) -> list[rows.Row]:
    values = _values(tables, setting, _points(place))
    return [_named(study, place.arm, place.length, place.lr, place.swept, values)] if values else []


def _named(
    study: str, arm: str, length: float, lr: float | None, swept: bool, values: dict[str, float | None]
) -> rows.Row:
    rank = grid.rank_of(arm) if arm != grid.BASE else None
    return {"study": study, "arm": arm, "rank": rank, "length": length, "lr": lr, "swept": swept, **values}


def _values(tables: grid.Tables, setting: Setting, points: Sequence[grid.Point]) -> dict[str, float | None] | None:
    made: dict[str, float | None] = {}
    for axis in ("learning", "forgetting"):
        asked = grid.questions(tables.scale, setting, axis)
        result = curves.estimate(tables, points, asked)
        if result is None:
            return None
        low, high = curves.interval(*result, asked)
        made |= {axis: result[0], f"{axis}_low": low, f"{axis}_high": high}
    losses = [grid.score(tables, p, grid.questions(tables.scale, setting, "source_loss")) for p in points]
    known = [loss for loss in losses if loss is not None]
    return made | {"source_loss": float(np.mean(known)) if len(known) == len(losses) else None}


def _with_front(made: list[rows.Row]) -> list[rows.Row]:
    """Mark the points of a setting that no other point beats on both axes."""
    if not made:
        return []
    chosen = set(front(np.array([r["learning"] for r in made]), np.array([r["forgetting"] for r in made])).tolist())
    return [row | {"on_front": index in chosen} for index, row in enumerate(made)]


def write(tables: grid.Tables, where: command.Places) -> None:
    """Write `tradeoff.jsonl`."""
    rows.write(where.out / "tradeoff.jsonl", tradeoff(tables))


def main() -> None:
    """Write `tradeoff.jsonl` and say where it lies."""
    here = command.places(__doc__)
    write(grid.load(here.scale, here.results), here)
    print(f"rows in {here.out / 'tradeoff.jsonl'}")


if __name__ == "__main__":
    command.run(main)
