"""Rank of what training changed: singular values of W_tuned - W_base, per matrix (Figures 6 and S7).

    python analysis/spectra.py                                  the study's runs under --runs, else the tracked rows
    python analysis/spectra.py --base FOLDER --tuned FOLDER     any pair: a whole model, or a LoRA adapter of the base

A model is a folder or a name on the hub (from its cache, else downloaded). Beside every rank stands that of pure noise
of the same shape (`analysis/singular.py`). Beside every change stand the share of weights that moved at all,
`floor_ratio`, the norm of the rounding in the stored dtype over the norm of the change, and the band of ranks that this
rounding leaves open (`analysis/rounding.py`); where the measured rank is the rounding's, only the band is printed.

Results are kept by content under --cache, one file per matrix: a run that is cut off goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from analysis import command, grid, rows
from replication.config import number
from replication.results import RunRow
from replication.runs import read_json

Cell = tuple[str, str, float, int]  # study, arm, length, seed
Ready = tuple[Cell, RunRow, Path]
CACHE = "analysis_cache"  # under --runs


def available(tables: grid.Tables, runs: Path) -> tuple[list[Ready], list[str]]:
    """Runs of the study with the checkpoint they were scored at, and reasons why others cannot be analysed."""
    ready, absent = [], []
    for name, _ in tables.scale.settings:
        for (arm, length, seed), run in sorted(grid.cells(tables, name).items()):
            if not isinstance(run, RunRow):
                continue
            folder = runs / tables.scale.name / run.run
            path = folder / "checkpoints" / f"step_{run.step:06d}"
            if not path.is_dir():
                absent.append(f"{run.run}: no checkpoint at {path}")
            elif (held := digest(folder)) != run.digest:
                absent.append(f"{run.run}: {folder} holds digest {held}, the collected scores are of {run.digest}")
            else:
                ready.append(((name, arm, length, seed), run, path))
    return ready, absent


def digest(folder: Path) -> str:
    """The configuration digest of a run's folder."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise FileNotFoundError(f"{folder} has checkpoints but no manifest.json; remove it and run again")
    return str(read_json(manifest)["digest"])


def refuse_unchanged(made: Iterable[rows.Row]) -> None:
    """Raise ValueError where a whole checkpoint changed nothing: it is the base itself, or was never trained."""
    moved: dict[str, float] = {}
    for row in made:
        if row["which"] == "change":
            name = row.get("run") or row["tuned"]
            moved[name] = max(moved.get(name, 0.0), row["share_moved"])
    still = [name for name, share in moved.items() if not share]
    if still:
        raise ValueError(
            f"{still[0]} changes no layer matrix of its base; it is the base itself, or an untrained adapter"
        )


def write(tables: grid.Tables, where: command.Places, kept: Path | None = None) -> str:
    """Write `spectra`, `spectra_steps` and `spectrum_lines` where checkpoints are there; returns what was done.

    Rows of runs whose checkpoints are gone are not to be lost: where the table has any, it stays as it is.
    """
    if importlib.util.find_spec("torch") is None:
        return "spectra: skipped, tracked rows kept (torch is not installed)"
    ready, absent = available(tables, where.runs)
    file = where.out / "spectra.jsonl"
    gone = {row["run"] for row in (rows.read(file) if file.is_file() else [])} - {run.run for _, run, _ in ready}
    if not ready or gone & {run.run for run in tables.runs}:
        scale = tables.scale.name
        reason = f"; the first: {absent[0]}" if absent and (where.runs / scale).is_dir() else ""
        make = "make study" if scale == "pocket" else f"make study SCALE={scale}"
        return (
            f"spectra: skipped, tracked rows kept: no checkpoints of {len(absent)} runs under {where.runs / scale}, "
            f"`{make}` makes them{reason}"
        )
    from analysis import run_spectra

    made = run_spectra.study(tables, where.runs, ready, kept or where.runs / CACHE)
    rows.write(file, made.spectra)
    rows.write(where.out / "spectra_steps.jsonl", made.steps)
    rows.write(where.out / "spectrum_lines.jsonl", made.lines)
    left = f"; {len(absent)} runs left out, the first: {absent[0]}" if absent else ""
    return f"spectra: {len(made.spectra)} rows, {len(made.steps)} of checkpoints on the way{left}"


