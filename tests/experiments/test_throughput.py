"""The throughput study: every timed arm trains on the same documents at every step, and one thing differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import sides, studies, throughput
from experiments.comparisons import Measured
from experiments.throughput import FIXED, SCALES, reference
from replication import benchmark_model, shapes
from replication.config import IFT, AdamW, Budget, Full, LoRA, Run, Speed
from replication.health import TrainingFailed
from replication.models import load_tokenizer
from replication.optim import groups_of
from replication.runs import folder_of
from replication.tasks import Stream, open_stream
from replication.train import train
from tests.replication.sabotage import sabotaged

SIZES = ("pocket", "desk")
TOY = shapes.Shape(32, 2, 2, 2, 48, 1200, tied=True, qkv_bias=True)


def timed(size: str) -> dict[str, Run]:
    return {arm: run for arm, run in throughput.arms(SCALES[size], 0).items() if not arm.startswith("learn-")}


def stream_of(run: Run, cache: Path) -> Stream:
    return open_stream(run, load_tokenizer("replication/pocket/base"), cache=cache)


def documents(stream: Stream) -> list[tuple[int, ...]]:
    """Every document of one step, prompt and response, sorted; padding is a document that trains nothing."""
    found = []
    for row in map(stream.sequence, range(stream.size)):
        starts = np.flatnonzero(row["position_ids"] == 0)
        for start, end in zip(starts, [*starts[1:], len(row["labels"])], strict=True):
            if (row["labels"][start:end] != -100).any():
                found.append(tuple(row["input_ids"][start:end].tolist()))
    return sorted(found)


@pytest.mark.parametrize("size", SIZES)
def test_every_timed_arm_takes_all_of_the_same_documents_at_every_step(size: str, tmp_path: Path) -> None:
    fixed, arms = FIXED[SCALES[size].name], timed(size)
    expected = documents(stream_of(arms["full"], tmp_path))
    assert len(expected) == fixed.documents
    lengths = [len(document) for document in expected]
    assert max(lengths) == fixed.longest
    for arm in arms.values():
        stream = stream_of(arm, tmp_path)
        assert stream.size == arm.global_batch
        assert sorted(stream.indices(3, arm.global_batch)) == list(range(stream.size))
        assert documents(stream) == expected
        assert stream.real_tokens(0, arm.global_batch) == sum(lengths)


@pytest.mark.parametrize("size", SIZES)
def test_an_arm_differs_from_its_reference_in_what_it_is_called_and_in_nothing_that_decides_the_losses(
    size: str,
) -> None:
    arms = timed(size)
    assert len({run.name() for run in arms.values()}) == len(arms)
    assert len({run.digest() for run in arms.values()}) == len(arms)
    for arm, run in arms.items():
        if (other := reference(arm)) is None:
            continue
        same = arms[other]
        assert isinstance(run.task, IFT)
        arrangement = {"global_batch": same.global_batch, "micro_batch": same.micro_batch, "seq_len": same.seq_len}
        task = replace(run.task, per_sequence=1)
        assert replace(run, task=task, speed=same.speed, study=same.study, **arrangement) == same  # type: ignore[arg-type]
        assert not run.speed.recompute
        assert run.budget == Budget(FIXED[SCALES[size].name].steps, "steps")


def test_the_arms_change_what_their_names_say() -> None:
    arms = timed("pocket")
    assert arms["full"].speed == arms["lora"].speed == Speed(optimiser="foreach")
    for method in ("full", "lora"):
        assert isinstance(arms[method].method, Full if method == "full" else LoRA)
        assert arms[f"{method}-compile"].speed == Speed(compile=True, optimiser="foreach")
        assert arms[f"{method}-fused"].speed == Speed(optimiser="fused")
        assert arms[f"{method}-cut"].speed == Speed(kernels="cut", optimiser="foreach")
        assert arms[f"{method}-all"].speed == Speed(kernels="cut", compile=True, optimiser="fused")
        for arm, each in (("", 1), ("-packed", None), ("-all", None), ("-trimmed", 1)):
            task = arms[method + arm].task
            assert isinstance(task, IFT) and task.per_sequence == each
    assert {"full-liger", "lora-liger", "full-kernels"} <= timed("desk").keys()
    assert not any(run.speed.kernels in ("liger", "fused") for run in arms.values())


def test_lora_plus_raises_b_alone_in_study_and_sweep() -> None:
    arms = throughput.arms(SCALES["pocket"], 0)
    swept = [run for run in studies.runs("learning_rates", SCALES["pocket"], seeds=1)]
    plus = [run for run in [*arms.values(), *swept] if isinstance(run.optim, AdamW) and run.optim.b_ratio == 16]
    assert len(plus) == 2 + 4
    assert {arm for arm, run in arms.items() if run in plus} == {"lora-plus", "learn-lora-plus"}
    assert all(isinstance(run.method, LoRA) and "plus16" in run.name() for run in plus)
    assert groups_of(plus[0].optim, {"lora_A": None, "lora_B": None})[1]["ratio"] == 16  # type: ignore[dict-item]


def test_a_rate_is_inside_its_sweep_by_factors_of_two() -> None:
    scale = SCALES["pocket"]
    rates = dict(scale.settings[0][1].rates)
    for key, swept in scale.sweep_rates:
        assert [b / a for a, b in zip(swept, swept[1:], strict=False)] == pytest.approx([2] * (len(swept) - 1))
        assert swept[0] < rates[key.removeprefix("ift/")] < swept[-1]


def test_every_question_is_about_arms_and_evals_of_the_study_and_every_part_about_a_question() -> None:
    scale = SCALES["pocket"]
    arms, evals = sides.arms(scale, 0), {spec.name for spec in scale.evals} | {"run"}
    for question in throughput.QUESTIONS:
        assert {question.left, question.right} <= arms.keys()
        assert question.eval in evals
        asked: Mapping[str, Run] = {arm: arms[arm] for arm in (question.left, question.right)}
        assert question.eval == "run" or all(question.eval in run.evals for run in asked.values())
    known = {question.quantity for question in throughput.QUESTIONS}
    assert len(known) == len(throughput.QUESTIONS)
    parts = [part for claim in throughput.CLAIMS for part in claim.parts]
    assert [claim.id for claim in throughput.CLAIMS] == ["X1", "X2", "X3", "X4", "X5", "X6"]
    assert all(isinstance(part.measure, Measured) and part.measure.quantity in known for part in parts)
    assert len({(claim.id, part.id) for claim in throughput.CLAIMS for part in claim.parts}) == len(parts)


@pytest.mark.parametrize("arm", ["full", "full-packed", "lora-cut", "lora-plus"])
def test_the_arms_of_the_gpu_scale_train_at_a_toy_shape(arm: str, tmp_path: Path) -> None:
    benchmark_model.save_random(tmp_path / "model", shape=TOY)
    run = replace(timed("desk")[arm], model=str(tmp_path / "model"), budget=Budget(4, "steps"), seq_len=512)
    assert isinstance(run.task, IFT)
    few = replace(run.task, source=replace(run.task.source, limit=8))
    size = stream_of(replace(run, task=few), tmp_path).size
    run = replace(run, task=few, global_batch=size, micro_batch=1)
    manifest = train(run, tmp_path).manifest
    assert manifest["moved"] == manifest["tensors"]
    assert folder_of(run, tmp_path).status == "complete"


@pytest.mark.parametrize("arm", ["full", "full-cut"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda model: model.requires_grad_(False), "frozen"),
        (lambda model: model.get_input_embeddings().requires_grad_(False), r"missing: embed_tokens"),
    ],
    ids=["frozen model", "embedding untrained"],
)
def test_an_arm_that_does_not_train_what_it_says_cannot_win(
    arm: str, harm: Callable[[Any], Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotaged(monkeypatch, harm)
    with pytest.raises(TrainingFailed, match=said):
        train(timed("pocket")[arm], tmp_path)


def test_a_scale_whose_documents_nobody_counted_is_refused_by_name_and_another_model_is_not() -> None:
    with pytest.raises(ValueError, match="not for 'mine'"):
        throughput.arms(replace(SCALES["desk"], name="mine"), 0)
    other = replace(SCALES["desk"], model="Qwen/Qwen2.5-0.5B", tokenizer="replication/pocket/base")
    assert {run.model for run in throughput.arms(other, 0).values()} == {"Qwen/Qwen2.5-0.5B"}
