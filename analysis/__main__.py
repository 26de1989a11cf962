"""All analyses in order, from curves to verdicts; ends with the table of verdicts.

    python -m analysis [--scale pocket] [--results DIR] [--runs DIR] [--out DIR]

What is read from checkpoints or samples (spectra, intruders, optimisers, strings) needs the runs. Where those are
absent the tracked rows of an earlier analysis are kept, and everything else works without torch. Of `--scale reported`,
the paper's own numbers, there are only rows.
"""

from __future__ import annotations

import importlib.util

from analysis import (
    capacity,
    command,
    curves,
    diversity,
    grid,
    learned_ranks,
    orderings,
    pass_at_k,
    rows,
    sides,
    sweeps,
    texts,
    throughput,
    tradeoff,
    verdict_table,
    verdicts,
)


def main() -> None:
    """Run all analyses of a scale and print its verdicts."""
    where = command.places(__doc__)
    if where.scale.side:
        raise ValueError(
            f"{where.scale.name} is a {where.scale.side} study alone: `python analysis/sides.py` analyses it"
        )
    tables = grid.load(where.scale, where.results)
    missing = curves.write(tables, where) + tradeoff.write(tables, where)
    if where.scale.printed:
        print(orderings.write(tables, where))
    else:
        missing += _of_runs(tables, where)
    made, more = verdicts.write(tables, where)
    gaps = [*missing, *more]
    rows.write(where.out / "missing.jsonl", grid.as_rows(gaps))
    print(_spoken(tables, gaps))
    print(f"\n{verdict_table.brief(made)}\n")
    print(f"every part with its interval, items and seeds: python analysis/verdicts.py; rows: {where.out}")


def _spoken(tables: grid.Tables, gaps: list[grid.Missing]) -> str:
    """What the study lacks, line by line; what waits for studies beside it, in one."""
    own = [gap for gap in gaps if gap.study in grid.settings(tables.scale) and gap.length]
    beside = len(dict.fromkeys(gaps)) - len(dict.fromkeys(own))
    lines = [curves.spoken(tables.scale, own)] if own else []
    if beside:
        lines.append(f"not asked here: {beside} estimates of sweeps and ablations; missing.jsonl has each and why")
    return "\n".join(lines)


def _of_runs(tables: grid.Tables, where: command.Places) -> list[grid.Missing]:
    """What only runs of our own have: sweeps, strings, weights."""
    missing = [*sweeps.write(tables, where), *capacity.write(tables, where), *throughput.write(tables, where)]
    missing += sides.write(tables, where)
    if ranks := learned_ranks.write(tables, where):
        print(ranks)
    diversity.write(tables, where)
    print(pass_at_k.write(tables, where))
    print(texts.write(tables, where))
    print(_of_checkpoints(tables, where))
    return missing


def _of_checkpoints(tables: grid.Tables, where: command.Places) -> str:
    if importlib.util.find_spec("torch") is None:
        return "spectra, intruders: skipped, tracked rows kept (torch is not installed)"
    from analysis import artefact, intruders, scaling, spectra

    return "\n".join(module.write(tables, where) for module in (spectra, intruders, scaling, artefact))


if __name__ == "__main__":
    command.run(main)
