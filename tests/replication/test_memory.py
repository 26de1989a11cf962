"""The memory estimate against the paper's tables, DeepSpeed's own estimator, and bytes that are really held."""

from __future__ import annotations

import doctest
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from experiments import paper
from replication import engine, memory, optim
from replication.config import CPT, IFT, AdamW, Budget, Full, LionW, LoRA, Run, Source, Speed, Trapezoid
from replication.shapes import KNOWN, Shape, parameters, targets, trainable
from replication.tasks import stream

LLAMA = KNOWN["meta-llama/Llama-2-7b-hf"]
RUN = Run(
    scale="t", study="s", task=CPT(Source("corpus")), model="m", method=Full(), optim=AdamW(1e-5),
    schedule=Trapezoid(1), budget=Budget(1, "steps"), global_batch=192, seq_len=4096, micro_batch=6,
    precision="bf16", zero_stage=3,
)  # fmt: skip
SMALL = Shape(32, 3, 4, 2, 48, 64, tied=False, qkv_bias=False)


@pytest.mark.parametrize("size", [7, 70, 405])
def test_the_papers_count_gives_every_cell_of_its_tables(size: int) -> None:
    printed = [cell for cell in paper.MEMORY if cell.parameters == size * 1e9]
    assert len(printed) == 4 * (7 if size == 405 else 5)
    for cell in printed:
        adam = cell.optimizer == "adam"
        counted = memory.paper_count(size * 1e9, adam=adam, lora=cell.lora, world=cell.gpus)
        assert counted.total / 1e9 == pytest.approx(cell.gigabytes, rel=0.004), cell


@pytest.mark.parametrize("optimiser", [AdamW(1e-5), LionW(1e-5)])
@pytest.mark.parametrize("gpus", [1, 8, 16, 32, 64])
def test_our_fp32_states_under_zero_3_are_the_papers_for_the_same_parameters(
    optimiser: AdamW | LionW, gpus: int
) -> None:
    # fp32 without masters is what the paper counts: 4 + 4 + 8 or 4 bytes; 6.738 of 7.0 billion parameters.
    ours = memory.estimate(LLAMA, replace(RUN, precision="fp32", optim=optimiser), world=gpus)
    key = (7e9, "adam" if isinstance(optimiser, AdamW) else "lion", False, gpus)
    (cell,) = [c for c in paper.MEMORY if (c.parameters, c.optimizer, c.lora, c.gpus) == key]
    assert ours.states * 7e9 / parameters(LLAMA) / 1e9 == pytest.approx(cell.gigabytes, rel=0.02)


def test_bytes_a_weight_of_each_stage_are_those_written_down() -> None:
    p, gpus = 6_738_415_616, 32
    held = {stage: memory.estimate(LLAMA, replace(RUN, zero_stage=stage), world=gpus) for stage in (1, 2, 3)}  # type: ignore[arg-type]
    assert [held[s].weights for s in (1, 2, 3)] == [2 * p, 2 * p, 2 * p / gpus]
    assert [held[s].gradients for s in (1, 2, 3)] == [6 * p, 4 * p / gpus, 4 * p / gpus]
    assert [held[s].optimiser for s in (1, 2, 3)] == [12 * p / gpus] * 3
    lion = memory.estimate(LLAMA, replace(RUN, optim=LionW(1e-5)), world=gpus)
    assert lion.optimiser == 8 * p / gpus


def test_lora_holds_a_frozen_bf16_base_and_states_of_its_adapters_alone() -> None:
    run = replace(RUN, method=LoRA(64, 128), zero_stage=2, optim=LionW(1e-4))
    held = memory.estimate(LLAMA, run, world=1)
    assert held.weights == 2 * (6_738_415_616 + 159_907_840)
    assert held.gradients == 4 * 159_907_840
    assert held.optimiser == 8 * 159_907_840


def test_pure_bf16_has_no_masters() -> None:
    held = memory.estimate(SMALL, replace(RUN, precision="pure_bf16", zero_stage=3), world=1)
    p = parameters(SMALL)
    assert (held.weights, held.gradients, held.optimiser) == (2 * p, 2 * p, 4 * p)


