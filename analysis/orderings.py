"""Every ordering that the paper's tables state, and whether its own sample sizes decide it.

    python analysis/orderings.py [--scale reported]

At each length of each setting every two arms, and each arm and the base, are ordered by their scores. With standard
errors s from the items alone (`experiments/reported.py`) and d the difference, an ordering is within noise where

    |d| <= 1.96 sqrt(s_left^2 + s_right^2)

as if each model had been asked items of its own. They were the same items, and answers to the same item go together:
with a correlation rho between them the variance is s_left^2 + s_right^2 - 2 rho s_left s_right. `rho_needed` is the
smallest rho at which the ordering would be decided (0 where none is needed, empty where not even 1 would do): what
published per-item answers could have settled. Seeds are not in any of it; with them more would be within noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from analysis import command, grid, rows
from experiments import reported
from replication.config import number
from replication.scale import Setting
from replication.stats import unpaired

AXES = ("learning", "forgetting", "mmlu", "mt_bench")
Z95 = 1.959964


def orderings(tables: grid.Tables) -> list[rows.Row]:
    """One row per setting, axis, length and pair of arms that both have a score there; the higher score is the left."""
    made = []
    for study, setting in tables.scale.settings:
        found = grid.cells(tables, study)
        for axis in AXES:
            asked = grid.questions(tables.scale, setting, axis)
            for length in setting.lengths if asked else ():
                at = {arm: grid.point(row) for (arm, n, _), row in found.items() if n == length}
                places = {grid.BASE: grid.base_point(), **{a: at[a] for a in grid.arms(tables.scale) if a in at}}
                pairs = combinations(places.items(), 2)
                made += [
                    row | {"study": study, "axis": axis, "length": length}
                    for pair in pairs
                    if (row := _row(tables, study, length, asked, pair)) is not None
                ]
    return [_ordered(row) for row in made]


def rho_needed(difference: float, left: float, right: float) -> float | None:
    """Smallest correlation between items at which a difference is decided; None where not even 1 is enough.

    `left` and `right` are the standard errors of the two scores.
    """
    if difference == 0:
        return None
    if left * right == 0:
        return 0.0 if abs(difference) > Z95 * max(left, right) else None
    rho = (left**2 + right**2 - (difference / Z95) ** 2) / (2 * left * right)
    return None if rho > 1 else max(rho, 0.0)


def _row(
    tables: grid.Tables,
    study: str,
    length: float,
    asked: Sequence[grid.Question],
    pair: tuple[tuple[str, grid.Point], tuple[str, grid.Point]],
) -> rows.Row | None:
    scores = {arm: grid.score(tables, point, asked) for arm, point in pair}
    known = {arm: value for arm, value in scores.items() if value is not None}
    if len(known) < 2:
        return None
    errors = {arm: grid.stderr(tables, point, asked) for arm, point in pair}
    left, right = sorted(known, key=lambda arm: -known[arm])
    difference = known[left] - known[right]
    row: rows.Row = {
        "left": left, "right": right, "left_value": known[left], "right_value": known[right],
        "difference": difference, "low": None, "high": None, "within_noise": None, "rho_needed": None,
        "source": _source(study, (left, right), length, asked),
    }  # fmt: skip
    first, second = errors[left], errors[right]
    if first is None or second is None:
        return row
    points = [tables.scores[p.run, p.step, name, metric].n for _, p in pair for name, metric, _ in asked]
    est = unpaired([(1, known[left], first), (-1, known[right], second)], items=max(points))
    return row | {
        "low": est.low, "high": est.high, "within_noise": est.low <= 0 <= est.high,
        "rho_needed": rho_needed(difference, first, second),
    }  # fmt: skip


def _source(study: str, arms: tuple[str, str], length: float, asked: Sequence[grid.Question]) -> str:
    """The tables and figures that the two scores stand in; empty at a scale of our own."""
    settings = [name for name, _ in reported.SCALE.settings]
    if study not in settings:
        return ""
    found = []
    for arm in arms:
        # The base is printed once, for whichever setting.
        places = settings if arm == grid.BASE else [study]
        at = 0 if arm == grid.BASE else length
        found += [s for place in places if (s := reported.source(place, arm, at, asked[0][0]))][:1]
    return "; ".join(dict.fromkeys(found))


def _ordered(row: rows.Row) -> rows.Row:
    """The fields in the order in which one reads them."""
    first = ("study", "axis", "length", "left", "right")
    return {name: row[name] for name in (*first, *(n for n in row if n not in first))}


def summary(made: Sequence[rows.Row], tables: grid.Tables) -> str:
    """How many orderings of two arms are decided at each length, and the closest of those that are not."""
    lines = ["orderings of two arms decided by the items alone (unpaired 95 %), of all at that length"]
    for study, setting in tables.scale.settings:
        for axis in AXES:
            mine = [r for r in made if (r["study"], r["axis"]) == (study, axis) and grid.BASE not in _pair(r)]
            if mine:
                lines.append(f"  {study:<9} {axis:<11} " + "  ".join(_count(mine, n, setting) for n in setting.lengths))
    arms = [r for r in made if grid.BASE not in _pair(r)]
    judged = [r for r in arms if r["within_noise"] is not None]
    noise = [r for r in judged if r["within_noise"]]
    lines.append(
        f"{len(judged) - len(noise)} of {len(judged)} are decided, {len(noise)} are within noise; "
        f"{len(arms) - len(judged)} more have no standard error"
    )
    lines.append("within noise at the longest training:")
    last = {study: max(setting.lengths) for study, setting in tables.scale.settings}
    lines += [f"  {_spoken(row)}" for row in noise if row["length"] == last[row["study"]]]
    return "\n".join(lines)


def _pair(row: rows.Row) -> tuple[str, str]:
    return row["left"], row["right"]


def _count(mine: Sequence[rows.Row], length: float, setting: Setting) -> str:
    here = [r for r in mine if r["length"] == length]
    decided = sum(r["within_noise"] is False for r in here)
    known = "?" if all(r["within_noise"] is None for r in here) else str(decided)
    return f"{number(length)}{'' if setting.regime == 'cpt' else ' ep'} {known}/{len(here)}"


def _spoken(row: rows.Row) -> str:
    if row["rho_needed"] is None:
        needed = "no correlation between items would decide it"
    else:
        needed = f"a correlation of {row['rho_needed']:.2f} between items would decide it"
    values = f"{row['left']} {row['left_value']:.3f}, {row['right']} {row['right_value']:.3f}"
    return (
        f"{row['study']} {row['axis']}: {values}: [{row['low']:+.3f}, {row['high']:+.3f}]; {needed} ({row['source']})"
    )


def write(tables: grid.Tables, where: command.Places) -> str:
    """Write `orderings.jsonl`; returns the summary."""
    made = orderings(tables)
    rows.write(where.out / "orderings.jsonl", made)
    return summary(made, tables)


def main() -> None:
    """Write the orderings of the paper's tables and say how many its sample sizes decide."""
    options = command.parser(__doc__)
    options.set_defaults(scale=reported.SCALE.name)
    here = command.resolve(options.parse_args())
    print(write(grid.load(here.scale, here.results), here))
    print(f"rows in {here.out / 'orderings.jsonl'}")


if __name__ == "__main__":
    command.run(main)
