"""Different strings among the samples of a problem, correct and incorrect apart (Figure 5).

The metric is the paper's: exact string match, counted per problem among its correct (or incorrect) samples and
averaged over the problems that have any. Read it with two limits in mind: a problem solved in 3 of 50 samples can
show at most 3 correct strings, and the arms' averages run over different problems. `verdicts.py` compares arms on
the problems they share, `texts.py` at equal numbers of correct samples and by more than exact match.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis import command, grid, rows
from replication.scale import Scale, Setting
from replication.specs import Code
from replication.stats import contrast

OUTCOMES = ("correct", "incorrect")
Cell = tuple[str, float]  # arm, length


def code_settings(scale: Scale) -> list[tuple[str, Setting, Code]]:
    """The settings whose target is code, with that target."""
    found = []
    for study, setting in scale.settings:
        target = scale.eval(setting.target)
        if isinstance(target, Code):
            found.append((study, setting, target))
    return found


def samplings(scale: Scale, target: Code) -> list[Code]:
    """The target and every other sampling of its problems that the scale knows, as one at a higher temperature."""
    own = {setting.target for _, setting in scale.settings}
    others = [e for e in scale.evals if isinstance(e, Code) and e.name not in own]
    return [target, *(e for e in others if (e.source, e.template) == (target.source, target.template))]


def points(tables: grid.Tables, study: str) -> dict[Cell, list[grid.Point]]:
    """The scored checkpoints of a setting by (arm, length), one per seed, after the base's at length 0."""
    found = grid.cells(tables, study)
    made: dict[Cell, list[grid.Point]] = {(grid.BASE, 0.0): [grid.base_point()]}
    for arm in grid.arms(tables.scale):
        for length in grid.settings(tables.scale)[study].lengths:
            made[arm, length] = [grid.point(r) for (a, n, _), r in sorted(found.items()) if (a, n) == (arm, length)]
    return made


def diversity(tables: grid.Tables) -> list[rows.Row]:
    """One row per (setting with a code target, arm, length, outcome), and the base at length 0."""
    return [
        row
        for study, _, target in code_settings(tables.scale)
        for (arm, length), found in points(tables, study).items()
        for outcome in OUTCOMES
        for row in _row(tables, target, found, {"study": study, "arm": arm, "length": length, "outcome": outcome})
    ]


def _row(tables: grid.Tables, target: Code, found: Sequence[grid.Point], named: rows.Row) -> list[rows.Row]:
    """The row of one group of seeds; none where no problem had a sample of that outcome."""
    metric = f"unique_{named['outcome']}"
    columns = [c for p in found if (c := grid.item_values(tables, p, target.name, metric)) is not None]
    scores = [s for p in found if (s := grid.score(tables, p, [(target.name, metric, 1.0)])) is not None]
    if not columns or len(scores) != len(columns):
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
