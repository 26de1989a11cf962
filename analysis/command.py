"""The command line that all analysis modules share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import rows
from experiments import scales, sides
from replication.scale import Scale


@dataclass(frozen=True)
class Places:
    """What to analyse and where its rows go: `out` is `<--out>/<scale>`."""

    scale: Scale
    results: Path
    runs: Path
    out: Path


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options --scale, --results, --runs and --out with the defaults of the study."""
    made = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    made.add_argument("--scale", default="pocket", help="name of a scale, or a Python file that holds one")
    made.add_argument("--results", type=Path, help="collected tables (default RUNS/results, else experiments/results)")
    made.add_argument("--runs", type=Path, default=Path("runs"), help="run directories, for the spectra")
    made.add_argument(
        "--out",
        type=Path,
        help="where rows are written (default RUNS/analysis; analysis/results where --results is not given and "
        "RUNS/results is not there)",
    )
    return made


def places(description: str | None, argv: Sequence[str] | None = None) -> Places:
    """Parse the command line of a module that needs nothing beyond the shared options."""
    return resolve(parser(description).parse_args(argv))


def run(main: Callable[[], None]) -> None:
    """Call a module's `main`; what the user can mend is one line, and the process ends with 2 (1 for the disk)."""
    try:
        main()
    except (ValueError, OSError) as error:
        print(f"analysis: {' '.join(str(error).split())}", file=sys.stderr)
        mendable = (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
        sys.exit(2 if isinstance(error, mendable) else 1)


def resolve(args: argparse.Namespace) -> Places:
    """The places that parsed options stand for.

    Where `make study` has left tables of one's own, they are what is meant. Tracked rows are written from the tracked
    tables alone: of tables that are named (--results), rows go to RUNS/analysis unless --out says where.
    """
    scale = scales.load(args.scale)
    size = sides.size_of(scale) if scale.side else None
    if size:
        raise ValueError(
            f"--scale {args.scale} is a side study's own scale; its rows are analysed with those of --scale {size}: "
            f"`python analysis/sides.py --scale {size}`"
        )
    own = args.runs / "results"
    mine = any((own / name).is_dir() for name in (scale.name, *(side.name for side in sides.beside(scale).values())))
    results = args.results or (own if mine else Path("experiments/results"))
    out = args.out or (args.runs / "analysis" if mine or args.results else Path("analysis/results"))
    if (results / scale.name).is_dir():
        print(f"tables: {results / scale.name}; rows of the analysis: {out / scale.name}", file=sys.stderr)
    return Places(scale, results, args.runs, out / scale.name)


def with_checkpoints(args: argparse.Namespace) -> Places:
    """The places that parsed options stand for, of an analysis that reads checkpoints.

    Raises:
        ValueError: a scale of printed numbers, which has none.
    """
    found = resolve(args)
    if found.scale.printed:
        raise ValueError(f"--scale {args.scale} holds printed scores and no runs; there is nothing to analyse here")
    return found


def show(file: Path, table: Callable[[Sequence[rows.Row]], str]) -> None:
    """Print a table's rows as text, if there is such a table."""
    if file.is_file():
        print(table(rows.read(file)))
