"""Singular values and ranks against dense fp64 SVD, closed forms and simulated noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis import singular

DECAYS = {
    "exponential to 1e-6": lambda i, n: 10.0 ** (-6 * i / n),
    "exponential to 1e-2": lambda i, n: 10.0 ** (-2 * i / n),
    "one over i": lambda i, n: 1 / (1 + i),
    "square root": lambda i, n: (1 + i) ** -0.5,
    "rank 16 and dust": lambda i, n: torch.where(i < 16, 1.0, 1e-6),
    "a decade in 53": lambda i, n: 10.0 ** (-i / 53),
}


def _with_spectrum(values: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(m, len(values), generator=generator).double()).Q for m in (rows, cols))
    return (left * values @ right.mT).float()


@pytest.mark.parametrize("kind", DECAYS)
@pytest.mark.parametrize(("rows", "cols"), [(600, 600), (900, 600), (100, 300)])
def test_ranks_of_decaying_spectra_equal_those_of_a_plain_svd(kind: str, rows: int, cols: int) -> None:
    count = min(rows, cols)
    matrix = _with_spectrum(DECAYS[kind](torch.arange(count).double(), count), rows, cols)
    exact, found = torch.linalg.svdvals(matrix.double()).numpy(), singular.of_dense(matrix)
    for power in (1, 2):
        assert singular.rank_at_share(found, 0.9, power=power) == singular.rank_at_share(exact, 0.9, power=power)
    assert singular.effective_rank(found) == pytest.approx(singular.effective_rank(exact), rel=1e-4)
    assert singular.stable_rank(found) == pytest.approx(singular.stable_rank(exact), rel=1e-4)


def _made(kind: str, rows: int, cols: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    dense = torch.randn(rows, cols, generator=generator)
    if kind == "random":
        return dense
    if kind == "bf16-rounded":
        return (0.02 * dense).bfloat16().float()
    rank = {"rank one": 1, "low-rank": 12, "zero": 0}[kind]
    return torch.randn(rows, rank, generator=generator) @ torch.randn(rank, cols, generator=generator)


@pytest.mark.parametrize("kind", ["random", "low-rank", "zero", "rank one", "bf16-rounded"])
@pytest.mark.parametrize(("rows", "cols"), [(520, 520), (520, 1404), (1404, 520), (100, 270)])
def test_every_quantity_equals_that_of_numpys_fp64_svd_to_1e_4(kind: str, rows: int, cols: int) -> None:
    """Both ways are used: 520 is above SMALL, so fp32 comes first. Ranks may only differ where a share is .9 itself."""
    matrix = _made(kind, rows, cols)
    exact = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    found = singular.of_dense(matrix)
    mine, true = (singular.measures(values, rows, cols) for values in (found, exact))
    for name, value in true.items():
        if not name.startswith("rank90"):
            assert mine[name] == pytest.approx(value, rel=1e-4, abs=1e-9), name
    for name, power in (("rank90", 2), ("rank90_unsquared", 1)):
        shares = np.cumsum(exact**power) / max(float(np.sum(exact**power)), 1e-300)
        apart = abs(mine[name] - true[name])
        assert apart <= 1 and (not apart or abs(shares[int(min(mine[name], true[name])) - 1] - 0.9) < 1e-5)
    np.testing.assert_allclose(singular.cumulative(found), singular.cumulative(exact), atol=1e-4)


def test_zeros_have_no_rank_of_any_kind() -> None:
    found = singular.measures(singular.of_dense(torch.zeros(30, 40)), 30, 40)
    assert all(found[k] == 0 for k in ("rank90", "rank90_unsquared", "effective_rank", "stable_rank", "frobenius"))
    assert not singular.cumulative(np.zeros(3)).any()


def test_fp32_alone_would_get_a_steep_spectrum_wrong() -> None:
    # Why the tail is computed again: the dust is 1e-6 of the largest value, fp32 squares end at 3e-4.
    matrix = _with_spectrum(DECAYS["rank 16 and dust"](torch.arange(600).double(), 600), 600, 600)
    exact = torch.linalg.svdvals(matrix.double()).numpy()
    assert singular.effective_rank(singular._by_gram(matrix)) > 1.02 * singular.effective_rank(exact)
    assert singular.effective_rank(singular.of_dense(matrix)) == pytest.approx(singular.effective_rank(exact), rel=1e-5)


@pytest.mark.parametrize(("rows", "rank", "cols"), [(128, 1, 128), (352, 16, 128), (128, 64, 352), (20, 30, 40)])
def test_factors_have_the_singular_values_of_their_product(rows: int, rank: int, cols: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    b, a = torch.randn(rows, rank, generator=generator), torch.randn(rank, cols, generator=generator)
    dense = torch.linalg.svdvals(b.double() @ a.double()).numpy()
    found = singular.of_factors(b, a)
    count = min(rows, rank, cols)
    assert found[:count] == pytest.approx(dense[:count], rel=1e-5)
    assert found[count:] == pytest.approx(0, abs=1e-8)


def test_ranks_of_spectra_known_by_hand() -> None:
    assert singular.rank_at_share(np.ones(10), 0.9) == 9
    assert singular.rank_at_share(np.ones(10), 0.901) == 10
    assert singular.rank_at_share(np.ones(10), 1.0) == 10
    # Energies 9, 1: the first holds exactly .9; unsquared 3 of 4 needs both.
    assert singular.rank_at_share(np.array([3.0, 1.0]), 0.9) == 1
    assert singular.rank_at_share(np.array([3.0, 1.0]), 0.9, power=1) == 2
    assert singular.effective_rank(np.ones(7)) == pytest.approx(7)
    assert singular.effective_rank(np.array([2.0, 0.0])) == pytest.approx(1)
    assert singular.stable_rank(np.array([2.0, 1.0, 1.0])) == pytest.approx(1.5)


@pytest.mark.parametrize(("rows", "cols"), [(128, 128), (352, 128), (128, 352), (1, 40)])
def test_noise_values_agree_with_simulated_noise(rows: int, cols: int) -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.linalg.svdvals(torch.randn(rows, cols, generator=generator)).double().numpy() for _ in range(20)]
    null = singular.measures(drawn[0], rows, cols)
    short = min(rows, cols)
    assert null["rank90_noise"] == pytest.approx(
        np.mean([singular.rank_at_share(d, 0.9) for d in drawn]), abs=0.02 * short
    )
    assert null["effective_rank_noise"] == pytest.approx(np.mean([singular.effective_rank(d) for d in drawn]), rel=0.01)
    assert null["stable_rank_noise"] == pytest.approx(np.mean([singular.stable_rank(d) for d in drawn]), rel=0.05)


def test_noise_of_the_papers_shapes_has_the_known_ranks() -> None:
    # Published for this project before any run: 2,090 of 4096 square, about 2,920 of 4096 x 11008.
    assert singular.rank_at_share(singular.noise(4096, 4096), 0.9) == pytest.approx(2090, abs=5)
    assert singular.rank_at_share(singular.noise(4096, 4096), 0.9) == pytest.approx(0.51 * 4096, rel=0.01)
    assert singular.rank_at_share(singular.noise(4096, 11008), 0.9) == pytest.approx(0.71 * 4096, rel=0.01)
    assert singular.rank_at_share(singular.noise(4096, 11008), 0.9) == pytest.approx(2920, abs=10)
    assert np.sum(singular.noise(300, 200) ** 2) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_rounding_floor_is_the_rounding_that_happens(dtype: torch.dtype) -> None:
    exact = 0.02 * torch.randn(400, 400, generator=torch.Generator().manual_seed(2)).double()
    stored = exact.to(dtype)
    happened = float(torch.linalg.vector_norm(stored.double() - exact))
    assert float(singular.rounding_variance(stored).sum().sqrt()) == pytest.approx(happened, rel=0.02)


def test_integer_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="dtype"):
        singular.rounding_variance(torch.zeros(2, 2, dtype=torch.int8))


def test_zero_has_no_rounding() -> None:
    assert float(singular.rounding_variance(torch.zeros(3, 3)).sum()) == 0
    assert math.isclose(float(singular.rounding_variance(torch.ones(1))), (2.0**-23) ** 2 / 12)
