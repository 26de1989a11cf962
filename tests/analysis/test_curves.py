"""Curves, trade-off and diversity rows against tables with known content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import curves, diversity, grid, tradeoff
from replication.results import read_items, write_rows


def test_every_cell_has_a_row_and_its_interval_holds_the_truth(
    make_study: Callable[..., Any], paper_truth: Any
) -> None:
    made, missing = curves.curves(make_study(items=200))
    assert missing == []
    assert len(made) == 4 * 4 * 3 * 7  # settings, arms, lengths, axes
    learning = [r for r in made if r["axis"] in ("learning", "forgetting")]
    inside = [r["low"] <= paper_truth(r["study"], r["arm"], r["length"])[r["axis"]] <= r["high"] for r in learning]
    assert np.mean(inside) > 0.9
    assert all(r["seeds"] == 3 and r["low"] <= r["value"] <= r["high"] for r in made)


def test_forgetting_is_the_plain_mean_of_its_benchmarks(make_study: Callable[..., Any]) -> None:
    made, _ = curves.curves(make_study(items=50))
    cell = {r["axis"]: r["value"] for r in made if (r["study"], r["arm"], r["length"]) == ("ift_code", "r4", 2.0)}
    assert cell["forgetting"] == pytest.approx((cell["stories"] + cell["facts"] + cell["which"]) / 3)


def test_base_against_base_is_exactly_zero(make_study: Callable[..., Any]) -> None:
    def frozen(study: str, arm: str, length: float) -> dict[str, float]:
        return {"learning": 0.1, "forgetting": 0.5, "source_loss": 1, "target_loss": 1, "correct": 3, "incorrect": 3}

    tables = make_study(frozen, items=40)
    base = grid.base_point()
    items = {
        key: replace(row, values=tables.items[base.run, 0, *key[2:]].values)
        for key, row in tables.items.items()
        if not key[3].startswith("unique")
    }
    same = replace(tables, items=items)
    gap = tradeoff.gap(same, "cpt_code", "r16", "full", rng=np.random.default_rng(0))
    assert gap is None  # nothing was learnt, so there is no learning at which to compare


def test_a_run_at_another_rate_is_not_in_the_study(make_study: Callable[..., Any]) -> None:
    tables = make_study(items=30, seeds=(0,))
    other = replace(tables.runs[0], lr=5e-3, run="stray")
    assert grid.cells(replace(tables, runs=(*tables.runs, other)), "cpt_code") == grid.cells(tables, "cpt_code")
    twice = replace(tables.runs[0], run="again")
    with pytest.raises(ValueError, match="same cell"):
        grid.cells(replace(tables, runs=(*tables.runs, twice)), "cpt_code")


def test_a_budget_rounded_to_whole_steps_keeps_the_settings_length(make_study: Callable[..., Any]) -> None:
    tables = make_study(items=30, seeds=(0,))
    rounded = tuple(replace(r, length=63488.0) if r.length == 64e3 else r for r in tables.runs)
    assert set(grid.cells(replace(tables, runs=rounded), "cpt_code")) == set(grid.cells(tables, "cpt_code"))


def test_different_items_under_one_eval_version_are_refused(
    make_study: Callable[..., Any], scale: Any, tmp_path: Path
) -> None:
    make_study(items=30, seeds=(0,), files=True)
    path = tmp_path / scale.name / "cpt_code.items.jsonl.gz"
    rows = read_items(path)
    changed = [
        replace(r, ids=tuple(f"x{i}" for i in r.ids)) if r.eval == "facts" and "r4" in r.run else r for r in rows
    ]
    write_rows(path, changed)
    with pytest.raises(ValueError, match="different items of facts@1"):
        grid.load(scale, tmp_path)


def test_a_length_without_runs_is_missing_and_has_no_row(make_study: Callable[..., Any]) -> None:
    made, missing = curves.curves(make_study(items=30, leave_out=lambda run: run.length == 2.0 and run.rank == 4))
    assert not [r for r in made if r["length"] == 2.0 and r["arm"] == "r4"]
    listed = [(m.study, m.seed) for m in missing if m.what == "run"]
    assert sorted(listed) == [(s, k) for s in ("ift_code", "ift_math") for k in (0, 1, 2)]


def test_the_front_keeps_only_points_that_none_beats() -> None:
    learning = np.array([0.1, 0.5, 0.4, 0.9, 0.9, 0.05])
    kept = np.array([0.9, 0.8, 0.7, 0.3, 0.4, 0.85])
    assert tradeoff.front(learning, kept).tolist() == [0, 1, 4]


def test_the_gap_between_fronts_is_the_mean_height_over_shared_learning() -> None:
    base = [0.0, 1.0]
    left = np.array([base, [1.0, 0.8]])
    right = np.array([base, [0.5, 0.5]])
    # Heights 1 - .2 L and 1 - L over [0, .5]: the mean difference is .8 x .25.
    assert tradeoff.front_gap(left, right) == pytest.approx(0.2)
    assert tradeoff.front_gap(right, left) == pytest.approx(-0.2)
    assert tradeoff.front_gap(left, left) == 0


def test_tradeoff_rows_hold_the_sweep_and_the_base(make_study: Callable[..., Any], paper_truth: Any) -> None:
    made = tradeoff.tradeoff(make_study(items=40, seeds=(0,), sweep={1e-3: paper_truth, 5e-3: paper_truth}))
    own = [r for r in made if r["study"] == "ift_math"]
    assert sum(r["arm"] == "base" for r in own) == 1
    # The swept rate of the study itself stands in the plane once, as a main run.
    assert sum(r["swept"] for r in own) == 4 and {r["lr"] for r in own if r["swept"]} == {5e-3}
    assert len(own) == 1 + 12 + 4
    assert any(r["on_front"] for r in own) and not all(r["on_front"] for r in own)


def test_diversity_counts_only_problems_with_that_outcome(make_study: Callable[..., Any]) -> None:
    made = diversity.diversity(make_study(items=100))
    assert {r["study"] for r in made} == {"cpt_code", "ift_code"}
    cell = {r["outcome"]: r for r in made if (r["study"], r["arm"], r["length"]) == ("ift_code", "full", 4.0)}
    assert cell["correct"]["problems"] + cell["incorrect"]["problems"] == pytest.approx(100)
    assert cell["correct"]["unique"] == pytest.approx(12, abs=0.5)
    base = next(r for r in made if r["arm"] == "base" and r["outcome"] == "incorrect")
    assert base["low"] < 45 < base["high"]
