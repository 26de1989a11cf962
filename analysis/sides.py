"""The side studies: every arm's scores and costs as rows, and the comparisons that their claims refer to.

    <out>/side_whisper.jsonl            a row per arm (and the base), seed, eval and metric; costs are of the eval "run"
    <out>/side_whisper_effects.jsonl    an estimate per question of the study (`experiments/whisper.py`)

A side study is a scale of its own, whose tables lie in `<results>/whisper/`; its rows join those of the scale that it
belongs to ("pocket"), and so do its verdicts. Differences are taken item by item and seed by seed, as everywhere. Of
costs a seed has one number, so their intervals are over seeds alone, and there are none with a single seed. Between
arms of which none clearly moved from the base nothing is concluded: the comparison is missing, and says so.

As a script it ends with the verdicts of the side studies that have rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analysis import command, effects, grid, macro_f1, rows, verdict_table, verdicts
from experiments import sides
from experiments.comparisons import Question
from replication.results import Items, RunRow, Score, read_items, read_runs, read_scores
from replication.scale import Scale
from replication.stats import Estimate, combine, contrast

BASE = "base"
RUN = "run"
# The constant answer of a classifier: its items stand beside those of every model that was asked (evals/labels.py).
MAJORITY = "majority"
COSTS = ("seconds", "step_seconds", "trainable", "stored_bytes", "peak_memory_gb", "final_loss", "moved", "tensors")


@dataclass(frozen=True)
class Side:
    """The tables of a side study: runs by (arm, seed), scores and per-item values by (run name, eval, metric)."""

    study: str
    runs: dict[tuple[str, int], RunRow]
    scores: dict[tuple[str, str, str], Score]
    items: dict[tuple[str, str, str], Items]

    @property
    def arms(self) -> list[str]:
        """Labels of the arms that were trained, in the order of the study."""
        return list(dict.fromkeys(arm for arm, _ in self.runs))

    def seeds(self, arm: str) -> list[int]:
        """Seeds at which an arm was trained."""
        return sorted(seed for label, seed in self.runs if label == arm)


def load(scale: Scale, results: Path) -> Side | None:
    """The tables of a side study's scale; None where it was never collected."""
    folder = results / scale.name
    if not (folder / "runs.jsonl").is_file():
        return None
    # By name, not by digest: on a machine without the recordings the study would train on other data than these rows.
    collected = {row.run: row for row in read_runs(folder / "runs.jsonl")}
    seeds = sorted({row.seed for row in collected.values()})
    planned = [(arm, seed, run.name()) for seed in seeds for arm, run in sides.arms(scale, seed).items()]
    runs = {(arm, seed): collected[name] for arm, seed, name in planned if name in collected}
    tables = [folder / f"{name}.jsonl" for name in (BASE, scale.side)]
    scores = [row for path in tables if path.is_file() for row in read_scores(path)]
    items = [row for path in tables if path.is_file() for row in read_items(path.with_suffix(".items.jsonl.gz"))]
    return Side(
        scale.side,
        runs,
        {(row.run, row.eval, row.metric): row for row in scores},
        {(row.run, row.eval, row.metric): row for row in items},
    )


# ---------------------------------------------------------------- rows


def of_arms(side: Side) -> list[rows.Row]:
    """A row per arm, seed, eval and metric: the base first, then the arms in the study's order."""
    made = [_score(side, BASE, None, row) for (run, _, _), row in side.scores.items() if run == BASE]
    for (arm, seed), run in side.runs.items():
        made += [_score(side, arm, seed, row) for (name, _, _), row in side.scores.items() if name == run.run]
        made += [_cost(side, arm, seed, name, value) for name, value in costs(run).items()]
        made += [_cost(side, arm, seed, "loss_deviation", value) for value in _deviation(side, arm, seed)]
    return made


