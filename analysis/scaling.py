"""What intruder dimensions do: scale the first of every matrix down, and its neighbour as a control, and score again.

    python analysis/scaling.py                                             what is scored, as rows and a table
    python analysis/scaling.py --score [--study ift_code] [--factors 0 .3 .5 .7] [--seeds 0]

The causal test of "An Illusion of Equivalence" (arXiv 2410.21228): in every matrix with an intruder among its top k,

    W = W_tuned + (factor - 1) sigma_i u_i v_i^T

for the first intruder i; the control does the same to the next direction that the base did have (the nearest before it
where there is none after). Factor 1 is the run itself, 0 takes the direction out. If intruders carry forgetting, the
first must give back more of it than the second, and cost no more of what was learnt.

The evaluators are those of the study. Changed weights exist while they are scored; their scores stay under
`<runs>/<scale>/_scaling/<run>/<direction>-<factor>/`, and what is there is not scored again.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from analysis import command, directions, grid, intruder_effects, rows, scaled, spectra
from analysis.intruders import EPSILON, K, pairs
from analysis.scaled import DIRECTIONS, FACTORS, Cell, Direction
from replication.runs import RunDir


@dataclass(frozen=True)
class Chosen:
    """The singular triplets of one matrix that are scaled, each as the rank-one matrix sigma u v^T."""

    intruder: np.ndarray
    neighbour: np.ndarray


def choose(before: np.ndarray, after: np.ndarray, *, epsilon: float = EPSILON, k: int = K) -> Chosen | None:
    """The first intruder of a tuned matrix and its neighbour; None where it has no intruder or no other direction."""
    left, values, right = np.linalg.svd(after.astype(np.float64), full_matrices=False)
    new = directions.intruders(directions.best_cosines(left, directions.left_vectors(before)), epsilon)
    if not new[:k].any() or new.all():
        return None
    first = int(np.argmax(new[:k]))
    known = np.flatnonzero(~new)
    later = known[known > first]
    other = int(later[0] if len(later) else known[-1])
    found = [values[i] * np.outer(left[:, i], right[i]) for i in (first, other)]
    return Chosen(*found)


def score(
    tables: grid.Tables, runs: Path, chosen: Sequence[Cell], factors: Sequence[float] = FACTORS
) -> tuple[int, list[str]]:
    """Score every scaled model that is not scored yet; returns how many were, and why runs were left out."""
    from analysis import weights

    paths = {run.run: path for _, run, path in spectra.available(tables, runs)[0]}
    left_out = [f"{c.run.run}: no checkpoint under {runs}" for c in chosen if c.run.run not in paths]
    waiting = [(c, todo) for c in chosen if c.run.run in paths and (todo := _todo(tables, runs, c, factors))]
    if not waiting:
        return 0, left_out
    _quieten()
    base, count = weights.folder(tables.scale.model), 0
    names = {matrix: place.name for matrix, place in weights.model(base).items()}
    with tqdm(total=sum(len(todo) for _, todo in waiting), desc="scaling", unit="model") as bar:
        for cell, todo in waiting:
            found = {names[m]: c for m, *both in pairs(base, paths[cell.run.run]) if (c := choose(*both)) is not None}
            if not found:
                left_out.append(f"{cell.run.run}: no intruder among the top {K} of any matrix at epsilon {EPSILON}")
            for direction, factor, folder in todo:
                if found:
                    _score_one(tables, cell, paths[cell.run.run], found, direction, factor, folder)
                    count += 1
                bar.update()
    return count, left_out


def _todo(
    tables: grid.Tables, runs: Path, cell: Cell, factors: Sequence[float]
) -> list[tuple[Direction, float, RunDir]]:
    """Directions and factors of a run that are not scored; factor 1 is the run itself."""
    evals = scaled.evals_of(tables.scale, grid.settings(tables.scale)[cell.study])
    wanted = [(d, f, scaled.folder_of(runs, tables.scale, cell, d, f)) for f in factors if f != 1 for d in DIRECTIONS]
    return [(d, f, folder) for d, f, folder in wanted if not scaled.scored(folder, cell, evals)]


def _quieten() -> None:
    """One bar, not three for every model that is loaded and written."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _score_one(
    tables: grid.Tables,
    cell: Cell,
    checkpoint: Path,
    found: dict[str, Chosen],
    direction: Direction,
    factor: float,
    folder: RunDir,
) -> None:
    """Write one scaled model for as long as it takes to score it."""
    from replication import evaluate
    from replication.models import Weights, locate

    scale, setting = tables.scale, grid.settings(tables.scale)[cell.study]
    # What is there is of another run or another rule, or half done.
    shutil.rmtree(folder.path, ignore_errors=True)
    folder.path.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="weights-", dir=folder.path) as scratch:
        tuned = Path(scratch) / "model"
        scaled_model(scale.model, checkpoint, found, direction, factor).save_pretrained(tuned)
        candidate = evaluate.of_model(
            Weights(locate(scale.model), tuned),
            folder,
            scaled.evals_of(scale, setting),
            name=f"_scaling/{cell.run.run}/{folder.path.name}",
            tokenizer=setting.tokenizer or scale.tokenizer or scale.model,
            scaled=scaled.notes(cell),
            matrices=len(found),
        )
        # Samples are drawn as the run's own were: what differs is the weights alone.
        candidate = replace(candidate, seed=cell.run.seed)
        for _, outcome in evaluate.score_all([candidate], Path(scratch), engine=scale.engine):
            if isinstance(outcome, str):
                raise RuntimeError(f"{candidate.name} could not be scored: {outcome}")


