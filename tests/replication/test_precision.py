"""Why fp32 masters matter: at a rate of 1e-5 most steps are smaller than what bf16 can tell apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from replication import health
from replication.config import CPT, Budget, Full, LionW, Run, Source, Trapezoid
from replication.train import train


@pytest.fixture
def run(tiny_model: Path, tiny_corpus: Path) -> Run:
    return Run(
        scale="test", study="precision", task=CPT(Source(str(tiny_corpus))), model=str(tiny_model), method=Full(),
        optim=LionW(1e-5), schedule=Trapezoid(0, cooldown=0.0), budget=Budget(4, "steps"), global_batch=4,
        micro_batch=4, seq_len=16, zero_stage=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "spread", "unchanged"), [(1e-6, 0.02, 0.98), (1e-5, 0.02, 0.85), (1e-5, 0.01, 0.70), (1e-4, 0.02, 0.12)]
)
def test_a_step_in_bf16_leaves_the_share_of_weights_that_was_measured_elsewhere(
    rate: float, spread: float, unchanged: float
) -> None:
    # Pitfalls, section 5: numpy, round to nearest even, 4 million Gaussian weights, random signs.
    generator = torch.Generator().manual_seed(0)
    weights = (torch.randn(1_000_000, generator=generator) * spread).bfloat16()
    signs = torch.randint(0, 2, weights.shape, generator=generator) * 2 - 1
    stepped = (weights.float() + rate * signs).bfloat16()
    assert 1 - health.share_changed({"w": weights}, {"w": stepped}) == pytest.approx(unchanged, abs=0.01)


def shares(run: Run, root: Path) -> tuple[float, float]:
    """Shares of weights and of masters that the last step changed."""
    last = json.loads((train(run, root).path / "metrics.jsonl").read_text().splitlines()[-1])
    return last["weights_changed"], last["masters_changed"]


def test_with_masters_a_small_step_changes_every_master_and_few_of_the_weights_in_use(run: Run, tmp_path: Path) -> None:
    seen, masters = shares(replace(run, precision="bf16"), tmp_path)
    assert masters > 0.95  # a step of Lion is +-1e-5 wherever there is a gradient
    assert 0 < seen < 0.5


def test_pure_bf16_loses_what_masters_keep_and_is_labelled(run: Run, tmp_path: Path) -> None:
    pure = replace(run, precision="pure_bf16")
    seen, masters = shares(pure, tmp_path)
    assert seen == masters < 0.5
    assert "purebf16" in pure.name() and pure.name() != replace(run, precision="bf16").name()
    base = load_file(Path(run.model) / "model.safetensors")
    kept = load_file(next((tmp_path / "test" / pure.name()).rglob("model.safetensors")))
    still = [float((kept[key] == base[key].bfloat16().float()).float().mean()) for key in kept]
    assert sum(still) / len(still) > 0.3  # four steps, and a third of the weights never left


def test_in_fp32_both_are_the_same(run: Run, tmp_path: Path) -> None:
    seen, masters = shares(run, tmp_path)
    assert seen == masters > 0.95
