"""Matching at equal pass@1, against draws enumerated by hand, and the tables from samples on the disk."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import command, grid, rows, samples, texts
from analysis.samples import Problem
from replication import seeding
from replication.specs import Code
from tests.analysis.conftest import NOWHERE

FOUR = Code("ift_code", NOWHERE, samples=4)
ALIKE, VARIED = {"return 1": 3}, {"return 1": 1, "x = 2": 1, "y - 3": 1}


def _answered(bags: dict[str, dict[str, int]], *, behind: str = "") -> dict[str, Any]:
    """A line of samples: texts by outcome."""
    return {
        "answered": [
            {"text": text + behind, "stop": "", "finish": "eos", "tokens": 1, "count": count, "outcome": outcome}
            for outcome, bag in bags.items() for text, count in bag.items()
        ]
    }  # fmt: skip


def _write(path: Path, lines: dict[str, dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"id": name} | line) + "\n" for name, line in lines.items())
    path.write_bytes(gzip.compress(text.encode()))


def _problem(correct: dict[str, int], incorrect: dict[str, int]) -> Problem:
    return Problem(Counter(correct), Counter(incorrect))


def _matched(left: Problem, right: Problem) -> tuple[texts.Measured, texts.Measured]:
    pair = texts.matched({"p": left}, {"p": right}, seeding.generator(0, "test"))
    assert pair is not None
    return pair


def _unique(found: texts.Measured, outcome: str) -> list[float]:
    return list(found.values[outcome]["unique"].values)


def test_a_text_ends_where_the_executed_program_did(tmp_path: Path) -> None:
    line = _answered({"passed": {"return 1": 1}, "assertion": {"a": 1}})
    longer = _answered({"passed": {"return 1": 1}, "syntax": {"b": 1}}, behind="\nprint(1)")
    line["answered"] += longer["answered"]
    line["answered"][0]["stop"] = "\nprint"
    _write(tmp_path / "s.jsonl.gz", {"p": line})
    found = samples.read(tmp_path / "s.jsonl.gz", FOUR)["p"]
    assert found == _problem({"return 1": 2}, {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="problem p has 4 samples, ift_code asks 5"):
        samples.read(tmp_path / "s.jsonl.gz", replace(FOUR, samples=5))


def test_matched_arms_have_equal_numbers_of_correct_and_of_incorrect_samples() -> None:
    left = _problem({"a": 3}, {"x": 1})
    right = _problem({"a": 1, "b": 1}, {"x": 1, "y": 1})
    one, other = _matched(left, right)
    assert one.pass_1 == other.pass_1 == pytest.approx(2 / 3)
    assert _unique(one, "correct") == [1] and _unique(other, "correct") == [2]
    assert _unique(one, "all") == [2] and _unique(other, "all") == [3]
    # A single incorrect sample is left: it has no variety to speak of.
    assert _unique(one, "incorrect") == _unique(other, "incorrect") == []


def test_a_draw_shows_as_many_strings_as_chance_would() -> None:
    # Two of a, a, b are two strings in two of the three possible draws.
    rng = seeding.generator(0, "test")
    many = {str(i): _problem({"a": 2, "b": 1}, {}) for i in range(400)}
    two = {str(i): _problem({"a": 2}, {}) for i in range(400)}
    pair = texts.matched(many, two, rng)
    assert pair is not None
    left, right = pair
    assert set(_unique(right, "correct")) == {1}
    # 1,600 draws in 400 groups: a standard error of .012.
    assert np.mean(_unique(left, "correct")) == pytest.approx(5 / 3, abs=0.04)


def test_problems_that_share_no_two_samples_cannot_be_matched() -> None:
    left, right = _problem({"a": 4}, {}), _problem({"a": 1}, {"x": 3})
    assert texts.matched({"p": left}, {"p": right}, seeding.generator(0, "test")) is None


@pytest.fixture
def study(make_study: Callable[..., Any], tmp_path: Path) -> tuple[grid.Tables, Path]:
    """A study whose full runs write one string per problem and whose LoRA runs write three, all of them correct."""
    tables = make_study(items=6, seeds=(0, 1), only=("ift_code",))
    evals = tuple(replace(e, samples=3) if e.name == "ift_code" else e for e in tables.scale.evals)
    items = {
        key: grid.Column(column.ids, np.ones(len(column.ids))) if key[2:] == ("ift_code", "pass@1") else column
        for key, column in tables.items.items()
    }
    tables = replace(tables, scale=replace(tables.scale, evals=evals), items=items)
    runs = tmp_path / "runs"
    for (arm, _, _), row in grid.cells(tables, "ift_code").items():
        folder = runs / "toy" / row.run / "evals" / f"step_{row.step:06d}" / "ift_code@1"
        line = _answered({"passed": ALIKE if arm == "full" else VARIED})
        _write(folder / "samples.jsonl.gz", {str(i): line for i in range(6)})
    return tables, runs


def _places(tables: grid.Tables, runs: Path) -> command.Places:
    return command.Places(tables.scale, runs / "results", runs, runs / "out")


def test_rows_and_effects_are_those_of_the_samples(study: tuple[grid.Tables, Path]) -> None:
    tables, runs = study
    said = texts.write(tables, _places(tables, runs))
    assert "2 sets of samples left out, the first: base: no samples at" in said
    made = rows.read(runs / "out" / "texts.jsonl")
    # 4 arms and 3 lengths alone, 3 ranks with their counterparts matched; correct and all, for none is incorrect.
    assert len(made) == (12 + 2 * 9) * 2
    assert {(r["matched"], r["unique"]) for r in made if r["arm"] == "full"} == {
        (None, 1), ("r1", 1), ("r4", 1), ("r16", 1)
    }  # fmt: skip
    lora = next(r for r in made if r["arm"] == "r16" and r["matched"] == "full" and r["outcome"] == "correct")
    assert (lora["unique"], lora["unique_low"], lora["problems"], lora["seeds"], lora["pass_1"]) == (3, 3, 6, 2, 1)
    # Tokens: return 1, x = 2, y - 3: eight of eight; pairs of 2 and 3 or of 3 and 3 tokens without one in common.
    assert (lora["distinct_1"], lora["edit_distance"], lora["self_bleu"]) == (1, 1, 0)
    effects = {r["quantity"]: r for r in rows.read(runs / "out" / "texts_effects.jsonl")}
    assert effects["unique_matched_lora_minus_full"]["value"] == 2
    assert effects["self_bleu_correct_matched_lora_minus_full"]["value"] == -1
    assert effects["edit_distance_matched_r4_minus_full"]["value"] == 1
    # Nothing varies between problems, and yet the width is not zero: one sample in each of two imaginary ones.
    assert effects["unique_matched_lora_minus_full"]["low"] < 2 < effects["unique_matched_lora_minus_full"]["high"]
    assert not any("incorrect" in quantity for quantity in effects)


def test_the_same_samples_give_the_same_rows(study: tuple[grid.Tables, Path]) -> None:
    tables, runs = study
    loaded, _ = samples.load(tables, runs)
    assert texts.texts(tables, loaded) == texts.texts(tables, loaded)


def test_samples_that_were_not_collected_are_left_out(study: tuple[grid.Tables, Path]) -> None:
    tables, runs = study
    row = grid.cells(tables, "ift_code")["r4", 4.0, 0]
    path = runs / "toy" / row.run / "evals" / f"step_{row.step:06d}" / "ift_code@1" / "samples.jsonl.gz"
    _write(path, {str(i): _answered({"syntax": VARIED}) for i in range(6)})
    loaded, absent = samples.load(tables, runs)
    assert any("holds other samples" in reason for reason in absent)
    assert sorted(loaded["ift_code"]["ift_code"]["r4", 4.0]) == [1]


def test_without_samples_tracked_rows_are_kept_and_the_command_is_named(
    make_study: Callable[..., Any], tmp_path: Path
) -> None:
    tables = make_study(items=6, seeds=(0,), only=("ift_code",))
    places = _places(tables, tmp_path / "none")
    rows.write(places.out / "texts.jsonl", [{"kept": 1}])
    said = texts.write(tables, places)
    assert "tracked rows kept" in said and "python -m experiments run study --scale toy" in said
    assert rows.read(places.out / "texts.jsonl") == [{"kept": 1}]
