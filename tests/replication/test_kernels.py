"""The fused path against the plain one: gradients, since fast losses have been right with wrong gradients."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from replication import engine as engines
from replication import kernels
from replication.config import CPT, Budget, Full, LionW, LoRA, Run, Source, Speed, Trapezoid
from replication.methods import attach
from replication.optim import LionW as Lion
from replication.optim import lion_step
from replication.tasks import stream

METHODS = {"full": Full(), "lora": LoRA(4, 8, dropout=0.0)}


def tiny(kind: str = "llama", *, tied: bool = True) -> PreTrainedModel:
    torch.manual_seed(0)
    shape = {
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "tie_word_embeddings": tied,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**shape)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(8), torch.arange(12)]).expand(3, 20).contiguous()
    return {"input_ids": ids, "position_ids": positions, "labels": torch.where(ids < 20, -100, ids)}


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


# ---------------------------------------------------------------- the loss


def plain_loss(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = (hidden @ weight.T)[:, :-1].flatten(0, 1)
    return functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")


@pytest.mark.parametrize("rows_a_chunk", [1, 7, 1000])
def test_the_summed_loss_has_the_value_and_gradients_of_all_logits_in_fp64(
    rows_a_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "CHUNK", 50 * rows_a_chunk)
    torch.manual_seed(0)
    hidden, weight = torch.randn(3, 20, 16), torch.randn(50, 16)
    labels = batch()["labels"]
    found = []
    for loss, dtype in ((kernels.summed_cross_entropy, torch.float32), (plain_loss, torch.float64)):
        h, w = (t.to(dtype, copy=True).requires_grad_() for t in (hidden, weight))
        total = loss(h, w, labels)
        found.append([total.detach(), *torch.autograd.grad(0.37 * total, (h, w))])
    assert all(relative(ours, right) < 1e-6 for ours, right in zip(*found, strict=True))


def test_bf16_gradients_are_no_worse_than_those_of_plain_bf16() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(2, 65, 32).bfloat16(), torch.randn(4096, 32).bfloat16()
    labels = torch.randint(4096, (2, 65))

    def gradients(loss: kernels.Summed, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        h, w = hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()
        return torch.autograd.grad(loss(h, w, labels).float(), (h, w))

    truth = gradients(plain_loss, torch.float64)
    plain, ours = gradients(plain_loss, torch.bfloat16), gradients(kernels.summed_cross_entropy, torch.bfloat16)
    for mine, theirs, right in zip(ours, plain, truth, strict=True):
        assert relative(mine, right) < 0.004  # half of the last of bf16's 8 bits
        assert relative(mine, right) <= relative(theirs, right)


def test_a_batch_without_labels_loses_nothing_and_moves_nothing() -> None:
    hidden, weight = torch.randn(2, 5, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    total = kernels.summed_cross_entropy(hidden, weight, torch.full((2, 5), -100))
    total.backward()
    assert total == 0
    assert hidden.grad is not None and not hidden.grad.any()
    assert weight.grad is not None and not weight.grad.any()


def test_a_frozen_output_layer_gets_no_gradient() -> None:
    hidden, weight = torch.randn(2, 5, 8, requires_grad=True), torch.randn(11, 8)
    kernels.summed_cross_entropy(hidden, weight, torch.randint(11, (2, 5))).backward()
    assert hidden.grad is not None and hidden.grad.any()
    with torch.no_grad():
        assert kernels.summed_cross_entropy(hidden, weight, torch.randint(11, (2, 5))) > 0


# ---------------------------------------------------------------- inside a model


def test_the_reference_loss_is_the_one_line_of_torch_to_the_bit() -> None:
    model, data = tiny(), batch()
    ours, count = stream.loss(model, data)
    logits = model(data["input_ids"], position_ids=data["position_ids"], use_cache=False).logits[:, :-1]
    theirs = functional.cross_entropy(
        logits.reshape(-1, 50).float(), data["labels"][:, 1:].reshape(-1), ignore_index=-100, reduction="sum"
    )
    assert torch.equal(ours, theirs)
    assert count == int((data["labels"][:, 1:] != -100).sum())


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_sums_its_loss_has_the_gradients_of_one_that_does_not(kind: str, tied: bool, method: str) -> None:
    found = []
    for fused in (False, True):
        model = tiny(kind, tied=tied)
        if fused:
            kernels.sum_loss_inside(model)
        attached = attach(model, METHODS[method], seed=1)
        with torch.no_grad():  # B is zero at first, and A would have no gradient
            for name, p in attached.trainable.items():
                p.add_(0.1 if "lora_B" in name else 0)
        assert kernels.sums_loss(attached.model) == fused
        total, count = stream.loss(attached.model, batch())
        total.backward()
        found.append((total.detach(), count, {name: p.grad for name, p in attached.trainable.items()}))
    assert found[0][1] == found[1][1]
    assert relative(found[1][0], found[0][0]) < 1e-6
    assert found[0][2].keys() == found[1][2].keys()
    assert all(relative(found[1][2][name], gradient) < 1e-5 for name, gradient in found[0][2].items())


def test_without_labels_the_model_gives_its_logits_as_before() -> None:
    model, data = tiny(), batch()
    before = model(data["input_ids"]).logits
    kernels.sum_loss_inside(model)
    assert torch.equal(model(data["input_ids"]).logits, before)
    assert model(data["input_ids"], labels=data["labels"]).logits is None


@pytest.fixture
def run(tiny_model: Path) -> Run:
    return Run(
        scale="test", study="kernels", task=CPT(Source("none")), model=str(tiny_model), method=Full(),
        optim=LionW(1e-3), schedule=Trapezoid(0), budget=Budget(1, "steps"), global_batch=3, micro_batch=3, seq_len=20,
    )  # fmt: skip


@pytest.fixture
def process_group() -> Iterator[None]:
    engines.join_process_group()
    yield


@pytest.mark.parametrize("stage", [0, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_engine_steps_the_same_with_the_loss_inside_at_every_zero_stage(
    run: Run, process_group: None, stage: int, method: str
) -> None:
    found = []
    for fused in (False, True):
        model = tiny()
        if fused:
            kernels.sum_loss_inside(model)
        attached = attach(model, METHODS[method], seed=1)
        engine = engines.start(replace(run, zero_stage=stage), attached)
        assert kernels.sums_loss(engine.forward) == fused
        total, count = stream.loss(engine.forward, batch())
        engine.backward(total / count, last=True)
        norms = dict(engine.gradient_norms())
        engine.step(1.0)
        found.append((norms, {name: w.clone() for name, w in engine.weights()}))
        engine.close()
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5, abs=1e-7)
    # Lion moves every weight by the sign of its gradient: only gradients next to zero may differ in sign.
    for name, weights in found[0][1].items():
        assert float((found[1][1][name] == weights).float().mean()) > 0.99, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile looks at every attribute
@pytest.mark.skipif(
    importlib.util.find_spec("cut_cross_entropy") is None or importlib.util.find_spec("triton") is None,
    reason="cut-cross-entropy or triton is not installed",
)
def test_the_packaged_loss_fits_into_the_model_in_place_of_ours() -> None:
    found = []
    for summed in (None, kernels.packaged_cross_entropy("torch_compile")):
        model = tiny()
        kernels.sum_loss_inside(model, summed)
        total, _ = stream.loss(model, batch())
        total.backward()
        found.append([total.detach(), *(p.grad for p in model.parameters())])
    assert all(relative(ours, theirs) < 1e-5 for ours, theirs in zip(*found, strict=True))


# ---------------------------------------------------------------- apply


def test_reference_kernels_leave_the_model_alone() -> None:
    model = tiny()
    kernels.apply(model, Speed())
    assert not kernels.sums_loss(model)
    assert "forward" not in vars(model)


def test_fused_kernels_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match='needs a CUDA device.*"reference"'):
        kernels.apply(tiny(), Speed(kernels="fused"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs liger-kernel.*\[fused\]"):
        kernels.apply(tiny(), Speed(kernels="fused"))
    with pytest.raises(ValueError, match="cut-cross-entropy is not installed"):
        kernels.packaged_cross_entropy()


def test_the_rotary_function_is_replaced_in_one_model_only() -> None:
    plain, changed, ids = tiny(), tiny(), batch()["input_ids"]
    expected = plain(ids).logits
    calls = []

    def unrotated(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(1)
        return q, k

    for block in changed.model.layers:
        kind = type(block.self_attn)
        block.self_attn.forward = kernels._with_rotary(kind, unrotated).__get__(block.self_attn)
    assert not torch.allclose(changed(ids).logits, expected)
    assert len(calls) == 2
    assert torch.equal(plain(ids).logits, expected)
    assert len(calls) == 2


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("liger_kernel") is None or importlib.util.find_spec("triton") is None,
    reason="liger-kernel or triton is not installed; `pip install -e .[fused]`",
)
def test_a_model_with_every_fused_kernel_has_the_plain_gradients_in_tritons_interpreter() -> None:
    script = Path(__file__).with_name("interpreted.py")
    root = str(script.parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == 22
    assert max(errors.values()) < 1e-5, errors


# ---------------------------------------------------------------- Lion


@pytest.mark.parametrize("decay", [0.0, 1e-3])
@pytest.mark.parametrize("chunk", [64, 2**24])
def test_lion_in_pieces_is_the_optimiser_to_the_bit(decay: float, chunk: int) -> None:
    torch.manual_seed(0)
    shapes = [(37, 11), (5,), (1000,), (8, 8, 3)]
    ours = [torch.randn(shape) for shape in shapes]
    ours[0] = ours[0].t()  # a tensor that is no contiguous line is stepped whole
    theirs = [torch.nn.Parameter(p.clone(memory_format=torch.preserve_format)) for p in ours]
    momenta = [torch.zeros_like(p) for p in ours]
    optimiser = Lion(theirs, lr=0.01, weight_decay=decay)
    for rate in (1.0, 0.5, 0.0):
        grads = [torch.randn(p.shape) for p in ours]
        for p, g in zip(theirs, grads, strict=True):
            p.grad = g
        optimiser.param_groups[0]["lr"] = 0.01 * rate
        optimiser.step()
        keep = 1 - (0.01 * rate / 0.01) * decay
        lion_step(ours, grads, momenta, lr=0.01 * rate, keep=keep, betas=(0.9, 0.95), chunk=chunk)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(torch.equal(m, optimiser.state[p]["exp_avg"]) for m, p in zip(momenta, theirs, strict=True))
