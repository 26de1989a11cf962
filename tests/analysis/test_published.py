"""Published checkpoints over the paper's numbers: hand-computed differences and intervals, and what has no number."""

from __future__ import annotations

import math

import pytest

from analysis import published
from experiments.scales import PAPER
from replication.results import Score


def score(run: str, name: str, metric: str, value: float, n: int, stderr: float | None = 0.01) -> Score:
    return Score("paper", "published", f"published/{run}", "d", 0, 0, 0, name, 1, metric, value, n, stderr, "abc")


def forgetting(run: str, values: tuple[float, float, float]) -> list[Score]:
    metric = dict(zip(PAPER.forgetting, (PAPER.eval(name).metric for name in PAPER.forgetting), strict=True))  # type: ignore[union-attr]
    return [score(run, name, metric[name], v, 100) for name, v in zip(PAPER.forgetting, values, strict=True)]


def test_the_difference_and_its_interval_are_those_computed_by_hand() -> None:
    run = "starcoder-lora-rank-16-20B-tokens@main"
    (row,) = published.overlay([score(run, "humaneval", "pass@1", 0.150, 164, 0.02)], PAPER)
    assert (row["paper"], row["source"], row["method"], row["length"]) == (0.162, "Table S1", "r16", 20e9)
    half = 1.959964 * math.sqrt(0.02**2 + 0.162 * 0.838 / 164)
    assert row["difference"] == pytest.approx(-0.012)
    assert (row["low"], row["high"]) == pytest.approx((-0.012 - half, -0.012 + half))
    assert row["agrees"]


def test_a_score_far_from_the_papers_does_not_agree() -> None:
    run = "metamath-full-finetuning-lr-1e-05@ep4"
    (row,) = published.overlay([score(run, "gsm8k", "strict", 0.50, 1319, 0.013)], PAPER)
    assert row["paper"] == 0.642 and row["high"] < 0 and not row["agrees"]


def test_the_forgetting_mean_is_of_the_three_and_needs_all_of_them() -> None:
    run = "starcoder-lora-rank-16-20B-tokens@main"
    rows = published.overlay(forgetting(run, (0.6, 0.5, 0.7)), PAPER)
    (mean,) = [row for row in rows if row["quantity"] == "forgetting"]
    assert mean["value"] == pytest.approx(0.6) and mean["paper"] == 0.635
    assert mean["stderr"] == pytest.approx(math.sqrt(3) * 0.01 / 3)
    two = published.overlay(forgetting(run, (0.6, 0.5, 0.7))[:2], PAPER)
    assert {row["quantity"] for row in two} == set(PAPER.forgetting[:2])


def test_the_base_stands_in_every_setting_and_first() -> None:
    run = "starcoder-lora-rank-16-20B-tokens@main"
    scores = [score(run, "humaneval", "pass@1", 0.15, 164), score("base", "humaneval", "pass@1", 0.13, 164)]
    rows = published.overlay(scores, PAPER)
    assert [row["model"] for row in rows] == ["base"] * 4 + [run.split("@")[0]]
    assert {row["setting"]: row["paper"] for row in rows[:4]} == {
        "cpt_code": 0.138, "cpt_math": None, "ift_code": 0.138, "ift_math": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("run", "known"),
    [
        ("magicoder-lora-rank-16-alpha-32@main", "which length this branch is, is not known"),
        ("magicoder-lora-rank-2048-alpha-4096@ep4", "read from the branch's name"),
    ],
)
def test_what_the_paper_does_not_report_has_no_number_beside_it(run: str, known: str) -> None:
    (row,) = published.overlay([score(run, "humaneval", "pass@1", 0.3, 164)], PAPER)
    assert row["known"] == known
    assert [row[k] for k in ("paper", "difference", "low", "high", "agrees")] == [None] * 5
    assert row["value"] == 0.3 and published.table([row]).endswith("  -")


def test_a_score_without_an_error_has_a_difference_and_no_interval() -> None:
    run = "starcoder-lora-rank-16-20B-tokens@main"
    (row,) = published.overlay([score(run, "humaneval", "pass@1", 0.15, 1, None)], PAPER)
    assert row["difference"] == pytest.approx(-0.012) and row["low"] is None and row["agrees"] is None


def test_the_table_tells_the_settings_of_the_base_apart_and_an_inferred_length_from_a_stated_one() -> None:
    runs = [
        "base",
        "openwebmath-full-finetuning-lr-1e-05-20B-tokens@main",
        "openwebmath-full-finetuning-lr-1e-05-20B-tokens@a-very-long-name-of-a-branch-0.25B-tokens",
        "magicoder-lora-rank-16-alpha-32@main",
        "magicoder-lora-rank-16-alpha-32@ep4",
    ]
    rows = published.overlay([s for run in runs for s in forgetting(run, (0.6, 0.5, 0.7))], PAPER)
    lines = published.table(rows).splitlines()[1:]
    assert max(map(len, lines)) <= 150 and len(set(lines)) == len(lines)
    # Columns of fixed width: the model's 47, the branch's 14, the setting's 8, the length's 7.
    shown = {(row["branch"], line[63:71].strip()): line[72:79].strip() for row, line in zip(rows, lines, strict=True)}
    assert shown == {
        ("", "cpt_code"): "0",
        ("", "cpt_math"): "0",
        ("", "ift_code"): "0",
        ("", "ift_math"): "0",
        ("main", "cpt_math"): "20B?",
        ("a-very-long-name-of-a-branch-0.25B-tokens", "cpt_math"): "0.25B",
        ("main", "ift_code"): "?",
        ("ep4", "ift_code"): "4 ep",
    }


def test_a_score_on_a_part_of_the_items_says_so_and_agrees_with_nothing() -> None:
    run = "starcoder-lora-rank-16-20B-tokens@main"
    (part,) = published.overlay([score(run, "humaneval", "pass@1", 0.150, 20, 0.05)], PAPER)
    assert (part["note"], part["agrees"]) == ("20 of 164 items", None) and part["low"] < 0 < part["high"]
    assert published.table([part]).endswith(" 20 of 164")
    (whole,) = published.overlay([score(run, "humaneval", "pass@1", 0.150, 164, 0.02)], PAPER)
    assert (whole["note"], whole["agrees"]) == (None, True)
    (mean,) = [r for r in published.overlay(forgetting(run, (0.6, 0.5, 0.7)), PAPER) if r["quantity"] == "forgetting"]
    assert (mean["note"], mean["agrees"]) == ("300 of 12481 items", None)
