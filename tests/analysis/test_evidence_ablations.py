"""Ablations as evidence: which run stands for which role, on made-up studies whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import evidence, grid, rows, terms, verdicts
from experiments.claims import CLAIMS
from experiments.comparisons import Contrast, Measured, Term
from replication.results import RunRow
from replication.stats import Estimate

ITEMS = 120
SCOPE = evidence.Scope("ift_code", "ift", "code", "ift_code")
PARTS = {(claim.id, part.id): part for claim in CLAIMS for part in claim.parts}
ABLATIONS = tuple(f"ift_code.{kind}" for kind in ("alpha", "modules", "matched", "regularisation"))


def _run(like: RunRow, study: str, method: str, variant: str, lr: float, length: float, seed: int) -> RunRow:
    rank = None if method == "full" else int(method.split("-")[1].removeprefix("r"))
    name = f"{study}/{method}-{variant}-{lr:g}-{length:g}-s{seed}"
    return replace(
        like, study=study, run=name, method=method, rank=rank, lr=lr, length=length, seed=seed, step=int(length),
        variant=variant,
    )  # fmt: skip


def _with(tables: grid.Tables, added: Sequence[tuple[RunRow, float, float, float]]) -> grid.Tables:
    """More runs, each with its target score, forgetting score and target loss."""
    scores, items = dict(tables.scores), dict(tables.items)
    ids = tuple(str(i) for i in range(ITEMS))
    like = next(iter(tables.scores.values()))
    order = (np.arange(ITEMS) * 37 % ITEMS + 0.5) / ITEMS
    for row, learning, kept, loss in added:
        values = {("ift_code", "pass@1"): order < learning, ("ift_code_loss", "nats_per_token"): np.full(ITEMS, loss)}
        values |= {(name, "acc"): order < kept for name in tables.scale.forgetting}
        for (name, metric), column in values.items():
            key = (row.run, row.step, name, metric)
            items[key] = grid.Column(ids, column.astype(float))
            scores[key] = replace(
                like, run=row.run, step=row.step, eval=name, metric=metric, value=float(column.mean())
            )
    scale = replace(tables.scale, ablations=ABLATIONS, fixed_alpha=2, sweep_rates=(("ift/r16", (5e-4, 1e-3, 2e-3)),))
    return replace(tables, scale=scale, runs=(*tables.runs, *(row for row, *_ in added)), scores=scores, items=items)


@pytest.fixture
def plain(make_study: Callable[..., grid.Tables]) -> grid.Tables:
    """The setting's own runs at seeds 0 and 1: r16 at 1e-3 scores .66 after two epochs, .9 after four."""
    return make_study(items=ITEMS, seeds=(0, 1), only=("ift_code",))


def _effects(tables: grid.Tables, claim: str, part: str) -> list[evidence.Effect]:
    return evidence.effects(tables, PARTS[claim, part], SCOPE, np.random.default_rng(0))


def _alphas(tables: grid.Tables, best_of_two_r: float, best_of_r: float) -> grid.Tables:
    like: Any = tables.runs[0]
    added = []
    for seed in (0, 1):
        # 2 r is best at 2e-3, r at 1e-3; the setting's own run (1e-3) is not trained again.
        for lr, score, loss in ((5e-4, 0.3, 2.9), (2e-3, best_of_two_r, 2.0)):
            added.append((_run(like, "ift_code.alpha", "lora-r16-all", "", lr, 2.0, seed), score, 0.8, loss))
        for alpha in ("a16", "a2"):
            for lr, score, loss in ((5e-4, 0.2, 2.9), (1e-3, best_of_r, 2.1), (2e-3, 0.1, 2.8)):
                run = _run(like, "ift_code.alpha", f"lora-r16-all-{alpha}", "", lr, 2.0, seed)
                added.append((run, score, 0.8, loss))
    return _with(tables, added)