@pytest.mark.parametrize("gpus", [1, 8, 32])
def test_states_are_deepspeeds_own_where_its_assumptions_are_ours(gpus: int) -> None:
    # Both count masters 4, Adam 8, fp32 gradients 4 and bf16 weights 2: 18 in all at stage 3. At stage 2 it adds bf16
    # gradients, 2, to what is divided; they are freed one by one as they are reduced, so ours is less by that.
    p = parameters(LLAMA)
    *_, three, largest = (*estimate_zero3_model_states_mem_needs(p, 0, gpus, cpu_offload=False)[1:],)
    assert largest == 0
    assert memory.estimate(LLAMA, RUN, world=gpus).states == pytest.approx(three, abs=8)
    two = estimate_zero2_model_states_mem_needs(p, gpus, cpu_offload=False)[1]
    ours = memory.estimate(LLAMA, replace(RUN, zero_stage=2), world=gpus).states
    assert ours == pytest.approx(two - 2 * p / gpus, abs=8)


# ---------------------------------------------------------------- bytes that are really held


def build(shape: Shape, dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=shape.hidden, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, intermediate_size=shape.intermediate, vocab_size=shape.vocab,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype)


def attached(model: LlamaForCausalLM, method: Full | LoRA) -> torch.nn.Module:
    if isinstance(method, Full):
        return model
    names = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
    modules = [names.get(name, f"{name}_proj") for name in targets(method)]
    setup = LoraConfig(r=method.rank, lora_dropout=method.dropout, target_modules=modules)
    return get_peft_model(model, setup, autocast_adapter_dtype=False)


def kept_by_autograd(model: torch.nn.Module, ids: torch.Tensor) -> int:
    """Bytes of distinct storages that the decoder's blocks keep for the backward pass, weights and tables aside."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # so that no storage is freed and its address used again

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(ids, use_cache=False)
    del output
    return sum(kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", [Full(), LoRA(4, 8, dropout=0.1), LoRA(4, 8, dropout=0.0)], ids=str)
def test_a_blocks_activations_are_what_autograd_keeps(method: Full | LoRA, precision: Any) -> None:
    run = replace(RUN, method=method, micro_batch=2, seq_len=64, precision=precision)
    measured = {}
    for layers in (1, 3):
        shape = replace(SMALL, layers=layers)
        model = attached(build(shape, torch.float32 if precision == "fp32" else torch.bfloat16), method)
        model.train()
        measured[layers] = kept_by_autograd(model, torch.zeros(2, 64, dtype=torch.long))
    one_block = (measured[3] - measured[1]) / 2 / (2 * 64)
    counted = memory.block_bytes(SMALL, run)
    if isinstance(method, LoRA) and method.dropout:
        # A CPU keeps the mask in the type of the activations; CUDA keeps it in one byte, which is what is counted.
        counted += ((4 if precision == "fp32" else 2) - 1) * (6 * SMALL.hidden + SMALL.intermediate)
    # Not counted: a reciprocal norm of 4 bytes for each of two norms, and 4 for each head's log-sum-exp.
    assert one_block == counted + 2 * 4 + 4 * SMALL.heads


class Alive(TorchDispatchMode):
    """Bytes of the tensors that are alive at once, those of `known` storages aside."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known, self.bytes, self.most = known, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.known:
                storage = tensor.untyped_storage()
                self.known.add(storage._cdata)
                self.bytes += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.bytes)
        return output

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", [Full(), LoRA(4, 8, dropout=0.0)], ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        Shape(32, 2, 4, 2, 48, 4096, tied=False, qkv_bias=False),
        Shape(64, 6, 4, 2, 160, 256, tied=False, qkv_bias=False),
    ],
    ids=["logits", "blocks"],
)
def test_the_most_that_is_alive_in_a_step_is_what_is_estimated(
    shape: Shape, method: Full | LoRA, precision: Any, recompute: bool
) -> None:
    run = replace(RUN, method=method, micro_batch=2, seq_len=256, precision=precision, speed=Speed(recompute=recompute))
    model: Any = attached(build(shape, torch.float32 if precision == "fp32" else torch.bfloat16), method)
    model.train()
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    held = [t for p in model.parameters() for t in (p, p.grad) if t is not None]
    ids = torch.zeros(2, 256, dtype=torch.long)
    with Alive({t.untyped_storage()._cdata for t in held}) as alive:
        total, _ = stream.loss(model, {"input_ids": ids, "labels": ids})
        total.backward()
    assert memory.activations(shape, run) == pytest.approx(alive.most, rel=0.04)


