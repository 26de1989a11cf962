"""Intruder dimensions: leading directions of the tuned weights that the base did not have, against two controls.

    python analysis/intruders.py                                  the study's runs under --runs
    python analysis/intruders.py --base FOLDER --tuned FOLDER     any pair: a whole model, or a LoRA adapter of the base

The rule and its controls are in `analysis/directions.py`. `random` is what random directions would count and `matched`
what a Gaussian change of the same Frobenius norm, matrix by matrix, counts in the same base: a large change of any
kind turns leading directions away. Without both, a count is a number about the threshold and the width.

Only the base, the tuned matrix and one control matrix of a run are in memory at a time, and of a study up to four
runs, a core each. What was found of a run is kept under
`<runs>/analysis_cache` by the content of run and base, so that another threshold or another k costs nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from analysis import command, directions, grid, intruder_effects, rows, spectra
from replication import provenance
from replication.config import number
from replication.results import RunRow
from replication.runs import is_adapter

if TYPE_CHECKING:
    from analysis.weights import Matrix

EPSILON, K = 0.5, 10  # the paper's main choice
EPSILONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
KS = (1, 2, 5, 10, 20, 50, 100)
LEVELS = tuple(i / 20 for i in range(21))
SIDE_BY_SIDE = 4  # runs of a study
VERSION = 1  # of what is kept of a run; raise it when `measure` changes

MAKE = "`make study`, then `python analysis/intruders.py`, makes them"


@dataclass(frozen=True)
class Found:
    """Largest cosines of the leading directions of one matrix, by descending singular value, and the change's size."""

    matrix: Matrix
    shape: tuple[int, int]
    relative: float  # Frobenius norm of the change over that of the base
    tuned: np.ndarray
    matched: np.ndarray


@dataclass(frozen=True)
class Measured:
    """A run of the study with what was found in each of its matrices."""

    study: str
    arm: str
    length: float
    run: RunRow
    found: tuple[Found, ...]


def pairs(base: Path, tuned: Path) -> Iterator[tuple[Matrix, np.ndarray, np.ndarray]]:
    """Every matrix of the base with the tuned one, both fp32; those that an adapter leaves alone are left out.

    Raises:
        ValueError: the two have different matrices, or matrices of other shapes.
    """
    from analysis import weights

    weights.check_pair(base, tuned)
    places = weights.model(base)
    if is_adapter(tuned):
        factors = weights.adapter(tuned)
        for matrix in sorted(factors.a):
            before = weights.read(places[matrix]).float()
            product = weights.read(factors.b[matrix]).float() @ weights.read(factors.a[matrix]).float()
            yield matrix, before.numpy(), (before + factors.scaling * product).numpy()
        return
    others = weights.model(tuned)
    for matrix in sorted(places):
        yield matrix, weights.read(places[matrix]).float().numpy(), weights.read(others[matrix]).float().numpy()


def measure(base: Path, tuned: Path, *, seed: int = 0, keep: int = max(KS)) -> Iterator[Found]:
    """Largest cosines of the leading `keep` directions of every matrix, tuned and control; `seed` is the control's."""
    for place, (matrix, before, after) in enumerate(pairs(base, tuned)):
        basis = directions.left_vectors(before)
        change = after - before
        noise = directions.equal_size(change, np.random.default_rng([directions.SEED, seed, place]))
        best = [
            directions.best_cosines(directions.top_left_vectors(one, keep), basis) for one in (after, before + noise)
        ]
        relative = float(np.linalg.norm(change) / np.linalg.norm(before))
        yield Found(matrix, (before.shape[0], before.shape[1]), relative, *best)


def counts(found: Sequence[Found], epsilon: float, k: int) -> rows.Row:
    """Intruders over all matrices with both controls: `count` is the sum, the others are means per matrix."""
    own = [directions.count(f.tuned, epsilon, k) for f in found]
    control = [directions.count(f.matched, epsilon, k) for f in found]
    chance = [directions.by_chance(*f.shape, epsilon, k) for f in found]
    return {
        "epsilon": epsilon, "k": k, "count": sum(own), "per_matrix": float(np.mean(own)),
        "random": float(np.mean(chance)), "matched": float(np.mean(control)), "random_count": float(np.sum(chance)),
        "matched_count": sum(control), "matrices": len(found),
    }  # fmt: skip


def quantiles(found: Sequence[Found], k: int) -> list[rows.Row]:
    """Distribution of the largest cosine among the first k directions of all matrices, of each kind."""
    kinds = {
        "tuned": np.concatenate([f.tuned[:k] for f in found]),
        "random": np.concatenate([directions.random_cosines(*f.shape) for f in found]),
        "matched": np.concatenate([f.matched[:k] for f in found]),
    }
    return [
        {"kind": kind, "k": k, "level": level, "value": float(np.quantile(values, level))}
        for kind, values in kinds.items()
        for level in LEVELS
    ]


