"""Named estimates of other analyses, looked up for the claims that refer to them (`comparisons.Measured`).

They lie in the tables `*_effects.jsonl` beside the other analysis rows. One that is not there is missing, with the
command that makes it, and its claim undecided. Where settings have rows of their own these count, not their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from analysis import grid
from analysis.rows import Row
from experiments.comparisons import Measured
from replication.stats import Estimate

ALL = "all"
# By the beginning of a quantity's name, the command that measures it.
COMMANDS = (
    ("scaling_", "python analysis/scaling.py"),
    ("intruders_", "python analysis/intruders.py"),
    ("change_", "python analysis/intruders.py"),
    ("artefact_", "python analysis/artefact.py"),
    ("capacity_", "python analysis/capacity.py"),
    ("slower", "python analysis/throughput.py"),
    ("memory_", "python -m replication.benchmark_batch and python analysis/throughput.py"),
    ("l", "python analysis/sweeps.py"),
)


def labels(effects: Sequence[Row], measure: Measured) -> list[str]:
    """The settings that have an estimate of their own, else "all"."""
    own = [row["setting"] for row in effects if row["quantity"] == measure.quantity and row["setting"] != ALL]
    return list(dict.fromkeys(own)) or [ALL]


def find(tables: grid.Tables, measure: Measured, label: str) -> list[tuple[str, Estimate]]:
    """The estimates of one setting with their words, less the reference; of every setting that has one for "all"."""
    wanted = labels(tables.effects, measure) if label == ALL else [label]
    rows = [r for r in tables.effects if r["quantity"] == measure.quantity and r["setting"] in wanted]
    prefix = label == ALL and len(rows) > 1
    return [(f"{r['setting']}: {r['words']}" if prefix else r["words"], _less(r, measure.reference)) for r in rows]


def absent(tables: grid.Tables, measure: Measured, label: str) -> grid.Missing:
    """The gap where there is no such estimate, naming what makes it."""
    if not tables.items:
        return grid.Missing(
            label, "every arm", 0.0, None, f"per-item values for {measure.quantity}: none are published"
        )
    command = next((c for start, c in COMMANDS if measure.quantity.startswith(start)), "python -m analysis")
    scale = f"{command} --scale {tables.scale.name}"
    return grid.Missing(label, "every arm", 0.0, None, f"an estimate of {measure.quantity} (`{scale}`)")


def _less(row: Row, reference: float) -> Estimate:
    names: Iterable[str] = (f.name for f in fields(Estimate))
    made = Estimate(**{name: row[name] for name in names if name in row})
    return replace(made, value=made.value - reference, low=made.low - reference, high=made.high - reference)
