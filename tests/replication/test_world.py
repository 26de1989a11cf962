"""A run that stops on one number of ranks and continues on another: equal losses, the same data, equal weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from replication import preemption
from replication.config import IFT, AdamW, Budget, Full, LionW, LoRA, Run, Source, Trapezoid, encode
from replication.engine import deepspeed_config, micro_batch
from replication.runs import RunDir, folder_of
from replication.train import train

STOP, END = 3, 6
# Sums of bf16 gradients in another order round otherwise.
NEAR = {"fp32": 1e-5, "bf16": 2e-3}


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tiny_instructions: Path) -> dict[str, Run]:
    run = Run(
        scale="test", study="world", task=IFT(Source(str(tiny_instructions)), "Q: {prompt} A: "), model=str(tiny_model),
        method=Full(), optim=AdamW(3e-3), schedule=Trapezoid(2), budget=Budget(END, "steps"),
        global_batch=8, micro_batch=2, seq_len=32, zero_stage=3,
    )  # fmt: skip
    return {
        "full-3": run,
        "full-2": replace(run, zero_stage=2),
        "lora-3": replace(run, method=LoRA(4, 8, dropout=0.1), optim=LionW(1e-3)),
        "lora-0": replace(run, method=LoRA(4, 8, dropout=0.0), zero_stage=0),
        "bf16-3": replace(run, precision="bf16", optim=LionW(1e-4)),
        "bf16-lora-2": replace(run, precision="bf16", optim=LionW(1e-3), method=LoRA(4, 8, dropout=0.1), zero_stage=2),
    }


def launch(
    forked: SimpleNamespace, runs: dict[str, Run], root: Path, *, ranks: int, **environment: str
) -> dict[str, list[float]]:
    request = root / f"request-{ranks}.json"
    request.write_text(json.dumps({"root": str(root), "runs": {label: encode(run) for label, run in runs.items()}}))
    forked.launch(ranks, Path(__file__).with_name("ranks.py"), request, environment=environment)
    return dict(json.loads(request.with_suffix(".losses").read_text()))


def losses_of(run: Run, root: Path) -> list[float]:
    seen: list[float] = []
    train(run, root, watch=lambda progress: seen.append(progress.loss))
    return seen


@pytest.fixture(scope="module")
def stopped(forked: SimpleNamespace, runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run, preempted on two ranks at step 3."""
    root = tmp_path_factory.mktemp("stopped")
    seen = launch(forked, runs, root, ranks=2, LEAVE_AT=str(STOP))
    assert {len(losses) for losses in seen.values()} == {STOP}
    return root


@pytest.fixture(scope="module")
def undisturbed(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    root = tmp_path_factory.mktemp("whole")
    return {label: losses_of(run, root / label) for label, run in runs.items()}


def weights(folder: RunDir) -> dict[str, torch.Tensor]:
    return load_file(next(folder.checkpoint(END).glob("*.safetensors")))


def test_a_preempted_run_says_so_and_keeps_its_state(stopped: Path, runs: dict[str, Run]) -> None:
    for label, run in runs.items():
        folder = folder_of(run, stopped / label)
        assert folder.status == "preempted"
        assert [path.name for path in folder.checkpoints()] == [f"step_{STOP:06d}"]


def test_every_rank_writes_its_own_share_of_the_state(stopped: Path, runs: dict[str, Run]) -> None:
    files = sorted((folder_of(runs["full-3"], stopped / "full-3").checkpoint(STOP) / "resume").iterdir())
    assert [f.name for f in files] == ["rank_00000-of-00002.safetensors", "rank_00001-of-00002.safetensors"]
    sizes = [f.stat().st_size for f in files]
    assert max(sizes) < 1.2 * min(sizes)


@pytest.mark.parametrize("label", ["full-3", "full-2", "lora-3", "lora-0", "bf16-3", "bf16-lora-2"])
def test_two_ranks_save_and_one_continues_with_equal_losses(
    runs: dict[str, Run], stopped: Path, undisturbed: dict[str, list[float]], label: str, tmp_path: Path
) -> None:
    shutil.copytree(stopped / label, tmp_path / "runs")
    near = NEAR[runs[label].precision]
    assert losses_of(runs[label], tmp_path / "runs") == pytest.approx(undisturbed[label][STOP:], rel=near)


def test_two_ranks_save_and_four_continue_with_equal_losses_and_weights(
    forked: SimpleNamespace, runs: dict[str, Run], stopped: Path, undisturbed: dict[str, list[float]], tmp_path: Path
) -> None:
    shutil.copytree(stopped, tmp_path / "four")
    shutil.copytree(stopped, tmp_path / "one")
    # Four processes on two cores are slow: what differs by method, stage and precision is seen above.
    chosen = {label: runs[label] for label in ("full-3", "lora-3")}
    seen = launch(forked, chosen, tmp_path / "four", ranks=4)
    assert seen.keys() == chosen.keys()
    for label, run in chosen.items():
        assert seen[label] == pytest.approx(undisturbed[label][STOP:], rel=NEAR[run.precision])
        losses_of(run, tmp_path / "one" / label)
        four, one = (weights(folder_of(run, tmp_path / ranks / label)) for ranks in ("four", "one"))
        # Lion's step is the sign of a sum: an element near zero may go the other way on another number of ranks.
        apart = [float((four[key] - one[key]).abs().max()) for key in one]
        assert max(apart) < (1e-5 if isinstance(run.optim, AdamW) else 2.1 * run.optim.lr * (END - STOP))


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_a_rank_takes_what_its_share_of_the_global_batch_holds(runs: dict[str, Run], world: int) -> None:
    run = replace(runs["full-3"], micro_batch=8)
    assert micro_batch(run, world) == 8 // world
    assert deepspeed_config(run, world)["gradient_accumulation_steps"] == 1


def test_a_global_batch_that_does_not_divide_over_the_ranks_is_refused(runs: dict[str, Run]) -> None:
    with pytest.raises(ValueError, match="global_batch=8 does not divide over 3 ranks"):
        micro_batch(runs["full-3"], 3)


def test_state_with_a_missing_rank_is_refused(runs: dict[str, Run], stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped / "full-3", tmp_path / "runs")
    folder = folder_of(runs["full-3"], tmp_path / "runs")
    (folder.checkpoint(STOP) / "resume" / "rank_00001-of-00002.safetensors").unlink()
    with pytest.raises(RuntimeError, match="1 files of training state, not one of every rank"):
        train(runs["full-3"], tmp_path / "runs")


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bf16_masters_begin_at_the_base_exactly_and_continue_bit_for_bit(
    runs: dict[str, Run], stage: int, tmp_path: Path
) -> None:
    run = replace(runs["full-3"], precision="bf16", zero_stage=stage, optim=LionW(1e-5))
    whole = train(run, tmp_path / "whole")
    base = load_file(Path(run.model) / "model.safetensors")
    tuned = weights(whole)
    assert all(tensor.dtype == torch.float32 for tensor in tuned.values())
    # Six steps of 1e-5, three of them at full rate: had the masters begun at rounded weights, they were 1e-4 away.
    moved = max(float((tuned[key] - base[key]).abs().max()) for key in tuned)
    assert 1e-5 < moved < 6.1e-5
    with pytest.raises(preemption.Preempted, match="is saved at step 1 of 6"):
        train(run, tmp_path / "halves", watch=lambda progress: preemption._note(0, None))
    preemption.forget()
    again = weights(train(run, tmp_path / "halves"))
    assert all(torch.equal(tuned[key], again[key]) for key in tuned)
