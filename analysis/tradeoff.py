"""Learning against forgetting (Figure 3), and how far one arm's front lies above another's.

A point is one (arm, length, rate): the main runs, and the runs of the learning-rate sweep where they were scored. A
claim about forgetting at one rate is a claim about that rate, so the figure and the gap use them all.

The front of an arm is the upper edge of its points and the base in the plane (learning, forgetting score): the
points that no other point beats on both. Between them it is taken as straight. The gap between two fronts is the mean
difference of their heights over the learning that both reach, from the base up to the smaller of the two maxima:

    gap = mean over L in [base, min(max L of left, max L of right)] of left(L) - right(L)

Items are resampled jointly over all points (paired bootstrap); the spread over seeds comes from the fronts of each
seed's own points. Both enter the interval as in `replication/stats.py`. Points that a table prints without per-item
values are drawn about their standard errors instead, each by itself (unpaired).

Forgetting has two axes: the benchmarks, and the held-out loss on what the base was trained on, its sign turned. Each
has its own front and gap (the gap weighs documents alike, the printed loss tokens); whether the two order the points
alike is their rank correlation (`agreement.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis import agreement, command, curves, effects, grid, rows
from replication.scale import Setting
from replication.stats import Estimate, bootstrap_variance, combine, unpaired

Forgetting = Literal["forgetting", "source_loss"]
DRAWS = 400  # relative error of the variance .07
SEED = 20260502
STEPS = 21


@dataclass(frozen=True)
class Place:
    """One point of the plane: an arm at a length and a rate, with the runs (seeds) that stand there."""

    arm: str
    length: float
    lr: float
    swept: bool
    runs: tuple[grid.Run, ...]


def places(tables: grid.Tables, study: str) -> list[Place]:
    """All points of a setting that have runs, main ones first; a swept run that repeats a main one is left out."""
    main: dict[tuple[str, float, float], list[grid.Run]] = {}
    for (arm, length, _), row in sorted(grid.cells(tables, study).items()):
        main.setdefault((arm, length, row.lr), []).append(row)
    sweep: dict[tuple[str, float, float], list[grid.Run]] = {}
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
    tables: grid.Tables, study: str, left: str, right: str, *, rng: np.random.Generator, axis: Forgetting = "forgetting"
) -> tuple[Estimate, str] | None:
    """Estimate of the front gap between two arms of a setting and what it rests on.

    None if points are missing, an eval has a single item, or one of the arms never learnt beyond the base.
    """
    setting = grid.settings(tables.scale)[study]
    asked = _both(tables, setting, axis)
    sides = [[p for p in places(tables, study) if p.arm == arm] for arm in (left, right)]
    if asked and all(grid.item_values(tables, grid.base_point(), name, metric) is None for name, metric, _ in asked):
        return _printed_gap(tables, setting, sides, axis, rng)
    stacks = [_stack(tables, asked, [_points(p) for p in side]) for side in sides]
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
    value = statistic([np.full(n, 1 / n) for n in counts])
    variance = bootstrap_variance(statistic, counts, draws=DRAWS, rng=rng)
    by_seed = _by_seed(tables, asked, sides)
    spread = by_seed - by_seed.mean() + value if len(by_seed) > 1 else np.array([value])
    return combine(spread, item_variance=variance, items=sum(counts)), _rests_on(sides)


def _rests_on(sides: Sequence[Sequence[Place]]) -> str:
    swept = sum(p.swept for side in sides for p in side)
    return f"{sum(len(side) for side in sides)} points, {swept} of them from the sweep"


def _printed_gap(
    tables: grid.Tables, setting: Setting, sides: Sequence[Sequence[Place]], axis: Forgetting, rng: np.random.Generator
) -> tuple[Estimate, str] | None:
    """The gap between fronts of points that are known by their scores and standard errors alone."""
    stages = [[grid.base_point()], *[_points(place) for side in sides for place in side]]
    found = [_printed_point(tables, setting, stage, axis) for stage in stages]
    if any(point is None for point in found) or not all(sides):
        return None
    means, errors = np.stack([point for point in found if point is not None], axis=1)
    first = 1 + len(sides[0])

    def of(points: np.ndarray) -> float:
        return front_gap(points[:first], np.vstack([points[:1], points[first:]]))

    if min(means[1:first, 0].max(), means[first:, 0].max()) <= means[0, 0]:
        return None
    drawn = np.array([of(means + errors * rng.normal(size=means.shape)) for _ in range(DRAWS)])
    items = sum(tables.scores[grid.BASE, 0, name, m].n for name, m, _ in _both(tables, setting, axis))
    return unpaired([(1.0, of(means), float(drawn.std(ddof=1)))], items=items), _rests_on(sides)


def _printed_point(
    tables: grid.Tables, setting: Setting, points: Sequence[grid.Point], axis: Forgetting
) -> np.ndarray | None:
    """Scores of learning and keeping, and their standard errors, shape (2, 2); None if one is missing."""
    made = []
    for name, sign in (("learning", 1.0), (axis, -1.0 if axis == "source_loss" else 1.0)):
        result = curves.printed(tables, points, grid.questions(tables.scale, setting, name))
        if result is None or result[1] is None:
            return None
        made.append((sign * result[0], result[1].stderr))
    return np.array(made).T


def _by_seed(tables: grid.Tables, asked: Sequence[grid.Question], sides: Sequence[Sequence[Place]]) -> np.ndarray:
    """The gap at each seed that every main point of both arms has, from that seed's main points alone."""
    main = [[p for p in side if not p.swept] for side in sides]
    shared = set.intersection(*[{r.seed for r in p.runs} for side in main for p in side])
    gaps = []
    for seed in sorted(shared):
        own = [[[grid.point(r) for r in p.runs if r.seed == seed] for p in side] for side in main]
        stacks = [_stack(tables, asked, side) for side in own]
        planes = [_plane(stack, [np.full(b.shape[1], 1 / b.shape[1]) for b in stack]) for stack in stacks if stack]
        if len(planes) == 2:
            gaps.append(front_gap(*planes))
    return np.array(gaps)