def table(made: Sequence[rows.Row]) -> str:
    """Means over layers of every kind of matrix, as text; a band where ranks are those of rounding."""
    lines = [f"{'':<8}{'matrix':<11}{'shape':<13}{'rank90':>11}{'noise':>7}{'unsq.':>7}{'eff.':>8}{'noise':>8}"
             f"{'stable':>8}{'moved':>7}{'floor':>9}"]  # fmt: skip
    groups: dict[tuple[str, str], list[rows.Row]] = {}
    for found in made:
        groups.setdefault((found["which"], found["module"]), []).append(found)
    for (which, module), group in groups.items():
        shape = f"{group[0]['rows']}x{group[0]['cols']}"
        own, hidden = own_rank(group), f"{'-':>7}{'-':>8}"
        text = (
            f"{which:<8}{module:<11}{shape:<13}{_rank(group, 0):>11}{_mean(group, 'rank90_noise'):>7.0f}"
            + (f"{_mean(group, 'rank90_unsquared'):>7.0f}{_mean(group, 'effective_rank'):>8.1f}" if own else hidden)
            + f"{_mean(group, 'effective_rank_noise'):>8.1f}{_mean(group, 'stable_rank'):>8.1f}"
        )
        if which == "change":
            floors = [r["floor_ratio"] for r in group if r["floor_ratio"] is not None]
            text += f"{_mean(group, 'share_moved'):>7.3f}" + (f"{np.mean(floors):>9.1e}" if floors else f"{'-':>9}")
        lines.append(text)
    return "\n".join([*lines, *_warnings(made)])


def by_arm(made: Sequence[rows.Row]) -> str:
    """Mean rank of the change over all matrices, for every study, arm and length, as text."""
    lines = [
        f"{'study':<10}{'arm':<6}{'length':>9}{'rank90':>11}{'noise':>7}{'eff.':>8}{'noise':>8}{'stable':>8}{'noise':>8}"
    ]
    groups: dict[tuple[str, str, float], list[rows.Row]] = {}
    for found in made:
        if found["which"] == "change":
            groups.setdefault((found["study"], found["arm"], found["length"]), []).append(found)
    for (study, arm, length), group in groups.items():
        effective = f"{_mean(group, 'effective_rank'):>8.1f}" if own_rank(group) else f"{'-':>8}"
        rest = [_mean(group, name) for name in ("effective_rank_noise", "stable_rank", "stable_rank_noise")]
        lines.append(
            f"{study:<10}{arm:<6}{number(length):>9}{_rank(group, 1):>11}{_mean(group, 'rank90_noise'):>7.1f}"
            + effective
            + "".join(f"{m:>8.1f}" for m in rest)
        )
    return "\n".join([*lines, *_warnings(made)])


def own_rank(group: Iterable[rows.Row]) -> bool:
    """Whether every rank among the rows is the change's own, and none the rounding's."""
    return not any(row.get("rounding") for row in group)


def _rank(group: Sequence[rows.Row], digits: int) -> str:
    """The mean measured rank, or the mean band where one of the ranks is the rounding's."""
    if own_rank(group):
        return f"{_mean(group, 'rank90'):.{digits}f}"
    return f"{_mean(group, 'rank90_low'):.{digits}f}..{_mean(group, 'rank90_high'):.{digits}f}"


def _mean(group: Sequence[rows.Row], field: str) -> float:
    return float(np.mean([row[field] for row in group]))


def _warnings(made: Sequence[rows.Row]) -> list[str]:
    told = [row for row in made if row.get("rounding")]
    if not told:
        return []
    worst = max(row["floor_ratio"] for row in told)
    return [
        f"a..b: of {len(told)} matrices the measured rank is the rounding's (up to {worst:.2f} of the norm of the "
        "change); the change's own lies in that band."
    ]


def _of_pair(args: argparse.Namespace) -> list[rows.Row]:
    from analysis import pair, weights

    base, tuned = weights.folder(args.base), weights.folder(args.tuned)
    named = {"base": args.base, "tuned": args.tuned}
    found = [pair.row(s, named) for s in pair.stream(pair.of_pair(base, tuned), args.cache or args.runs / CACHE)]
    refuse_unchanged(found)
    return sorted(found, key=lambda row: pair.WHICH.index(row["which"]))


def main() -> None:
    """Analyse the study's runs, or one pair."""
    options = command.parser(__doc__)
    options.add_argument("--base", help="base model: a folder, or a name on the hub")
    options.add_argument("--tuned", help="tuned model or LoRA adapter of the base: a folder, or a name on the hub")
    options.add_argument("--rows", type=Path, help="also write the pair's rows to this file")
    options.add_argument("--cache", type=Path, help=f"where results are kept by content (default RUNS/{CACHE})")
    args = options.parse_args()
    if bool(args.base) != bool(args.tuned):
        options.error("--base and --tuned go together")
    if not args.base:
        places = command.with_checkpoints(args)
        print(write(grid.load(places.scale, places.results), places, args.cache))
        command.show(places.out / "spectra.jsonl", by_arm)
        return
    if importlib.util.find_spec("torch") is None:
        options.error("a pair needs torch; install it, or run `make study`, which does")
    try:
        made = _of_pair(args)
    except (FileNotFoundError, ValueError) as error:
        options.error(str(error))
    print(table(made))
    if args.rows:
        rows.write(args.rows, made)


if __name__ == "__main__":
    command.run(main)
