"""Singular values of base, tuned and change of any pair, one tensor at a time.

A `Work` says which tensors of which files make one spectrum; nothing is read before its turn. Matrices are shared out
among a few threads of one core each: the eigenvalue problem of one 4096 x 4096 matrix takes 2.9 s of one core or 1.8 s
of two, and on a busy machine the second thread costs more than it brings (15 s against 4.4 s). So at most four matrices
are in memory at once, about .6 GB each at Llama-2-7B's shapes (1.1 GB where fp64 is needed).

A LoRA change is taken from its factors (`singular.of_factors`): no rounding but that of the factors themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from analysis import cache, rounding, rows, singular, weights
from replication.runs import is_adapter

VERSION = "spectra 1"  # change it with anything that `Solved` holds: kept results are then computed again
MATRICES = 4  # in memory at once
Kind = Literal["matrix", "change", "factors", "merged"]
WHICH = ("base", "tuned", "change")


@dataclass(frozen=True)
class Work:
    """One spectrum to be found: what of, and the places of the tensors that it needs."""

    matrix: weights.Matrix
    which: str
    kind: Kind
    places: tuple[weights.Stored, ...]
    scaling: float = 1.0


@dataclass(frozen=True)
class Solved:
    """What is computed from the tensors, and kept in the cache; `floor` and `edge` are the rounding's, of a change.

    Args:
        shape: of the matrix, (out, in).
        values: singular values, descending, fp64.
        moved: share of the weights that differ.
        floor: Frobenius norm of the rounding.
        edge: largest singular value that the rounding can have.
    """

    shape: tuple[int, int]
    values: np.ndarray
    moved: float | None = None
    floor: float | None = None
    edge: float | None = None


@dataclass(frozen=True)
class Spectrum:
    """A solved matrix by its name."""

    matrix: weights.Matrix
    which: str
    found: Solved


def of_model(path: Path, which: str) -> list[Work]:
    """A model's own matrices."""
    return [Work(matrix, which, "matrix", (place,)) for matrix, place in sorted(weights.model(path).items())]


def of_change(base: Path, tuned: Path) -> list[Work]:
    """What a checkpoint changed, whole or an adapter.

    Raises:
        ValueError: the two have different matrices, or matrices of other shapes.
    """
    weights.check_pair(base, tuned)
    if is_adapter(tuned):
        return of_factors(tuned)
    places, others = weights.model(base), weights.model(tuned)
    return [Work(matrix, "change", "change", (places[matrix], others[matrix])) for matrix in sorted(places)]


def of_factors(path: Path) -> list[Work]:
    """What an adapter changes, which its factors tell without the base."""
    factors = weights.adapter(path)
    return [
        Work(matrix, "change", "factors", (factors.a[matrix], factors.b[matrix]), factors.scaling)
        for matrix in sorted(factors.a)
    ]


def of_merged(base: Path, tuned: Path) -> list[Work]:
    """The tuned matrices of an adapter: the base plus the product of the factors, in fp32."""
    weights.check_pair(base, tuned)
    factors, places = weights.adapter(tuned), weights.model(base)
    return [
        Work(matrix, "tuned", "merged", (places[matrix], factors.a[matrix], factors.b[matrix]), factors.scaling)
        for matrix in sorted(factors.a)
    ]


def of_pair(base: Path, tuned: Path) -> list[Work]:
    """Base, tuned and change of any pair, matrix by matrix, so that each file is read while it is at hand."""
    after = of_merged(base, tuned) if is_adapter(tuned) else of_model(tuned, "tuned")
    works = [*of_model(base, "base"), *after, *of_change(base, tuned)]
    return sorted(works, key=lambda work: (work.matrix, WHICH.index(work.which)))


