"""All analyses in order: curves, trade-off, diversity, spectra, verdicts; ends with the table of verdicts.

    python -m analysis [--scale pocket] [--results DIR] [--runs DIR] [--out DIR]

Spectra need the runs' checkpoints. Where those are absent the tracked rows of an earlier analysis are kept, and
everything else works without torch.
"""

from __future__ import annotations

import importlib.util

from analysis import command, curves, diversity, grid, rows, tradeoff, verdicts


def main() -> None:
    """Run all analyses of a scale and print its verdicts."""
    where = command.places(__doc__)
    tables = grid.load(where.scale, where.results)
    missing = curves.write(tables, where)
    tradeoff.write(tables, where)
    diversity.write(tables, where)
    print(_spectra(tables, where))
    made, more = verdicts.write(tables, where)
    gaps = [*missing, *more]
    rows.write(where.out / "missing.jsonl", grid.as_rows(gaps))
    if gaps:
        print(curves.spoken(where.scale, gaps))
    print(f"\nRows in {where.out}\n")
    print(verdicts.table(made))


def _spectra(tables: grid.Tables, where: command.Places) -> str:
    if importlib.util.find_spec("torch") is None:
        return "spectra: skipped, tracked rows kept (torch is not installed)"
    from analysis import spectra

    return spectra.write(tables, where)


if __name__ == "__main__":
    command.run(main)