def study(tables: grid.Tables, runs: Path) -> tuple[list[Measured], list[str]]:
    """Every scored run of the study whose checkpoint is under `runs`, measured; and why others are not there."""
    from analysis import weights

    ready, absent = spectra.available(tables, runs)
    if not ready:
        return [], absent
    base = weights.folder(tables.scale.model)
    origin = provenance.fingerprint(base)

    def found_of(one: spectra.Ready) -> Measured:
        (name, arm, length, _), run, path = one
        text = f"{VERSION} {directions.SEED} {origin} {run.digest} {run.step} {provenance.fingerprint(path)}"
        kept = runs / "analysis_cache" / "intruders" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
        return Measured(name, arm, length, run, _kept(kept, base, path, run.seed))

    # Two threads on one matrix of 128 x 344 take twice as long as one.
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, SIDE_BY_SIDE))
    try:
        with threadpool_limits(1):
            return list(tqdm(pool.map(found_of, ready), desc="intruders", unit="run", total=len(ready))), absent
    finally:
        pool.shutdown(cancel_futures=True)


def _kept(file: Path, base: Path, tuned: Path, seed: int) -> tuple[Found, ...]:
    """What was found of a run, from its file, which is made where it is absent."""
    if not file.is_file():
        _keep(file, list(measure(base, tuned, seed=seed)))
    with np.load(file) as kept:
        named = zip(kept["layers"], kept["modules"], kept["shapes"], kept["relative"], strict=True)
        return tuple(
            Found((int(layer), str(module)), (int(shape[0]), int(shape[1])), float(size), kept[f"t{i}"], kept[f"m{i}"])
            for i, (layer, module, shape, size) in enumerate(named)
        )


def _keep(file: Path, found: Sequence[Found]) -> None:
    arrays: dict[str, Any] = {
        "layers": np.array([f.matrix[0] for f in found]),
        "modules": np.array([f.matrix[1] for f in found]),
        "shapes": np.array([f.shape for f in found]),
        "relative": np.array([f.relative for f in found]),
    }
    for place, one in enumerate(found):
        arrays |= {f"t{place}": one.tuned, f"m{place}": one.matched}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    with partial.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    os.replace(partial, file)


def table_rows(tables: grid.Tables, made: Sequence[Measured]) -> list[rows.Row]:
    """Rows of every run: the sweep of epsilon at k = 10, that of k at epsilon .5, and the run's scores."""
    asked = [*((e, K) for e in EPSILONS), *((EPSILON, k) for k in KS if k != K)]
    settings = grid.settings(tables.scale)
    listed = []
    for one in made:
        scores = {
            axis: grid.score(tables, grid.point(one.run), grid.questions(tables.scale, settings[one.study], axis))
            for axis in ("forgetting", "learning", "source_loss")
        }
        size = {"relative": float(np.mean([f.relative for f in one.found]))}
        listed += [_named(one) | counts(one.found, e, k) | scores | size for e, k in asked]
    return listed


def cosine_rows(made: Sequence[Measured]) -> list[rows.Row]:
    """Distributions of every arm at its longest training, lowest seed."""
    listed = []
    for name in dict.fromkeys(one.study for one in made):
        own = [one for one in made if one.study == name]
        longest = max(one.length for one in own)
        for arm in dict.fromkeys(one.arm for one in own):
            at_end = [one for one in own if (one.arm, one.length) == (arm, longest)]
            if at_end:
                first = min(at_end, key=lambda one: one.run.seed)
                listed += [_named(first) | made_of for made_of in quantiles(first.found, K)]
    return listed


def _named(one: Measured) -> rows.Row:
    return {
        "study": one.study, "run": one.run.run, "arm": one.arm, "rank": one.run.rank, "seed": one.run.seed,
        "length": one.length,
    }  # fmt: skip


