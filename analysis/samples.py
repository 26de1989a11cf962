"""What a code model wrote, problem by problem: the samples kept beside every score.

    <run>/evals/step_000193/<eval>@<version>/samples.jsonl.gz

A text ends where the executed program's did. Samples that do not agree with the collected scores, as those of another
training of the same run, are not taken.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import diversity, grid
from analysis.pass_at_k import right_ones
from replication.specs import Code


@dataclass(frozen=True)
class Problem:
    """The samples of one problem: how often each text came, by outcome."""

    correct: Counter[str]
    incorrect: Counter[str]


Samples = dict[str, Problem]
Loaded = dict[str, dict[diversity.Cell, dict[int, Samples]]]  # by sampling, (arm, length) and seed


def read(path: Path, spec: Code) -> Samples:
    """The samples of one scored eval by problem.

    Raises:
        ValueError: a problem has another number of samples than the eval asks.
    """
    found: Samples = {}
    cuts = spec.cut or spec.stop
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        item = json.loads(line)
        bags: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for given in item["answered"]:
            bags[given["outcome"] == "passed"][_executed(given, cuts)] += given["count"]
        size = bags[True].total() + bags[False].total()
        if size != spec.samples:
            raise ValueError(f"{path}: problem {item['id']} has {size} samples, {spec.name} asks {spec.samples}")
        found[str(item["id"])] = Problem(bags[True], bags[False])
    return found


def _executed(given: dict[str, Any], cuts: Sequence[str]) -> str:
    """What of a generation was executed: the text up to the first cut string."""
    whole = given["text"] + given["stop"]
    places = [place for cut in cuts if (place := whole.find(cut)) >= 0]
    return whole[: min(places)] if places else given["text"]


def load(tables: grid.Tables, runs: Path) -> tuple[dict[str, Loaded], list[str]]:
    """Samples of every code setting's checkpoints under `runs`, by study, and why others are not there."""
    made: dict[str, Loaded] = {}
    absent: list[str] = []
    for study, _, target in diversity.code_settings(tables.scale):
        seed_of = {grid.point(row): row.seed for row in grid.cells(tables, study).values()}
        for spec in diversity.samplings(tables.scale, target):
            cells = made.setdefault(study, {}).setdefault(spec.name, {})
            for cell, points in diversity.points(tables, study).items():
                for point in points:
                    samples = _of_point(tables, runs, point, spec)
                    if isinstance(samples, str):
                        absent.append(samples)
                    elif samples:
                        cells.setdefault(cell, {})[seed_of.get(point, 0)] = samples
    return made, absent


def _of_point(tables: grid.Tables, runs: Path, point: grid.Point, spec: Code) -> Samples | str | None:
    """A checkpoint's samples, the reason why there are none, or None where it was never asked."""
    column = grid.item_values(tables, point, spec.name, "pass@1")
    if column is None:
        return None
    folder = runs / tables.scale.name / point.run / "evals" / f"step_{point.step:06d}" / f"{spec.name}@{spec.version}"
    path = folder / "samples.jsonl.gz"
    if not path.is_file():
        return f"{point.run}: no samples at {path}"
    samples = read(path, spec)
    right = dict(zip(column.ids, right_ones(column, spec).tolist(), strict=True))
    if right != {name: problem.correct.total() for name, problem in samples.items()}:
        return f"{point.run}: {path} holds other samples of {spec.name} than were collected"
    return samples
