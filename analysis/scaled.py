"""What the scaled models of `analysis/scaling.py` scored: rows, effects and a table. Needs no torch.

    scaling_forgetting            forgetting score, first intruder scaled by .5 minus its neighbour scaled by .5
    scaling_source_loss           the same in held-out loss of what the base was trained on, positive = intruder better
    scaling_forgetting_alone      first intruder scaled minus the run itself: is anything given back at all?
    scaling_source_loss_alone     the same in held-out loss, positive = given back
    scaling_target                target score, first intruder scaled minus the run itself
    scaling_target_neighbour      target score, intruder minus neighbour

The differences to the neighbour alone could not decide: the neighbour is a direction of the base, so scaling it takes
away what the base knew, and an intruder that gives back nothing can still look better than that.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from analysis import effects, grid, rows
from analysis.intruders import EPSILON, K
from replication.config import number
from replication.results import RunRow
from replication.runs import RunDir, read_json
from replication.scale import Scale, Setting
from replication.specs import Eval
from replication.stats import contrast

Direction = Literal["intruder", "neighbour"]
DIRECTIONS: tuple[Direction, ...] = ("intruder", "neighbour")
FACTORS = (0.0, 0.3, 0.5, 0.7, 1.0)
COMPARED = 0.5  # the factor at which effects are taken: the middle of the paper's .3 to .7
AXES = ("learning", "forgetting", "source_loss", "target_loss")
VERSION = 1  # of how directions are chosen and scaled
# Quantity -> axis, sign, and what the scaled intruder is compared with.
QUANTITIES: dict[str, tuple[str, float, Literal["neighbour", "run"]]] = {
    "scaling_forgetting": ("forgetting", 1.0, "neighbour"),
    "scaling_source_loss": ("source_loss", -1.0, "neighbour"),
    "scaling_forgetting_alone": ("forgetting", 1.0, "run"),
    "scaling_source_loss_alone": ("source_loss", -1.0, "run"),
    "scaling_target": ("learning", 1.0, "run"),
    "scaling_target_neighbour": ("learning", 1.0, "neighbour"),
}


@dataclass(frozen=True)
class Cell:
    """A run at its setting's longest training."""

    study: str
    arm: str
    length: float
    run: RunRow


def cells(tables: grid.Tables, *, study: str | None = None, seeds: Sequence[int] | None = None) -> list[Cell]:
    """Every run of the main settings at its longest training."""
    found = []
    for name, setting in tables.scale.settings:
        for (arm, length, seed), run in sorted(grid.cells(tables, name).items()):
            wanted = study in (None, name) and (seeds is None or seed in seeds)
            if wanted and length == max(setting.lengths) and isinstance(run, RunRow):
                found.append(Cell(name, arm, length, run))
    return found


def folder_of(runs: Path, scale: Scale, cell: Cell, direction: Direction, factor: float) -> RunDir:
    """Where the scores of one scaled model lie: deeper than `collect` looks for runs."""
    return RunDir(runs / scale.name / "_scaling" / cell.run.run / f"{direction}-{factor:g}")


def scored(folder: RunDir, cell: Cell, evals: Sequence[Eval]) -> bool:
    """Whether a scaled model of this very run has all its scores."""
    known = folder.manifest
    if known.get("status") != "complete" or known["scaled"] != notes(cell):
        return False
    return all((score_folder(folder, spec) / "scores.json").is_file() for spec in evals)


def notes(cell: Cell) -> dict[str, Any]:
    """What a scaled model's manifest must say for its scores to be those of this run and this rule."""
    return {"digest": cell.run.digest, "step": cell.run.step, "epsilon": EPSILON, "k": K, "version": VERSION}


def score_folder(folder: RunDir, spec: Eval) -> Path:
    """Where one eval of a scaled model lies."""
    return folder.path / "evals" / "step_000000" / f"{spec.name}@{spec.version}"


def evals_of(scale: Scale, setting: Setting) -> tuple[Eval, ...]:
    """What a scaled model is asked: the setting's target and its loss, the forgetting evals, the source loss."""
    names = dict.fromkeys([setting.target, setting.target_loss, *scale.forgetting, scale.source_loss])
    return tuple(scale.eval(name) for name in names if name)


def table_rows(tables: grid.Tables, runs: Path, factors: Sequence[float] = FACTORS) -> list[rows.Row]:
    """Rows of every scaled model that is scored: its scores, and how they differ from those of the run itself."""
    listed = []
    for cell in cells(tables):
        for direction in DIRECTIONS:
            for factor in sorted(factors):
                listed += _rows_of(tables, runs, cell, direction, factor)
    # The run itself only where something was scaled.
    with_scaled = {(r["run"], r["direction"]) for r in listed if r["factor"] != 1}
    return [r for r in listed if (r["run"], r["direction"]) in with_scaled]


def _rows_of(tables: grid.Tables, runs: Path, cell: Cell, direction: Direction, factor: float) -> list[rows.Row]:
    setting = grid.settings(tables.scale)[cell.study]
    folder = folder_of(runs, tables.scale, cell, direction, factor)
    if factor != 1 and not scored(folder, cell, evals_of(tables.scale, setting)):
        return []
    made = []
    named = {"target_loss": setting.target_loss, "source_loss": tables.scale.source_loss}
    for axis in [a for a in AXES if named.get(a, a)]:
        asked = grid.questions(tables.scale, setting, axis)
        value = grid.score(tables, grid.point(cell.run), asked)
        if value is None:
            continue
        change: rows.Row = {"change": 0.0, "low": 0.0, "high": 0.0, "n": 0}
        if factor != 1:
            groups = [_change(tables, runs, cell, direction, factor, question) for question in asked]
            sizes = [abs(share) * grid.bounded(metric) for _, metric, share in asked]
            est = contrast(groups, pseudo=sizes)
            change = {"change": est.value, "low": est.low, "high": est.high, "n": est.items}
        made.append(
            {"study": cell.study, "run": cell.run.run, "arm": cell.arm, "rank": cell.run.rank, "seed": cell.run.seed,
             "length": cell.length, "direction": direction, "factor": factor, "axis": axis,
             "value": value + change["change"]} | change
        )  # fmt: skip
    return made


