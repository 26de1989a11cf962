"""Draw everything: `python -m paper_figures`.

python -m paper_figures                        all figures, tables.md and report.html of the pocket scale
python -m paper_figures --only fig1            one figure (or `tables`, `report`)
python -m paper_figures --check                draw into a temporary folder; fail if anything is missing
python -m paper_figures --reference analysis/reference      a second opinion beside each verdict
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from experiments import scales
from paper_figures import (
    captions,
    fig1_learning,
    fig2_forgetting,
    fig3_tradeoff,
    fig5_diversity,
    fig6_spectra,
    figS7_spectrum,
    report,
    rows,
    style,
    tables,
)
from paper_figures.rows import Inputs
from replication.scale import Scale

# Figure -> the module that draws it and the table it needs.
FIGURES: dict[str, tuple[ModuleType, str]] = {
    "fig1": (fig1_learning, "curves"),
    "fig2": (fig2_forgetting, "curves"),
    "fig3": (fig3_tradeoff, "tradeoff"),
    "fig5": (fig5_diversity, "diversity"),
    "fig6": (fig6_spectra, "spectra"),
    "figS7": (figS7_spectrum, "spectrum_lines"),
}


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 `--check` found something missing, 2 the request cannot be carried out."""
    try:
        return _run(_parser().parse_args(argv))
    except (ValueError, FileNotFoundError) as error:
        print(f"paper_figures: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    scale = scales.load(options.scale)
    inputs = rows.load(scale, analysis=options.analysis, results=options.results, asked=options.scale)
    reference = _reference(options.reference, scale)
    if not options.check:
        folder = options.out / scale.name
        draw(inputs, folder, only=options.only, reference=reference)
        print(f"\n{len(list(folder.glob('*.png')))} figures and their tables in {folder}")
        if options.only in (None, "report"):
            print(f"report: {folder / 'report.html'}")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        lacking = draw(inputs, Path(scratch), only=options.only, reference=reference)
    print("complete" if not lacking else f"not complete: {len(lacking)} missing")
    return 1 if lacking else 0


def draw(inputs: Inputs, folder: Path, *, only: str | None, reference: list[rows.Row]) -> list[str]:
    """Write the figures, the tables and the page into `folder`; returns what is missing, in words."""
    wanted = [name for name in FIGURES if only in (None, "report", name)]
    lacking = [line for name in wanted for line in _missing(name, inputs)]
    pictures: dict[str, bytes] = {}
    for name in wanted:
        module, needs = FIGURES[name]
        for stem, figure in module.draw(inputs).items() if inputs.tables[needs] else ():
            pictures[stem] = style.png(figure)
            if only != "report":
                _write(folder / f"{stem}.png", pictures[stem])
            if only != "report" and stem in captions.MAIN:
                _write(folder / f"{stem}.pdf", style.pdf(figure))
    if only in (None, "tables"):
        _write(folder / "tables.md", tables.markdown(tables.score_tables(inputs)).encode())
    if only in (None, "report"):
        text = report.page(inputs, pictures=pictures, missing=lacking, reference=reference)
        _write(folder / "report.html", text.encode())
    for line in [*inputs.absent, *lacking]:
        print(f"missing: {line}", file=sys.stderr)
    return [*inputs.absent, *lacking]


def _missing(name: str, inputs: Inputs) -> list[str]:
    module, needs = FIGURES[name]
    if not inputs.tables[needs]:
        return [f"{name}: no rows in {needs}.jsonl"]
    return [f"{name}: {gap}" for gap in module.missing(inputs)]


def _reference(folder: Path | None, scale: Scale) -> list[rows.Row]:
    if folder is None:
        return []
    path = folder / scale.name / "verdicts.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"no reference verdicts at {path}; --reference takes a folder written by analysis")
    return rows.read(path)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _parser() -> argparse.ArgumentParser:
    summary, _, examples = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m paper_figures", description=summary, epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--scale", default="pocket", help="a known scale or the path of a scale file")
    parser.add_argument("--analysis", type=Path, default=Path("analysis/results"), help="rows written by analysis")
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="collected runs")
    parser.add_argument("--out", type=Path, default=Path("paper_figures/out"), help="a folder per scale is made here")
    parser.add_argument("--only", choices=[*FIGURES, "tables", "report"], help="draw this alone")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything is missing")
    parser.add_argument("--reference", type=Path, help="another analysis folder whose verdicts stand beside")
    return parser


if __name__ == "__main__":
    sys.exit(main())