def _points(place: Place) -> list[grid.Point]:
    return [grid.point(row) for row in place.runs]


def _stack(
    tables: grid.Tables, asked: Sequence[grid.Question], groups: Sequence[Sequence[grid.Point]]
) -> list[np.ndarray] | None:
    """Seed-mean item values per eval times its weight, base first, each of shape (points, items).

    Points without values are left out; None if the base has none.
    """
    base = _columns(tables, [grid.base_point()], asked)
    if base is None:
        return None
    columns = [base, *(c for group in groups if (c := _columns(tables, group, asked)) is not None)]
    return [grid.aligned([point[k] for point in columns]) for k in range(len(asked))]


def _columns(
    tables: grid.Tables, points: Sequence[grid.Point], asked: Sequence[grid.Question]
) -> list[grid.Column] | None:
    """Per eval, the mean over seeds of each item, times the eval's weight."""
    made = []
    for name, metric, weight in asked:
        found = [grid.item_values(tables, point, name, metric) for point in points]
        present = [f for f in found if f is not None]
        if not present or len(present) < len(found):
            return None
        made.append(grid.Column(grid.shared_ids(present), weight * grid.aligned(present).mean(axis=0)))
    return made


def _both(tables: grid.Tables, setting: Setting, axis: Forgetting) -> list[grid.Question]:
    """The questions of learning and of what was kept, where more is better in each."""
    kept = grid.questions(tables.scale, setting, axis)
    if axis == "source_loss":
        kept = [(name, metric, -weight) for name, metric, weight in kept]
    return [*grid.questions(tables.scale, setting, "learning"), *kept] if kept else []


def _plane(stack: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Points (learning, what was kept) under item weights."""
    learning, *kept = [block @ w for block, w in zip(stack, weights, strict=True)]
    return np.column_stack([learning, np.sum(kept, axis=0)])


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
    """Mark the points of a setting that no other point beats on both axes, for each axis of forgetting."""
    if not made:
        return []
    learning = np.array([r["learning"] for r in made])
    chosen = set(front(learning, np.array([r["forgetting"] for r in made])).tolist())
    measured = [i for i, r in enumerate(made) if r["source_loss"] is not None]
    losses = -np.array([made[i]["source_loss"] for i in measured])
    by_loss = {measured[i] for i in front(learning[measured], losses)}
    return [
        row | {"on_front": index in chosen, "on_front_loss": index in by_loss if index in measured else None}
        for index, row in enumerate(made)
    ]


def named_effects(tables: grid.Tables) -> tuple[list[rows.Row], list[grid.Missing]]:
    """Per setting: how far every LoRA's front lies above full fine-tuning's on both axes, and how the axes agree."""
    made: list[rows.Row] = []
    missing: list[grid.Missing] = []
    axes: tuple[tuple[Forgetting, str], ...] = (("forgetting", "front_gap"), ("source_loss", "front_gap_loss"))
    for study, setting in tables.scale.settings:
        asked = [(axis, quantity) for axis, quantity in axes if _both(tables, setting, axis)]
        for arm in grid.arms(tables.scale)[1:]:
            for axis, quantity in asked:
                found = gap(tables, study, arm, "full", rng=np.random.default_rng(SEED), axis=axis)
                if found is None:
                    missing.append(grid.Missing(study, arm, 0.0, None, f"{quantity}: points beyond the base"))
                    continue
                words = f"front of {arm} above front of full, {axis.replace('_', ' ')} ({found[1]})"
                made.append(effects.row(f"{quantity}_{arm}", study, words, found[0]))
        if len(asked) < len(axes):
            continue  # one axis of forgetting: nothing to agree with
        groups = [_points(place) for place in places(tables, study)]
        by_seed = _main_points(tables, study)
        agreed = agreement.of_axes(tables, setting, groups, by_seed, rng=np.random.default_rng(SEED))
        if agreed is None:
            missing.append(grid.Missing(study, "every arm", 0.0, None, "forgetting_axes: items of both axes"))
        else:
            made.append(effects.row("forgetting_axes", study, *agreed))
    return made, missing


def _main_points(tables: grid.Tables, study: str) -> list[list[list[grid.Point]]]:
    """Per seed, the setting's own points."""
    found = grid.cells(tables, study)
    seeds = sorted({seed for _, _, seed in found})
    return [[[grid.point(row)] for (_, _, s), row in sorted(found.items()) if s == seed] for seed in seeds]


def write(tables: grid.Tables, where: command.Places) -> list[grid.Missing]:
    """Write `tradeoff.jsonl` and `tradeoff_effects.jsonl`; returns what is missing."""
    rows.write(where.out / "tradeoff.jsonl", tradeoff(tables))
    made, missing = named_effects(tables)
    rows.write(where.out / "tradeoff_effects.jsonl", made)
    return missing


def main() -> None:
    """Write `tradeoff.jsonl` and say where it lies."""
    here = command.places(__doc__)
    write(grid.load(here.scale, here.results), here)
    print(f"rows in {here.out / 'tradeoff.jsonl'}")


if __name__ == "__main__":
    command.run(main)