def test_activations_of_llama_are_counted_by_hand() -> None:
    tokens = 6 * 4096
    # bf16, full: two norms 12 h, reads 4 h, attention 8 h, MLP 8 i; the end 8 h and 12 bytes for each logit.
    block, end = 24 * 4096 + 8 * 11008, 8 * 4096 + 12 * 32000
    assert memory.activations(LLAMA, RUN) == tokens * (32 * block + end)
    assert memory.activations(LLAMA, replace(RUN, speed=Speed(recompute=True))) == tokens * (32 * 2 * 4096 + end)
    # Fused kernels: norms 4 h, MLP 6 i, no logits: gradients on their way are more than the end.
    block, gradients = (4 + 4 + 8) * 4096 + 6 * 11008, 2 * (2 * 11008 + 4096)
    fused = replace(RUN, speed=Speed(kernels="fused"))
    assert memory.activations(LLAMA, fused) == tokens * (32 * block + gradients)
    both = replace(RUN, speed=Speed(kernels="fused", recompute=True))
    assert memory.activations(LLAMA, both) == tokens * (32 * 2 * 4096 + gradients + block)


def test_packed_documents_cost_a_mask_unless_attention_knows_their_ends() -> None:
    run = replace(RUN, task=IFT(Source("rows"), "{prompt}"))
    masked = memory.activations(LLAMA, run)
    assert masked - memory.activations(LLAMA, RUN) == 6 * 4096**2
    assert memory.activations(LLAMA, replace(run, speed=Speed(attention="varlen"))) == memory.activations(LLAMA, RUN)


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Buffers of a few bytes: the default bucket alone would be 1 GB."""
    generated = engine.deepspeed_config

    def shrunk(run: Run, world: int) -> dict[str, Any]:
        content = generated(run, world)
        content["zero_optimization"] |= {"reduce_bucket_size": 4096, "stage3_prefetch_bucket_size": 4096}
        return content

    monkeypatch.setattr(engine, "deepspeed_config", shrunk)
    yield


def held_by(zero: Any, stage: int) -> tuple[int, int]:
    """Bytes of the masters and of the moments that a DeepSpeed optimiser holds."""
    groups = [p for group in zero.optimizer.param_groups for p in group["params"]]
    masters = zero.fp32_partitioned_groups_flat if stage == 3 else groups
    moments = [value for state in zero.optimizer.state.values() for value in state.values() if value.dim()]
    return sum(t.nbytes for t in masters), sum(t.nbytes for t in moments)


# Of torch's own, in what DeepSpeed calls.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("stage", "optimiser"), [(1, LionW(1e-4)), (2, AdamW(1e-4)), (3, LionW(1e-4))], ids=str)
def test_deepspeed_holds_the_masters_and_states_that_are_estimated(
    stage: Any, optimiser: AdamW | LionW, small_buckets: None
) -> None:
    run = replace(RUN, optim=optimiser, zero_stage=stage, global_batch=2, micro_batch=1, seq_len=16)
    engine.join_process_group()
    model = build(SMALL, torch.bfloat16)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    wrapped, *_ = deepspeed.initialize(
        model=model, optimizer=optim.build(run.optim, dict(model.named_parameters())),
        config=engine.deepspeed_config(run, 1), dist_init_required=False,
    )  # fmt: skip
    try:
        for last in (False, True):
            wrapped.set_gradient_accumulation_boundary(last)
            loss = wrapped(torch.zeros(1, 16, dtype=torch.long), use_cache=False).logits.float().square().mean()
            wrapped.backward(loss, scale_wrt_gas=False)
            wrapped.step()
        masters, moments = held_by(wrapped.optimizer, stage)
    finally:
        wrapped.destroy()
    expected = memory.estimate(SMALL, run, world=1)
    assert weights == expected.weights == 2 * trainable(SMALL, Full())
    # Flat tensors are padded to a multiple of a few elements.
    assert masters + moments == pytest.approx(expected.optimiser, rel=0.01)
    assert masters == pytest.approx(2 * expected.weights, rel=0.01)


def test_the_estimate_is_told_in_one_line() -> None:
    line = memory.describe(memory.estimate(LLAMA, RUN, world=32))
    # 2, 4 and 12 x 6,738,415,616 / 32; 24,576 tokens x (32 blocks x 186,368 bytes + 416,768 at the end).
    assert "weights 0.421, gradients 0.842, optimiser 2.5, activations 156.8, buffers 3.0" in line


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(memory) == doctest.TestResults(failed=0, attempted=2)