def test_labels_name_arm_and_variant(plain: grid.Tables) -> None:
    like: Any = plain.runs[0]

    def named(method: str, variant: str = "") -> tuple[str, str]:
        return grid.arm_and_variant(_run(like, "ift_code.x", method, variant, 1e-3, 1.0, 0))

    assert named("lora-r16-all-a2") == ("r16", "a2")
    assert named("lora-r4-attention") == ("r4", "attention")
    assert named("lora-r4-all-nogate-a2") == ("r4", "nogate-a2")
    assert named("lora-r4-all-nogate-a2", "adamw") == ("r4", "nogate-a2-adamw")
    assert named("full", "wd4.2e-4") == ("full", "wd4.2e-4")
    assert named("lora-r16-all") == ("r16", "") and named("full") == ("full", "")
    decayed = _run(like, "ift_code", "full", "wd4.2e-4", 1e-3, 4.0, 7)
    assert grid.label(decayed) is None
    assert ("full", 4.0, 7) not in grid.cells(replace(plain, runs=(*plain.runs, decayed)), "ift_code")


def test_alpha_is_compared_at_every_rate_and_at_each_best(plain: grid.Tables) -> None:
    tables = _alphas(plain, best_of_two_r=0.8, best_of_r=0.5)
    every = _effects(tables, "C9", "2 r above r, every rate")
    assert [e.missing for e in every] == [(), (), ()]
    values = [e.estimate.value for e in every if e.estimate]
    assert values[0] == pytest.approx(0.1, abs=0.01) and values[2] == pytest.approx(0.7, abs=0.01)
    assert "r16 a16" in every[0].words and "(rate 5e-4)" in every[0].words
    (fair,) = _effects(tables, "C9", "2 r above r, best rates")
    assert fair.estimate is not None and fair.estimate.value == pytest.approx(0.3, abs=0.01)
    assert fair.estimate.seeds == 2 and "(rate 2e-3)" in fair.words


def test_an_alpha_that_wins_at_its_own_rate_refutes_only_the_fair_question(plain: grid.Tables) -> None:
    tables = _alphas(plain, best_of_two_r=0.8, best_of_r=0.95)
    (fair,) = _effects(tables, "C9", "2 r above a low alpha, best rates")
    assert fair.estimate is not None and fair.estimate.high < 0
    made, _ = verdicts.verdicts(tables, [], [claim for claim in CLAIMS if claim.id == "C9"])
    answers = {row["part"]: row["answer"] for row in made}
    assert answers["2 r above a low alpha, best rates"] == answers["overall"] == "not supported"


def test_linears_are_compared_at_every_rank_with_the_settings_own_all(plain: grid.Tables) -> None:
    like: Any = plain.runs[0]
    added = [
        (_run(like, "ift_code.modules", f"lora-r{rank}-{part}", "", 1e-3, length, seed), score, 0.8, 2.0)
        for rank in (1, 4, 16)
        for part, score in (("attention", 0.15 + rank / 100), ("mlp", 0.5 + rank / 50))
        for length in (1.0, 2.0)  # the setting has runs of 4 epochs as well
        for seed in (0, 1)
    ]
    tables = _with(plain, added)
    found = _effects(tables, "C10", "MLP above attention")
    assert [round(e.estimate.value, 1) for e in found if e.estimate] == [0.4, 0.4, 0.5]
    assert all("at 2 epochs" in e.words for e in found)
    rises = _effects(tables, "C10", "rises with rank")
    assert len(rises) == 3 and all(e.estimate is not None and e.estimate.value > 0.1 for e in rises)
    matches = _effects(tables, "C10", "MLP matches all")
    assert "r16 mlp at 2 epochs 0.8" in matches[2].words and "r16 at 2 epochs 0." in matches[2].words


def test_equal_weights_take_the_better_rate_of_whatever_rank_was_trained(plain: grid.Tables) -> None:
    like: Any = plain.runs[0]
    added = [
        (_run(like, "ift_code.matched", method, "", lr, 4.0, seed), score, 0.8, loss)
        for method, scores in (
            ("lora-r16-attention", (0.3, 0.4)), ("lora-r12-mlp", (0.7, 0.6)), ("lora-r7-all", (0.5, 0.72))
        )
        for lr, score, loss in ((1e-3, scores[0], 3 - scores[0]), (2e-3, scores[1], 3 - scores[1]))
        for seed in (0, 1)
    ]  # fmt: skip
    tables = _with(plain, added)
    (equal,) = _effects(tables, "T3", "MLP matches all, equal weights")
    assert equal.estimate is not None and equal.estimate.value == pytest.approx(-0.02, abs=0.01)
    assert "r12 mlp" in equal.words and "r7 all" in equal.words
    (above,) = _effects(tables, "T3", "MLP above attention, equal weights")
    assert above.estimate is not None and above.estimate.value == pytest.approx(0.3, abs=0.01)


