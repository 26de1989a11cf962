"""Draw everything: `python -m paper_figures`.

python -m paper_figures                        all figures, tables.md and report.html of the pocket scale
python -m paper_figures fig1                   one figure and its companions (or `tables`, `report`)
python -m paper_figures --check                fail if a row changed since a figure was drawn, or a figure is missing
python -m paper_figures --reference analysis/reference      a second opinion beside each verdict
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

from experiments import scales
from paper_figures import catalogue, draw, report, rows, sidecar, tables
from paper_figures.rows import Inputs
from replication.scale import Scale

REPORT = "report"


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 `--check` found something, 2 the request cannot be carried out."""
    try:
        return _run(_parser().parse_args(argv))
    except (ValueError, FileNotFoundError) as error:
        print(f"paper_figures: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    name = options.name
    scale = scales.load(options.scale)
    inputs = rows.load(scale, analysis=options.analysis, results=options.results, asked=options.scale)
    folder, modules = options.out / scale.name, _modules(name)
    pictures = catalogue.pictures(inputs, modules)
    scores = {sidecar.SCORES: tables.used(inputs)} if name in (None, sidecar.SCORES) else {}
    if options.check:
        drawn = {stem: picture.rows for stem, picture in pictures.items()} | scores
        return _check(folder, drawn, inputs, whole=name is None)
    drawings = draw.write(pictures, inputs, folder)
    if scores:
        _write_tables(folder, scores[sidecar.SCORES], inputs)
    gaps = catalogue.gaps(inputs, modules)
    if name in (None, REPORT):
        reference = _reference(options.reference, scale)
        text = report.page(inputs, pictures=drawings, missing=gaps, reference=reference, others=_others(options))
        (folder / "report.html").write_text(text)
    # Of the figures none shows the runs themselves, but the tables and the report do.
    runs = [line for line in inputs.absent if line.startswith("runs.jsonl") and name in (None, REPORT, sidecar.SCORES)]
    for line in [*catalogue.waiting(inputs, modules), *runs, *gaps]:
        print(f"missing: {line}", file=sys.stderr)
    few = ", ".join(f"{stem}.png" for stem in drawings) if len(drawings) < 4 else ""
    print(f"\n{few or f'{len(drawings)} figures'} in {folder}")
    if name in (None, REPORT):
        print(f"report: {folder / 'report.html'}")
    return 0


def _modules(name: str | None) -> tuple[ModuleType, ...]:
    if name in (None, REPORT):
        return catalogue.FIGURES
    return () if name == sidecar.SCORES else (catalogue.find(name),)


def _check(folder: Path, drawn: dict[str, dict[str, list[rows.Row]]], inputs: Inputs, *, whole: bool) -> int:
    found = sidecar.stale(folder, drawn, inputs, whole=whole)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(drawn) - len(found)} of {len(drawn)} fit their rows" if found else f"all {len(drawn)} fit their rows")
    return 1 if found else 0


def _write_tables(folder: Path, used: dict[str, list[rows.Row]], inputs: Inputs) -> None:
    made = tables.markdown(tables.all_tables(inputs)).encode()
    (folder / "tables.md").write_bytes(made)
    described = sidecar.describe(sidecar.SCORES, used, inputs, result=made)
    (folder / f"{sidecar.SCORES}.json").write_bytes(sidecar.dumps(described))


def _reference(folder: Path | None, scale: Scale) -> list[rows.Row]:
    if folder is None:
        return []
    path = folder / scale.name / "verdicts.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"no reference verdicts at {path}; --reference takes a folder written by analysis")
    return rows.read(path)


def _others(options: argparse.Namespace) -> list[Inputs]:
    """The paper's own numbers as a scale, where they were analysed: they stand beside any other scale's."""
    for folder in (options.analysis, options.reference):
        if options.scale != rows.REPORTED and folder and (folder / rows.REPORTED).is_dir():
            return [rows.load(scales.load(rows.REPORTED), analysis=folder, results=options.results)]
    return []


def _parser() -> argparse.ArgumentParser:
    summary, _, examples = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures", description=summary, epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("name", nargs="?", help="a figure (fig1, intruders, ...), `tables` or `report`; else all")
    parser.add_argument("--scale", default="pocket", help="a known scale or the path of a scale file")
    parser.add_argument("--analysis", type=Path, default=Path("analysis/results"), help="rows written by analysis")
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="collected runs")
    parser.add_argument("--out", type=Path, default=Path("paper_figures/out"), help="a folder per scale is made here")
    parser.add_argument(
        "--check",
        action="store_true",
        help="draw nothing; compare the digests in the sidecars of the figures and of tables.md with the "
        "rows and the PNG files; PDF files and report.html are not tracked and not checked",
    )
    parser.add_argument("--reference", type=Path, help="another analysis folder whose verdicts stand beside")
    return parser


if __name__ == "__main__":
    sys.exit(main())
