"""Ranks and ZeRO stages change where a number is kept, not what it is; each run here is a real gloo process group."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from replication.config import CPT, IFT, AdamW, Budget, Full, LionW, LoRA, Run, Source, Trapezoid, encode
from replication.engine import deepspeed_config
from replication.methods.merge import load_merged
from replication.train import train

METHODS = {"full": Full(), "lora": LoRA(4, 8, dropout=0.0)}


@pytest.fixture(scope="module")
def run(tiny_model: Path, tiny_instructions: Path) -> Run:
    return Run(
        scale="test", study="ranks", task=IFT(Source(str(tiny_instructions)), "Q: {prompt} A: "), model=str(tiny_model),
        method=Full(), optim=AdamW(3e-3), schedule=Trapezoid(2), budget=Budget(6, "steps"),
        global_batch=8, micro_batch=2, seq_len=32,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(
    forked: SimpleNamespace, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[float]]]:
    """Losses and folders of full and LoRA: one rank at stage 0, two ranks at stages 0, 2 and 3."""
    root = tmp_path_factory.mktemp("ranks")
    one = {f"{name}-1-0": replace(run, method=method) for name, method in METHODS.items()}
    two = {
        f"{name}-2-{stage}": replace(run, method=method, zero_stage=stage)
        for name, method in METHODS.items()
        for stage in (0, 2, 3)
    }
    return root, {label: _losses(run, root / label) for label, run in one.items()} | _launch(forked, two, root, ranks=2)


def _losses(run: Run, root: Path) -> list[float]:
    seen: list[float] = []
    train(run, root, watch=lambda progress: seen.append(progress.loss))
    return seen


# What torchrun does, but that its agent forks the ranks, so that they do not import the training stack anew.
TORCHRUN = """
import pathlib, runpy, sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
script, request, ranks = sys.argv[1:]
config = LaunchConfig(
    1, 1, int(ranks), run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0,
    start_method="fork",
)
elastic_launch(config, runpy.run_path(script)["main"])(pathlib.Path(request))
"""


def _launch(forked: SimpleNamespace, runs: dict[str, Run], root: Path, *, ranks: int) -> dict[str, list[float]]:
    request, launcher = root / f"request-{ranks}.json", root / "torchrun.py"
    request.write_text(json.dumps({"root": str(root), "runs": {label: encode(run) for label, run in runs.items()}}))
    launcher.write_text(TORCHRUN)
    done = forked.call(launcher, Path(__file__).with_name("ranks.py"), request, ranks)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(request.with_suffix(".losses").read_text()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arrangement", ["2-0", "2-2", "2-3"])
def test_two_ranks_and_every_zero_stage_train_like_one_rank(
    trained: tuple[Path, dict[str, list[float]]], method: str, arrangement: str
) -> None:
    _, losses = trained
    assert len(losses[f"{method}-1-0"]) == 6
    assert losses[f"{method}-{arrangement}"] == pytest.approx(losses[f"{method}-1-0"], rel=1e-6)


@pytest.mark.parametrize("arrangement", ["2-0", "2-2", "2-3"])
def test_adapters_saved_under_zero_are_whole_and_equal(
    trained: tuple[Path, dict[str, list[float]]], run: Run, arrangement: str
) -> None:
    root, _ = trained
    name = replace(run, method=METHODS["lora"]).name()
    reference = load_file(root / "lora-1-0" / "test" / name / "checkpoints/step_000006/adapter_model.safetensors")
    saved = load_file(
        root / f"lora-{arrangement}" / "test" / name / "checkpoints/step_000006/adapter_model.safetensors"
    )
    assert saved.keys() == reference.keys()
    assert all(tensor.numel() > 0 for tensor in saved.values())
    assert all(torch.allclose(saved[key], reference[key], atol=1e-5) for key in reference)
    assert max(float(tensor.norm()) for key, tensor in saved.items() if "lora_B" in key) > 0


def test_a_merged_checkpoint_is_the_base_plus_its_change(
    trained: tuple[Path, dict[str, list[float]]], run: Run
) -> None:
    root, _ = trained
    checkpoint = root / "lora-2-3" / "test" / replace(run, method=METHODS["lora"]).name() / "checkpoints/step_000006"
    base = dict(AutoModelForCausalLM.from_pretrained(run.model).named_parameters())
    merged = dict(load_merged(run.model, checkpoint).named_parameters())
    stored = load_file(checkpoint / "adapter_model.safetensors")
    adapted = [key for key in stored if key.endswith("lora_A.weight")]
    assert len(adapted) == 14
    for key in adapted:
        name = key.removeprefix("base_model.model.").replace(".lora_A", "")
        change = (8 / 4) * stored[key.replace("lora_A", "lora_B")] @ stored[key]  # alpha / r times B A
        assert torch.allclose(merged[name], base[name] + change, atol=1e-6)
        assert float(change.abs().max()) > 1e-4


def test_the_deepspeed_config_states_each_number_once_and_keeps_fp32_sums(run: Run) -> None:
    content = deepspeed_config(replace(run, precision="bf16", zero_stage=2), world=2)
    assert (content["train_batch_size"], content["gradient_accumulation_steps"]) == (8, 2)
    assert content["bf16"]["enabled"] and content["data_types"]["grad_accum_dtype"] == "fp32"


def test_bf16_without_zero_is_refused_because_it_has_no_fp32_masters(run: Run) -> None:
    with pytest.raises(ValueError, match="zero_stage"):
        replace(run, precision="bf16", zero_stage=0)


def test_a_global_batch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        Run("s", "t", CPT(Source("x")), "m", Full(), LionW(1e-3), Trapezoid(1), Budget(1, "steps"), 10, 8, 4)
