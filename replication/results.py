"""Score and item rows: the one results format, JSON lines.

A Score is one number about one checkpoint; an Items row holds the per-item values behind it, so that paired
tests run on a laptop. A missing number is a missing row, never 0 or -1: the schema refuses NaN, unknown fields
and duplicates.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar


@dataclass(frozen=True)
class Score:
    """One metric of one checkpoint. `tokens` counts trained positions; `stderr` is over items."""

    scale: str
    study: str
    run: str
    digest: str
    seed: int
    step: int
    tokens: int
    eval: str
    eval_version: int
    metric: str
    value: float
    n: int
    stderr: float | None
    git_sha: str

    def key(self) -> tuple[object, ...]:
        """What may occur only once in a table."""
        return (self.scale, self.run, self.step, self.eval, self.eval_version, self.metric)


@dataclass(frozen=True)
class Items:
    """The per-item values behind one Score, in the order of `ids`."""

    scale: str
    study: str
    run: str
    digest: str
    seed: int
    step: int
    eval: str
    eval_version: int
    metric: str
    ids: tuple[str, ...]
    values: tuple[float, ...]

    def key(self) -> tuple[object, ...]:
        """What may occur only once in a table."""
        return (self.scale, self.run, self.step, self.eval, self.eval_version, self.metric)


@dataclass(frozen=True)
class RunRow:
    """One trained run: what it was, what it cost, which code made it. `seconds` is training time alone.

    `variant` is `Run.variant()`: what sets an ablation apart beyond method, rate and length. `data` is the source of
    its training data, and `real_tokens` leaves padding out. `step_seconds` is the median over steps but the first
    three, `stored_bytes` the size of the stored weights, `peak_memory_gb` what the run added to what its process held
    before. `gradient_norms` (by group, at the last look) and `moved` of `tensors` trained tensors are the proof that it
    trained; `losses` are those logged, kept of side studies. None where it was not measured.
    """

    scale: str
    study: str
    run: str
    digest: str
    seed: int
    regime: str
    method: str
    rank: int | None
    lr: float
    length: float
    length_unit: str
    trunk: bool
    step: int
    tokens: int
    supervised_tokens: int
    trainable: int
    final_loss: float
    seconds: float
    git_sha: str
    started: str
    hardware: str
    variant: str = ""
    data: str = ""
    real_tokens: int | None = None
    step_seconds: float | None = None
    peak_memory_gb: float | None = None
    stored_bytes: int | None = None
    gradient_norms: dict[str, float] | None = None
    moved: int | None = None
    tensors: int | None = None
    losses: tuple[float, ...] | None = None

    def key(self) -> tuple[object, ...]:
        """What may occur only once in a table."""
        return (self.scale, self.run)


Row = Score | Items | RunRow
_Row = TypeVar("_Row", Score, Items, RunRow)


def check(row: Row) -> None:
    """Refuse a number that is not one."""
    for field in fields(row):
        value = getattr(row, field.name)
        numbers = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,)
        if any(isinstance(v, float) and not math.isfinite(v) for v in numbers):
            raise ValueError(f"{field.name} is not finite in row {row.key()}; leave the row out instead")
    if isinstance(row, Items) and len(row.ids) != len(row.values):
        raise ValueError(f"{len(row.ids)} ids but {len(row.values)} values in row {row.key()}")


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Replace the table at `path` atomically; gzip where the name ends in .gz. Returns the number of rows."""
    listed = list(rows)
    seen: set[tuple[object, ...]] = set()
    for row in listed:
        check(row)
        if row.key() in seen:
            raise ValueError(f"row {row.key()} occurs twice; one run must be collected once")
        seen.add(row.key())
    text = "".join(json.dumps(asdict(row)) + "\n" for row in listed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    data = text.encode()
    # mtime=0: the same rows give the same bytes, so a re-collection shows no difference in git.
    partial.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    os.replace(partial, path)
    return len(listed)


def read_scores(path: Path) -> list[Score]:
    """All Score rows of a table."""
    return [_build(Score, row, path) for row in _read(path)]


def read_items(path: Path) -> list[Items]:
    """All Items rows of a table."""
    rows = _read(path)
    return [_build(Items, r | {"ids": tuple(r["ids"]), "values": tuple(r["values"])}, path) for r in rows]


def read_runs(path: Path) -> list[RunRow]:
    """All RunRow rows of a table."""
    rows = _read(path)
    return [_build(RunRow, r | ({"losses": tuple(r["losses"])} if r.get("losses") else {}), path) for r in rows]


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no results at {path}; make them with `python -m experiments collect` and the study's --scale"
        )
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    return [json.loads(line) for line in text.splitlines() if line]


def _build(kind: type[_Row], row: dict[str, Any], path: Path) -> _Row:
    known = {f.name for f in fields(kind)}
    # A field with a default was added after rows were tracked.
    needed = {f.name for f in fields(kind) if f.default is MISSING}
    if not needed <= set(row) <= known:
        odd = sorted((set(row) - known) | (needed - set(row)))
        raise ValueError(f"{path}: fields {odd} do not fit {kind.__name__}; collect again")
    built = kind(**row)
    check(built)
    return built
