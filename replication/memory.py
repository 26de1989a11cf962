"""Bytes that a training step holds on each GPU, counted before it is tried.

P = weights that are trained, F = frozen weights (the base under LoRA), N = GPUs; stage = ZeRO stage. What DeepSpeed
0.19 keeps, read in runtime/bf16_optimizer.py (stage 1), zero/stage_1_and_2.py and zero/stage3.py:

                  bytes a weight                            divided by N from stage
    weights       2 (P + F) in bf16, 4 (P + F) in fp32      3
    gradients     4 P: summed in fp32 over micro-batches    2
                  + 2 P in bf16 at stage 1, which keeps what it adds; 2 P in pure bf16
    optimiser     4 P: fp32 masters of bf16 weights         1
                  + 4 P (Lion: momentum) or 8 P (Adam: mean and variance)
                  fp32 weights are their own masters at stage 0 and 3; stages 1 and 2 keep a second copy all the same.
                  Pure bf16 likewise, at half the bytes.

Buffers, for a moment each (runtime/zero/config.py, the defaults that our configuration keeps): from stage 2 on a bucket
of gradients to be reduced, 5e8 elements (its fp32 copy on the wire is not counted); stage 3 also gathers up to 1e9
weights. Stage 1 under fp32 has the bucket too.

Activations, after Korthikanti et al. 2022 (arXiv 2205.05198, eq. 2, attention recomputed as flash kernels do), whose
34 s b h bytes a block are of a GPT with dropout and a 4 h MLP. Counted anew for the blocks trained here, from
what autograd keeps; w = bytes of an element, per token and block (h hidden, q all queries, k all keys, i intermediate):

    two norms     2 (4 + w) h: the input in fp32, and the normalised one, for the gradient of the norm's weight;
                  2 (4 h) under LoRA, which trains no norm; 2 w h with fused kernels: the input alone
    linears       2 w h: what q, k, v and gate, up read
    attention     w (2 q + 2 k): queries, keys, values and result
    MLP           4 w i: gate, its silu, up, the product; 3 w i with fused kernels
    LoRA          per adapted linear w (n_in + r) + n_in: its dropped-out input, A x and the mask; w r without dropout.
                  Frozen linears need not keep what they read: the adapter does, or nothing.

`recompute` keeps the input of every block, w h, and the above of one block at a time. To that comes what is larger:

    the end       the last norm, what the output layer reads, and the logits at 12 bytes each: log-probabilities, their
                  gradient and the logits' gradient in fp32 (tasks/stream.py: loss). Fused kernels never hold logits
                  (cut cross-entropy, arXiv 2411.09009)
    a block       gradients on their way back, w (2 i + h), and, recomputed, the block itself

Tests count the tensors alive in real steps: block_bytes is exact, the sum within 4 %. Left out: the CUDA context (about
0.5 GB), fragmentation and workspaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from replication.config import IFT, AdamW, LoRA, Run
from replication.shapes import Shape, inputs, parameters, targets, trainable

BUCKET = 5e8  # elements: reduce_bucket_size
GATHERED = 1e9  # elements: stage3_max_live_parameters
GB = 1e9


@dataclass(frozen=True)
class Memory:
    """Bytes per GPU. `optimiser` includes fp32 masters; `buffers` is what the collectives take for a moment."""

    weights: float
    gradients: float
    optimiser: float
    activations: float
    buffers: float = 0.0

    @property
    def states(self) -> float:
        """What is held throughout: weights, gradients and optimiser, as the paper counts."""
        return self.weights + self.gradients + self.optimiser

    @property
    def total(self) -> float:
        """All of it at the worst moment."""
        return self.states + self.activations + self.buffers


def estimate(shape: Shape, run: Run, *, world: int) -> Memory:
    """Bytes on each of `world` GPUs in one step of a run."""
    if world < 1:
        raise ValueError(f"world={world}; expected 1 or more GPUs")
    stage, width = run.zero_stage, 4 if run.precision == "fp32" else 2
    trained = trainable(shape, run.method)
    frozen = parameters(shape) if isinstance(run.method, LoRA) else 0
    share = [1 / world if stage >= first else 1.0 for first in range(4)]
    return Memory(
        weights=width * (trained + frozen) * share[3],
        gradients=_gradient_bytes(run) * trained * share[2],
        optimiser=_optimiser_bytes(run) * trained * share[1],
        activations=activations(shape, run),
        buffers=_buffers(shape, run, width),
    )


def _gradient_bytes(run: Run) -> int:
    if run.precision == "pure_bf16":
        return 2
    return 6 if run.precision == "bf16" and run.zero_stage == 1 else 4


def by_stage(shape: Shape, run: Run, *, world: int) -> dict[int, Memory]:
    """The estimate under every ZeRO stage that the run's precision allows."""
    stages: tuple[Literal[0, 1, 2, 3], ...] = (0, 1, 2, 3) if run.precision == "fp32" else (1, 2, 3)
    return {stage: estimate(shape, replace(run, zero_stage=stage), world=world) for stage in stages}


