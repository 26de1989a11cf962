"""The Whisper study: its arms are the originals', its splits are apart, its claims can be asked."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from experiments import sides, studies, whisper
from experiments.comparisons import Measured
from replication.config import ASR, Full, LoRA, Source
from replication.evals import decode_speed
from replication.methods import attach
from replication.specs import DecodeSpeed, Words

SIZES = ("pocket", "desk")


@pytest.mark.parametrize("size", SIZES)
def test_arms_differ_in_method_and_rate_alone(size: str) -> None:
    runs = sides.arms(whisper.SCALES[size], seed=0)
    runs.pop("lora-qv-int8", None)
    assert {label: run.method for label, run in runs.items()} == {
        "full": Full(), "lora-qv": LoRA(8, 16, "q_proj+v_proj", 0.0), "lora-all": LoRA(8, 16, "all", 0.0)
    }  # fmt: skip
    for run in runs.values():
        assert (run.task, run.budget, run.global_batch, run.schedule) == tuple(
            getattr(runs["full"], name) for name in ("task", "budget", "global_batch", "schedule")
        )
        assert set(run.evals) == {"wer", "validation", "speed"}


def test_on_a_gpu_the_tutorials_base_in_8_bits_differs_from_its_twin_in_that_alone() -> None:
    assert "lora-qv-int8" not in sides.arms(whisper.SCALES["pocket"], seed=0)
    runs = sides.arms(whisper.SCALES["desk"], seed=0)
    assert runs["lora-qv-int8"].base_bits == 8
    assert replace(runs["lora-qv-int8"], base_bits=None) == runs["lora-qv"]


@pytest.mark.parametrize("size", SIZES)
def test_training_validation_and_test_are_different_splits(size: str) -> None:
    scale = whisper.SCALES[size]
    task = scale.settings[0][1].task
    assert isinstance(task, ASR)
    named = {spec.name: spec for spec in scale.evals}
    sources = [task.source, named["validation"].source, named["wer"].source]
    assert len({(source.where, source.split) for source in sources}) == 3
    assert scale.settings[0][1].target_loss == "validation"
    assert named["speed"].source == named["wer"].source
    languages = {task.language, *(s.language for s in scale.evals if isinstance(s, Words | DecodeSpeed))}
    assert languages == ({None} if size == "pocket" else {"hindi"})


def test_recorded_and_synthetic_speech_have_different_names() -> None:
    recorded, synthetic = whisper._pocket("recorded"), whisper._pocket("synthetic")
    assert recorded.model != synthetic.model
    runs = [next(iter(sides.arms(scale, 0).values())) for scale in (recorded, synthetic)]
    assert runs[0].digest() != runs[1].digest()


@pytest.mark.parametrize("size", SIZES)
def test_a_rate_lies_inside_a_sweep_by_factors_of_two_with_seeds_of_its_own(size: str) -> None:
    scale = whisper.SCALES[size]
    ((_, setting),) = scale.settings
    for arm, _ in setting.methods:
        swept = dict(scale.sweep_rates)[f"ift/{arm}"]
        assert [b / a for a, b in itertools.pairwise(swept)] == pytest.approx([2] * (len(swept) - 1))
        assert swept[0] < setting.rate(arm) < swept[-1]
    assert {run.seed for run in studies.runs("learning_rates", scale, seeds=1)} == {100}


def test_claims_refer_to_questions_of_arms_and_metrics_that_there_are() -> None:
    asked = {question.quantity: question for question in whisper.QUESTIONS}
    assert len(asked) == len(whisper.QUESTIONS)
    used = set()
    for claim in whisper.CLAIMS:
        assert "uncontrolled" in claim.source
        assert any(part.counts for part in claim.parts)
        for part in claim.parts:
            assert isinstance(part.measure, Measured)
            used.add(part.measure.quantity)
    assert used <= set(asked)
    arms = {label for label, _ in whisper.METHODS} | {"base"}
    speeds = {m.name for m in decode_speed.result([dict.fromkeys(("merged", "unmerged", "base"), 1.0)] * 2, 1).metrics}
    known = {"wer": {"wer"}, "speed": speeds, "run": {"step_seconds", "peak_memory_gb"}}
    for question in whisper.QUESTIONS:
        assert {question.left, question.right} <= arms
        assert question.metric in known[question.eval]


def test_whisper_large_at_rank_32_trains_what_the_tutorial_prints() -> None:
    # 192 matrices of 1280 x 1280 by 32 (1280 + 1280); in fp32 62.9 MB, where the tutorial's folder has 63.1.
    config = WhisperConfig(
        d_model=1280, encoder_layers=32, decoder_layers=32, encoder_attention_heads=20, decoder_attention_heads=20,
        encoder_ffn_dim=5120, decoder_ffn_dim=5120,
    )  # fmt: skip
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    attached = attach(model, LoRA(32, 64, targets="q_proj+v_proj"), seed=0)
    trained = sum(p.numel() for p in attached.trainable.values())
    assert trained == 15_728_640
    assert trained * 4 / 1e6 == pytest.approx(62.9, abs=0.05)
    small = WhisperConfig(
        d_model=768, encoder_layers=12, decoder_layers=12, encoder_attention_heads=12, decoder_attention_heads=12,
        encoder_ffn_dim=3072, decoder_ffn_dim=3072,
    )  # fmt: skip
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(small)
    attached = attach(model, whisper.METHODS[1][1], seed=0)
    # The article's "880k": rank 8 on whisper-small.
    assert sum(p.numel() for p in attached.trainable.values()) == 884_736


def test_the_study_names_no_path_of_a_machine() -> None:
    for name in ("whisper", "claims_whisper"):
        text = (Path(whisper.__file__).parent / f"{name}.py").read_text()
        assert not [word for word in text.split() if word.startswith("/")]


def test_ones_own_model_and_recordings_are_a_study_of_their_own(tmp_path: Path) -> None:
    sources = {part: Source(str(tmp_path / part)) for part in ("train", "validation", "test")}
    scale = whisper.desk("mine", model="mine/whisper", language=None, **sources)
    assert sides.beside(scale) == {"whisper": scale} and sides.size_of(scale) is None
    runs = studies.runs("whisper", scale, seeds=1)
    assert {run.scale for run in runs} == {"mine"} and {run.model for run in runs} == {"mine/whisper"}
    assert {run.task.source for run in runs} == {sources["train"]}
    asked = {spec.name: spec.source for spec in scale.evals}
    assert asked == {"wer": sources["test"], "validation": sources["validation"], "speed": sources["test"]}
