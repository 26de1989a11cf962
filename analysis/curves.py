"""Learning and forgetting over training length, with intervals (Figures 1 and 2).

The value of a cell is the mean of its seeds' scores. The interval comes from the per-item values of those seeds
(`replication/stats.py`): over items and seeds, or over items alone where there is one seed. Each cell stands for
itself here; whether two arms differ is a paired question and is answered in `verdicts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis import command, grid, rows
from replication.config import number
from replication.scale import Scale, Setting
from replication.stats import Estimate, contrast, unpaired

AXES = ("learning", "forgetting", "source_loss", "target_loss")


def curves(tables: grid.Tables) -> tuple[list[rows.Row], list[grid.Missing]]:
    """One row per (setting, arm, length, axis), and what is missing."""
    made: list[rows.Row] = []
    missing = missing_runs(tables)
    for study, setting in tables.scale.settings:
        found = grid.cells(tables, study)
        for arm in grid.arms(tables.scale):
            for length in setting.lengths:
                cell = [row for (a, n, _), row in sorted(found.items()) if (a, n) == (arm, length)]
                for axis in dict.fromkeys((*axes(tables.scale, setting), *tables.scale.forgetting)):
                    row, gaps = _row(tables, study, setting, arm, length, axis, cell)
                    made += row
                    missing += gaps
    return made, missing


def axes(scale: Scale, setting: Setting) -> tuple[str, ...]:
    """The axes that a setting is scored on; a held-out loss that it or the scale does not name is none."""
    unasked = {"target_loss": not setting.target_loss, "source_loss": not scale.source_loss}
    # MT-bench is judged by another model: printed for the mix, and asked by none of our own scales.
    printed = ("mt_bench",) if scale.printed and not setting.separate else ()
    return (*(axis for axis in AXES if not unasked.get(axis, False)), *setting.also, *printed)


def metric_of(asked: Sequence[grid.Question]) -> str:
    """The metric of an axis by name; a loss whose sign was turned says so."""
    return asked[0][1] if asked[0][2] > 0 else f"minus {asked[0][1]}"


def missing_runs(tables: grid.Tables) -> list[grid.Missing]:
    """Cells of the study without a run, for every seed that occurs anywhere."""
    expected = grid.seeds(tables) or [0]
    gaps = []
    for study, setting in tables.scale.settings:
        found = grid.cells(tables, study)
        wanted = [(a, n, s) for a in grid.arms(tables.scale) for n in setting.lengths for s in expected]
        gaps += [grid.Missing(study, a, n, s, "run") for a, n, s in wanted if (a, n, s) not in found]
    return gaps


def estimate(
    tables: grid.Tables, points: Sequence[grid.Point], asked: Sequence[grid.Question]
) -> tuple[float, Estimate | None] | None:
    """Mean score of several seeds' points and its estimate over items, or None if anything is missing.

    A loss on one long document has a single item: a score without an estimate of its spread.
    """
    if not points:
        return None
    scores = [grid.score(tables, point, asked) for point in points]
    known = [s for s in scores if s is not None]
    if len(known) == len(points) and not _has_items(tables, points, asked):
        return printed(tables, points, asked)
    groups = []
    for name, metric, weight in asked:
        columns = [grid.item_values(tables, point, name, metric) for point in points]
        present = [c for c in columns if c is not None]
        if len(present) < len(points):
            return None
        groups.append(weight * grid.aligned(present))
    if len(known) < len(points):
        return None
    if any(group.shape[1] < 2 for group in groups):
        return float(np.mean(known)), None
    pseudo = [weight * grid.bounded(metric) for _, metric, weight in asked]
    return float(np.mean(known)), contrast(groups, pseudo=pseudo)


def printed(
    tables: grid.Tables, points: Sequence[grid.Point], asked: Sequence[grid.Question]
) -> tuple[float, Estimate] | None:
    """Mean of scores that come with a standard error instead of per-item values; None if one has neither."""
    scores = [grid.score(tables, point, asked) for point in points]
    errors = [grid.stderr(tables, point, asked) for point in points]
    parts = [(1 / len(points), s, e) for s, e in zip(scores, errors, strict=True) if s is not None and e is not None]
    if not parts or len(parts) < len(points):
        return None
    items = sum(tables.scores[points[0].run, points[0].step, name, metric].n for name, metric, _ in asked)
    made = unpaired(parts, items=items)
    return made.value, made


def _has_items(tables: grid.Tables, points: Sequence[grid.Point], asked: Sequence[grid.Question]) -> bool:
    """Whether any of the scores has per-item values; one that lacks them among others is missing, not printed."""
    asks = [(point, name, metric) for point in points for name, metric, _ in asked]
    return any(grid.item_values(tables, *ask) is not None for ask in asks)


def interval(
    value: float, est: Estimate | None, asked: Sequence[grid.Question]
) -> tuple[float, float] | tuple[None, None]:
    """The estimate's interval moved to the score and kept within the metric's range; None without an estimate.

    A score and the mean of its items agree except for losses, which are weighted by tokens.
    """
    if est is None:
        return None, None
    low, high = value - (est.value - est.low), value + (est.high - est.value)
    if all(grid.bounded(metric) for _, metric, _ in asked):
        return max(low, 0.0), min(high, 1.0)
    return low, high


def _row(
    tables: grid.Tables, study: str, setting: Setting, arm: str, length: float, axis: str, cell: list[grid.Run]
) -> tuple[list[rows.Row], list[grid.Missing]]:
    asked = grid.questions(tables.scale, setting, axis)
    whole = [r for r in cell if grid.score(tables, grid.point(r), asked) is not None]
    gaps = [grid.Missing(study, arm, length, r.seed, axis) for r in cell if r not in whole]
    result = estimate(tables, [grid.point(r) for r in whole], asked)
    if result is None:
        gaps += [grid.Missing(study, arm, length, r.seed, f"{axis}: per-item values") for r in whole]
        return [], gaps
    value, est = result
    low, high = interval(value, est, asked)
    base = grid.score(tables, grid.base_point(), asked)
    if base is None:
        gaps.append(grid.Missing(study, grid.BASE, 0.0, None, axis))
    row = {
        "study": study, "arm": arm, "rank": grid.rank_of(arm), "length": length, "length_unit": cell[0].length_unit,
        "tokens": float(np.mean([r.tokens for r in whole])), "axis": axis, "metric": metric_of(asked), "value": value,
        "low": low, "high": high, "seeds": len(whole), "n": est.items if est else 1, "base": base,
        "covers": est.covers if est else None,
    }  # fmt: skip
    return [row], gaps


def write(tables: grid.Tables, where: command.Places) -> list[grid.Missing]:
    """Write `curves.jsonl`; returns what is missing."""
    made, missing = curves(tables)
    rows.write(where.out / "curves.jsonl", made)
    return missing


def spoken(scale: Scale, missing: Sequence[grid.Missing], limit: int = 12) -> str:
    """What is missing, in a few lines for the terminal."""
    lines = [
        f"  {m.study}: {m.arm}, length {number(m.length)}"
        + (f", seed {m.seed}" if m.seed is not None else "")
        + f": {m.what}"
        for m in dict.fromkeys(missing)
    ]
    more = [f"  and {len(lines) - limit} more, listed in missing.jsonl"] if len(lines) > limit else []
    return "\n".join([f"missing at scale {scale.name}: {len(lines)}", *lines[:limit], *more])


def main() -> None:
    """Write the curves and say what is missing."""
    here = command.places(__doc__)
    print(spoken(here.scale, write(grid.load(here.scale, here.results), here)))


if __name__ == "__main__":
    command.run(main)