def activations(shape: Shape, run: Run) -> float:
    """Bytes of one micro-batch that wait for the backward pass, at the moment when they are most."""
    width, h = 4 if run.precision == "fp32" else 2, shape.hidden
    block, gradients = block_bytes(shape, run), width * (2 * shape.intermediate + h)
    kept = shape.layers * (width * h if run.speed.recompute else block)
    end = _norm_bytes(shape, run) + width * h + (0 if run.speed.kernels == "fused" else 12 * shape.vocab)
    most = max(end, gradients + (block if run.speed.recompute else 0))
    # Packed documents are kept apart by a mask of one byte for each pair of positions, unless attention is "varlen".
    mask = run.seq_len if isinstance(run.task, IFT) and run.speed.attention == "sdpa" else 0
    return run.micro_batch * run.seq_len * (kept + most + mask)


def block_bytes(shape: Shape, run: Run) -> float:
    """Bytes that one block keeps of one token for the backward pass, without recomputation."""
    w, h, fused = 4 if run.precision == "fp32" else 2, shape.hidden, run.speed.kernels == "fused"
    norm = _norm_bytes(shape, run)
    attention = w * (2 * shape.queries + 2 * shape.keys)
    mlp = w * (3 if fused else 4) * shape.intermediate
    if not isinstance(run.method, LoRA):
        return 2 * norm + 2 * w * h + attention + mlp
    reads = inputs(shape)
    adapted = targets(run.method)
    adapters = w * run.method.rank * len(adapted)
    if run.method.dropout:
        # Each adapter drops out for itself, so nothing is shared; the frozen linear keeps none of its inputs. The
        # product that `down` reads is still made, and freed.
        adapters += sum((w + 1) * reads[name] for name in adapted)
        return 2 * norm + attention + mlp - w * shape.intermediate + adapters
    shared = w * h * bool({"q", "k", "v"} & set(adapted)) + w * h * bool({"gate", "up"} & set(adapted))
    unread = 0 if "down" in adapted else w * shape.intermediate
    return 2 * norm + shared + attention + mlp - unread + adapters


def paper_count(parameters: float, *, adam: bool, lora: bool, world: int, share: float = 0.01) -> Memory:
    """The paper's count (appendix H, Tables S14 to S16): all states divided by the GPUs, no activations.

    fp32 weights 4, gradients 4, Adam 8 or Lion 4 bytes a parameter; under LoRA a frozen base in bf16, 2 bytes, and
    all of the former for the trained `share` of the parameters.
    """
    trained = parameters * share if lora else parameters
    base = 2 * parameters if lora else 0
    return Memory(
        (base + 4 * trained) / world, 4 * trained / world, (8 if adam else 4) * trained / world, activations=0.0
    )


def describe(memory: Memory) -> str:
    """One line in GB of 1e9 bytes.

    >>> describe(Memory(13.5e9, 27e9, 54e9, 8.2e9, 1e9))
    '103.7 GB a GPU: weights 13.5, gradients 27.0, optimiser 54.0, activations 8.2, buffers 1.0'
    """
    parts = ("weights", "gradients", "optimiser", "activations", "buffers")
    listed = ", ".join(f"{name} {amount(getattr(memory, name))}" for name in parts)
    return f"{amount(memory.total)} GB a GPU: {listed}"


def amount(size: float) -> str:
    """Bytes in GB: one decimal, three where it is less than one.

    >>> [amount(size) for size in (103.7e9, 0.0235e9, 4e4, 0)]
    ['103.7', '0.024', '<0.001', '0']
    """
    if 0 < size < GB / 2000:
        return "<0.001"
    return f"{size / GB:.1f}" if size >= GB else f"{size / GB:.3f}" if size else "0"


def _norm_bytes(shape: Shape, run: Run) -> int:
    """Bytes that a norm keeps of one token: what it reads, and the normalised value where its weight is trained."""
    width = 4 if run.precision == "fp32" else 2
    if run.speed.kernels == "fused":
        return width * shape.hidden
    return (4 if isinstance(run.method, LoRA) else 4 + width) * shape.hidden


def _optimiser_bytes(run: Run) -> float:
    """Bytes a trained weight: masters and moments."""
    moments = 2 if isinstance(run.optim, AdamW) else 1
    copied = run.precision == "bf16" or run.zero_stage in (1, 2)
    return (2.0 if run.precision == "pure_bf16" else 4.0) * (moments + copied)


def _buffers(shape: Shape, run: Run, width: int) -> float:
    """Bytes of the largest collective buffers, in the type of the weights."""
    bucket = BUCKET if run.zero_stage >= 2 or (run.zero_stage == 1 and run.precision != "bf16") else 0
    gathered = min(parameters(shape), GATHERED) if run.zero_stage == 3 else 0
    return width * (bucket + gathered)
