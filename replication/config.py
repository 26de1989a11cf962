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
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args


def later(default: Any) -> Any:
    """A field added after runs were made: it enters the digest only where it is not at its default.

    So the digests of those runs, and the rows that quote them, stay what they were.
    """
    return field(default=default, metadata={"later": True})


def require(holds: bool, field: str, value: object, expected: str) -> None:
    """Refuse a value out of range, by the name of its field and with what was expected.

    Raises:
        ValueError: unless `holds`.
    """
    if not holds:
        raise ValueError(f"{field}={value!r}; expected {expected}")


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


Task = CPT | IFT

# ---------------------------------------------------------------- method


@dataclass(frozen=True)
class Full:
    """Full fine-tuning: every weight is trained."""

    def label(self) -> str:
        """Name part, as in `full`."""
        return "full"


Targets = Literal["all", "attention", "mlp", "all-nogate", "mlp-nogate"]


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation: W + (alpha / rank) B A, with B (out, rank) and A (rank, in).

    The targets that end in "-nogate" leave the MLP's gate alone, as the paper's first version did.
    """

    rank: int
    alpha: float
    targets: Targets = "all"
    dropout: float = 0.05

    def __post_init__(self) -> None:
        require(self.rank > 0, "LoRA.rank", self.rank, "a positive integer")
        require(
            self.targets in get_args(Targets), "LoRA.targets", self.targets, "one of " + ", ".join(get_args(Targets))
        )
        require(self.alpha > 0, "LoRA.alpha", self.alpha, "positive; the paper uses 2 x rank")
        require(0 <= self.dropout < 1, "LoRA.dropout", self.dropout, "in [0, 1)")

    def label(self) -> str:
        """Name part, as in `lora-r64-all`; alpha is named where it is not 2 x rank."""
        alpha = "" if self.alpha == 2 * self.rank else f"-a{number(self.alpha)}"
        return f"lora-r{self.rank}-{self.targets}{alpha}"


Method = Full | LoRA

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
    """AdamW as in torch: the decay is multiplied by the rate."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_optim(self)


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
    modules and a loss that never holds all logits (CUDA). `attention`: "varlen" attends document by document, without
    a mask.
    """

    recompute: bool = False
    kernels: Literal["reference", "fused"] = "reference"
    attention: Literal["sdpa", "varlen"] = "sdpa"

    def __post_init__(self) -> None:
        require(self.kernels in ("reference", "fused"), "Speed.kernels", self.kernels, "reference or fused")
        require(self.attention in ("sdpa", "varlen"), "Speed.attention", self.attention, "sdpa or varlen")


@dataclass(frozen=True)
class Run:
    """One training run, complete. `ladder` lists where checkpoints are kept, in the unit of the budget.

    "bf16" computes in bf16 over fp32 masters. "pure_bf16" has no masters, so that most steps of a small rate are
    rounded away: an ablation, to show what that does. `attention_dropout` drops attention weights while training.
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
        return [*pure, *decay, *([f"ad{number(self.attention_dropout)}"] if self.attention_dropout else [])]

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


# ---------------------------------------------------------------- names, encoding


def number(value: float) -> str:
    """The one spelling of a number in names: 2e-4, 0.5, 16, 300k, 20b.

    >>> [number(v) for v in (0.0002, 16, 614400, 20e9, 0.5, 0.25e9)]
    ['2e-4', '16', '614.4k', '20b', '0.5', '250m']
    """
    for size, letter in ((1e9, "b"), (1e6, "m"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{letter}"
    if value and abs(value) < 0.1:
        mantissa, exponent = f"{value:.6e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}"


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
