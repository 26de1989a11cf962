"""Singular values of large matrices, fast, and what they say about rank.

Dense: the eigenvalues of the Gram matrix of the short side are the squared singular values. In fp32 that loses what
lies below about sqrt(eps sqrt(n)) of the largest value, so where such values carry more than 1e-4 of the sum, and
for small matrices always, it is done again in fp64. What stays is an error of about 5e-6 of the sum on flat spectra:
of Gaussian noise 4096 wide the energy rank is exact, and the unsquared one 2754 where it is 2753. It runs on the GPU
if there is one. Of 3.5 s of one core for 4096 x 4096, 2.7 are the eigenvalue problem; reducing it in two stages
(LAPACK's sytrd_sy2sb and sb2st, in OpenBLAS) took 3.9 to 6.4 s, and a bf16 Gram matrix on the tile unit saved nothing.

Factors: with B = Q_B R_B and A^T = Q_A R_A, the product B A has the singular values of the r x r core R_B R_A^T;
nothing of the full size is formed.

Every measure has its value for pure noise of the same shape beside it, from the Marchenko-Pastur law: a Gaussian
matrix with entries of variance 1 / long has squared singular values of density, with b = short / long,

    p(x) = sqrt((x+ - x)(x - x-)) / (2 pi b x),   x+- = (1 +- sqrt(b))^2

which is exact for large matrices and within two in a hundred at 128 wide (tests/analysis/test_singular.py).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

SMALL = 512  # an fp64 eigenvalue problem of this size takes .03 s
TAIL = 1e-4
BLOCK = 512  # rows of a Gram matrix that one product makes
MANTISSA = {torch.bfloat16: 7, torch.float16: 10, torch.float32: 23, torch.float64: 52}


def of_dense(matrix: torch.Tensor) -> np.ndarray:
    """Singular values of a matrix, descending, shape (min(rows, cols),), fp64."""
    matrix = matrix.to("cuda") if torch.cuda.is_available() else matrix
    if min(matrix.shape) <= SMALL:
        return _by_gram(matrix.double())
    values = _by_gram(matrix.float())
    lost = math.sqrt(torch.finfo(torch.float32).eps * math.sqrt(len(values))) * values[0]
    if np.count_nonzero(values < lost) * lost > TAIL * values.sum():
        return _by_gram(matrix.double())
    return values


def of_factors(left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    """Singular values of `left @ right` for left (out, r) and right (r, in), descending, shape (min(r, out, in),)."""
    left_core = torch.linalg.qr(left.double(), mode="r").R
    right_core = torch.linalg.qr(right.double().mT, mode="r").R
    return torch.linalg.svdvals(left_core @ right_core.mT).numpy()


def rank_at_share(singular: np.ndarray, share: float, *, power: int = 2) -> int:
    """Smallest k whose first k singular values hold `share` of the sum of their powers.

    Args:
        singular: non-negative, descending.
        share: in (0, 1]; the paper uses .9.
        power: 2 for energy, 1 for the values themselves; the paper's "variance" does not say which.

    Returns:
        k; 0 for a matrix of zeros.
    """
    sums = np.cumsum(singular**power)
    if not sums[-1]:
        return 0
    # The last sum holds everything; rounding may put `share` of it just above the exact place.
    return int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12))) + 1


def effective_rank(singular: np.ndarray) -> float:
    """Exponential of the entropy of the normalised singular values (Roy and Vetterli, 2007); 0 for zeros."""
    if not singular[0]:
        return 0.0
    weights = singular / singular.sum()
    weights = weights[weights > 0]
    return float(np.exp(-np.sum(weights * np.log(weights))))


def stable_rank(singular: np.ndarray) -> float:
    """Squared Frobenius norm over the squared largest singular value; 0 for zeros."""
    return float(np.sum(singular**2) / singular[0] ** 2) if singular[0] else 0.0


def cumulative(singular: np.ndarray) -> np.ndarray:
    """Share of the squared sum that the first k values hold, k = 1, 2, ..., same shape; zeros for zeros."""
    sums = np.cumsum(singular**2)
    return sums / sums[-1] if sums[-1] else sums


def noise(rows: int, cols: int) -> np.ndarray:
    """Singular values of pure Gaussian noise of this shape (Marchenko-Pastur quantiles), squared sum 1, descending."""
    return _noise(min(rows, cols), max(rows, cols))


def measures(singular: np.ndarray, rows: int, cols: int) -> dict[str, float]:
    """All measures of a spectrum, each with its value for noise of this shape."""
    null = _null(min(rows, cols), max(rows, cols))
    return {
        "rank90": rank_at_share(singular, 0.9),
        "rank90_unsquared": rank_at_share(singular, 0.9, power=1),
        "rank90_noise": null[0],
        "effective_rank": effective_rank(singular),
        "effective_rank_noise": null[1],
        "stable_rank": stable_rank(singular),
        "stable_rank_noise": null[2],
        "sigma_max": float(singular[0]),
        "frobenius": float(np.sqrt(np.sum(singular**2))),
    }


def rounding_variance(stored: torch.Tensor) -> torch.Tensor:
    """Variance of the rounding of each stored value: a twelfth of the square of the gap to its neighbour, fp64."""
    return (_power(stored).double() * 2.0 ** -MANTISSA[stored.dtype]) ** 2 / 12


def rounding_sums(stored: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the rounding summed over each row and over each column, shapes (rows,) and (cols,)."""
    if stored.dtype == torch.float64:
        variance = rounding_variance(stored)
        return variance.sum(dim=1).numpy(), variance.sum(dim=0).numpy()
    parts, columns, top = [], torch.zeros(stored.shape[1], dtype=torch.float64), float(_power(stored.abs().max()))
    for block in stored.split(BLOCK):
        # In fp32, as parts of the largest, which is exact but below 1e-19 of it: a sixth of the time that fp64 takes.
        squares = (_power(block) / (top or 1.0)).square_()
        parts.append(squares.sum(dim=1).double())
        columns += squares.sum(dim=0)
    unit = (top * 2.0 ** -MANTISSA[stored.dtype]) ** 2 / 12
    return (torch.cat(parts) * unit).numpy(), (columns * unit).numpy()


