"""The side studies: their tracked rows hold what their docstrings and rates say."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from experiments import sides, sweeps
from replication.config import LoRA
from replication.results import read_runs, read_scores
from replication.scale import Scale

RESULTS = Path(__file__).resolve().parents[2] / "experiments" / "results"
POCKET = {study: module.SCALES["pocket"] for study, module in sides.STUDIES.items()}
TRACKED = sorted(study for study in POCKET if (RESULTS / study / "runs.jsonl").is_file())


@pytest.mark.parametrize("study", sides.STUDIES)
def test_a_docstring_states_question_hypothesis_cost_and_command(study: str) -> None:
    text = sides.STUDIES[study].__doc__ or ""
    assert text.split("\n")[0].endswith("?")
    assert "ypothes" in text and "ost" in text and "ncontrolled" in text
    assert re.search(rf"python -m experiments run {study}", text)


@pytest.mark.parametrize("study", sides.STUDIES)
def test_every_study_has_a_desk_scale_questions_and_claims(study: str) -> None:
    module = sides.STUDIES[study]
    assert set(module.SCALES) == {"pocket", "desk"}
    assert module.QUESTIONS and module.CLAIMS
    assert all(claim.family == "side study" for claim in module.CLAIMS)


@pytest.mark.parametrize("study", sides.STUDIES)
def test_arms_have_names_of_their_own_and_every_arm_compared_is_trained(study: str) -> None:
    for scale in sides.STUDIES[study].SCALES.values():
        runs = sides.arms(scale, 0)
        assert len({run.name() for run in runs.values()}) == len(runs)
    compared = {arm for q in sides.questions(study) for arm in (q.left, q.right)}
    assert compared - {"base", "majority"} <= {
        arm for s in sides.STUDIES[study].SCALES.values() for arm in sides.arms(s, 0)
    }


@pytest.mark.parametrize("study", TRACKED)
def test_the_tracked_rows_have_every_arm_at_three_seeds(study: str) -> None:
    found = {row.run for row in read_runs(RESULTS / study / "runs.jsonl")}
    for seed in range(3):
        assert {run.name() for run in sides.arms(POCKET[study], seed).values()} <= found


@pytest.mark.parametrize("study", TRACKED)
def test_every_rate_is_the_best_of_its_sweep_by_validation_loss_and_lies_inside_the_grid(study: str) -> None:
    scale = POCKET[study]
    ((_, setting),) = scale.settings
    losses = _sweep(study, scale, setting.target_loss)
    asked = {arm.split("/")[1] for arm, _ in scale.sweep_rates}
    assert set(losses) == asked
    for arm, by_rate in losses.items():
        best = min(by_rate, key=by_rate.__getitem__)
        assert best == setting.rate(arm), (arm, by_rate)
        assert min(by_rate) < best < max(by_rate), (arm, by_rate)


@pytest.mark.parametrize("study", TRACKED)
def test_what_a_question_compares_was_measured_of_both_arms(study: str) -> None:
    lines = (RESULTS.parents[1] / "analysis" / "results" / "pocket" / f"side_{study}.jsonl").read_text().splitlines()
    measured = {(row["arm"], row["eval"], row["metric"]) for row in map(json.loads, lines)}
    for question in sides.questions(study):
        for arm in (question.left, question.right):
            # The majority class is no model: its score stands beside those of every model that was asked.
            own = (arm, question.metric) if arm != "majority" else (question.left, f"majority_{question.metric}")
            assert (own[0], question.eval, own[1]) in measured, question


def _sweep(study: str, scale: Scale, judge: str) -> dict[str, dict[float, float]]:
    """Validation loss by arm and rate, from the tracked rows of the sweep."""
    rows = read_scores(RESULTS / study / f"{study}{sweeps.SUFFIX}.jsonl")
    scores = {row.run: row.value for row in rows if row.eval == judge and row.metric in ("nats_per_token", "nats")}
    ((_, setting),) = scale.settings
    points = [(arm, lr) for arm, _ in setting.methods for lr in sweeps.rates(scale, study, setting, arm)]
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for (arm, lr), run in zip(points, sweeps.runs(scale, 0), strict=True):
        found[arm][lr] = scores[run.name()]
    return found


@pytest.mark.skipif("whisper" not in TRACKED, reason="no tracked rows of the Whisper study")
def test_whisper_full_halves_the_errors_and_merged_lora_decodes_as_fast_and_unmerged_slower() -> None:
    rows = read_scores(RESULTS / "whisper" / "whisper.jsonl")
    (base,) = [
        row.value for row in read_scores(RESULTS / "whisper" / "base.jsonl") if (row.eval, row.metric) == ("wer", "wer")
    ]
    seeds = {row.seed for row in rows}
    arms = {run.name(): (arm, run) for seed in seeds for arm, run in sides.arms(POCKET["whisper"], seed).items()}
    of: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.eval in ("wer", "speed"):
            of[arms[row.run][0], row.metric].append(row.value)
    assert max(of["full", "wer"]) < base / 2
    for arm in (arm for arm, run in arms.values() if isinstance(run.method, LoRA)):
        assert 0.95 <= fmean(of[arm, "merged_over_base"]) <= 1.05
        assert max(of[arm, "unmerged_over_base"]) < min(of[arm, "merged_over_base"])
