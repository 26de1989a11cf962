"""The tables of a side study: its runs by arm and seed, their scores and costs.

Of costs a seed has one number; tokens per second come from the median step and count no padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis import rows
from experiments import sides
from replication.results import Items, RunRow, Score, read_items, read_runs, read_scores
from replication.scale import Scale

BASE = "base"
RUN = "run"
# The constant answer of a classifier: its items stand beside those of every model that was asked (evals/labels.py).
MAJORITY = "majority"
COSTS = ("seconds", "step_seconds", "trainable", "stored_bytes", "peak_memory_gb", "final_loss", "moved", "tensors")


@dataclass(frozen=True)
class Side:
    """The tables of a side study: runs by (arm, seed), scores and per-item values by (run name, eval, metric).

    `data` names what all of its runs trained on: a study falls back on data made here where the real ones are absent.
    """

    study: str
    data: str
    runs: dict[tuple[str, int], RunRow]
    scores: dict[tuple[str, str, str], Score]
    items: dict[tuple[str, str, str], Items]

    def seeds(self, arm: str) -> list[int]:
        """Seeds at which an arm was trained."""
        return sorted(seed for label, seed in self.runs if label == arm)


def load(scale: Scale, results: Path) -> Side | None:
    """The tables of a side study's scale; None where it was never collected.

    Raises:
        ValueError: its runs were trained on different data.
    """
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
    data = sorted({row.data for row in runs.values()})
    if len(data) > 1:
        raise ValueError(f"{folder} has runs of {scale.side} on different data ({', '.join(data)}); collect them apart")
    return Side(
        scale.side,
        "".join(data),
        runs,
        {(row.run, row.eval, row.metric): row for row in scores},
        {(row.run, row.eval, row.metric): row for row in items},
    )


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
    place = {"study": side.study, "data": side.data, "arm": arm, "seed": seed, "eval": row.eval, "metric": row.metric}
    return place | {"value": row.value, "stderr": row.stderr, "n": row.n}


def _cost(side: Side, arm: str, seed: int, metric: str, value: float) -> rows.Row:
    place = {"study": side.study, "data": side.data, "arm": arm, "seed": seed, "eval": RUN, "metric": metric}
    return place | {"value": value, "stderr": None, "n": 1}
