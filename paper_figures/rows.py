"""Rows that the figures draw, read from disk as they are.

Analysis rows are plain dicts (their fields are listed in `analysis/README.md`); training runs are `RunRow`s.
A table that is not there is an empty list plus a line in `absent`, so that one missing analysis costs one figure
and not the page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import sides
from replication.config import number
from replication.results import RunRow, read_runs
from replication.scale import Scale, Setting

Row = dict[str, Any]

# Table -> the part of the analysis that makes it; `python -m analysis` makes all of them.
TABLES = {
    "curves": "curves", "tradeoff": "tradeoff", "spectra": "spectra", "spectrum_lines": "spectra",
    "diversity": "diversity", "verdicts": "verdicts", "sweeps": "sweeps", "capacity": "capacity",
    "throughput": "throughput", "pass_at_k": "pass_at_k", "texts": "texts", "intruders": "intruders",
    "max_cosines": "intruders", "intruder_scaling": "scaling", "artefact": "artefact",
    **{f"side_{study}": "sides" for study in sides.STUDIES}, "s2lora_ranks": "learned_ranks",
    "whisper_fit": "fit",
}  # fmt: skip
# What can be made of the paper's printed scores alone.
SCORES_ONLY = ("curves", "tradeoff", "verdicts")
# The scale that consists of the paper's numbers.
REPORTED = "reported"


@dataclass(frozen=True)
class Inputs:
    """Everything one page is drawn from. `files` has (name, rows, first hex digits of the sha256) for each table.

    `asked` is the scale as the command line named it, a path for a scale of the user's own.
    """

    scale: Scale
    tables: dict[str, list[Row]]
    runs: list[RunRow]
    absent: tuple[str, ...]
    files: tuple[tuple[str, int, str], ...]
    asked: str
    analysis: Path
    results: Path


def load(scale: Scale, *, analysis: Path, results: Path, asked: str | None = None) -> Inputs:
    """Read all tables of a scale.

    Raises:
        FileNotFoundError: no analysis table of this scale exists at all.
    """
    asked = asked or scale.name
    folder = analysis / scale.name
    paths = {name: folder / f"{name}.jsonl" for name in TABLES}
    present = {name: path for name, path in paths.items() if path.is_file()}
    if not present:
        raise FileNotFoundError(f"no analysis rows in {folder}; make them with `python -m analysis --scale {asked}`")
    absent = [f"{name}.jsonl, made by `{command(name, asked)}`" for name in expected(scale) if name not in present]
    tables = {name: read(path) if name in present else [] for name, path in paths.items()}
    runs_path = results / scale.name / "runs.jsonl"
    runs = read_runs(runs_path) if runs_path.is_file() else []
    if not runs and scale.name != REPORTED:
        absent.append(f"runs.jsonl, made by `python -m experiments collect --scale {asked}`")
    files = [(f"{name}.jsonl", len(tables[name]), _sha(path)) for name, path in present.items()]
    if runs:
        files.append(("runs.jsonl", len(runs), _sha(runs_path)))
    return Inputs(scale, tables, runs, tuple(absent), tuple(files), asked, analysis, results)


def read(path: Path) -> list[Row]:
    """All rows of one JSON-lines table."""
    rows = []
    for place, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line, parse_constant=_no_number))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {place} is not JSON ({error.msg}); run `python -m analysis` again"
            ) from error
        except ValueError as error:
            raise ValueError(f"{path}, line {place}: {error}; run `python -m analysis` again") from None
    return rows


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no measurement")


def expected(scale: Scale) -> tuple[str, ...]:
    """The tables that a scale should have: all but those of side studies, or what printed scores alone can give."""
    own = tuple(name for name, made_by in TABLES.items() if made_by not in ("sides", "learned_ranks", "fit"))
    return SCORES_ONLY if scale.name == REPORTED else own


def command(name: str, asked: str) -> str:
    """The command that makes one table."""
    if name == "throughput":
        return f"python -m replication.benchmark_batch --out analysis/results/{Path(asked).stem}"
    score = " --score" if name == "intruder_scaling" else ""
    return f"python analysis/{TABLES[name]}.py{score} --scale {asked}"


def select(rows: list[Row], **fields: object) -> list[Row]:
    """The rows whose named fields have these values.

    >>> select([{"arm": "full", "n": 1}, {"arm": "r4", "n": 2}], arm="r4")
    [{'arm': 'r4', 'n': 2}]
    """
    return [row for row in rows if all(row.get(name) == value for name, value in fields.items())]


def by_length(rows: list[Row]) -> list[Row]:
    """The same rows, shortest training first."""
    return sorted(rows, key=lambda row: row["length"])


def arms(scale: Scale) -> tuple[str, ...]:
    """Labels of the methods compared, from the smallest rank up, full fine-tuning last."""
    return (*(f"r{rank}" for rank in sorted(scale.ranks)), "full")


def unit(setting: Setting) -> str:
    """What the lengths of a setting count."""
    return "tokens" if setting.regime == "cpt" else "epochs"


def grid(scale: Scale) -> Iterator[tuple[str, str, float]]:
    """Every (study, arm, length) that a complete study has."""
    for study, setting in scale.settings:
        for arm in arms(scale):
            for length in setting.lengths:
                yield study, arm, length


def missing(rows: list[Row], scale: Scale) -> list[str]:
    """The cells of the grid without a row, in words."""
    present = {(row["study"], row["arm"], row["length"]) for row in rows}
    units = {study: unit(setting) for study, setting in scale.settings}
    return [
        f"{study} {arm} at {number(length)} {units[study]}"
        for study, arm, length in grid(scale)
        if (study, arm, length) not in present
    ]


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
