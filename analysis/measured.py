"""Named estimates of other analyses, looked up for the claims that refer to them (`comparisons.Measured`).

They lie in the tables `*_effects.jsonl` beside the other analysis rows. One that is not there is missing, with the
command that makes it, and its claim undecided. Where one setting has a row of its own, every setting that the part is
about is asked for one: an estimate that could not be made is missing, not left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from analysis import grid
from analysis.rows import Row
from experiments.comparisons import Measured, Part
from replication.scale import Setting
from replication.stats import Estimate

ALL = "all"
# By the beginning of a quantity's name, the command that measures it.
COMMANDS = (
    ("scaling_", "python analysis/scaling.py --score"),
    ("intruders_", "python analysis/intruders.py"),
    ("change_", "python analysis/intruders.py"),
    ("artefact_", "python analysis/artefact.py"),
    ("capacity_", "python analysis/capacity.py"),
    ("unique_", "python analysis/texts.py"),
    ("slower", "python analysis/throughput.py"),
    ("memory_", "python -m replication.benchmark_batch and python analysis/throughput.py"),
    ("l", "python analysis/sweeps.py"),
)


def labels(effects: Sequence[Row], part: Part, settings: Sequence[tuple[str, Setting]]) -> list[str]:
    """The settings that a part is asked in, where any has an estimate of its own; else "all"."""
    assert isinstance(part.measure, Measured)
    own = [row for row in effects if row["quantity"] == part.measure.quantity and row["setting"] != ALL]
    if part.measure.pooled or not own:
        return [ALL]
    return [n for n, s in settings if part.regime in (None, s.regime) and part.domain in (None, s.domain)]


def find(tables: grid.Tables, measure: Measured, label: str) -> list[tuple[str, Estimate]]:
    """The estimates of one setting, or over all, with their words, less the reference."""
    rows = [r for r in tables.effects if (r["quantity"], r["setting"]) == (measure.quantity, label)]
    return [(r["words"], _less(r, measure.reference)) for r in rows]


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
