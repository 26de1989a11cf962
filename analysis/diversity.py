"""Different strings among the samples of a problem, correct and incorrect apart (Figure 5).

The metric is the paper's: exact string match, counted per problem among its correct (or incorrect) samples and
averaged over the problems that have any. Read it with two limits in mind: a problem solved in 3 of 50 samples can
show at most 3 correct strings, and the arms' averages run over different problems. `verdicts.py` compares arms on
the problems they share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis import command, grid, rows
from replication.scale import Setting
from replication.specs import Code
from replication.stats import contrast

OUTCOMES = ("correct", "incorrect")


def diversity(tables: grid.Tables) -> list[rows.Row]:
    """One row per (setting with a code target, arm, length, outcome), and the base at length 0."""
    made: list[rows.Row] = []
    for study, setting in tables.scale.settings:
        if not isinstance(tables.scale.eval(setting.target), Code):
            continue
        found = grid.cells(tables, study)
        groups = {(grid.BASE, 0.0): [grid.base_point()]}
        for arm in grid.arms(tables.scale):
            for length in setting.lengths:
                groups[arm, length] = [
                    grid.point(r) for (a, n, _), r in sorted(found.items()) if (a, n) == (arm, length)
                ]
        for (arm, length), points in groups.items():
            for outcome in OUTCOMES:
                made += _row(
                    tables, setting, points, {"study": study, "arm": arm, "length": length, "outcome": outcome}
                )
    return made


def _row(tables: grid.Tables, setting: Setting, points: Sequence[grid.Point], named: rows.Row) -> list[rows.Row]:
    """The row of one group of seeds; none where no problem had a sample of that outcome."""
    target = tables.scale.eval(setting.target)
    metric = f"unique_{named['outcome']}"
    columns = [c for p in points if (c := grid.item_values(tables, p, target.name, metric)) is not None]
    scores = [s for p in points if (s := grid.score(tables, p, [(target.name, metric, 1.0)])) is not None]
    if not columns or len(scores) != len(columns) or not isinstance(target, Code):
        return []
    shared = grid.aligned(columns)
    if shared.size == 0 or shared.shape[1] < 2:
        return []
    est, value = contrast([shared]), float(np.mean(scores))
    return [
        named | {
            "unique": value, "low": value - (est.value - est.low), "high": value + (est.high - est.value),
            "problems": float(np.mean([len(c.ids) for c in columns])), "samples": target.samples, "seeds": len(columns),
        }
    ]  # fmt: skip


def write(tables: grid.Tables, where: command.Places) -> None:
    """Write `diversity.jsonl`."""
    rows.write(where.out / "diversity.jsonl", diversity(tables))


def main() -> None:
    """Write `diversity.jsonl` and say where it lies."""
    here = command.places(__doc__)
    write(grid.load(here.scale, here.results), here)
    print(f"rows in {here.out / 'diversity.jsonl'}")


if __name__ == "__main__":
    command.run(main)