def stream(works: Sequence[Work], kept: Path | None = None, *, say: str = "spectra") -> Iterator[Spectrum]:
    """Solve works in order, several side by side, with progress; `kept` is the folder of the cache, if wanted."""
    threads = torch.get_num_threads()
    side_by_side = 1 if torch.cuda.is_available() else min(threads, MATRICES)
    torch.set_num_threads(max(1, threads // side_by_side))
    pool = ThreadPoolExecutor(side_by_side)
    try:
        found = pool.map(lambda work: Spectrum(work.matrix, work.which, solve(work, kept)), works)
        yield from tqdm(found, desc=say, unit="matrix", total=len(works))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def solve(work: Work, kept: Path | None = None) -> Solved:
    """One spectrum, from the cache if these very tensors were solved before."""
    tensors = tuple(weights.read(place) for place in work.places)
    if kept is None:
        return SOLVERS[work.kind](tensors, work.scaling)
    name = cache.key(f"{VERSION} {work.kind} {work.scaling!r}", tensors)
    arrays = cache.load(kept, name)
    if arrays is None:
        found = SOLVERS[work.kind](tensors, work.scaling)
        numbers = [np.nan if v is None else v for v in (found.moved, found.floor, found.edge)]
        cache.save(kept, name, {"shape": np.array(found.shape), "values": found.values, "numbers": np.array(numbers)})
        return found
    moved, floor, edge = (None if np.isnan(v) else float(v) for v in arrays["numbers"])
    return Solved((int(arrays["shape"][0]), int(arrays["shape"][1])), arrays["values"], moved, floor, edge)


def _matrix(tensors: tuple[torch.Tensor, ...], scaling: float) -> Solved:
    (tensor,) = tensors
    return Solved(_shape(tensor), singular.of_dense(tensor))


def _change(tensors: tuple[torch.Tensor, ...], scaling: float) -> Solved:
    before, after = tensors
    change = after.float() - before.float()
    moved = float(torch.count_nonzero(change)) / change.numel()
    by_row, by_column = singular.rounding_sums(after)
    values = singular.of_dense(change) if moved else np.zeros(min(change.shape))
    return Solved(_shape(change), values, moved, float(np.sqrt(by_row.sum())), rounding.edge(by_row, by_column))


def _factors(tensors: tuple[torch.Tensor, ...], scaling: float) -> Solved:
    a, b = tensors
    values = abs(scaling) * singular.of_factors(b, a)
    # Entries of B A are zero where a row of B or a column of A is, and otherwise by chance only.
    moved = float(b.any(dim=1).double().mean() * a.any(dim=0).double().mean())
    # E |dB A|^2 + E |B dA|^2 for independent roundings of the entries.
    left = singular.rounding_variance(b).sum(dim=0) @ a.double().square().sum(dim=1)
    right = b.double().square().sum(dim=0) @ singular.rounding_variance(a).sum(dim=1)
    # Rounding of factors cannot raise the rank, so nothing need stand above an edge.
    return Solved((b.shape[0], a.shape[1]), values, moved, abs(scaling) * float((left + right).sqrt()), 0.0)


def _merged(tensors: tuple[torch.Tensor, ...], scaling: float) -> Solved:
    before, a, b = tensors
    merged = before.float() + scaling * (b.float() @ a.float())
    return Solved(_shape(merged), singular.of_dense(merged))


SOLVERS: dict[Kind, Callable[[tuple[torch.Tensor, ...], float], Solved]] = {
    "matrix": _matrix,
    "change": _change,
    "factors": _factors,
    "merged": _merged,
}


def row(spectrum: Spectrum, named: rows.Row) -> rows.Row:
    """A spectrum's measures under the names of its run; of a change also what the rounding leaves of the rank."""
    (layer, module), found = spectrum.matrix, spectrum.found
    measured = singular.measures(found.values, *found.shape)
    return named | {
        "layer": layer, "module": module, "rows": found.shape[0], "cols": found.shape[1], "which": spectrum.which,
        **measured, "share_moved": found.moved, **_band(found, int(measured["rank90"])),
    }  # fmt: skip


def _band(found: Solved, rank90: int) -> rows.Row:
    if found.edge is None or found.floor is None:
        return dict.fromkeys(("floor_ratio", "rank90_low", "rank90_high", "rounding"))
    size = float(np.linalg.norm(found.values))
    ratio = found.floor / size if size else None
    low = rounding.lowest_rank(found.values, found.edge)
    told = rounding.is_rounding(low=low, high=rank90, floor_ratio=ratio)
    return {"floor_ratio": ratio, "rank90_low": low, "rank90_high": rank90, "rounding": told}


def line(spectrum: Spectrum, named: rows.Row) -> rows.Row:
    """A spectrum's values, the share of the energy that the first k hold, and values of noise of the same energy."""
    found = spectrum.found
    scaled = singular.noise(*found.shape) * np.linalg.norm(found.values)
    held = singular.cumulative(found.values)
    layer, module = spectrum.matrix
    return named | {
        "layer": layer, "module": module, "which": spectrum.which, "rows": found.shape[0], "cols": found.shape[1],
        "singular": _short(found.values), "noise": _short(scaled), "cumulative": _short(held),
    }  # fmt: skip


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _shape(matrix: torch.Tensor) -> tuple[int, int]:
    return int(matrix.shape[0]), int(matrix.shape[1])
