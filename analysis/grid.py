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

Ablations stand beside the cells: `variants` gives their runs by arm and by what sets them apart ("attention", "a16",
"wd1e-4"). A setting whose lengths are not separate has one run for all of them, scored on its way: each scored step
that belongs to a length is a cell. The scale `reported` has no files: its tables are the paper's own
(`experiments/reported.py`).

What is not in the tables is a `Missing` row, never a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis import rows as tables_of
from experiments import reported, studies, sweeps
from replication.results import Items, RunRow, Score, read_items, read_runs, read_scores
from replication.scale import Scale, Setting
from replication.specs import Choice, Code, Eval, HeldOut, Maths

BASE = "base"
Key = tuple[str, int, str, str]  # run, step, eval, metric
Question = tuple[str, str, float]  # eval, metric, weight
Run = RunRow | reported.Ran  # of the paper's runs only what it prints is known
# Asked by the paper's mix alone; metrics of evals that a scale may lack.
ELSEWHERE = {"mmlu": "acc", "mt_bench": "points"}


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
    """All collected rows of a scale; `effects` are the named estimates of other analyses (`with_effects`)."""

    scale: Scale
    runs: tuple[Run, ...]
    scores: dict[Key, Score]
    items: dict[Key, Column]
    effects: tuple[tables_of.Row, ...] = ()


@dataclass(frozen=True)
class Point:
    """A checkpoint that was scored: the base, or a run at its last step."""

    run: str
    step: int


def load(scale: Scale, results: Path, analysis: Path | None = None) -> Tables:
    """Read the collected tables of a scale from `<results>/<scale>/`; a study without a table has no rows.

    `analysis` is the folder of this scale's analysis rows, for the named estimates in it.
    """
    tables = _reported() if scale.name == reported.SCALE.name else _collected(scale, results / scale.name)
    return tables if analysis is None else with_effects(tables, analysis)


def of_rows(scale: Scale, runs: Sequence[RunRow], scores: Sequence[Score], items: Sequence[Items]) -> Tables:
    """Tables from rows: those of the eval versions that the scale asks now.

    Raises:
        ValueError: two rows for one score, or runs that were asked different items.
    """
    _check_ids(items)
    return Tables(scale, tuple(runs), _by_key(scale, scores), _columns(_by_key(scale, items)))


def with_effects(tables: Tables, folder: Path) -> Tables:
    """The tables with all rows of `*_effects.jsonl` in a folder; none where there are none."""
    found = [row for path in sorted(folder.glob("*_effects.jsonl")) for row in tables_of.read(path)]
    return replace(tables, effects=tuple(found))


def arms(scale: Scale) -> list[str]:
    """Labels in the order of the figures: full, then LoRA by rank."""
    return ["full", *(f"r{rank}" for rank in sorted(scale.ranks))]


def rank_of(arm: str) -> int | None:
    """16 for "r16", None for "full" and "base"."""
    return int(arm[1:]) if arm.startswith("r") else None


def settings(scale: Scale) -> dict[str, Setting]:
    """The scale's settings by study name."""
    return dict(scale.settings)


def label(row: Run) -> str | None:
    """The arm that a run belongs to; None for methods and variants outside the main comparison."""
    arm, variant = arm_and_variant(row)
    return None if variant else arm


def arm_and_variant(row: Run) -> tuple[str, str]:
    """What a run trains, and what sets it apart from the arm of that name in its setting.

    >>> full, weight decay 4.2e-4      ("full", "wd4.2e-4")
    >>> lora-r4-all-nogate-a2, AdamW   ("r4", "nogate-a2-adamw")
    >>> lora-r16-all                   ("r16", "")
    """
    arm = "full" if row.rank is None else f"r{row.rank}"
    kind = row.method.removeprefix("full" if row.rank is None else f"lora-{arm}-")
    words = [word for word in (*kind.split("-"), row.variant) if word not in ("", "all")]
    return arm, "-".join(words)


def length_of(row: Run, setting: Setting) -> float | None:
    """The setting's length that a run was meant to have; None if it is none of them.

    A budget in tokens is rounded to whole steps (at least two), so a run may be up to two steps off.
    """
    nearest = min(setting.lengths, key=lambda length: abs(length - row.length))
    slack = 2 * setting.global_batch * setting.seq_len if setting.regime == "cpt" else 0
    return nearest if abs(nearest - row.length) <= slack else None


def cells(tables: Tables, study: str) -> dict[tuple[str, float, int], Run]:
    """The runs of one setting by (arm, length, seed); the length is the setting's.

    Of a run scored on its way, each cell has the row as it was at that length, so `point` gives that step.

    Raises:
        ValueError: two runs in one cell.
    """
    setting = settings(tables.scale)[study]
    rates = dict(setting.rates)
    found: dict[tuple[str, float, int], Run] = {}
    for row in tables.runs:
        arm = label(row)
        if row.study != study or row.trunk or arm is None or rates.get(arm) != row.lr:
            continue
        for length, stage in _stages(tables, row, setting):
            key = (arm, length, row.seed)
            if key in found:
                raise ValueError(f"{row.run} and {found[key].run} stand in the same cell {key} of {study}")
            found[key] = stage
    return found


