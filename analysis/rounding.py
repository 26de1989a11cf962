"""What the rounding of stored weights can do to a rank, and the band of ranks that it leaves open.

A change is read back as round(W + change) - W. The rounding adds a matrix E of nearly independent entries, of variance
gap^2 / 12 where `gap` is the distance of neighbouring numbers in the stored dtype. Two numbers say how much that is:

    floor ratio   |E|_F / |change|_F. From .3 on the rounding has about a tenth of the energy, and the rank at 90 % is
                  its own (above 1 most weights did not move at all)
    edge          the largest singular value that E alone can have. With variances v_ij it is at most
                  max_i sqrt(sum_j v_ij) + max_j sqrt(sum_i v_ij), which for equal variances is the edge of the
                  Marchenko-Pastur law, s (sqrt(rows) + sqrt(cols)).

By Weyl's inequality k singular values above the edge prove that the change had rank k at least. So the band is

    low    the rank at 90 % of the part above the edge; 0 if nothing stands above it
    high   the measured rank, for rounding adds directions and takes none away

A change of rank 16 whose rank at 90 % is 14, read back from bf16 (1024 square, tests/analysis/test_rounding.py):

    size of the change over that of the weights   .01      .005     .003      .002      .001
    floor ratio                                   .16      .32      .53       .83       2.0
    band                                          14..15   14..16   14..193   14..295   14..387
"""

from __future__ import annotations

import numpy as np

from analysis.ranks import FLOOR


def edge(rows: np.ndarray, cols: np.ndarray) -> float:
    """The largest singular value of the rounding, from its variance summed over rows (rows,) and columns (cols,)."""
    return float(np.sqrt(rows.max()) + np.sqrt(cols.max()))


def lowest_rank(values: np.ndarray, limit: float) -> int:
    """Rank at 90 % of the singular values (descending) above `limit`; 0 if there is none."""
    sums = np.cumsum(values[values > limit] ** 2)
    return int(np.searchsorted(sums, 0.9 * sums[-1] * (1 - 1e-12))) + 1 if len(sums) else 0


def is_rounding(*, low: int, high: int, floor_ratio: float | None) -> bool:
    """Whether a measured rank is the rounding's: too large a floor, or most of the directions below the edge."""
    return floor_ratio is not None and (floor_ratio >= FLOOR or 2 * low < high)