def write(tables: grid.Tables, where: command.Places) -> str:
    """Write `intruders`, `max_cosines` and `intruder_effects` where checkpoints are there; returns what was done.

    Rows of runs whose checkpoints are gone are not to be lost: where the table has any, it stays as it is.
    """
    if importlib.util.find_spec("torch") is None:
        return "intruders: skipped, tracked rows kept (torch is not installed; `make install`)"
    made, absent = study(tables, where.runs)
    file = where.out / "intruders.jsonl"
    gone = {row["run"] for row in _tracked(file)} - {one.run.run for one in made}
    if not made or gone & {run.run for run in tables.runs}:
        reason = absent[0] if absent else "no collected runs"
        return f"intruders: skipped, tracked rows kept ({len(absent)} runs without checkpoints; {reason}); {MAKE}"
    listed = table_rows(tables, made)
    rows.write(file, listed)
    rows.write(where.out / "max_cosines.jsonl", cosine_rows(made))
    effects = intruder_effects.of_counts(tables, made, listed, epsilon=EPSILON, k=K)
    intruder_effects.replace(where.out, effects, intruder_effects.COUNTED)
    left = f"; {len(absent)} runs left out, the first: {absent[0]}" if absent else ""
    return f"intruders: {len(listed)} rows, {len(effects)} effects{left}"


def _tracked(file: Path) -> list[rows.Row]:
    return rows.read(file) if file.is_file() else []


def by_arm(listed: Sequence[rows.Row]) -> str:
    """Intruders per matrix of every study, arm and length with both controls, at the paper's epsilon and k, as text."""
    lines = [
        f"intruders per matrix among the top {K}, epsilon {EPSILON}",
        f"{'study':<10}{'arm':<6}{'length':>9}{'seeds':>6}{'tuned':>8}{'matched':>9}{'random':>8}{'|dW|/|W|':>10}",
    ]
    groups: dict[tuple[str, str, float], list[rows.Row]] = {}
    for row in listed:
        if (row["epsilon"], row["k"]) == (EPSILON, K):
            groups.setdefault((row["study"], row["arm"], row["length"]), []).append(row)
    for (name, arm, length), group in groups.items():
        means = [float(np.mean([r[c] for r in group])) for c in ("per_matrix", "matched", "random", "relative")]
        lines.append(
            f"{name:<10}{arm:<6}{number(length):>9}{len(group):>6}{means[0]:>8.2f}{means[1]:>9.2f}{means[2]:>8.2f}"
            f"{means[3]:>10.3f}"
        )
    return "\n".join(lines)


def pair_table(found: Sequence[Found]) -> str:
    """Counts of one pair by kind of matrix over the sweep of epsilon, tuned / matched / random per matrix, as text."""
    lines = [
        f"intruders per matrix among the top {K}: tuned / matched control / random directions",
        f"{'matrix':<11}{'shape':<13}{'|dW|/|W|':>9}{'floor':>7}" + "".join(f"{e:>16g}" for e in EPSILONS[1::2]),
    ]
    for module in [*dict.fromkeys(f.matrix[1] for f in found), "all"]:
        own = [f for f in found if module in (f.matrix[1], "all")]
        shape = "" if module == "all" else f"{own[0].shape[0]}x{own[0].shape[1]}"
        text = f"{module:<11}{shape:<13}{np.mean([f.relative for f in own]):>9.3f}"
        text += f"{np.mean([directions.floor(*f.shape) for f in own]):>7.3f}"
        for epsilon in EPSILONS[1::2]:
            row = counts(own, epsilon, K)
            text += f"{row['per_matrix']:>6.2f}/{row['matched']:.2f}/{row['random']:.2f}".rjust(16)
        lines.append(text)
    total = counts(found, EPSILON, K)
    lines.append(
        f"{total['count']} intruders in {total['matrices']} matrices at epsilon {EPSILON}; matched control "
        f"{total['matched_count']}, random {total['random_count']:.1f}"
    )
    return "\n".join(lines)


def main() -> None:
    """Count intruders in the study's runs, or in one pair of folders."""
    options = command.parser(__doc__)
    options.add_argument("--base", help="base model: folder, or a model in the hub cache")
    options.add_argument("--tuned", help="tuned model or LoRA adapter of the base: folder, or in the hub cache")
    options.add_argument("--rows", type=Path, help="also write the pair's rows to this file")
    args = options.parse_args()
    if bool(args.base) != bool(args.tuned):
        options.error("--base and --tuned go together")
    if not args.base:
        places = command.with_checkpoints(args)
        print(write(grid.load(places.scale, places.results), places))
        command.show(places.out / "intruders.jsonl", by_arm)
        return
    if importlib.util.find_spec("torch") is None:
        options.error("a pair needs torch; install it, or run `make study`, which does")
    from analysis import weights

    base, tuned = weights.folder(args.base), weights.folder(args.tuned)
    total = len(weights.adapter(tuned).a if is_adapter(tuned) else weights.model(base))
    found = list(tqdm(measure(base, tuned, keep=K), total=total, desc="intruders", unit="matrix"))
    print(pair_table(found))
    if args.rows:
        named = {"base": args.base, "tuned": args.tuned}
        rows.write(args.rows, [named | counts(found, e, K) for e in EPSILONS])


if __name__ == "__main__":
    command.run(main)