def _power(stored: torch.Tensor) -> torch.Tensor:
    """The power of two at or below each value's magnitude, fp32 (fp64 of fp64): its bits without sign and mantissa."""
    if stored.dtype not in MANTISSA:
        raise ValueError(f"weights of dtype {stored.dtype}; expected one of {[str(d) for d in MANTISSA]}")
    if stored.dtype == torch.float64:
        return (stored.view(torch.int64) & 0x7FF0000000000000).view(torch.float64)
    return (stored.float().view(torch.int32) & 0x7F800000).view(torch.float32)


def _by_gram(matrix: torch.Tensor) -> np.ndarray:
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    # eigvalsh reads one triangle, so only that is made: half the cost of the whole product.
    gram = matrix.new_zeros(len(short), len(short))
    for start in range(0, len(short), BLOCK):
        gram[start:, start : start + BLOCK] = short[start:] @ short[start : start + BLOCK].mT
    squares = torch.linalg.eigvalsh(gram, UPLO="L").double().clamp(min=0)
    return squares.flip(0).sqrt().cpu().numpy()


@functools.cache
def _noise(short: int, long: int) -> np.ndarray:
    ratio = short / long
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    # x = low + (high - low) sin^2 removes the square-root ends; 40 nodes per value.
    angle = (np.arange(40 * short) + 0.5) * (math.pi / 2) / (40 * short)
    x = low + (high - low) * np.sin(angle) ** 2
    mass = np.cumsum((np.sin(angle) * np.cos(angle)) ** 2 / x)
    at = (np.arange(short) + 0.5) / short
    squares = np.interp(at, mass / mass[-1], x)[::-1]
    return np.sqrt(squares / squares.sum())


@functools.cache
def _null(short: int, long: int) -> tuple[int, float, float]:
    values = _noise(short, long)
    # The largest value of a finite noise matrix lies at the edge of the law, not at its last quantile.
    ratio = short / long
    top = max(1.0, short / (1 + math.sqrt(ratio)) ** 2)
    return rank_at_share(values, 0.9), effective_rank(values), top
