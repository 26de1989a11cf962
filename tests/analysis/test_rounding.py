"""The band of ranks around a change that was rounded to the stored dtype, and the refusal to call it a rank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis import evidence, pair, ranks, rounding, rows, singular, spectra

SIZE, RANK = 768, 16


def _row(size: float, dtype: torch.dtype, *, rank: int | None = RANK) -> tuple[rows.Row, int]:
    """The row of a change of relative size `size` (Gaussian if no rank), and its rank at 90 % before rounding."""
    generator = torch.Generator().manual_seed(0)
    before = (0.02 * torch.randn(SIZE, SIZE, generator=generator)).to(dtype)
    change = torch.randn(SIZE, SIZE, generator=generator)
    if rank is not None:
        change = torch.randn(SIZE, rank, generator=generator) @ torch.randn(rank, SIZE, generator=generator)
    change *= size * before.float().norm() / change.norm()
    after = (before.float() + change).to(dtype)
    found = pair.SOLVERS["change"]((before, after), 1.0)
    true = singular.rank_at_share(singular.of_dense(change), 0.9)
    return pair.row(pair.Spectrum((0, "q_proj"), "change", found), {"base": "b", "tuned": "t"}), true


@pytest.mark.parametrize("size", [0.01, 0.003, 0.001, 0.0003])
def test_the_band_holds_the_true_rank_of_a_low_rank_change_stored_in_bf16(size: float) -> None:
    made, true = _row(size, torch.bfloat16)
    assert made["rank90_low"] <= true <= made["rank90_high"] == made["rank90"]
    assert made["rounding"] == (size < 0.01)


def test_a_rank_16_change_in_bf16_at_a_thousandth_is_flagged_and_printed_as_a_band_only() -> None:
    made, true = _row(0.001, torch.bfloat16)
    assert true <= RANK and made["rank90"] > 10 * RANK  # the measured rank is the rounding's
    assert made["rounding"] is True and made["rank90_low"] <= RANK
    shown = spectra.table([made])
    assert f"{made['rank90_low']}..{made['rank90']}" in shown and "rounding's" in shown
    assert f"{made['rank90']:>11} " not in shown
    arm = spectra.by_arm([made | {"study": "s", "arm": "full", "length": 1.0}])
    assert f"{made['rank90_low']:.1f}..{made['rank90']:.1f}" in arm and "rounding's" in arm


@pytest.mark.parametrize(("size", "dtype"), [(0.001, torch.float32), (0.05, torch.bfloat16), (0.01, torch.float16)])
def test_a_change_well_above_its_rounding_keeps_its_rank_and_a_narrow_band(size: float, dtype: torch.dtype) -> None:
    for rank in (RANK, None):
        made, true = _row(size, dtype, rank=rank)
        assert made["rounding"] is False
        assert made["rank90"] == pytest.approx(true, abs=1)
        assert made["rank90_low"] >= 0.98 * made["rank90"]


@pytest.mark.parametrize(("out", "into"), [(400, 400), (300, 800)])
def test_the_edge_is_the_largest_singular_value_that_rounding_has(out: int, into: int) -> None:
    exact = 0.02 * torch.randn(out, into, generator=torch.Generator().manual_seed(1)).double()
    stored = exact.bfloat16()
    happened = float(singular.of_dense(stored.double() - exact)[0])
    edge = rounding.edge(*singular.rounding_sums(stored))
    assert happened <= edge < 1.15 * happened


@pytest.mark.parametrize("dtype", singular.MANTISSA)
def test_sums_over_rows_and_columns_are_those_of_the_entries(dtype: torch.dtype) -> None:
    stored = torch.randn(1100, 30, generator=torch.Generator().manual_seed(2)).to(dtype)
    stored[:, 0] *= 1e-3
    by_row, by_column = singular.rounding_sums(stored)
    entries = singular.rounding_variance(stored).numpy()
    np.testing.assert_allclose(by_row, entries.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(by_column, entries.sum(axis=0), rtol=1e-6)


def test_ranks_of_what_stands_above_the_edge_by_hand() -> None:
    values = np.array([3.0, 1.0, 0.5, 0.5])
    assert rounding.lowest_rank(values, 0.6) == 1  # energies 9 and 1: the first holds .9
    assert rounding.lowest_rank(values, 0.0) == 2  # 9, 1, .25, .25: nine tenths of 10.5 need two
    assert rounding.lowest_rank(values, 3.0) == 0
    assert rounding.is_rounding(low=5, high=11, floor_ratio=0.1)
    assert not rounding.is_rounding(low=6, high=11, floor_ratio=0.1)
    assert rounding.is_rounding(low=11, high=11, floor_ratio=0.3)
    assert not rounding.is_rounding(low=0, high=0, floor_ratio=None)


def test_a_matrix_that_did_not_move_has_a_row_of_zeros_and_no_rank(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(20, 30, generator=generator)
    for name, second in (("base", weight), ("tuned", weight + 1)):
        (tmp_path / name).mkdir()
        tensors = {"model.layers.0.q_proj.weight": weight, "model.layers.0.k_proj.weight": second}
        save_file({k: v.clone() for k, v in tensors.items()}, tmp_path / name / "model.safetensors")
    works = pair.of_change(tmp_path / "base", tmp_path / "tuned")
    moved, still = (pair.row(s, {"tuned": "t"}) for s in pair.stream(works))
    assert (moved["module"], still["module"]) == ("k_proj", "q_proj") and moved["rank90"] == 1
    zero = ("rank90", "rank90_unsquared", "effective_rank", "stable_rank", "sigma_max", "frobenius", "share_moved")
    assert all(still[field] == 0 for field in (*zero, "rank90_low", "rank90_high"))
    assert still["floor_ratio"] is None and still["rounding"] is False
    assert rows.write(tmp_path / "rows.jsonl", [moved, still]) == 2  # no NaN in it
    assert " - " in spectra.table([still]) or spectra.table([still]).endswith("-")


@pytest.mark.parametrize(("field", "value", "said"), [("rounding", True, "above rounding"), ("rank90", 0, "not move")])
def test_the_claim_about_ranks_refuses_rows_that_are_rounding_or_did_not_move(
    make_study: Callable[..., Any], field: str, value: object, said: str
) -> None:
    tables = make_study(items=10, seeds=(0,), only=("cpt_code",))
    good = {"study": "cpt_code", "arm": "full", "which": "change", "seed": 0, "rank90": 40, "rank90_noise": 60,
            "floor_ratio": 0.01, "rounding": False}  # fmt: skip
    made = [
        good | {"length": length, "layer": layer, "module": module}
        for length in (64e3, 256e3) for layer in range(4) for module in ("q_proj", "up_proj")
    ]  # fmt: skip
    scope = evidence.Scope("cpt_code", study="cpt_code")
    assert ranks.effect(tables, made, "grows", scope).estimate is not None
    made[-1] |= {field: value}
    refused = ranks.effect(tables, made, "grows", scope)
    assert refused.estimate is None and said in refused.missing[0].what
