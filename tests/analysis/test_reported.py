"""The paper's own tables as a scale: its numbers, its standard errors, and nothing that it does not print."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest

from analysis import evidence, grid, orderings, verdicts
from experiments import paper, reported
from experiments.claims import CLAIMS


@pytest.fixture(scope="module")
def tables() -> grid.Tables:
    return grid.load(reported.SCALE, Path("nowhere"))


@pytest.fixture(scope="module")
def listed(tables: grid.Tables) -> list[dict[str, object]]:
    return orderings.orderings(tables)


def test_every_printed_score_is_found_in_its_cell(tables: grid.Tables) -> None:
    assert len(tables.scores) == len({(r.setting, r.method, r.length, r.quantity) for r in paper.REPORTED}) - 5
    for row in paper.REPORTED:
        if row.method == "base":
            point = grid.base_point()
        else:
            point = grid.point(grid.cells(tables, row.setting)[row.method, row.length, 0])
        metric = reported.METRICS[row.quantity]
        assert grid.score(tables, point, [(row.quantity, metric, 1.0)]) == row.value, row


def test_nothing_is_made_up_for_runs_that_are_not_ours(tables: grid.Tables) -> None:
    assert not {"seconds", "digest", "final_loss", "git_sha", "hardware"} & {f.name for f in fields(reported.Ran)}
    assert tables.items == {}
    assert {s.git_sha for s in tables.scores.values()} == {s.digest for s in tables.scores.values()} == {""}


def test_standard_errors_are_those_of_the_item_counts(tables: grid.Tables) -> None:
    assert reported.stderr(0.5, "humaneval") == pytest.approx(0.5 / math.sqrt(164))
    assert reported.stderr(0.16, "gsm8k") == pytest.approx(0.0101, abs=1e-4)
    # By hand for .62: sqrt(.2356 (1/10042 + 1/1172 + 1/1267)) / 3
    assert reported.stderr(0.62, "forgetting") == pytest.approx(0.00675, abs=1e-5)
    assert reported.items("forgetting") == 12_481
    assert reported.stderr(5.8, "mt_bench") is None
    mix = grid.settings(tables.scale)["ift_mix"]
    point = grid.point(grid.cells(tables, "ift_mix")["full", 6.0, 0])
    assert grid.stderr(tables, point, grid.questions(tables.scale, mix, "mt_bench")) is None


def test_the_mix_is_one_run_an_arm_scored_at_three_lengths(tables: grid.Tables) -> None:
    mine = [run for run in tables.runs if run.study == "ift_mix"]
    assert len(mine) == 4
    found = grid.cells(tables, "ift_mix")
    assert len(found) == 12
    asked = grid.questions(tables.scale, grid.settings(tables.scale)["ift_mix"], "mt_bench")
    scores = [grid.score(tables, grid.point(found["r16", n, 0]), asked) for n in (2.0, 4.0, 6.0)]
    assert scores == [5.681, 5.997, 5.712]
    assert found["r16", 2.0, 0].step * 3 == pytest.approx(found["r16", 6.0, 0].step, abs=3)


def test_claims_within_the_papers_own_noise_are_undecided(tables: grid.Tables) -> None:
    made, _ = verdicts.verdicts(tables, [])
    row = {(r["claim"], r["part"], r["setting"]): r for r in made}
    # Maths CPT at 20B: .616 against .618.
    equal = row["C3", "high rank equals full on maths", "cpt_math"]
    assert equal["answer"] == "undecided" and equal["effect"] == pytest.approx(-0.002)
    assert equal["covers"] == "items, unpaired"
    assert row["C1", "full above every rank", "cpt_code"]["answer"] == "undecided"  # .263 - .224 on 164 problems
    assert row["C1", "full above every rank", "cpt_math"]["answer"] == "supported"  # .293 - .202 on 1,319
    assert row["C3", "high rank forgets less on code", "ift_code"]["answer"] == "supported"  # .517 against .414
    assert row["C2", "high rank matches", "ift_code"]["answer"] == "undecided"  # .498 against .497


def test_mt_bench_is_undecided_for_want_of_an_error(tables: grid.Tables) -> None:
    made, missing = verdicts.verdicts(tables, [], [claim for claim in CLAIMS if claim.id == "C5"])
    row = next(r for r in made if "MT-bench" in r["part"])
    assert row["answer"] == "undecided" and row["effect"] is None
    assert any("standard error" in m.what and "mt_bench" in m.what for m in missing)


def test_what_the_paper_cannot_be_asked_says_why(tables: grid.Tables) -> None:
    why = {claim.id: evidence.unasked(tables.scale, claim) for claim in CLAIMS}
    assert {name for name, words in why.items() if words} == {"C6", "C9", "C10", "T3"}
    assert why["C9"] == "This scale has no study of alpha (`.alpha`)."


def test_every_ordering_of_the_tables_is_judged(listed: list[dict[str, object]]) -> None:
    arms = [r for r in listed if "base" not in (r["left"], r["right"])]
    # Six pairs: 8 lengths x 2 axes x 2 CPT settings, 5 x 2 x 2 IFT, 3 x 4 of the mix.
    assert len(arms) == 6 * (32 + 20 + 12)
    assert sum(r["within_noise"] is None for r in arms) == 18  # MT-bench
    row = next(
        r for r in arms
        if (r["study"], r["axis"], r["length"]) == ("cpt_math", "forgetting", 20e9)
        and {r["left"], r["right"]} == {"full", "r256"}
    )  # fmt: skip
    assert (row["left"], row["left_value"], row["right_value"]) == ("full", 0.618, 0.616)
    assert row["within_noise"] is True and row["source"] == "Table S4"
    decided = {(r["study"], r["axis"], r["length"], r["left"], r["right"]) for r in arms if r["within_noise"] is False}
    assert ("ift_code", "forgetting", 16.0, "r256", "full") in decided
    assert ("cpt_math", "learning", 20e9, "full", "r256") in decided
    assert ("cpt_code", "learning", 250e6, "full", "r16") not in decided


def test_the_summary_counts_and_names_them(tables: grid.Tables, listed: list[dict[str, object]]) -> None:
    text = orderings.summary(listed, tables)
    arms = [r for r in listed if "base" not in (r["left"], r["right"])]
    noise = sum(r["within_noise"] is True for r in arms)
    assert f"{noise} are within noise" in text
    assert "cpt_math forgetting: full 0.618, r256 0.616" in text


def test_the_correlation_that_would_decide_is_the_one_at_which_the_interval_touches_zero() -> None:
    rho = orderings.rho_needed(0.03, 0.02, 0.025)
    assert rho is not None and 0 < rho < 1
    half = orderings.Z95 * math.sqrt(0.02**2 + 0.025**2 - 2 * rho * 0.02 * 0.025)
    assert half == pytest.approx(0.03)
    assert orderings.rho_needed(0.2, 0.02, 0.025) == 0.0
    assert orderings.rho_needed(0.001, 0.02, 0.04) is None  # the spreads differ too much for items to agree
    assert orderings.rho_needed(0.0, 0.02, 0.02) is None