def _change(
    tables: grid.Tables, runs: Path, cell: Cell, direction: Direction, factor: float, question: grid.Question
) -> np.ndarray:
    """Scaled model minus the run itself on their shared items, times the question's weight, shape (1, items)."""
    name, metric, share = question
    sides = [_scaled_column(tables, runs, cell, direction, factor, question), _own_column(tables, cell, name, metric)]
    after, before = grid.aligned(sides)
    return share * (after - before)[None]


def effect_rows(tables: grid.Tables, runs: Path, factor: float = COMPARED) -> list[rows.Row]:
    """Effects at one factor, mean of the LoRA ranks, in every setting where all ranks are scored."""
    made = []
    for name, setting in tables.scale.settings:
        evals = evals_of(tables.scale, setting)
        own = [c for c in cells(tables, study=name) if c.arm != "full"]
        own = [c for c in own if all(scored(folder_of(runs, tables.scale, c, d, factor), c, evals) for d in DIRECTIONS)]
        arms = sorted({c.arm for c in own})
        seeds = sorted({c.run.seed for c in own if {o.arm for o in own if o.run.seed == c.run.seed} == set(arms)})
        kept = [c for c in own if c.run.seed in seeds]
        if not kept:
            continue
        for quantity, (axis, sign, against) in QUANTITIES.items():
            if axis == "source_loss" and not tables.scale.source_loss:
                continue
            asked = grid.questions(tables.scale, setting, axis)
            groups = [sign * _differences(tables, runs, kept, factor, q, against) for q in asked]
            sizes = [abs(share) * grid.bounded(metric) for _, metric, share in asked]
            other = "its neighbour scaled so" if against == "neighbour" else "nothing scaled"
            words = (
                f"{axis.replace('_', ' ')} with the first intruder of each matrix scaled by {factor:g}, against "
                f"{other}; mean of {', '.join(arms)} at {number(kept[0].length)}"
            )
            made.append(effects.row(quantity, name, words, contrast(groups, pseudo=sizes)))
    return made


def _differences(
    tables: grid.Tables,
    runs: Path,
    kept: Sequence[Cell],
    factor: float,
    question: grid.Question,
    against: Literal["neighbour", "run"],
) -> np.ndarray:
    """Scaled intruder minus the other side on every item, mean over arms, shape (seeds, items)."""
    name, metric, share = question
    ordered = sorted(kept, key=lambda cell: cell.run.seed)
    sides = [[_scaled_column(tables, runs, c, d, factor, question) for c in ordered] for d in DIRECTIONS]
    if against == "run":
        sides[1] = [_own_column(tables, c, name, metric) for c in ordered]
    columns = [*sides[0], *sides[1]]
    seeds = len({c.run.seed for c in kept})
    stacked = grid.aligned(columns).reshape(2, seeds, -1, len(grid.shared_ids(columns)))
    return share * (stacked[0] - stacked[1]).mean(axis=1)


def _scaled_column(
    tables: grid.Tables, runs: Path, cell: Cell, direction: Direction, factor: float, question: grid.Question
) -> grid.Column:
    name, metric, _ = question
    folder = folder_of(runs, tables.scale, cell, direction, factor)
    return _read(score_folder(folder, tables.scale.eval(name)), metric)


def _own_column(tables: grid.Tables, cell: Cell, name: str, metric: str) -> grid.Column:
    own = grid.item_values(tables, grid.point(cell.run), name, metric)
    if own is None:
        raise FileNotFoundError(f"no per-item values of {name} {metric} of {cell.run.run}; collect the study again")
    return own


@functools.cache
def _read(folder: Path, metric: str) -> grid.Column:
    (found,) = [item for item in read_json(folder / "scores.json")["items"] if item["metric"] == metric]
    return grid.Column(tuple(found["ids"]), np.array(found["values"]))


def table(listed: Sequence[rows.Row]) -> str:
    """Change of every axis by arm, direction and factor, mean over seeds, as text; * where its interval excludes 0."""
    lines = [
        "change against the run itself; * an interval over items without 0 (one seed)",
        f"{'study':<10}{'arm':<5}{'direction':<11}{'factor':>7}{'seeds':>6}" + "".join(f"{a:>14}" for a in AXES),
    ]
    groups: dict[tuple[str, str, str, float], list[rows.Row]] = {}
    for row in listed:
        if row["factor"] != 1:
            groups.setdefault((row["study"], row["arm"], row["direction"], row["factor"]), []).append(row)
    for (name, arm, direction, factor), group in groups.items():
        text = f"{name:<10}{arm:<5}{direction:<11}{factor:>7g}{len({r['seed'] for r in group}):>6}"
        for axis in AXES:
            own = [r for r in group if r["axis"] == axis]
            mean = f"{np.mean([r['change'] for r in own]):+.3f}" if own else "-"
            mark = "*" if len(own) == 1 and (own[0]["low"] > 0 or own[0]["high"] < 0) else " "
            text += f"{mean + mark:>14}"
        lines.append(text)
    return "\n".join(lines)
