"""AdaLoRA in this project's loop against a plain loop of PEFT's: the same ranks and weights, also after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from replication import preemption, seeding
from replication.config import CPT, AdaLoRA, AdamW, Budget, Run, Source, Trapezoid
from replication.methods import attach
from replication.tasks import open_stream
from replication.train import train
from tests.replication.methods import pieces

STEPS, MATRICES = 12, 14
METHOD = AdaLoRA(4, 2, alpha=8)  # ranks are given out from step 2 on and final 4 before the end


@pytest.fixture
def run(tiny_model: Path, tiny_corpus: Path) -> Run:
    return _run(tiny_model, tiny_corpus)


def _run(tiny_model: Path, tiny_corpus: Path) -> Run:
    return Run(
        scale="test", study="adalora", task=CPT(Source(str(tiny_corpus))), model=str(tiny_model), method=METHOD,
        optim=AdamW(1e-2), schedule=Trapezoid(2), budget=Budget(STEPS, "steps"), global_batch=4, micro_batch=2,
        seq_len=32, grad_clip=0.05,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What the run stores when nothing interrupts it."""
    return adapter_of(train(_run(tiny_model, tiny_corpus), tmp_path_factory.mktemp("whole")).checkpoints()[-1])


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def plain(run: Run, root: Path) -> dict[str, torch.Tensor]:
    """The same training in PEFT's documented way, with nothing of the loop or of adalora.py."""
    model: Any = AutoModelForCausalLM.from_pretrained(run.model, dtype=torch.float32)
    torch.manual_seed(seeding.derive(run.seed, "init"))
    linears = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    model = get_peft_model(model, AdaLoraConfig(
        init_r=4, target_r=2, lora_alpha=8, target_modules=linears, tinit=1, tfinal=4, total_step=STEPS,
        orth_reg_weight=0.5, task_type="CAUSAL_LM", lora_dropout=0.0,
    ))  # fmt: skip
    stream = open_stream(run, AutoTokenizer.from_pretrained(run.model), cache=root / "cache")
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, betas=run.optim.betas, weight_decay=0.0)  # type: ignore[union-attr]
    for step in range(STEPS):
        (batch,) = stream.micro_batches(step, batch=run.global_batch, micro=run.global_batch)
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(params, run.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = run.optim.lr * min(1.0, step / 2, (STEPS - step) / 2)
        optimizer.step()
        model.base_model.update_and_allocate(step + 1)
        optimizer.zero_grad()
    return {name.replace(".default", ""): p.detach() for name, p in model.named_parameters() if p.requires_grad}


def ranks(tensors: dict[str, torch.Tensor]) -> dict[str, list[bool]]:
    return {name: (e != 0).flatten().tolist() for name, e in tensors.items() if name.endswith("lora_E")}


def test_ranks_and_weights_are_those_of_a_plain_loop(run: Run, whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    ours = whole
    theirs = plain(run, tmp_path)
    kept = ranks(ours)
    assert len(kept) == MATRICES
    assert kept == ranks(theirs)
    # The budget ends at target_rank x matrices, and is spent unevenly, or nothing would have been learnt about ranks.
    counts = [sum(mask) for mask in kept.values()]
    assert sum(counts) == METHOD.target_rank * MATRICES
    assert len(set(counts)) > 1
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("killed_at", [5, 10], ids=["while ranks are given out", "when ranks are final"])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    run: Run, killed_at: int, whole: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    with monkeypatch.context() as patch:
        patch.setattr(preemption, "asked", lambda: len(seen) == killed_at)
        with pytest.raises(preemption.Preempted):
            train(run, tmp_path / "cut", watch=lambda progress: seen.append(progress.loss))
    again = adapter_of(train(run, tmp_path / "cut").checkpoints()[-1])
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_penalty_is_peft_s() -> None:
    model = pieces.base("language")
    attached = attach(model, METHOD, seed=0, steps=STEPS)
    pieces.shake(attached)
    inputs = pieces.question("language")
    loss = attached.model(**inputs, labels=inputs["input_ids"]).loss
    wrapped: Any = attached.model
    wrapped.peft_config["default"].orth_reg_weight = 0.0
    bare = attached.model(**inputs, labels=inputs["input_ids"]).loss
    assert attached.penalty is not None
    assert float(attached.penalty().detach()) == pytest.approx(float((loss - bare).detach()), rel=1e-5)


def test_without_ranks_to_prune_all_are_kept(run: Run, tmp_path: Path) -> None:
    folder = train(replace(run, method=replace(METHOD, target_rank=4)), tmp_path)
    assert all(all(mask) for mask in ranks(adapter_of(folder.checkpoints()[-1])).values())


def test_zero_stages_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="0 with AdaLoRA"):
        replace(run, zero_stage=2)
