"""The study of Sparsely Shared LoRA: its arms, its rates, and that every claim refers to something that is computed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from experiments import s2lora, studies, sweeps
from experiments.comparisons import Measured
from paper_figures import side_s2lora
from replication.config import AdaLoRA, S2LoRA, Source
from replication.scale import Scale
from replication.specs import Words

SCALES = pytest.mark.parametrize("scale", s2lora.SCALES.values(), ids=s2lora.SCALES)
OF_RANKS = {"s2lora_rank_correlation", "adalora_rank_repeat"}  # analysis/learned_ranks.py makes them


@SCALES
def test_all_arms_differ_in_method_and_rate_alone(scale: Scale) -> None:
    runs = s2lora.arms(scale, 0)
    assert set(runs) == set(side_s2lora.ARMS)
    for field in ("task", "model", "schedule", "budget", "global_batch", "seq_len", "seed", "precision", "evals"):
        assert len({repr(getattr(run, field)) for run in runs.values()}) == 1
    assert {run.optim.weight_decay for run in runs.values()} == {0.0}
    assert len({run.name() for run in runs.values()}) == len(runs)


@SCALES
def test_every_rate_lies_inside_its_sweep_of_factors_of_two(scale: Scale) -> None:
    (name, setting), swept = scale.settings[0], dict(scale.sweep_rates)
    for arm, _ in setting.methods:
        rates = sweeps.rates(scale, name, setting, arm)
        assert rates == swept[f"ift/{arm}"]
        assert all(b / a == pytest.approx(2) for a, b in zip(rates, rates[1:], strict=False))
        assert min(rates) < setting.rate(arm) < max(rates)


def test_no_seed_of_the_study_helped_to_choose_a_rate() -> None:
    study = {run.seed for run in studies.runs("s2lora", s2lora.POCKET, seeds=3)}
    sweep = {run.seed for run in studies.runs("learning_rates", s2lora.POCKET, seeds=1)}
    assert study == {0, 1, 2}
    assert study.isdisjoint(sweep)


@SCALES
def test_both_methods_have_equally_many_coefficients(scale: Scale) -> None:
    methods = dict(scale.settings[0][1].methods)
    ours, theirs = methods["s2lora"], methods["adalora"]
    assert isinstance(ours, S2LoRA)
    assert isinstance(theirs, AdaLoRA)
    assert ours.rank == theirs.rank == 2 * theirs.target_rank


def test_every_part_of_a_claim_refers_to_a_comparison_that_is_made() -> None:
    asked = {q.quantity for q in s2lora.QUESTIONS}
    assert len(asked) == len(s2lora.QUESTIONS)
    measures = [part.measure for claim in s2lora.CLAIMS for part in claim.parts]
    referred = {measure.quantity for measure in measures if isinstance(measure, Measured)}
    assert len(referred) == len(measures)
    assert referred <= asked | OF_RANKS
    labels = {"base", *s2lora.arms(s2lora.POCKET, 0)}
    evals = {"run", *(spec.name for spec in s2lora.POCKET.evals)}
    assert all({q.left, q.right} <= labels and q.eval in evals for q in s2lora.QUESTIONS)


def test_fewer_errors_of_the_first_named_arm_are_positive() -> None:
    (question,) = [q for q in s2lora.QUESTIONS if q.quantity == "s2lora_unseen_s2lora_below_adalora"]
    assert (question.left, question.right, question.kind) == ("adalora", "s2lora", "difference")


def test_without_recordings_the_study_runs_on_synthetic_voices() -> None:
    tell = "from experiments.s2lora import POCKET; print(POCKET.model, POCKET.settings[0][1].task.source.where)"
    hide = "import replication.pocket.recordings as r; r.recordings = lambda: None; "
    done = subprocess.run([sys.executable, "-c", hide + tell], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "python:replication.pocket.speech:synthetic_base", "python:replication.pocket.speech:synthetic_train"
    ]  # fmt: skip


def test_ones_own_recordings_are_asked_in_their_language_and_what_the_model_knew_in_english() -> None:
    parts = ("train", "valid", "test", "unseen", "source")
    scale = s2lora.desk("mine", model="m/m", language="polish", **{part: Source(part) for part in parts})
    runs = s2lora.arms(scale, 0)
    assert {run.task.source.where for run in runs.values()} == {"train"} and len(runs) == 8
    asked = {spec.name: (spec.source.where, spec.language) for spec in scale.evals if isinstance(spec, Words)}
    assert asked == {p: (p, "english" if p == "source" else "polish") for p in parts[1:]}
    assert {name for run in runs.values() for name in run.evals} == set(asked)