def costs(run: RunRow) -> dict[str, float]:
    """What a run cost, by name; what was not measured is left out. Tokens per second come from the median step."""
    found = {name: float(value) for name in COSTS if (value := getattr(run, name)) is not None}
    if run.step_seconds:
        found["supervised_tokens_per_s"] = run.supervised_tokens / run.step / run.step_seconds
        if run.real_tokens is not None:
            found["real_tokens_per_s"] = run.real_tokens / run.step / run.step_seconds
    norms = run.gradient_norms or {}
    return found | ({"least_gradient_norm": min(norms.values())} if norms else {})


def _deviation(side: Side, arm: str, seed: int) -> list[float]:
    """How far a run's logged losses are at most from those of the arm that it must repeat; empty without one."""
    own, other = side.runs[arm, seed], side.runs.get((str(sides.reference(side.study, arm)), seed))
    if other is None or not own.losses or not other.losses or len(own.losses) != len(other.losses):
        return []
    return [max(abs(a - b) for a, b in zip(own.losses, other.losses, strict=True))]


def _score(side: Side, arm: str, seed: int | None, row: Score) -> rows.Row:
    place = {"study": side.study, "arm": arm, "seed": seed, "eval": row.eval, "metric": row.metric}
    return place | {"value": row.value, "stderr": row.stderr, "n": row.n}


def _cost(side: Side, arm: str, seed: int, metric: str, value: float) -> rows.Row:
    place = {"study": side.study, "arm": arm, "seed": seed, "eval": RUN, "metric": metric}
    return place | {"value": value, "stderr": None, "n": 1}


# ---------------------------------------------------------------- estimates


def estimate(side: Side, question: Question) -> Estimate | None:
    """The answer to one question; None where an arm, an eval or a second seed of a cost is missing."""
    seeds = _seeds(side, question)
    if not seeds:
        return None
    if question.eval == RUN:
        return _of_costs(side, question, seeds)
    if question.metric == "macro_f1":
        return _of_macro_f1(side, question, seeds)
    left = _values(side, question.left, question, seeds)
    if left is None or question.kind == "value":
        return None if left is None else contrast([left])
    right = _values(side, question.right, question, seeds)
    if right is None or not _moved(side, question, seeds, (left, right)):
        return None
    return contrast([left - right]) if question.kind == "difference" else _saved(left, right)


def _seeds(side: Side, question: Question) -> list[int]:
    """Seeds that every arm of a question has; the base has none and stands in for each."""
    arms = [question.left] if question.kind == "value" else [question.left, question.right]
    return sorted(set.intersection(*(set(side.seeds(arm)) for arm in arms if arm not in (BASE, MAJORITY))))


def _values(side: Side, arm: str, question: Question, seeds: Sequence[int]) -> np.ndarray | None:
    """Per-item values of an arm, shape (seeds, items).

    Raises:
        ValueError: its seeds were asked different items.
    """
    names = [BASE if arm in (BASE, MAJORITY) else side.runs[arm, seed].run for seed in seeds]
    metric = f"{MAJORITY}_{question.metric}" if arm == MAJORITY else question.metric
    found = [side.items.get((name, question.eval, metric)) for name in names]
    whole = [row for row in found if row is not None]
    if len(whole) < len(found):
        return None
    if len({row.ids for row in whole}) > 1:
        raise ValueError(f"{side.study}: the runs of {arm} were asked different items of {question.eval!r}")
    return np.array([row.values for row in whole])


def _moved(side: Side, question: Question, seeds: Sequence[int], compared: Sequence[np.ndarray]) -> bool:
    """Whether a compared arm clearly differs from the base on the metric; True where the base was not asked."""
    base = _values(side, BASE, question, seeds)
    if base is None:
        return True
    changes = [contrast([values - base]) for values in compared if not np.array_equal(values, base)]
    return any(change.low > 0 or change.high < 0 for change in changes)


