"""How a matrix's leading directions lie against another's: cosines of left singular vectors, and what chance gives.

Algorithm 1 of "LoRA vs Full Fine-tuning: An Illusion of Equivalence" (arXiv 2410.21228): with left singular vectors
x_i of the base and y_j of the tuned matrix, y_j among the k of largest singular value is an intruder where

    max_i |cos(y_j, x_i)| < epsilon        over all left singular vectors x_i of the base

A square base (or one with more columns than rows) has a whole orthonormal basis of them, so no direction can lie below
1 / sqrt(rows). A tall one, of more rows than columns, has `columns` of them and a complement in which the cosine may
be 0; nothing is added to fill it, so a direction that uses outputs the base never wrote to counts as new.

What a count means depends on the size: at epsilon .5 nearly every random direction of more than a hundred dimensions
is an "intruder". So beside each stand random unit vectors and a change of equal size without any structure.

numpy alone; small matrices by an fp64 decomposition, large ones by the fp64 eigenvectors of the Gram matrix.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.sparse.linalg import svds

SMALL = 512  # a whole decomposition of this size takes .2 s
# A cosine this near to epsilon is equal to it, hence no intruder: fp64 directions are known to about 1e-10.
TIE = 1e-8
LOST = 1e-6  # of the largest singular value: what a Gram matrix may lose, with a hundredfold margin
SEED = 2410_21228


def left_vectors(matrix: np.ndarray) -> np.ndarray:
    """All left singular vectors, by descending singular value, shape (rows, min(rows, columns)), fp64."""
    exact = matrix.astype(np.float64)
    if min(exact.shape) <= SMALL:
        return np.linalg.svd(exact, full_matrices=False)[0]
    if exact.shape[0] <= exact.shape[1]:
        return np.linalg.eigh(exact @ exact.T)[1][:, ::-1]
    found = exact @ np.linalg.eigh(exact.T @ exact)[1][:, ::-1]
    norms = np.linalg.norm(found, axis=0)
    # The Gram matrix squares the values: columns below about 1e-8 of the largest are rounding, in any direction.
    if norms.min() <= LOST * norms.max():
        return np.linalg.svd(exact, full_matrices=False)[0]
    return np.linalg.qr(found)[0]


def top_left_vectors(matrix: np.ndarray, k: int) -> np.ndarray:
    """The left singular vectors of the k largest singular values, descending, shape (rows, min(k, rows, columns))."""
    short = min(matrix.shape)
    if short <= SMALL or 4 * k > short:
        return left_vectors(matrix)[:, :k]
    # A fixed start, so that the same matrix gives the same digits.
    start = np.random.default_rng([SEED, *matrix.shape]).standard_normal(short)
    vectors, values, _ = svds(matrix.astype(np.float64), k=k, v0=start)
    return vectors[:, np.argsort(values)[::-1]]


def best_cosines(vectors: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Of each vector (columns, unit length) the largest |cosine| with any column of `basis`, shape (vectors,)."""
    return np.abs(basis.T @ vectors).max(axis=0)


def intruders(best: np.ndarray, epsilon: float) -> np.ndarray:
    """Which directions are intruders, from their largest cosines; one that lies at epsilon is none."""
    return best < epsilon - TIE


def count(best: np.ndarray, epsilon: float, k: int) -> int:
    """Intruders among the first k directions; all of them where there are fewer."""
    return int(np.count_nonzero(intruders(best[:k], epsilon)))


def equal_size(change: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian matrix of the same shape and Frobenius norm: a change of that size with no structure at all."""
    drawn = rng.standard_normal(change.shape)
    return drawn * (np.linalg.norm(change) / np.linalg.norm(drawn))


@functools.cache
def random_cosines(rows: int, columns: int) -> np.ndarray:
    """Largest |cosine| of random unit vectors with the left singular vectors of any matrix of this shape, ascending.

    By symmetry it does not matter which orthonormal vectors those are, so their coordinates are drawn: min(rows,
    columns) Gaussians, and the rest of the length as one chi-square. Shape (draws,): 20,000, fewer for large shapes.
    """
    short = min(rows, columns)
    draws = int(np.clip(1e7 // short, 1000, 20_000))
    rng = np.random.default_rng([SEED, rows, columns])
    best = np.empty(draws)
    for first in range(0, draws, 500):
        inside = rng.standard_normal((min(500, draws - first), short))
        beyond = rng.chisquare(rows - short, len(inside)) if rows > short else 0.0
        best[first : first + 500] = np.abs(inside).max(axis=1) / np.sqrt(np.sum(inside**2, axis=1) + beyond)
    return np.sort(best)


def by_chance(rows: int, columns: int, epsilon: float, k: int) -> float:
    """Expected number of intruders among k random directions of a matrix of this shape."""
    best = random_cosines(rows, columns)
    share = float(np.count_nonzero(intruders(best, epsilon)) / len(best))
    return share * min(k, rows, columns)


def floor(rows: int, columns: int) -> float:
    """The smallest largest cosine that a direction can have: 1 / sqrt(rows), or 0 where the base has a complement."""
    return 0.0 if rows > columns else rows**-0.5
