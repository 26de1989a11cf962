"""What one choice does, with everything else as in the setting: rates, alpha, linears, optimiser, regularisation.

One table for all: a point is a run of `<setting>.<sweep>` by its arm, variant, rate and length, over its seeds. The
setting's own runs that belong beside a sweep are repeated in it (`own`), such as the linears "all" beside "attention"
and "mlp". `chosen` marks the rate with the lowest held-out target loss of its arm, variant and length.

    full                        -> arm full, variant ""
    full, weight decay 4.2e-4   -> arm full, variant wd4.2e-4
    lora-r4-all-nogate-a2, Adam -> arm r4,   variant nogate-a2-adamw

What the learning-rate sweep says about the best rates is in `optima.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis import command, curves, grid, optima, rows
from replication.config import number
from replication.results import RunRow
from replication.scale import Setting

SWEEPS = ("learning_rates", "alpha", "modules", "matched", "regularisation", "optimiser", "artefact")
# LoRA varies more than the optimiser in the one and is not trained in the other.
FULL_ONLY = ("optimiser", "artefact")
# The first trains at seeds of its own; nothing the setting trains has the second's numbers of weights.
ALONE = ("learning_rates", "matched")


Spots = dict[tuple[str, str, float, float], list[RunRow]]  # by arm, variant, rate, length


@dataclass(frozen=True)
class Spot:
    """One point of a sweep: an arm's variant at a rate and a length, with its runs (seeds)."""

    arm: str
    variant: str
    lr: float
    length: float
    own: bool
    runs: tuple[RunRow, ...]


def spots(tables: grid.Tables, study: str, sweep: str) -> list[Spot]:
    """All points of one sweep of a setting, the setting's own first; none where the sweep was not trained."""
    setting = grid.settings(tables.scale)[study]
    trained = [r for r in _runs(tables) if r.study == f"{study}.{sweep}" and not r.trunk]
    found: Spots = {}
    for run in sorted(trained, key=lambda r: (r.rank or 0, r.method, r.variant, r.lr, r.length, r.seed)):
        length = grid.length_of(run, setting) or run.length
        found.setdefault((*grid.arm_and_variant(run), run.lr, length), []).append(run)
    own: Spots = {}
    beside, lengths = _beside(tables, sweep, found), {key[3] for key in found}
    for (arm, length, _), row in sorted(grid.cells(tables, study).items()):
        if arm in beside and length in lengths and isinstance(row, RunRow):
            own.setdefault((arm, "", row.lr, length), []).append(row)
    # A seed that both have trained counts once.
    for key, runs in own.items():
        have = {r.seed for r in runs}
        runs += [r for r in found.pop(key, []) if r.seed not in have]
    made = [Spot(*key, own=True, runs=tuple(runs)) for key, runs in own.items()]
    return made + [Spot(*key, own=False, runs=tuple(runs)) for key, runs in found.items()]


def _runs(tables: grid.Tables) -> list[RunRow]:
    """The runs we have trained: the paper's own sweeps are printed as figures, without numbers."""
    return [row for row in tables.runs if isinstance(row, RunRow)]


def _beside(tables: grid.Tables, sweep: str, found: Spots) -> list[str]:
    """The setting's arms that a sweep is drawn with; regularised full fine-tuning stands against every LoRA."""
    if sweep in ALONE or not found:
        return []
    if sweep == "regularisation":
        return grid.arms(tables.scale)
    return ["full"] if sweep in FULL_ONLY else [key[0] for key in found]


def sweeps(tables: grid.Tables) -> tuple[list[rows.Row], list[grid.Missing]]:
    """One row per point and axis of every sweep that has runs, and what is missing."""
    made: list[rows.Row] = []
    missing: list[grid.Missing] = []
    for study, setting in tables.scale.settings:
        for sweep in SWEEPS:
            found = spots(tables, study, sweep)
            best = _chosen(tables, setting, found)
            if not found and f"{study}.{sweep}" in tables.scale.ablations:
                missing.append(grid.Missing(f"{study}.{sweep}", "every arm", 0.0, None, "run"))
            for spot in found:
                for axis in curves.axes(tables.scale, setting):
                    row = _row(tables, study, setting, spot, axis)
                    whole = [r | {"sweep": sweep, "chosen": spot in best} for r in row]
                    made += whole
                    if not whole:
                        gap = f"{axis} of {spot.variant or 'the plain arm'} at rate {number(spot.lr)}"
                        missing.append(grid.Missing(f"{study}.{sweep}", spot.arm, spot.length, None, gap))
    return made, missing


def _row(tables: grid.Tables, study: str, setting: Setting, spot: Spot, axis: str) -> list[rows.Row]:
    asked = grid.questions(tables.scale, setting, axis)
    result = curves.estimate(tables, [grid.point(r) for r in spot.runs], asked)
    if result is None:
        return []
    value, est = result
    low, high = curves.interval(value, est, asked)
    first = spot.runs[0]
    return [{
        "study": study, "sweep": "", "arm": spot.arm, "variant": spot.variant, "rank": first.rank,
        "trainable": first.trainable, "lr": spot.lr, "length": spot.length, "length_unit": first.length_unit,
        "axis": axis, "metric": curves.metric_of(asked), "value": value, "low": low, "high": high,
        "seeds": len(spot.runs), "n": est.items if est else 1, "base": grid.score(tables, grid.base_point(), asked),
        "chosen": False, "own": spot.own,
    }]  # fmt: skip


def _chosen(tables: grid.Tables, setting: Setting, found: Sequence[Spot]) -> list[Spot]:
    """Per arm, variant and length the spot with the lowest held-out target loss; a spot without rivals is chosen."""
    groups: dict[tuple[str, str, float], list[Spot]] = {}
    for spot in found:
        groups.setdefault((spot.arm, spot.variant, spot.length), []).append(spot)
    return [min(group, key=lambda s: _loss(tables, setting, s)) for group in groups.values()]


def _loss(tables: grid.Tables, setting: Setting, spot: Spot) -> float:
    """Mean held-out target loss over seeds; infinite where it was not measured."""
    if not setting.target_loss:
        return np.inf
    asked = grid.questions(tables.scale, setting, "target_loss")
    losses = [grid.score(tables, grid.point(r), asked) for r in spot.runs]
    return float(np.mean([np.inf if loss is None else loss for loss in losses]))


def write(tables: grid.Tables, where: command.Places) -> list[grid.Missing]:
    """Write `sweeps.jsonl` and `sweeps_effects.jsonl`; returns what is missing."""
    made, missing = sweeps(tables)
    rows.write(where.out / "sweeps.jsonl", made)
    effects, more = optima.effects(tables)
    rows.write(where.out / "sweeps_effects.jsonl", effects)
    return [*missing, *more]


def main() -> None:
    """Write the sweeps and say what is missing."""
    here = command.places(__doc__)
    missing = write(grid.load(here.scale, here.results), here)
    print(f"rows in {here.out / 'sweeps.jsonl'} and {here.out / 'sweeps_effects.jsonl'}")
    if missing:
        print(curves.spoken(here.scale, missing))


if __name__ == "__main__":
    command.run(main)
