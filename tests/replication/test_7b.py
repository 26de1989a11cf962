"""The paper's model at its own size, as far as a machine without its memory goes: on torch's meta device.

Tensors there have a shape, a type and a device, and no numbers. So parameters are counted, a micro-batch of 4096
tokens goes forward and backward through our own loss, and what autograd keeps is added up against the plan's estimate.
DeepSpeed reads the configuration of the full run on 32 ranks as it would there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from deepspeed.runtime import config as deepspeed_configuration
from transformers import LlamaConfig, LlamaForCausalLM, masking_utils

from replication import engine, memory, shapes
from replication.config import CPT, Budget, Full, LionW, LoRA, Method, Run, Source, Speed, Trapezoid
from replication.methods import Attached, attach
from replication.tasks import stream

SEQUENCE = 4096
SHAPE = shapes.KNOWN["meta-llama/Llama-2-7b-hf"]
# https://huggingface.co/meta-llama/Llama-2-7b-hf config.json
LLAMA_2_7B = LlamaConfig(
    vocab_size=32_000, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=32, max_position_embeddings=4096, rms_norm_eps=1e-5, tie_word_embeddings=False,
    bos_token_id=1, eos_token_id=2,
)  # fmt: skip
TRAINABLE = {
    "full": 6_738_415_616,
    "lora-r16-all": 39_976_960,
    "lora-r64-all": 159_907_840,
    "lora-r256-all": 639_631_360,
}
# The paper's code CPT by full fine-tuning: 192 sequences a step on 32 GPUs, LionW, ZeRO-3.
RUN = Run(
    scale="t", study="s", task=CPT(Source("bigcode/starcoderdata")), model="meta-llama/Llama-2-7b-hf", method=Full(),
    optim=LionW(1e-5), schedule=Trapezoid(1000), budget=Budget(20e9, "tokens"), global_batch=192, seq_len=SEQUENCE,
    micro_batch=6, precision="bf16", zero_stage=3, speed=Speed(recompute=True),
)  # fmt: skip


class FlashLike(torch.autograd.Function):
    """Attention that keeps what the flash kernels keep: queries, keys, values, result and one number a row.

    On the meta device torch would take its plain attention, which keeps all probabilities: 2 GB a block.
    """

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        batch, heads, tokens, width = q.shape
        out = torch.empty(batch, tokens, heads, width, dtype=q.dtype, device=q.device).transpose(1, 2)
        ctx.save_for_backward(q, k, v, out, torch.empty(batch, heads, tokens, device=q.device))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(saved) for saved in ctx.saved_tensors[:3])


@pytest.fixture(autouse=True)
def without_numbers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What asks for a number: whether documents are packed (one fills the sequence), how many positions count."""
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
    monkeypatch.setattr(stream, "supervised", lambda batch: batch["labels"][:, 1:].numel())
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda q, k, v, **_: FlashLike.apply(q, k, v)
    )
    yield


