"""How much faster the spectra are than a plain SVD of the same matrix, and whether they agree.

A full SVD of every 7B checkpoint in the paper's figures would be hours on a GPU; this is what makes it minutes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from analysis import singular


def spectra_speed(
    *, size: int = 4096, cols: int | None = None, rank: int = 16, repeats: int = 3
) -> dict[str, float | int]:
    """Speed ratios against `torch.linalg.svdvals` in fp32 on a size x cols matrix, best of `repeats`, and agreement."""
    generator, cols = torch.Generator().manual_seed(0), cols or size
    b, a = (torch.randn(*shape, generator=generator) for shape in ((size, rank), (rank, cols)))
    dense = torch.randn(size, cols, generator=generator)
    product = b @ a
    plain_lora, expected = _best(lambda: torch.linalg.svdvals(product).numpy(), 1)
    lora, found = _best(lambda: singular.of_factors(b, a), repeats)
    plain, exact = _best(lambda: torch.linalg.svdvals(dense).numpy(), repeats)
    gram, values = _best(lambda: singular.of_dense(dense), repeats)
    return {
        "size": size,
        "cols": cols,
        "threads": torch.get_num_threads(),
        "rank": rank,
        "lora_ratio": plain_lora / lora,
        "lora_relative_error": float(np.abs(found / expected[:rank] - 1).max()),
        "dense_ratio": plain / gram,
        **_ranks("gram", values),
        **_ranks("svdvals", exact.astype(np.float64)),
        "seconds_svdvals": plain,
        "seconds_gram": gram,
        "seconds_factors": lora,
    }


def _ranks(by: str, values: np.ndarray) -> dict[str, int]:
    """Energy rank and unsquared rank at 90 %."""
    return {
        f"dense_rank90_{by}": singular.rank_at_share(values, 0.9),
        f"dense_rank90_unsquared_{by}": singular.rank_at_share(values, 0.9, power=1),
    }


def _best(call: Callable[[], np.ndarray], repeats: int) -> tuple[float, np.ndarray]:
    """Shortest wall time of a call, and its value."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - start)
    return min(times), value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--cols", type=int, help="(default: the size)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    for name, measured in spectra_speed(**vars(given)).items():
        print(f"{name:<22} {measured}")
