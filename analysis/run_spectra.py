"""Spectra of the study's own runs: the base, every scored checkpoint, and the checkpoints on the way to them.

Three tables come of it (`Found`): `spectra`, one row per matrix of each scored run; `spectra_steps`, the same for the
other checkpoints of the ladder that are on disk, of one seed; `spectrum_lines`, a few spectra whole, for Figure S7.
Base and tuned spectra nearly coincide (Figure S7), so tuned ones are kept for full fine-tuning alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import grid, pair, rows, spectra, weights
from analysis.spectra import Cell, Ready
from replication.results import RunRow
from replication.runs import read_json
from replication.scale import Scale

# Figure S7 shows W_q of layer 26 of 32.
SHOWN, DEPTH = "q_proj", 26 / 32
ORIGIN: rows.Row = {
    "study": "base", "run": grid.BASE, "arm": grid.BASE, "rank": None, "seed": 0, "length": 0.0, "step": 0, "tokens": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The rows of the three tables."""

    spectra: list[rows.Row]
    steps: list[rows.Row]
    lines: list[rows.Row]


@dataclass(frozen=True)
class Asked:
    """One spectrum of the study: the names of its rows, its table, and whether it is kept whole."""

    work: pair.Work
    named: rows.Row
    on_the_way: bool = False
    whole: bool = False


def study(tables: grid.Tables, runs: Path, ready: Sequence[Ready], kept: Path) -> Found:
    """All rows of the runs that are ready; `kept` is the folder of the cache.

    Raises:
        ValueError: a run that changed no matrix at all.
    """
    base = weights.folder(tables.scale.model)
    origin = pair.of_model(base, "base")
    shown = (int(DEPTH * (1 + max(work.matrix[0] for work in origin))), SHOWN)
    asked = [Asked(work, ORIGIN, whole=work.matrix == shown) for work in origin]
    asked += _scored(base, tables.scale, ready, shown) + _on_the_way(base, tables, runs, ready)
    made = Found([], [], [])
    for one, spectrum in zip(asked, pair.stream([one.work for one in asked], kept), strict=True):
        (made.steps if one.on_the_way else made.spectra).append(pair.row(spectrum, one.named))
        if one.whole:
            made.lines.append(pair.line(spectrum, one.named))
    spectra.refuse_unchanged(made.spectra)
    return made


def _scored(base: Path, scale: Scale, ready: Sequence[Ready], shown: weights.Matrix) -> list[Asked]:
    drawn, asked = _drawn(scale, [cell for cell, _, _ in ready]), []
    for cell, run, path in ready:
        works = pair.of_change(base, path) + (pair.of_model(path, "tuned") if cell[1] == "full" else [])
        named = _named(cell, run)
        asked += [Asked(work, named, whole=cell in drawn and work.matrix == shown) for work in works]
    return asked


def _on_the_way(base: Path, tables: grid.Tables, runs: Path, ready: Sequence[Ready]) -> list[Asked]:
    """Changes at the checkpoints of the lowest seed's runs, trunks included, that are not scored cells."""
    known = {path for _, _, path in ready}
    seed = min((run.seed for _, run, _ in ready), default=None)
    asked = []
    for run in tables.runs:
        arm = grid.label(run)
        if (
            not isinstance(run, RunRow)
            or arm is None
            or run.seed != seed
            or run.study not in grid.settings(tables.scale)
        ):
            continue
        folder = runs / tables.scale.name / run.run
        for path in sorted(folder.glob("checkpoints/step_*")):
            if path not in known and any(path.glob("*.safetensors")) and spectra.digest(folder) == run.digest:
                meta = read_json(path / "meta.json")
                named = _named((run.study, arm, run.length, run.seed), run)
                named |= {"step": meta["step"], "tokens": meta["tokens"]}
                asked += [Asked(work, named, on_the_way=True) for work in pair.of_change(base, path)]
    return asked


def _drawn(scale: Scale, cells: Sequence[Cell]) -> set[Cell]:
    """Cells whose whole spectra are kept: full at both ends and the highest rank at the longest, one seed."""
    top = f"r{max(scale.ranks)}"
    chosen = set()
    for name, setting in scale.settings:
        ends = (min(setting.lengths), max(setting.lengths))
        wanted = [("full", ends[0]), ("full", ends[1]), (top, ends[1])]
        for arm, length in wanted:
            own = sorted(c for c in cells if c[:3] == (name, arm, length))
            chosen |= set(own[:1])
    return chosen


def _named(cell: Cell, run: RunRow) -> rows.Row:
    name, arm, length, seed = cell
    return {
        "study": name, "run": run.run, "arm": arm, "rank": run.rank, "seed": seed, "length": length, "step": run.step,
        "tokens": run.tokens,
    }  # fmt: skip
