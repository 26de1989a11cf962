"""Verdicts against studies whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis import evidence, grid, verdicts
from experiments.claims import CLAIMS
from experiments.comparisons import Measured
from replication.stats import Estimate

Rows = list[dict[str, Any]]
# The claims that the made-up study has runs for; sweeps and follow-ups have tests of their own.
MAIN = [
    replace(claim, parts=tuple(part for part in claim.parts if not isinstance(part.measure, Measured)))
    for claim in CLAIMS
    if claim.id in ("C1", "C2", "C3", "C4", "C7", "C8")
]


def _spectra(
    early: float, late: float, mlp: float, ends: float, *, floor: float = 1e-6, seeds: Sequence[int] = (0, 1, 2)
) -> Rows:
    """Spectra rows of full fine-tuning with ranks as chosen shares of a noise rank of 60."""
    made = []
    for length, share in ((64e3, early), (256e3, late)):
        for layer in range(4):
            for module in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
                value = share + mlp * (module in ("gate_proj", "up_proj", "down_proj")) - ends * (layer in (0, 3))
                value += 0.002 * np.cos(7 * layer + len(module))
                made += [
                    {
                        "study": "cpt_code", "arm": "full", "which": "change", "length": length, "seed": seed,
                        "layer": layer, "module": module, "rank90": 60 * value, "rank90_noise": 60,
                        "floor_ratio": floor,
                    }
                    for seed in seeds
                ]  # fmt: skip
    return made


AS_THE_PAPER = {"early": 0.7, "late": 0.8, "mlp": 0.05, "ends": 0.05}


def _judge(tables: grid.Tables, spectra: Rows) -> tuple[Rows, list[grid.Missing]]:
    return verdicts.verdicts(tables, spectra, MAIN)


def _answers(made: Rows) -> dict[tuple[str, str, str], str]:
    return {(r["claim"], r["part"], r["setting"]): r["answer"] for r in made}


def test_a_world_as_the_paper_says_supports_every_part(make_study: Callable[..., Any]) -> None:
    made, missing = _judge(make_study(items=450, noise=0.01), _spectra(**AS_THE_PAPER))
    wrong = {k: v for k, v in _answers(made).items() if v != "supported"}
    assert wrong == {}
    assert missing == []
    assert sum(r["part"] == "overall" for r in made) == len(MAIN) == 6
    assert len(made) >= 40


def test_arms_that_do_not_differ_are_not_supported(make_study: Callable[..., Any], paper_truth: Any) -> None:
    made, _ = _judge(
        make_study(lambda s, a, n: paper_truth(s, a if a == "base" else "full", n), items=450, seeds=(0,), noise=0.01),
        [],
    )
    answers = _answers(made)
    assert answers["C1", "full above every rank", "cpt_code"] == "not supported"
    assert answers["C2", "high rank matches", "ift_code"] == "supported"
    assert answers["C3", "low rank forgets less", "cpt_code"] == "not supported"
    assert answers["C4", "LoRA's front is better on code", "cpt_code"] == "not supported"
    assert answers["C7", "LoRA above full, incorrect", "ift_code"] == "not supported"
    assert answers["C1", "overall", "all"] == answers["C3", "overall", "all"] == "not supported"


def test_one_rank_that_matches_refutes_every_rank(make_study: Callable[..., Any], paper_truth: Any) -> None:
    made, _ = _judge(
        make_study(
            lambda s, a, n: paper_truth(s, "full" if a == "r16" else a, n),
            items=700,
            seeds=(0,),
            noise=0.01,
            only=("cpt_code",),
        ),
        [],
    )
    row = next(r for r in made if r["part"] == "full above every rank" and r["setting"] == "cpt_code")
    assert row["answer"] == "not supported"
    assert abs(row["effect"]) < 0.02
    assert all(rank in row["evidence"] for rank in ("r1", "r4", "r16"))


def test_models_that_did_nothing_are_not_called_equal(make_study: Callable[..., Any], paper_truth: Any) -> None:
    tables = make_study(lambda s, a, n: paper_truth(s, "base", n), items=300, seeds=(0,))
    made, _ = _judge(tables, [])
    equal = [r for r in made if r["rule"] == "equal"]
    assert len(equal) == 5 and {r["answer"] for r in equal} == {"undecided"}
    assert all("did not clearly move" in r["evidence"] for r in equal)


def test_strings_that_the_base_does_not_have_cannot_be_lost(make_study: Callable[..., Any], paper_truth: Any) -> None:
    # One correct spelling per problem: a difference of exactly 0 says nothing about LoRA.
    tables = make_study(lambda s, a, n: paper_truth(s, a, n) | {"correct": 1.2}, items=300, only=("ift_code",))
    made, _ = _judge(tables, [])
    found = {r["part"]: r for r in made if r["claim"] == "C7"}
    assert found["LoRA above full, correct"]["answer"] == found["base above LoRA, correct"]["answer"] == "undecided"
    assert "hardly more than one string" in found["LoRA above full, correct"]["evidence"]
    assert found["LoRA above full, incorrect"]["answer"] == "supported"


def test_fronts_say_nothing_where_an_arm_hardly_learnt(make_study: Callable[..., Any], paper_truth: Any) -> None:
    def lora_learns_nothing(study: str, arm: str, length: float) -> dict[str, float]:
        scores = paper_truth(study, arm, length)
        return scores if arm in ("full", "base") else scores | {"learning": 0.105}

    made, _ = _judge(make_study(lora_learns_nothing, items=300), [])
    fronts = [r for r in made if "front" in r["part"]]
    assert len(fronts) == 4 and {r["answer"] for r in fronts} == {"undecided"}
    said = ("r16 did not clearly learn", "points of both arms that learnt beyond the base")
    assert all(any(words in r["evidence"] for words in said) for r in fronts)


def test_few_items_leave_small_gaps_undecided(make_study: Callable[..., Any], paper_truth: Any) -> None:
    def narrow(study: str, arm: str, length: float) -> dict[str, float]:
        scores = paper_truth(study, "full" if arm != "base" else arm, length)
        return scores | {"learning": scores["learning"] - 0.15 - 0.03 * (arm != "full")}

    made, _ = _judge(make_study(narrow, items=30, seeds=(0,), only=("cpt_math",)), [])
    row = next(r for r in made if r["part"] == "full above every rank" and r["setting"] == "cpt_math")
    assert row["answer"] == "undecided"
    assert row["mde"] > 0.03
    assert row["covers"] == "items" and row["seeds"] == 1
    assert "times the items" in row["would_change"]


def test_spread_between_seeds_widens_the_interval(make_study: Callable[..., Any]) -> None:
    def width(tables: Any) -> float:
        made, _ = _judge(tables, [])
        row = next(r for r in made if r["part"] == "rank orders learning" and r["setting"] == "cpt_code")
        assert row["covers"] == "items and seeds"
        return row["high"] - row["low"]

    assert width(make_study(items=120, spread=0.1, only=("cpt_code",))) > 2 * width(
        make_study(items=120, only=("cpt_code",))
    )


def test_missing_runs_are_listed_and_not_invented(make_study: Callable[..., Any]) -> None:
    made, missing = _judge(
        make_study(
            items=200, only=("cpt_code", "cpt_math"), leave_out=lambda run: run.study == "cpt_code" and run.rank == 16
        ),
        [],
    )
    row = next(r for r in made if r["part"] == "gap grows" and r["setting"] == "cpt_code")
    assert row["answer"] == "undecided"
    assert row["effect"] is None and row["low"] is None and row["mde"] is None
    assert "cpt_code r16" in row["evidence"]
    assert any(m.study == "cpt_code" and m.arm == "r16" for m in missing)
    every = next(r for r in made if r["part"] == "full above every rank" and r["setting"] == "cpt_code")
    assert every["answer"] == "undecided" and every["missing"] > 0 and "1 of 3" in every["evidence"]
    whole = next(r for r in made if r["part"] == "gap grows" and r["setting"] == "cpt_math")
    assert whole["answer"] == "supported"


def test_a_seed_that_one_arm_lacks_is_left_out_of_the_comparison(make_study: Callable[..., Any]) -> None:
    tables = make_study(
        items=60, only=("cpt_code", "cpt_math"), leave_out=lambda r: (r.study, r.rank, r.seed) == ("cpt_code", 16, 2)
    )
    made, _ = _judge(tables, [])
    seeds = {r["setting"]: r["seeds"] for r in made if r["part"] == "gap grows"}
    assert seeds == {"cpt_code": 2, "cpt_math": 3}


def test_what_a_small_scale_cannot_ask_is_not_asked(scale: Any) -> None:
    """One rank and one length: nothing is compared with itself."""
    short = tuple((n, replace(s, lengths=s.lengths[:1])) for n, s in scale.settings)
    small = replace(scale, ranks=(4,), settings=short)
    asked = {part.id for claim in CLAIMS for part in claim.parts if evidence.scopes(small, part)}
    assert {
        "full above every rank",
        "low rank behind",
        "low rank forgets less",
        "instruction tuning forgets more",
    } <= asked
    assert not asked & {"gap grows", "rank orders learning", "grows with rank", "grows with duration", "rank is a knob"}
    assert "middle rank not enough for code" not in asked
    alone = replace(scale, settings=scale.settings[:1])
    assert not evidence.scopes(alone, next(p for c in CLAIMS for p in c.parts if p.id == "code forgets more"))


def test_ranks_below_the_highest_lora_rank_are_not_supported(make_study: Callable[..., Any]) -> None:
    tables = make_study(items=50, seeds=(0,), only=("cpt_code",))
    low, _ = _judge(tables, _spectra(0.1, 0.1, 0.0, 0.0))
    answers = {r["part"]: r["answer"] for r in low if r["claim"] == "C8"}
    assert answers["above the LoRA ranks"] == answers["MLP above attention"] == "not supported"


def test_ranks_of_rounding_are_not_counted(make_study: Callable[..., Any]) -> None:
    made, missing = _judge(make_study(items=50, seeds=(0,), only=("cpt_code",)), _spectra(**AS_THE_PAPER, floor=0.5))
    assert {r["answer"] for r in made if r["claim"] == "C8"} == {"undecided"}
    assert any("rounding" in m.what for m in missing)


@pytest.mark.parametrize(
    ("rule", "value", "low", "high", "expected"),
    [
        ("greater", 0.05, 0.01, 0.09, "supported"),
        ("greater", 0.015, 0.005, 0.025, "undecided"),  # above zero, but too small to matter
        ("greater", 0.01, 0.001, 0.019, "not supported"),  # above zero, and known to be too small
        ("greater", 0.05, -0.01, 0.11, "undecided"),
        ("greater", -0.05, -0.09, -0.01, "not supported"),
        ("equal", 0.0, -0.019, 0.019, "supported"),
        ("equal", 0.0, -0.03, 0.03, "undecided"),
        ("equal", 0.05, 0.021, 0.079, "not supported"),
        ("not less", 0.0, -0.019, 0.05, "supported"),
        ("not less", 0.0, -0.03, 0.03, "undecided"),
        ("not less", -0.1, -0.15, -0.05, "not supported"),
    ],
)
def test_the_rule_answers_as_stated(rule: Any, value: float, low: float, high: float, expected: str) -> None:
    estimate = Estimate(value, low, high, 0.01, 100, 1, "items", 0.03)
    if rule == "greater" and expected == "not supported" and value > 0:
        # The first line of the rule comes first only where the effect reaches the smallest of interest.
        assert value < 0.02
    assert verdicts.answer(estimate, rule, 0.02) == expected


def test_the_table_names_every_part_and_says_what_one_seed_means(make_study: Callable[..., Any]) -> None:
    made, _ = _judge(make_study(items=60, seeds=(0,)), [])
    text = verdicts.table(made)
    assert all(row["part"] in text for row in made if row["part"] != "overall")
    assert "missing" in text and "One seed" in text
    assert max(len(line) for line in text.splitlines()) <= 120


def test_one_seed_decides_nothing_about_training_where_the_study_has_several(make_study: Callable[..., Any]) -> None:
    tables = make_study(items=450, noise=0.01)
    alone, _ = _judge(tables, _spectra(**AS_THE_PAPER, seeds=(0,)))
    row = next(r for r in alone if r["part"] == "rises with tokens")
    assert row["answer"] == "undecided" and row["low"] > 0 and "not about the method" in row["evidence"]
    of_one, _ = _judge(make_study(items=450, noise=0.01, seeds=(0,)), _spectra(**AS_THE_PAPER, seeds=(0,)))
    assert _answers(of_one)["C8", "rises with tokens", "cpt_code"] == "supported"
