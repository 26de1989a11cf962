"""Which run stands in which cell of the study, and what it scored on an axis.

A cell is (study, arm, length, seed). An arm is "full" or "r16"; a run belongs to it if its method label and its
learning rate are the ones the Setting names, so runs of other studies in the same table stay out. An axis is a
weighted mean of (eval, metric) pairs:

    learning      the setting's target eval, in its primary metric; a loss with its sign turned
    forgetting    the plain mean of the scale's forgetting evals (higher = less forgotten); of a scale that names none,
                  the source loss with its sign turned
    source_loss   held-out loss of what the base was trained on
    target_loss   held-out loss of the setting's own data
    unique_*      different strings among samples; only where the target is code

What is not in the tables is a `Missing` row, never a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import studies, sweeps
from replication.results import Items, RunRow, Score, read_items, read_runs, read_scores
from replication.scale import Scale, Setting
from replication.specs import Choice, Code, Eval, HeldOut, Maths

BASE = "base"
Key = tuple[str, int, str, str]  # run, step, eval, metric
Question = tuple[str, str, float]  # eval, metric, weight


@dataclass(frozen=True)
class Missing:
    """Something the study expects that the tables do not hold."""

    study: str
    arm: str
    length: float
    seed: int | None
    what: str


@dataclass(frozen=True)
class Column:
    """Per-item values of one metric of one checkpoint, shape (items,), with the items' ids."""

    ids: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True)
class Tables:
    """All collected rows of a scale."""

    scale: Scale
    runs: tuple[RunRow, ...]
    scores: dict[Key, Score]
    items: dict[Key, Column]


@dataclass(frozen=True)
class Point:
    """A checkpoint that was scored: the base, or a run at its last step."""

    run: str
    step: int


def load(scale: Scale, results: Path) -> Tables:
    """Read the collected tables of a scale from `<results>/<scale>/`; a study without a table has no rows."""
    folder = results / scale.name
    main = [name for name, _ in scale.settings]
    names = [BASE, *main, studies.SWEEP, *(name + sweeps.SUFFIX for name in main)]
    present = [n for n in names if (folder / f"{n}.jsonl").is_file()]
    scores = [row for name in present for row in read_scores(folder / f"{name}.jsonl")]
    with_items = [n for n in present if (folder / f"{n}.items.jsonl.gz").is_file()]
    items = [row for name in with_items for row in read_items(folder / f"{name}.items.jsonl.gz")]
    runs = read_runs(folder / "runs.jsonl")
    _check_ids(items)
    return Tables(scale, tuple(runs), _by_key(scale, scores), _columns(_by_key(scale, items)))


def arms(scale: Scale) -> list[str]:
    """Labels in the order of the figures: full, then LoRA by rank."""
    return ["full", *(f"r{rank}" for rank in sorted(scale.ranks))]


def rank_of(arm: str) -> int | None:
    """16 for "r16", None for "full" and "base"."""
    return int(arm[1:]) if arm.startswith("r") else None


def settings(scale: Scale) -> dict[str, Setting]:
    """The scale's settings by study name."""
    return dict(scale.settings)


def label(row: RunRow) -> str | None:
    """The arm that a run's method belongs to; None for methods outside the main comparison."""
    if row.method == "full":
        return "full"
    return f"r{row.rank}" if row.method == f"lora-r{row.rank}-all" else None


def length_of(row: RunRow, setting: Setting) -> float | None:
    """The setting's length that a run was meant to have; None if it is none of them.

    A budget in tokens is rounded to whole steps (at least two), so a run may be up to two steps off.
    """
    nearest = min(setting.lengths, key=lambda length: abs(length - row.length))
    slack = 2 * setting.global_batch * setting.seq_len if setting.regime == "cpt" else 0
    return nearest if abs(nearest - row.length) <= slack else None


def cells(tables: Tables, study: str) -> dict[tuple[str, float, int], RunRow]:
    """The runs of one setting by (arm, length, seed); the length is the setting's.

    Raises:
        ValueError: two runs in one cell.
    """
    setting = settings(tables.scale)[study]
    rates = dict(setting.rates)
    found: dict[tuple[str, float, int], RunRow] = {}
    for row in tables.runs:
        if row.study != study or row.trunk:
            continue
        arm, length = label(row), length_of(row, setting)
        if arm is None or length is None or rates.get(arm) != row.lr:
            continue
        key = (arm, length, row.seed)
        if key in found:
            raise ValueError(f"{row.run} and {found[key].run} stand in the same cell {key} of {study}")
        found[key] = row
    return found


def swept(tables: Tables, study: str) -> list[tuple[str, RunRow]]:
    """Runs of the learning-rate sweep that belong to a setting, each with its arm."""
    rows = [r for r in tables.runs if r.study == study + sweeps.SUFFIX and not r.trunk]
    return [(arm, row) for row in rows if (arm := label(row)) is not None]


