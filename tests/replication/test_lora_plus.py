"""LoRA+ through the engine: its two rates survive DeepSpeed's flattening, the schedule and a resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer

from replication import engine as engines
from replication.config import CPT, AdamW, Budget, Full, LoRA, Run, Source, Trapezoid
from replication.engine import Engine
from replication.methods import Attached, attach
from replication.models import load_model
from replication.tasks import stream
from replication.train import train

RATES = (1.0, 0.5, 0.25)  # shares of the peak, as a schedule sets them


@pytest.fixture
def run(tiny_model: Path) -> Run:
    return Run(
        scale="test", study="plus", task=CPT(Source("none")), model=str(tiny_model), method=LoRA(4, 8, dropout=0.0),
        optim=AdamW(3e-3, b_ratio=16), schedule=Trapezoid(0), budget=Budget(3, "steps"), global_batch=3, micro_batch=3,
        seq_len=20, grad_clip=1e6,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def process_group() -> Iterator[None]:
    engines.join_process_group()
    yield


def batch(step: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(250, (3, 20), generator=torch.Generator().manual_seed(step))
    return {"input_ids": ids, "labels": ids}


def attached(run: Run) -> Attached:
    return attach(load_model(run.model), run.method, seed=1)


def steps(engine: Engine, which: range) -> dict[str, torch.Tensor]:
    for step in which:
        total, count = stream.loss(engine.forward, batch(step))
        engine.backward(total / count, last=True)
        engine.step(RATES[step])
    return {name: w.clone() for name, w in engine.weights()}


def by_peft(run: Run) -> dict[str, torch.Tensor]:
    """The same three steps in plain torch with PEFT's grouping and its own rates."""
    plain = attached(run)
    optimiser = create_loraplus_optimizer(
        plain.model, torch.optim.AdamW, lr=3e-3, loraplus_lr_ratio=16, betas=(0.9, 0.95), eps=1e-8
    )
    peaks = [group["lr"] for group in optimiser.param_groups]
    for step, share in enumerate(RATES):
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        total, count = stream.loss(plain.model, batch(step))
        (total / count).backward()
        optimiser.step()
        optimiser.zero_grad()
    return {name: p.detach().clone() for name, p in plain.trainable.items()}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_both_rates_follow_the_schedule_at_every_zero_stage_as_pefts_do(run: Run, stage: int) -> None:
    engine = engines.start(replace(run, zero_stage=stage), attached(run))
    found = steps(engine, range(3))
    engine.close()
    expected = by_peft(run)
    assert all(torch.allclose(found[name], value, atol=2e-5) for name, value in expected.items())


@pytest.mark.parametrize("stage", [0, 2])
def test_a_resumed_engine_goes_on_with_both_rates_to_the_same_bits(run: Run, stage: int, tmp_path: Path) -> None:
    run = replace(run, zero_stage=stage)
    whole = engines.start(run, attached(run))
    steps(whole, range(2))
    folder = tmp_path / "resume"
    folder.mkdir()
    whole.save(folder)
    expected = steps(whole, range(2, 3))
    whole.close()
    resumed = engines.start(run, attached(run))
    resumed.load(folder, mend="")
    found = steps(resumed, range(2, 3))
    resumed.close()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_lora_plus_with_full_fine_tuning_is_refused_before_training(
    run: Run, tmp_path: Path, tiny_corpus: Path
) -> None:
    with pytest.raises(ValueError, match=r"LoRA\+'s.*none of \d+ trained tensors is one"):
        train(replace(run, task=CPT(Source(str(tiny_corpus))), method=Full()), tmp_path)