def _stages(tables: Tables, row: Run, setting: Setting) -> list[tuple[float, Run]]:
    """The lengths that a run stands for; several where it was scored on its way."""
    if setting.separate:
        length = length_of(row, setting)
        return [] if length is None else [(length, row)]
    scored = sorted({step for run, step, _, _ in tables.scores if run == row.run})
    return [(n, at) for n in setting.lengths if (at := _stage(row, n, scored)) is not None]


def _stage(row: Run, length: float, scored: Sequence[int]) -> Run | None:
    """The run as it was at a length; None if it was not scored there (to within a twentieth: steps are whole)."""
    wanted = row.step * length / row.length
    near = [step for step in scored if abs(step - wanted) <= max(1.0, wanted / 20)]
    if not near:
        return None
    step = min(near, key=lambda s: abs(s - wanted))
    return replace(row, length=length, step=step, tokens=round(row.tokens * step / row.step))


def variants(tables: Tables, study: str) -> list[tuple[str, str, Run]]:
    """Runs of a setting's ablations by arm and variant, the setting's own (variant "") among them, by study.

    Sweeps of rates are not ablations: their seeds are their own (`swept`).
    """
    own = {study, *(name for name in tables.scale.ablations if sweeps.setting_of(name) == study)}
    return [(*arm_and_variant(row), row) for row in tables.runs if row.study in own and not row.trunk]


def swept(tables: Tables, study: str) -> list[tuple[str, Run]]:
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
    if not name:
        return []  # a scale without held-out losses
    unasked = name in ELSEWHERE and name not in {e.name for e in scale.evals}
    return [(name, ELSEWHERE[name] if unasked else primary(scale.eval(name)), 1.0)]


def bounded(metric: str) -> bool:
    """Whether a metric lies between 0 and 1."""
    return metric in ("acc", "acc_norm", "acc_token", "pass@1", "strict", "flexible")


def imaginary(metric: str) -> float:
    """What one item can change: a whole score, or one string of several samples; 0 of a loss, which has no range."""
    return float(bounded(metric) or metric.startswith("unique_"))


def score(tables: Tables, point: Point, asked: Sequence[Question]) -> float | None:
    """Weighted sum of the point's scores; None if one of them is missing."""
    rows = [tables.scores.get((point.run, point.step, name, metric)) for name, metric, _ in asked]
    if not asked or any(row is None for row in rows):
        return None
    return sum(row.value * weight for row, (_, _, weight) in zip(rows, asked, strict=True) if row is not None)


def stderr(tables: Tables, point: Point, asked: Sequence[Question]) -> float | None:
    """Standard error over items of the same sum, its evals being independent; None if one is unknown."""
    rows = [tables.scores.get((point.run, point.step, name, metric)) for name, metric, _ in asked]
    errors = [None if row is None else row.stderr for row in rows]
    if not asked or any(error is None for error in errors):
        return None
    weighted = [error * weight for error, (_, _, weight) in zip(errors, asked, strict=True) if error is not None]
    return float(np.sqrt(np.sum(np.square(weighted))))


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


def point(row: Run) -> Point:
    """The checkpoint of a run that the study compares: its last, or that of its cell."""
    return Point(row.run, row.step)


def base_point() -> Point:
    """The base model, scored as a run of its own."""
    return Point(BASE, 0)


def as_rows(missing: Iterable[Missing]) -> list[dict[str, Any]]:
    """Missing cells as analysis rows, without repeats, in the order found."""
    return [asdict(m) for m in dict.fromkeys(missing)]


def _collected(scale: Scale, folder: Path) -> Tables:
    """The tables that `experiments collect` wrote."""
    main = [name for name, _ in scale.settings]
    names = [BASE, *main, studies.SWEEP, *(name + sweeps.SUFFIX for name in main), *scale.ablations]
    present = [n for n in names if (folder / f"{n}.jsonl").is_file()]
    scores = [row for name in present for row in read_scores(folder / f"{name}.jsonl")]
    with_items = [n for n in present if (folder / f"{n}.items.jsonl.gz").is_file()]
    items = [row for name in with_items for row in read_items(folder / f"{name}.items.jsonl.gz")]
    return of_rows(scale, read_runs(folder / "runs.jsonl"), scores, items)


def _reported() -> Tables:
    """The paper's own tables: scores with standard errors, no per-item values."""
    scores = {(s.run, s.step, s.eval, s.metric): s for s in reported.scores()}
    return Tables(reported.SCALE, reported.runs(), scores, {})


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