def scaled_model(base: str, checkpoint: Path, found: dict[str, Chosen], direction: Direction, factor: float) -> Any:
    """The merged model in fp32 with the chosen direction of every matrix (by parameter name) scaled."""
    import torch

    from replication.methods.merge import load_merged

    model = load_merged(base, checkpoint)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, chosen in found.items():
            change = torch.from_numpy((factor - 1) * getattr(chosen, direction))
            parameters[name].copy_(parameters[name].double() + change)
    return model


def write(tables: grid.Tables, where: command.Places, factors: Sequence[float] = FACTORS) -> str:
    """Write `intruder_scaling` and its effects from the models that are scored; nothing is scored here."""
    listed = scaled.table_rows(tables, where.runs, factors)
    file = where.out / "intruder_scaling.jsonl"
    gone = {r["run"] for r in rows.read(file)} - {r["run"] for r in listed} if file.is_file() else set()
    if not listed or gone & {run.run for run in tables.runs}:
        make = f"python analysis/scaling.py --score --scale {tables.scale.name} --runs {where.runs}"
        return f"intruder scaling: skipped, tracked rows kept; scaled models are made and scored by `{make}` (long)"
    rows.write(file, listed)
    found = scaled.effect_rows(tables, where.runs)
    intruder_effects.replace(where.out, found, tuple(scaled.QUANTITIES))
    return f"intruder scaling: {len(listed)} rows, {len(found)} effects"


def main() -> None:
    """Score the scaled models that are missing, where asked to; write the rows and print them."""
    options = command.parser(__doc__)
    options.add_argument("--score", action="store_true", help="make and score scaled models; continues after a kill")
    options.add_argument("--study", help="score only this setting")
    options.add_argument("--factors", type=_factor, nargs="+", default=list(FACTORS), help="default 0 .3 .5 .7 1")
    options.add_argument("--seeds", type=int, nargs="+", help="score only these seeds")
    args = options.parse_args()
    places = command.with_checkpoints(args)
    tables = grid.load(places.scale, places.results)
    if args.study and args.study not in grid.settings(places.scale):
        options.error(f"no setting {args.study!r}; there are {', '.join(grid.settings(places.scale))}")
    if args.score:
        if importlib.util.find_spec("torch") is None:
            options.error("--score needs torch; install it, or run `make study`, which does")
        chosen = scaled.cells(tables, study=args.study, seeds=args.seeds)
        done, left_out = score(tables, places.runs, chosen, args.factors)
        first = f", the first: {left_out[0]}" if left_out else ""
        print(f"{done} models scored; {len(left_out)} runs left out{first}")
    print(write(tables, places, tuple({*FACTORS, *args.factors})))
    command.show(places.out / "intruder_scaling.jsonl", scaled.table)


def _factor(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 2:
        raise argparse.ArgumentTypeError(f"{text}; a factor lies between 0 and 2, and 1 is the run itself")
    return value


if __name__ == "__main__":
    command.run(main)
