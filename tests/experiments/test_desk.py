"""The desk scale: small enough for one GPU, and held out where the paper is not."""

from __future__ import annotations

from dataclasses import replace

from experiments import studies
from experiments.desk import CPT_WARMUP, DESK, FULL_RATE, LORA_RATE
from experiments.scales import load
from replication.config import Trapezoid
from replication.specs import HeldOut


def test_every_arm_starts_at_ten_times_the_rate_of_full_fine_tuning_inside_its_sweep() -> None:
    assert LORA_RATE / FULL_RATE == 10
    swept = dict(DESK.sweep_rates)
    for _, setting in DESK.settings:
        for arm, rate in setting.rates:
            grid = swept[f"{setting.regime}/{arm}"]
            assert min(grid) < rate < max(grid) and rate in grid


def test_held_out_documents_are_those_that_training_leaves_out() -> None:
    for _, setting in DESK.settings:
        spec = DESK.eval(setting.target_loss)
        assert isinstance(spec, HeldOut)
        trained = setting.task.source
        assert (trained.part, spec.source.part) == ("train", "heldout")
        assert replace(spec.source, part="train", limit=trained.limit) == trained
        assert spec.template == getattr(setting.task, "template", None)


def test_no_length_lies_inside_the_warm_up() -> None:
    for run in studies.runs("study", DESK, seeds=1):
        if isinstance(run.schedule, Trapezoid):
            assert run.budget.amount / (run.global_batch * run.seq_len) > 4 * CPT_WARMUP or not run.branch


def test_every_run_is_planned_for_one_gpu_and_scored_on_both_losses() -> None:
    assert load("desk") is DESK and (DESK.gpus, DESK.zero_stage, DESK.engine) == (1, 1, "vllm")
    for run in studies.runs("ift_math", DESK, seeds=1):
        assert {"gsm8k", "ift_math_loss", "source_loss", "hellaswag"} <= set(run.evals)
        assert run.model == "Qwen/Qwen2.5-0.5B" and run.tokenizer is None
