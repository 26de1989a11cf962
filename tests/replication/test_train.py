"""THE loop against ten lines of plain torch, and against itself: accumulation, branches, kills, frozen models."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from replication import config, health, memory, methods, optim, seeding, shapes
from replication.checkpoints import read_meta
from replication.config import CPT, IFT, Branch, Budget, Full, LionW, LoRA, Run, Source, Trapezoid, encode
from replication.methods.attached import Attached
from replication.runs import folder_of
from replication.tasks import open_stream
from replication.train import train

LORA = LoRA(rank=4, alpha=8, dropout=0.0)


@pytest.fixture
def run(tiny_model: Path, tiny_corpus: Path) -> Run:
    return Run(
        scale="test", study="loop", task=CPT(Source(str(tiny_corpus))), model=str(tiny_model), method=Full(),
        optim=LionW(1e-3), schedule=Trapezoid(2), budget=Budget(8, "steps"), global_batch=8, micro_batch=8, seq_len=32,
    )  # fmt: skip


def losses_of(run: Run, root: Path) -> list[float]:
    seen: list[float] = []
    train(run, root, watch=lambda progress: seen.append(progress.loss))
    return seen


def plain_losses(run: Run, root: Path) -> list[float]:
    """The same training in plain torch and PEFT, with nothing of the loop or the engine."""
    model = AutoModelForCausalLM.from_pretrained(run.model, dtype=torch.float32)
    if isinstance(run.method, LoRA):
        torch.manual_seed(seeding.derive(run.seed, "init"))
        linears = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=linears, task_type="CAUSAL_LM"))
    stream = open_stream(run, AutoTokenizer.from_pretrained(run.model), cache=root / "cache")
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=run.optim.lr, betas=run.optim.betas, weight_decay=0.0)
    losses = []
    for step in range(int(run.budget.amount)):
        (batch,) = stream.micro_batches(step, batch=run.global_batch, micro=run.global_batch)
        loss = model(**batch).loss
        losses.append(float(loss.detach()))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, run.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = run.optim.lr * min(1.0, step / 2, (8 - step) / 2)
        optimizer.step()
        optimizer.zero_grad()
    return losses


@pytest.mark.parametrize("method", [Full(), LORA], ids=["full", "lora"])
def test_losses_equal_a_plain_torch_loop(run: Run, method: config.Method, tmp_path: Path) -> None:
    run = replace(run, method=method, optim=config.AdamW(3e-3))
    ours, plain = losses_of(run, tmp_path), plain_losses(run, tmp_path)
    assert len(ours) == 8
    assert ours == pytest.approx(plain, rel=1e-6)
    assert ours[-1] < ours[0] - 0.01


def test_micro_batches_of_one_train_like_one_of_eight(run: Run, tmp_path: Path, tiny_instructions: Path) -> None:
    # Ragged instruction data: a mean of micro-batch means would differ from the mean over the global batch.
    run = replace(run, task=IFT(Source(str(tiny_instructions)), "Q: {prompt} A: "), optim=config.AdamW(3e-3))
    whole = losses_of(run, tmp_path / "whole")
    parts = losses_of(replace(run, micro_batch=1), tmp_path / "parts")
    assert parts == pytest.approx(whole, rel=1e-6)


def test_a_branch_continues_its_trunk_bit_for_bit(run: Run, tmp_path: Path) -> None:
    # A branch that keeps the trunk's schedule must land where the trunk lands.
    flat = replace(run, schedule=Trapezoid(2, cooldown=0.0))
    per_step = run.global_batch * run.seq_len
    trunk = replace(flat, budget=Budget(8 * per_step, "tokens"), ladder=(4 * per_step,))
    train(trunk, tmp_path)
    branch = replace(flat, study="branch", budget=trunk.budget, branch=Branch(trunk.name(), 4 * per_step))
    seen = losses_of(branch, tmp_path)
    assert len(seen) == 4
    ends = [
        load_file(tmp_path / "test" / r.name() / "checkpoints/step_000008/model.safetensors") for r in (trunk, branch)
    ]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    rung = tmp_path / "test" / trunk.name() / "checkpoints/step_000004"
    assert sorted(path.name for path in rung.iterdir()) == ["meta.json", "resume"]  # to branch from, not to score


def test_a_finished_run_is_not_trained_again(run: Run, tmp_path: Path) -> None:
    assert len(losses_of(run, tmp_path)) == 8
    assert losses_of(run, tmp_path) == []


def test_the_manifest_names_code_packages_and_machine(run: Run, tmp_path: Path) -> None:
    manifest = train(run, tmp_path).manifest
    assert manifest["status"] == "complete"
    assert manifest["digest"] == run.digest()
    assert torch.__version__.startswith(manifest["packages"]["torch"].split("+")[0])
    assert manifest["seconds"] > 0
    assert manifest["trainable"] == sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(run.model).parameters())


def test_a_changed_config_under_an_old_name_is_refused(run: Run, tmp_path: Path) -> None:
    train(run, tmp_path)
    with pytest.raises(ValueError, match=r"seq_len 32 -> 16"):
        train(replace(run, seq_len=16), tmp_path)


def test_a_frozen_model_fails_and_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frozen(model: torch.nn.Module, method: object, *, seed: int, steps: int) -> Attached:
        for p in model.parameters():
            p.requires_grad = False
        return Attached(model, {})

    monkeypatch.setitem(methods.METHODS, Full, frozen)
    with pytest.raises(health.TrainingFailed, match="frozen"):
        train(run, tmp_path)
    assert "frozen" in next((tmp_path / "test").glob("*/*/manifest.json")).read_text()


def test_a_group_without_gradient_fails_the_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = methods.full.attach

    def detached(model: torch.nn.Module, method: Full, *, seed: int, steps: int) -> Attached:
        attached = real(model, method, seed=seed, steps=steps)  # type: ignore[arg-type]
        for layer in model.model.layers:  # type: ignore[union-attr]
            layer.mlp.up_proj.weight.register_hook(torch.zeros_like)
        return attached

    monkeypatch.setitem(methods.METHODS, Full, detached)
    with pytest.raises(health.TrainingFailed, match=r"no gradient reaches mlp\.up_proj"):
        train(run, tmp_path)


def test_a_loss_that_is_not_finite_fails_the_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = methods.full.attach

    def broken(model: torch.nn.Module, method: Full, *, seed: int, steps: int) -> Attached:
        with torch.no_grad():
            model.model.norm.weight[0] = float("nan")  # type: ignore[union-attr, index]
        return real(model, method, seed=seed, steps=steps)  # type: ignore[arg-type]

    monkeypatch.setitem(methods.METHODS, Full, broken)
    with pytest.raises(health.TrainingFailed, match="loss is nan at step 1"):
        train(run, tmp_path)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")]
)
def test_lack_of_memory_is_named_with_the_plans_estimate_and_what_to_change(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def starved(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("replication.train.accumulate", starved)
    planned = memory.describe(memory.estimate(shapes.of_model(run.model), run, world=1))
    with pytest.raises(RuntimeError, match=f"out of memory in loop.*{re.escape(planned)}; lower micro_batch \\(8\\)"):
        train(run, tmp_path)
    manifest = folder_of(run, tmp_path).manifest
    assert manifest["status"] == "oom" and planned in manifest["error"]


def _command(run: Run, root: Path) -> list[object]:
    root.mkdir(parents=True, exist_ok=True)
    (root / "request.json").write_text(json.dumps({"root": str(root), "runs": {"": encode(run)}}))
    return [Path(__file__).with_name("ranks.py"), root / "request.json"]


@pytest.mark.parametrize("method", [Full(), LoRA(4, 8, dropout=0.1)], ids=["full", "lora"])
def test_a_killed_run_continues_to_bit_identical_weights(
    run: Run, method: config.Method, tmp_path: Path, forked: SimpleNamespace
) -> None:
    run = replace(run, method=method, budget=Budget(60, "steps"))
    undisturbed = train(run, tmp_path / "whole")
    folder = tmp_path / "killed" / "test" / run.name()
    # Killed the moment it has made some way, and then, so that a checkpoint to go on from exists, once more.
    process = forked.start(_command(run, tmp_path / "killed"), tmp_path / "said", {"SAVE_SECONDS": "0"})
    while not list(folder.glob("checkpoints/step_*/meta.json")):
        time.sleep(0.01)
        assert process.exitcode is None, "the run ended before it could be killed"
    time.sleep(0.2)
    process.kill()
    process.join()
    begun = max(read_meta(p).step for p in (folder / "checkpoints").glob("step_??????"))
    assert 0 < begun < 60
    train(run, tmp_path / "killed")
    name = "model.safetensors" if isinstance(method, Full) else "adapter_model.safetensors"
    whole = load_file(undisturbed.checkpoint(60) / name)
    again = load_file(folder / "checkpoints/step_000060" / name)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 10, 20, 30, 40, 50, 60]


def test_lionw_equals_ten_lines_of_arithmetic() -> None:
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(5))
    w, m = p.detach().clone(), torch.zeros(5)
    lion = optim.LionW([p], lr=0.1, betas=(0.9, 0.95), weight_decay=0.01)
    for rate in (1.0, 0.5, 0.25):
        grad = torch.randn(5)
        p.grad = grad.clone()
        lion.param_groups[0]["lr"] = 0.1 * rate
        lion.step()
        w = w * (1 - rate * 0.01) - 0.1 * rate * torch.sign(0.9 * m + 0.1 * grad)
        m = 0.95 * m + 0.05 * grad
    assert torch.allclose(p.detach(), w, atol=1e-7)