def test_the_stronger_of_two_weight_decays_is_found_by_its_size(plain: grid.Tables) -> None:
    like: Any = plain.runs[0]
    kinds = {"wd8.4e-4": 0.5, "wd4.2e-4": 0.6, "ad0.05": 0.7, "ad0.1": 0.8}
    added = [
        (_run(like, "ift_code.regularisation", "full", variant, 1e-3, length, seed), score, 0.6, 2.0)
        for variant, score in kinds.items()
        for length in (1.0, 2.0, 4.0)
        for seed in (0, 1)
    ]
    tables = _with(plain, added)
    (degraded,) = _effects(tables, "C6", "weight decay degrades in the end")
    assert "full wd8.4e-4 at 4 epochs" in degraded.words
    assert degraded.estimate is not None and degraded.estimate.value == pytest.approx(0.4, abs=0.03)
    every = _effects(tables, "C6", "regularised full learns as full")
    assert [word for e in every for word in kinds if word in e.words] == ["wd4.2e-4", "wd8.4e-4", "ad0.05", "ad0.1"]


def test_an_ablation_without_runs_is_missing_and_one_not_named_is_not_asked(plain: grid.Tables) -> None:
    claim = next(c for c in CLAIMS if c.id == "C6")
    assert evidence.unasked(plain.scale, claim) is not None
    assert not any(evidence.scopes(plain.scale, part) for part in claim.parts)
    tables = _with(plain, [])
    made, missing = verdicts.verdicts(tables, [], [claim])
    assert {row["answer"] for row in made} == {"undecided"}
    assert all(row["effect"] is None for row in made)
    assert any("wd-high" in m.arm for m in missing)


def test_base_against_base_is_undecided_everywhere(make_study: Callable[..., Any], paper_truth: Any) -> None:
    tables = make_study(lambda s, a, n: paper_truth(s, "base", n), items=40, seeds=(0,))
    same = _copied_from_base(tables)
    one = Estimate(1.0, 0.95, 1.05, 0.02, 50, 1, "items", 0.05)
    named = [p.measure for c in CLAIMS for p in c.parts if isinstance(p.measure, Measured) and p.measure.trained]
    names = list(dict.fromkeys(m.quantity for m in named))
    effects = tuple({"quantity": n, "setting": "ift_code", "words": n, **vars(one)} for n in names)
    made, _ = verdicts.verdicts(replace(same, effects=effects), [])
    assert {row["answer"] for row in made} == {"undecided"}
    known = [r for r in made if r["effect"] is not None and r["claim"] in ("C1", "C3")]
    assert len(known) >= 20 and all(row["effect"] == 0 for row in known)


def _copied_from_base(tables: grid.Tables) -> grid.Tables:
    """Every run with exactly the base's scores and items."""
    scores, items = dict(tables.scores), dict(tables.items)
    for key in tables.scores:
        from_base = (grid.BASE, 0, *key[2:])
        scores[key] = replace(tables.scores[key], value=tables.scores[from_base].value)
        items[key] = tables.items[from_base]
    return replace(tables, scores=scores, items=items)


def test_seeds_and_items_that_only_one_side_has_do_not_enter(plain: grid.Tables) -> None:
    like: Any = plain.runs[0]
    runs = [(_run(like, "ift_code.modules", "lora-r16-mlp", "", 1e-3, 2.0, seed), 0.5, 0.8, 2.0) for seed in (1, 2)]
    tables = _with(plain, runs)
    pair = (Term(1, "high", "middle", variant="mlp"), Term(-1, "high", "middle"))
    found = evidence.score_effect(tables, Contrast("learning", pair), SCOPE)
    assert found.estimate is not None and found.estimate.seeds == 1


def test_roles_of_rates_stand_for_trained_runs_only(plain: grid.Tables) -> None:
    at = {lr for (_, _, lr, _) in terms.spots(_alphas(plain, 0.8, 0.5), "ift_code", "r16")}
    assert at == {5e-4, 1e-3, 2e-3}
    nowhere = Contrast("learning", (Term(1, "high", "middle", rate=9e-9), Term(-1, "high", "middle")))
    found = evidence.score_effect(plain, nowhere, SCOPE)
    assert found.estimate is None and [m.what for m in found.missing] == ["run"]


