"""pass@k curves from tracked pass@1 against enumerated draws and the evaluator's own numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from analysis import diversity, grid, pass_at_k
from replication.evals import code
from replication.specs import Code
from tests.analysis.conftest import NOWHERE

FOUR = Code("programs", NOWHERE, samples=4)


def test_chance_is_the_share_of_draws_with_a_right_one() -> None:
    for n, right in ((5, 0), (5, 2), (6, 6)):
        for k in range(1, n + 1):
            draws = list(combinations([True] * right + [False] * (n - right), k))
            assert pass_at_k.chance(n, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))
            assert pass_at_k.chance(n, right, k) == code.pass_at_k(n, right, k)


def test_curve_of_three_problems_is_that_computed_by_hand() -> None:
    column = grid.Column(("a", "b", "c"), np.array([0.0, 0.25, 1.0]))
    assert pass_at_k.curve(column, FOUR, 1).values == pytest.approx(column.values)
    assert pass_at_k.curve(column, FOUR, 2).values == pytest.approx([0, 0.5, 1])
    assert pass_at_k.curve(column, FOUR, 4).values == pytest.approx([0, 1, 1])


def test_right_samples_survive_rounding_and_other_shares_are_refused() -> None:
    rounded = grid.Column(("a", "b"), np.array([0.3333333, 0.6666667]))
    assert list(pass_at_k.right_ones(rounded, replace(FOUR, samples=3))) == [1, 2]
    with pytest.raises(ValueError, match=r"programs b: pass@1 0\.3 is no share of 4 samples"):
        pass_at_k.right_ones(grid.Column(("a", "b"), np.array([0.5, 0.3])), FOUR)


def test_every_code_arm_and_length_has_a_curve_and_the_base_too(make_study: Callable[..., Any]) -> None:
    made = pass_at_k.pass_at_k(make_study(items=40))
    assert {(r["study"], r["eval"]) for r in made} == {("cpt_code", "cpt_code"), ("ift_code", "ift_code")}
    assert len(made) == 2 * (4 * 3 + 1) * 7
    own = [r for r in made if (r["study"], r["arm"], r["length"]) == ("ift_code", "full", 4.0)]
    assert [r["k"] for r in own] == [1, 2, 4, 8, 16, 32, 50]
    # Each made-up problem is solved always or never, so further tries add nothing.
    assert len({r["value"] for r in own}) == 1
    assert all(0 <= r["low"] <= r["value"] <= r["high"] <= 1 and r["temperature"] == 0.2 for r in own)
    assert own[0]["seeds"] == 3 and next(r for r in made if r["arm"] == "base")["seeds"] == 1


def test_effects_are_lora_minus_full_at_the_longest_training(make_study: Callable[..., Any]) -> None:
    tables = make_study(items=40)
    found = {(r["setting"], r["quantity"]): r for r in pass_at_k.effects(tables)}
    last = {r["arm"]: r["value"] for r in pass_at_k.pass_at_k(tables) if r["length"] == 256e3 and r["k"] == 50}
    lora = np.mean([last[arm] for arm in ("r1", "r4", "r16")])
    assert found["cpt_code", "pass_at_n_lora_minus_full"]["value"] == pytest.approx(lora - last["full"])
    assert found["cpt_code", "pass_at_n_r4_minus_full"]["value"] == pytest.approx(last["r4"] - last["full"])
    gain = found["cpt_code", "pass_gain_lora_minus_full"]
    assert gain["value"] == 0 and gain["low"] < 0 < gain["high"] and gain["seeds"] == 3


def test_another_sampling_is_found_by_its_source_and_asked_for_by_name(make_study: Callable[..., Any]) -> None:
    tables = make_study(items=10, seeds=(0,))
    hot = replace(tables.scale.eval("ift_code"), name="hot", samples=4, temperature=0.8)
    assert isinstance(hot, Code)
    scale = replace(tables.scale, evals=(*tables.scale.evals, hot, replace(hot, name="other", template="{a}")))
    target = scale.eval("ift_code")
    assert isinstance(target, Code)
    assert diversity.samplings(scale, target) == [target, hot]
    assert pass_at_k.suffix(hot, target) == "_at_t0.8" and pass_at_k.suffix(target, target) == ""
    named = pass_at_k.missing(replace(tables, scale=scale), pass_at_k.pass_at_k(tables))
    assert len(named) == 2 and "evaluate ift_code --ask hot --scale toy" in named[1]


def test_curves_rise_and_gains_are_measured_where_samples_disagree(make_study: Callable[..., Any]) -> None:
    tables = make_study(items=10, seeds=(0, 1))
    hot = replace(tables.scale.eval("ift_code"), name="hot", samples=4, temperature=0.8)
    ids = tuple("abcd")
    solved = {"full": [1.0, 1.0, 0.0, 0.0], "r1": [0.5, 0.5, 0.0, 0.0]}
    items = {
        (row.run, row.step, "hot", "pass@1"): grid.Column(ids, np.array(solved[arm]))
        for (arm, length, _), row in grid.cells(tables, "ift_code").items() if arm in solved and length == 4
    }  # fmt: skip
    tables = replace(tables, scale=replace(tables.scale, evals=(*tables.scale.evals, hot)), items=tables.items | items)
    made = [r for r in pass_at_k.pass_at_k(tables) if r["eval"] == "hot" and r["study"] == "ift_code"]
    assert [(r["k"], r["value"]) for r in made if r["arm"] == "r1"] == [
        (1, 0.25), (2, pytest.approx(5 / 12)), (4, 0.5)
    ]  # fmt: skip
    found = {r["quantity"]: r["value"] for r in pass_at_k.effects(tables) if r["setting"] == "ift_code"}
    assert found["pass_at_n_lora_minus_full_at_t0.8"] == 0 and found["pass_gain_r1_minus_full_at_t0.8"] == 0.25
