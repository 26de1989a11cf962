"""Everything that decides one training run, as frozen dataclasses.

A value that training uses and that is not in the `Run` is a bug: the digest of a Run is the identity of
its weights. What is *asked* of the trained weights (`specs.py`) stays outside the digest: asking another question
does not change the answer to the first.

    Run = Task + Method + Optim + Schedule + Budget

Standard library only, so that `python -m experiments plan` starts at once on a machine without torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args

from replication.fields import later, number, require
from replication.method import AdaLoRA, BitFit, Full, Head, LoRA, Method, S2LoRA, Targets, VeRA

__all__ = [
    "ASR", "CPT", "IFT", "SGD", "AdaLoRA", "AdamW", "BitFit", "Branch", "Budget", "Cosine", "Full", "Head", "LionW",
    "LoRA", "Method", "Optim", "Precision", "Run", "S2LoRA", "Schedule", "Sentiment", "Source", "Speed", "Targets",
    "Task", "Trapezoid", "VeRA", "encode", "later", "number", "require",
]  # fmt: skip


# ---------------------------------------------------------------- data


@dataclass(frozen=True)
class Source:
    """Documents from a file, a folder, a hub id or a generator function.

    `where` is tried as `python:module:function`, then as a local path, then as a hub id.
    `columns` renames ("text", "prompt", "response", ...) to the columns of the data.
    `part` splits by document: "heldout" takes every 20th, "train" the others. `max_tokens` ends training data with the
    first document that reaches so many tokens.
    """

    where: str
    split: str = "train"
    name: str | None = None
    revision: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    part: Literal["all", "train", "heldout"] = "all"
    limit: int | None = None
    max_tokens: float | None = later(None)

    def __post_init__(self) -> None:
        require(bool(self.where), "Source.where", self.where, "a path, a hub id or python:module:function")
        require(self.limit is None or self.limit > 0, "Source.limit", self.limit, "positive, or None")
        require(self.part in ("all", "train", "heldout"), "Source.part", self.part, "all, train or heldout")
        wanted = self.max_tokens is None or self.max_tokens > 0
        require(wanted, "Source.max_tokens", self.max_tokens, "positive, or None")


@dataclass(frozen=True)
class CPT:
    """Continued pretraining: documents joined by end-of-text and cut into blocks of `seq_len` tokens."""

    source: Source


@dataclass(frozen=True)
class IFT:
    """Instruction tuning: prompt and response, loss on the response and its end-of-text only.

    `template` is a format string with `{prompt}`, or "chat" for the tokenizer's own chat template. `per_sequence` is
    the most documents that share a sequence (llm-foundry's packing_ratio); None fills each by best fit.
    """

    source: Source
    template: str
    loss_on_prompt: bool = False
    per_sequence: int | None = later(None)

    def __post_init__(self) -> None:
        wanted = self.per_sequence is None or self.per_sequence > 0
        require(wanted, "IFT.per_sequence", self.per_sequence, "a positive integer, or None")


@dataclass(frozen=True)
class ASR:
    """Speech recognition: clips in, transcripts out, loss on the transcript and its end-of-text.

    Columns "audio" and "text". `language` is the one that a multilingual Whisper is told, as in "hindi". A clip longer
    than the model hears, or whose transcript it has no room for, is an error or is left out, with a warning.
    """

    source: Source
    language: str | None = None
    too_long: Literal["error", "leave out"] = later("error")

    def __post_init__(self) -> None:
        require(self.too_long in ("error", "leave out"), "ASR.too_long", self.too_long, "error or leave out")


@dataclass(frozen=True)
class Sentiment:
    """Classification of short texts: columns "text" and "label", a whole number below `labels`; loss on the label."""

    source: Source
    labels: int

    def __post_init__(self) -> None:
        require(self.labels > 1, "Sentiment.labels", self.labels, "two or more classes")


Task = CPT | IFT | ASR | Sentiment

# ---------------------------------------------------------------- optimiser, schedule, budget


@dataclass(frozen=True)
class LionW:
    """Decoupled Lion; `weight_decay` is the share a weight loses per step at the peak rate."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_optim(self)


@dataclass(frozen=True)
class AdamW:
    """AdamW as in torch: the decay is multiplied by the rate. `b_ratio` is LoRA+: B's rate over that of all others."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    eps: float = 1e-8
    b_ratio: float = later(1.0)

    def __post_init__(self) -> None:
        _check_optim(self)
        require(self.b_ratio >= 1, "AdamW.b_ratio", self.b_ratio, "1 or more; LoRA+ starts at 16")


@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum as in torch, to tell what a sign or a second moment does to a change."""

    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_optim(self)


Optim = LionW | AdamW | SGD


@dataclass(frozen=True)
class Trapezoid:
    """Linear warm-up over `warmup` steps, constant, linear to 0 over the last `cooldown` share of all steps."""

    warmup: int
    cooldown: float = 0.2

    def __post_init__(self) -> None:
        require(self.warmup >= 0, "Trapezoid.warmup", self.warmup, "a number of steps")
        require(0 <= self.cooldown <= 1, "Trapezoid.cooldown", self.cooldown, "a share in [0, 1]")


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up over the first `warmup` share of all steps, then a half cosine down to `floor` x lr.

    `whole_steps` rounds the warm-up down to whole steps, as composer does.
    """

    warmup: float = 0.1
    floor: float = 0.01
    whole_steps: bool = later(False)

    def __post_init__(self) -> None:
        require(0 <= self.warmup < 1, "Cosine.warmup", self.warmup, "a share in [0, 1)")
        require(0 <= self.floor <= 1, "Cosine.floor", self.floor, "a share in [0, 1]")


Schedule = Trapezoid | Cosine


@dataclass(frozen=True)
class Budget:
    """How long to train, in steps, tokens (positions of `seq_len`, as the paper counts) or epochs."""

    amount: float
    unit: Literal["steps", "tokens", "epochs"]

    def __post_init__(self) -> None:
        require(self.amount > 0, "Budget.amount", self.amount, "positive")
        require(self.unit in ("steps", "tokens", "epochs"), "Budget.unit", self.unit, "steps, tokens or epochs")

    def label(self) -> str:
        """Name part, as in `tok20b`, `ep4`, `st300`."""
        return {"steps": "st", "tokens": "tok", "epochs": "ep"}[self.unit] + number(self.amount)


@dataclass(frozen=True)
class Branch:
    """Start from a checkpoint of another run: its weights, optimiser state and place in the data."""

    parent: str
    at_tokens: int


# ---------------------------------------------------------------- run

Precision = Literal["fp32", "bf16", "pure_bf16"]
# The code CPT setting's 1e-6 is part of the setting; the regularisation runs' 5e-5 and 1e-4 are what is varied.
WD_UNNAMED = 1e-5


@dataclass(frozen=True)
class Speed:
    """What makes a step cheaper and leaves its mathematics alone; results differ by rounding only.

    `recompute`: activations of a block are computed again in the backward pass. `kernels`: "fused" takes liger-kernel's
    modules and a loss that never holds all logits (CUDA); "liger" its modules alone, "cut" the loss alone (on a CPU
    too). `attention`: "varlen" attends document by document, without a mask. `compile` is torch.compile. `optimiser`
    is how torch's own step their tensors: in one kernel ("fused"), as lists ("foreach"), one after the other ("loop"),
    or as suits the device.
    """

    recompute: bool = False
    kernels: Literal["reference", "fused", "liger", "cut"] = "reference"
    attention: Literal["sdpa", "varlen"] = "sdpa"
    compile: bool = later(False)
    optimiser: Literal["default", "fused", "foreach", "loop"] = later("default")

    def __post_init__(self) -> None:
        kernels, attention = ("reference", "fused", "liger", "cut"), ("sdpa", "varlen")
        require(self.kernels in kernels, "Speed.kernels", self.kernels, ", ".join(kernels))
        require(self.attention in attention, "Speed.attention", self.attention, "sdpa or varlen")
        kinds = ("default", "fused", "foreach", "loop")
        require(self.optimiser in kinds, "Speed.optimiser", self.optimiser, ", ".join(kinds))

    def words(self) -> list[str]:
        """Name parts of what only a study of speed varies."""
        kernels = [self.kernels] if self.kernels in ("liger", "cut") else []
        optimiser = [] if self.optimiser == "default" else [self.optimiser]
        return [*kernels, *(["compile"] if self.compile else []), *optimiser]


@dataclass(frozen=True)
class Run:
    """One training run, complete. `ladder` lists where checkpoints are kept, in the unit of the budget.

    "bf16" computes in bf16 over fp32 masters. "pure_bf16" has no masters, so that most steps of a small rate are
    rounded away: an ablation, to show what that does. `attention_dropout` drops attention weights while training.
    `base_bits` of 8 holds the base's linears in 8 bits (LLM.int8, extra `int8`), for LoRA, which leaves them alone.
    """

    scale: str
    study: str
    task: Task
    model: str
    method: Method
    optim: Optim
    schedule: Schedule
    budget: Budget
    global_batch: int
    seq_len: int
    micro_batch: int
    seed: int = 0
    tokenizer: str | None = None
    branch: Branch | None = None
    ladder: tuple[float, ...] = ()
    grad_clip: float = 1.0
    precision: Precision = "fp32"
    zero_stage: Literal[0, 1, 2, 3] = 0
    evals: tuple[str, ...] = ()
    attention_dropout: float = later(0.0)
    speed: Speed = later(Speed())
    base_bits: Literal[8] | None = later(None)

    def __post_init__(self) -> None:
        for name in ("global_batch", "seq_len", "micro_batch"):
            require(getattr(self, name) > 0, f"Run.{name}", getattr(self, name), "a positive integer")
        require(self.seed >= 0, "Run.seed", self.seed, "0 or more")
        require(self.grad_clip > 0, "Run.grad_clip", self.grad_clip, "positive")
        require(self.precision in get_args(Precision), "Run.precision", self.precision, "fp32, bf16 or pure_bf16")
        require(self.zero_stage in (0, 1, 2, 3), "Run.zero_stage", self.zero_stage, "0, 1, 2 or 3")
        # DeepSpeed keeps fp32 masters of bf16 weights, and fp32 sums of their gradients, from stage 1 on.
        staged = self.precision == "fp32" or self.zero_stage > 0
        require(staged, "Run.zero_stage", self.zero_stage, "1 or more with bf16")
        # They change weights between steps, which under ZeRO are copies of masters that lie elsewhere, in pieces.
        whole = self.zero_stage == 0 or not isinstance(self.method, (AdaLoRA, S2LoRA))
        require(whole, "Run.zero_stage", self.zero_stage, f"0 with {type(self.method).__name__}")
        # ZeRO-3's hooks, which gather a weight around its module's call, are what dynamo will not trace.
        traced = not (self.speed.compile and self.zero_stage == 3)
        require(traced, "Run.zero_stage", self.zero_stage, "0, 1 or 2 with Speed.compile")
        require(self.base_bits in (None, 8), "Run.base_bits", self.base_bits, "8, or nothing for whole weights")
        adapted = isinstance(self.method, LoRA) and not isinstance(self.task, Sentiment) and self.zero_stage < 3
        expected = "for LoRA, without a new head, up to ZeRO-2: all else changes the base"
        require(self.base_bits is None or adapted, "Run.base_bits", self.base_bits, expected)
        require(0 <= self.attention_dropout < 1, "Run.attention_dropout", self.attention_dropout, "in [0, 1)")
        require(self.tokenizer is None or isinstance(self.tokenizer, str), "Run.tokenizer", self.tokenizer, "a name")
        if self.branch is not None:
            ends = self.budget.unit != "tokens" or self.branch.at_tokens < self.budget.amount
            require(ends, "Run.budget.amount", self.budget.amount, f"more than the branch's {self.branch.at_tokens}")
        if self.global_batch % self.micro_batch:
            raise ValueError(
                f"Run.global_batch={self.global_batch} is not a multiple of micro_batch={self.micro_batch}"
            )

    @property
    def is_trunk(self) -> bool:
        """Whether the run is never cooled down: it exists to be branched from."""
        return isinstance(self.schedule, Trapezoid) and self.schedule.cooldown == 0

    def name(self) -> str:
        """Readable and unique within a scale: `ift_code/lora-r64-all-lr2e-4-ep4-s0`."""
        optim = "" if isinstance(self.optim, LionW) else f"-{type(self.optim).__name__.lower()}"
        trunk = "trunk-" if self.is_trunk else ""
        extra = "".join(f"-{word}" for word in self._extras())
        parts = [self.method.label() + optim, f"lr{number(self.optim.lr)}{extra}", trunk + self.budget.label()]
        return f"{self.study}/{'-'.join(parts)}-s{self.seed}"

    def variant(self) -> str:
        """What sets the run apart from others of its method, rate and length: "adamw", "wd1e-4"; "" if nothing does."""
        optim = [] if isinstance(self.optim, LionW) else [type(self.optim).__name__.lower()]
        return "-".join([*optim, *self._extras()])

    def _extras(self) -> list[str]:
        pure = ["purebf16"] if self.precision == "pure_bf16" else []
        decay = [f"wd{number(self.optim.weight_decay)}"] if self.optim.weight_decay > WD_UNNAMED else []
        dropout = [f"ad{number(self.attention_dropout)}"] if self.attention_dropout else []
        bits = ["int8"] if self.base_bits == 8 else []
        plus = (
            [f"plus{number(self.optim.b_ratio)}"] if isinstance(self.optim, AdamW) and self.optim.b_ratio != 1 else []
        )
        padded = ["padded"] if isinstance(self.task, IFT) and self.task.per_sequence == 1 else []
        return [*pure, *decay, *dropout, *bits, *plus, *padded, *self.speed.words()]

    def steps(self, amount: float, *, sequences_per_epoch: int) -> int:
        """Optimiser steps in an amount of the budget's unit; at least one."""
        if self.budget.unit == "steps":
            return max(1, round(amount))
        per_epoch = self.seq_len if self.budget.unit == "tokens" else 1 / sequences_per_epoch
        return max(1, round(amount / (self.global_batch * per_epoch)))

    def digest(self) -> str:
        """Eight hex digits over everything that decides the weights; evals are left out."""
        content = {k: v for k, v in encode(self, sparse=True).items() if k != "evals"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


# ---------------------------------------------------------------- encoding


def encode(value: Any, *, sparse: bool = False) -> Any:
    """Plain JSON values; a dataclass becomes a dict with its class under "kind".

    `sparse` leaves out what was added later and stands at its default, which keeps digests.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kept = [
            f for f in fields(value) if not (sparse and f.metadata.get("later") and getattr(value, f.name) == f.default)
        ]
        return {"kind": type(value).__name__} | {f.name: encode(getattr(value, f.name), sparse=sparse) for f in kept}
    if isinstance(value, (tuple, list)):
        return [encode(v, sparse=sparse) for v in value]
    return value


def _check_optim(optim: Optim) -> None:
    kind = type(optim).__name__
    require(0 < optim.lr < 10, f"{kind}.lr", optim.lr, "in (0, 10)")
    if isinstance(optim, SGD):
        require(0 <= optim.momentum < 1, f"{kind}.momentum", optim.momentum, "a share in [0, 1)")
    else:
        require(all(0 <= b < 1 for b in optim.betas), f"{kind}.betas", optim.betas, "two shares in [0, 1)")
    require(0 <= optim.weight_decay < 1, f"{kind}.weight_decay", optim.weight_decay, "in [0, 1)")