def test_a_setting_scored_on_its_way_has_a_cell_for_every_length(plain: grid.Tables) -> None:
    settings = tuple((n, replace(s, separate=n != "ift_code")) for n, s in plain.scale.settings)
    like: Any = plain.runs[0]
    (longest,) = [_run(like, "ift_code", "full", "", 1e-3, 4.0, 0)]
    longest = replace(longest, step=93, tokens=9300)
    score = next(iter(plain.scores.values()))
    scores = {("base", 0, "ift_code", "pass@1"): score} | {
        (longest.run, step, "ift_code", "pass@1"): replace(score, run=longest.run, step=step, value=step / 100)
        for step in (23, 47, 93)
    }
    ladder = replace(plain, scale=replace(plain.scale, settings=settings), runs=(longest,), scores=scores, items={})
    found = grid.cells(ladder, "ift_code")
    assert {key: (row.step, row.tokens) for key, row in found.items()} == {
        ("full", 1.0, 0): (23, 2300), ("full", 2.0, 0): (47, 4700), ("full", 4.0, 0): (93, 9300)
    }  # fmt: skip
    asked = [("ift_code", "pass@1", 1.0)]
    assert grid.score(ladder, grid.point(found["full", 2.0, 0]), asked) == 0.47
    assert [s.study for s in evidence.scopes(ladder.scale, PARTS["C5", "rank orders GSM8K"])] == ["ift_code"]


def test_named_estimates_decide_and_their_absence_names_the_command(plain: grid.Tables, tmp_path: Path) -> None:
    claim = next(c for c in CLAIMS if c.id == "T1")
    (part,) = claim.parts
    gap = evidence.effects(plain, part, evidence.scopes(plain.scale, part)[0], np.random.default_rng(0))[0]
    assert gap.estimate is None and "python analysis/sweeps.py --scale toy" in gap.missing[0].what

    def row(setting: str, value: float) -> rows.Row:
        made = Estimate(value, value - 0.1, value + 0.1, 0.05, 50, 3, "items and seeds", 0.14)
        return {"quantity": "lr_ratio_mean", "setting": setting, "words": "best rates", **vars(made)}

    rows.write(tmp_path / "sweeps_effects.jsonl", [row("ift_code", 1.1), row("cpt_code", 0.5), row("all", 0.8)])
    tables = grid.with_effects(plain, tmp_path)
    assert len(tables.effects) == 3
    scopes = evidence.scopes(tables.scale, part, tables.effects)
    # Not their mean as well; and a setting whose estimate could not be made is missing, not left out.
    assert [scope.label for scope in scopes] == [name for name, _ in tables.scale.settings]
    found = {s.label: evidence.effects(tables, part, s, np.random.default_rng(0))[0].estimate for s in scopes}
    known = {label: est for label, est in found.items() if est is not None}
    # In CPT nothing moved from the base here, so there is nothing to estimate.
    assert {label: round(est.value, 2) for label, est in known.items()} == {"ift_code": 0.1}
    assert verdicts.answer(known["ift_code"], part.rule, part.smallest) == "supported"
    pooled = replace(part, measure=Measured("lr_ratio_mean", pooled=True))
    assert [scope.label for scope in evidence.scopes(tables.scale, pooled, tables.effects)] == ["all"]


def test_scores_with_standard_errors_stand_in_for_items(plain: grid.Tables) -> None:
    printed = replace(plain, scores={k: replace(s, stderr=0.03) for k, s in plain.scores.items()}, items={})
    item = Contrast("learning", (Term(1, "full", "long"), Term(-1, "low", "long")))
    found = evidence.score_effect(printed, item, SCOPE)
    assert found.estimate is not None and found.estimate.covers == "items, unpaired"
    # Two seeds a side: the variance of each mean is halved.
    assert found.estimate.stderr == pytest.approx(0.03)
    bare = evidence.score_effect(replace(plain, items={}), item, SCOPE)
    assert bare.estimate is None and "standard error" in bare.missing[0].what