def seeds(tables: Tables) -> list[int]:
    """Every seed that occurs in the main settings."""
    names = settings(tables.scale)
    return sorted({row.seed for row in tables.runs if row.study in names})


def primary(question: Eval) -> str:
    """The metric that an eval is reported by."""
    if isinstance(question, (Choice, Maths)):
        return question.metric
    return "pass@1" if isinstance(question, Code) else "nats_per_token"


def questions(scale: Scale, setting: Setting, axis: str) -> list[Question]:
    """What an axis asks in a setting, with weights; empty where it cannot be asked (strings of a maths target)."""
    target = scale.eval(setting.target)
    if axis == "learning":
        # Higher is better on this axis, so a loss counts with a minus.
        return [(target.name, primary(target), -1.0 if isinstance(target, HeldOut) else 1.0)]
    if axis == "forgetting" and not scale.forgetting:
        return [(scale.source_loss, primary(scale.eval(scale.source_loss)), -1.0)]
    if axis == "forgetting":
        share = 1 / len(scale.forgetting)
        return [(name, primary(scale.eval(name)), share) for name in scale.forgetting]
    if axis.startswith("unique_"):
        return [(target.name, axis, 1.0)] if isinstance(target, Code) else []
    name = {"source_loss": scale.source_loss, "target_loss": setting.target_loss}.get(axis, axis)
    return [(name, primary(scale.eval(name)), 1.0)]


def bounded(metric: str) -> bool:
    """Whether a metric lies between 0 and 1."""
    return metric in ("acc", "acc_norm", "acc_token", "pass@1", "strict", "flexible")


def score(tables: Tables, point: Point, asked: Sequence[Question]) -> float | None:
    """Weighted sum of the point's scores; None if one of them is missing."""
    rows = [tables.scores.get((point.run, point.step, name, metric)) for name, metric, _ in asked]
    if not asked or any(row is None for row in rows):
        return None
    return sum(row.value * weight for row, (_, _, weight) in zip(rows, asked, strict=True) if row is not None)


def item_values(tables: Tables, point: Point, name: str, metric: str) -> Column | None:
    """Per-item values of one metric, None if missing."""
    return tables.items.get((point.run, point.step, name, metric))


def shared_ids(columns: Sequence[Column]) -> tuple[str, ...]:
    """The ids that all columns have, in the first column's order."""
    first = columns[0].ids
    if all(column.ids is first for column in columns):
        return first
    others = [set(column.ids) for column in columns[1:]]
    return tuple(key for key in first if all(key in other for other in others))


def aligned(columns: Sequence[Column]) -> np.ndarray:
    """Values on the ids that all columns share, shape (columns, shared ids), in the first column's order."""
    shared = shared_ids(columns)
    made = []
    for column in columns:
        place = {key: index for index, key in enumerate(column.ids)} if column.ids is not shared else {}
        made.append(column.values[[place[key] for key in shared]] if place else column.values)
    return np.array(made)


def point(row: RunRow) -> Point:
    """The checkpoint of a run that the study compares: its last."""
    return Point(row.run, row.step)


def base_point() -> Point:
    """The base model, scored as a run of its own."""
    return Point(BASE, 0)


def as_rows(missing: Iterable[Missing]) -> list[dict[str, Any]]:
    """Missing cells as analysis rows, without repeats, in the order found."""
    return [asdict(m) for m in dict.fromkeys(missing)]


def _check_ids(items: Sequence[Items]) -> None:
    """One version of an eval asks every model the same items; only strings of one outcome may be undefined for some."""
    first: dict[tuple[str, int, str], Items] = {}
    for row in items:
        known = first.setdefault((row.eval, row.eval_version, row.metric), row)
        if not row.metric.startswith("unique_") and row.ids != known.ids:
            raise ValueError(
                f"{row.run} and {known.run} were asked different items of {row.eval}@{row.eval_version}; "
                "score both again, or raise the eval's version"
            )


def _columns(items: dict[Key, Items]) -> dict[Key, Column]:
    # Equal tuples of ids become one object, so that aligning the usual case needs no look at the ids.
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    return {key: Column(known.setdefault(row.ids, row.ids), np.array(row.values)) for key, row in items.items()}


def _by_key(scale: Scale, rows: Sequence[Any]) -> dict[Key, Any]:
    """Rows by key, of the eval versions that the scale asks now."""
    versions = {e.name: e.version for e in scale.evals}
    current = [row for row in rows if versions.get(row.eval) == row.eval_version]
    found: dict[Key, Any] = {}
    for row in current:
        key = (row.run, row.step, row.eval, row.metric)
        if key in found:
            raise ValueError(f"two rows for {key}; a run must be collected once")
        found[key] = row
    return found