def _of_costs(side: Side, question: Question, seeds: Sequence[int]) -> Estimate | None:
    """Costs have no items: one number a seed, and an interval over two seeds or more."""
    arms = [question.left] if question.kind == "value" else [question.left, question.right]
    known = [[costs(side.runs[arm, seed]).get(question.metric) for seed in seeds] for arm in arms]
    if len(seeds) < 2 or any(value is None for arm in known for value in arm):
        return None
    left, *right = np.array(known, dtype=np.float64)
    by_seed = left if not right else left - right[0] if question.kind == "difference" else 1 - left / right[0]
    return combine(by_seed, item_variance=0.0, items=1)


def _of_macro_f1(side: Side, question: Question, seeds: Sequence[int]) -> Estimate | None:
    """Macro-F1 is no mean over items, so what is paired are the predicted classes behind it."""
    asked = replace(question, metric="predicted")
    left, right = (_values(side, arm, asked, seeds) for arm in (question.left, question.right))
    labels = _values(side, question.left, replace(question, metric="label"), seeds)
    if left is None or right is None or labels is None:
        return None
    return macro_f1.difference(left, right, labels[0])


def _saved(left: np.ndarray, right: np.ndarray) -> Estimate:
    """1 - left / right of means, by linearisation: items enter through (right - left - s right) / mean(right)."""
    share = 1 - left.mean() / right.mean()
    spread = contrast([(right - left - share * right) / right.mean()])
    return replace(spread, value=share + spread.value, low=share + spread.low, high=share + spread.high)


# ---------------------------------------------------------------- tables


def write(tables: grid.Tables, where: command.Places) -> list[grid.Missing]:
    """Write rows and estimates of every side study that this scale has tables of; returns the comparisons missing."""
    missing = []
    for study, module in sides.STUDIES.items():
        scale = module.SCALES.get(tables.scale.name)
        side = None if scale is None else load(scale, where.results)
        if scale is None or side is None:
            continue
        rows.write(where.out / f"side_{study}.jsonl", of_arms(side))
        found = {question: estimate(side, question) for question in sides.questions(study)}
        rows.write(where.out / f"side_{study}_effects.jsonl", [_row(q, e) for q, e in found.items() if e is not None])
        missing += [_gap(q, study) for q, e in found.items() if e is None]
    return missing


def _row(question: Question, found: Estimate) -> rows.Row:
    what = f"{question.metric} ({question.eval})"
    words = {
        "difference": f"{what} of {question.left} less {question.right}",
        "saved": f"share of {what} that {question.left} saves against {question.right}",
        "value": f"{what} of {question.left}",
    }[question.kind]
    return effects.row(question.quantity, effects.ALL, words, found)


def _gap(question: Question, study: str) -> grid.Missing:
    what = f"{question.metric} of {question.left} and {question.right} (`python -m experiments run {study} --seeds 3`)"
    return grid.Missing(study, question.left, 0.0, None, what)


def judged(tables: grid.Tables, out: Path) -> list[rows.Row]:
    """The verdicts of the side studies that have estimates in `out`."""
    known = [study for study in sides.STUDIES if (out / f"side_{study}_effects.jsonl").is_file()]
    claims = [claim for study in known for claim in sides.STUDIES[study].CLAIMS]
    return verdicts.verdicts(grid.with_effects(tables, out), [], claims)[0]


def main() -> None:
    """Write the rows and estimates of all side studies, print their verdicts, and say what is missing."""
    here = command.places(__doc__)
    # Who runs a side study alone has no tables of the main one.
    alone = not (here.results / here.scale.name).is_dir()
    tables = grid.Tables(here.scale, (), {}, {}) if alone else grid.load(here.scale, here.results)
    missing = write(tables, here)
    made = judged(tables, here.out)
    if not made:
        raise FileNotFoundError(
            f"no collected side study under {here.results}; run one (`python -m experiments run whisper`) and collect "
            "it (`python -m experiments collect --scale whisper`)"
        )
    print(verdict_table.table(made))
    for gap in missing:
        print(f"missing: {gap.study}: {gap.what}")


if __name__ == "__main__":
    command.run(main)