def empty(method: Method, *, recompute: bool) -> Attached:
    """Llama-2-7b as the engine computes with it: attached, all in bf16, in training mode, without a byte."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LLAMA_2_7B)
        if recompute:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        attached = attach(model, method, seed=0)
    attached.model.to(torch.bfloat16).train()
    assert {p.device.type for p in attached.model.parameters()} == {"meta"}
    return attached


@dataclass(frozen=True)
class Passed:
    """One micro-batch forward and backward: the model, what it gave, and the bytes that autograd kept in between."""

    attached: Attached
    logits: torch.Size
    loss: torch.Tensor
    positions: int
    kept: int


@functools.cache
def passed(method: Method, *, recompute: bool) -> Passed:
    """Parameters are left out of what is kept, and a storage counts once."""
    attached = empty(method, recompute=recompute)
    own = {p.untyped_storage()._cdata for p in attached.model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}
    seen: list[torch.Size] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    def forward(**batch: Any) -> Any:
        output = attached.model(**batch)
        seen.append(output.logits.shape)
        return output

    tokens = torch.zeros(1, SEQUENCE, dtype=torch.long, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total, count = stream.loss(forward, {"input_ids": tokens, "labels": tokens})
    size = sum(storage.nbytes() for storage in kept.values())
    total.backward()
    return Passed(attached, seen[0], total.detach(), count, size)


# Without dropout where bytes are compared: on a CPU and here its mask has two bytes an element, on CUDA one.
SMALL = LoRA(16, 32, dropout=0.0)
CASES = [(Full(), False), (Full(), True), (SMALL, False), (LoRA(256, 512), True)]


@pytest.mark.parametrize(("method", "recompute"), CASES, ids=str)
def test_a_micro_batch_gives_every_trained_weight_a_gradient_of_its_shape(method: Method, recompute: bool) -> None:
    done = passed(method, recompute=recompute)
    assert done.logits == (1, SEQUENCE, 32_000)
    assert done.loss.shape == () and done.loss.dtype == torch.float32 and done.positions == SEQUENCE - 1
    for name, p in done.attached.model.named_parameters():
        if name in done.attached.trainable:
            assert p.grad is not None and p.grad.shape == p.shape and p.grad.dtype == torch.bfloat16, name
        else:
            assert p.grad is None, name


def test_the_trainable_weights_are_as_many_as_the_plan_and_the_paper_say() -> None:
    middle = LoRA(64, 128)
    models = {method: passed(method, recompute=recompute).attached for method, recompute in CASES}
    models[middle] = empty(middle, recompute=False)
    counts = {m.label(): sum(p.numel() for p in attached.trainable.values()) for m, attached in models.items()}
    assert counts == TRAINABLE
    assert {method.label(): shapes.trainable(SHAPE, method) for method in models} == TRAINABLE


# ---------------------------------------------------------------- memory


def end(method: Method) -> int:
    """Bytes between forward and backward after the last block: log-probabilities and the last norm's input in fp32.

    Where norm and output layer are trained, what they are multiplied with is kept too, in bf16.
    """
    return SEQUENCE * (4 * 32_000 + (4 if isinstance(method, LoRA) else 4 + 2 + 2) * 4096)


@pytest.mark.parametrize("method", [Full(), SMALL], ids=str)
def test_what_autograd_keeps_is_what_the_plan_says(method: Method) -> None:
    block = memory.block_bytes(SHAPE, replace(RUN, method=method, speed=Speed()))
    kept = passed(method, recompute=False).kept
    assert kept == pytest.approx(32 * SEQUENCE * block + end(method), rel=0.003)
    assert kept > 20e9


@pytest.mark.parametrize("method", [Full(), LoRA(256, 512)], ids=str)
def test_recomputation_keeps_the_input_of_each_block(method: Method) -> None:
    inputs = 32 * SEQUENCE * 2 * 4096
    assert passed(method, recompute=True).kept == pytest.approx(inputs + end(method), rel=1e-3)


@pytest.mark.parametrize("speed", [Speed(), Speed(recompute=True)], ids=str)
def test_the_plan_of_a_micro_batch_lies_above_what_autograd_keeps_by_the_backward_s_own(speed: Speed) -> None:
    planned = memory.activations(SHAPE, replace(RUN, micro_batch=1, speed=speed))
    # Two gradients of 4 bytes a logit come on top, at most beside a block that is computed again.
    assert 0 < planned - passed(Full(), recompute=speed.recompute).kept < 8 * SEQUENCE * 32_000 + 1e9


@pytest.mark.parametrize("world", [8, 24, 32])
def test_the_states_of_a_rank_are_its_pieces_of_every_parameter(world: int) -> None:
    # ZeRO-3 cuts each parameter into `world` pieces, the last one padded.
    parameters = passed(Full(), recompute=False).attached.model.parameters()
    pieces = sum(math.ceil(p.numel() / world) for p in parameters)
    planned = memory.estimate(SHAPE, RUN, world=world)
    assert planned.weights == pytest.approx(2 * pieces, rel=1e-6)
    assert planned.gradients == pytest.approx(4 * pieces, rel=1e-6)
    assert planned.optimiser == pytest.approx((4 + 4) * pieces, rel=1e-6)  # masters and Lion's momentum, fp32


def test_the_papers_full_run_fits_32_gpus_of_80_gb_by_recomputation_alone() -> None:
    assert memory.estimate(SHAPE, RUN, world=32).total < 80e9
    assert memory.estimate(SHAPE, replace(RUN, speed=Speed()), world=32).total > 80e9
    # One GPU could not even hold the states.
    assert memory.estimate(SHAPE, RUN, world=1).states > 80e9


# ---------------------------------------------------------------- DeepSpeed's reading


def read_on(world: int, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """DeepSpeed's own configuration class, in a process that takes itself for one of `world`."""
    monkeypatch.setattr(deepspeed_configuration.dist, "get_world_size", lambda *_: world)
    monkeypatch.setattr(deepspeed_configuration.dist, "get_rank", lambda *_: 0)
    return deepspeed_configuration.DeepSpeedConfig(content)


@pytest.mark.parametrize(("micro", "accumulated"), [(6, 1), (3, 2), (1, 6)])
def test_deepspeed_reads_192_sequences_on_32_ranks(
    micro: int, accumulated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(RUN, micro_batch=micro)
    read = read_on(32, engine.deepspeed_config(run, 32), monkeypatch)
    assert read.world_size == 32
    batch = (read.train_micro_batch_size_per_gpu, read.gradient_accumulation_steps, read.train_batch_size)
    assert batch == (micro, accumulated, 192)
    assert read.zero_enabled and read.zero_optimization_stage == 3
    assert read.bfloat16_config.enabled and not read.float16_config.enabled
    assert read.grad_accum_dtype == "fp32"
    assert read.gradient_clipping == run.grad_clip
    # Nothing leaves the GPU behind our back.
    assert read.zero_config.offload_optimizer is None and read.zero_config.offload_param is None
    assert read.zero_config.reduce_bucket_size == memory.BUCKET
    assert read.zero_config.max_live_parameters == memory.GATHERED


def test_deepspeed_refuses_the_batch_on_another_number_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="192"):
        read_on(16, engine.deepspeed_config(RUN, 32), monkeypatch)
