"""How a model is made trainable, as frozen dataclasses; `methods/` does it. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from replication.fields import number, require


@dataclass(frozen=True)
class Full:
    """Full fine-tuning: every weight is trained."""

    def label(self) -> str:
        """Name part, as in `full`."""
        return "full"


# A word for linears of every block, or their own names joined by "+", as in "q_proj+v_proj".
Targets = str
TARGETS = ("all", "attention", "mlp", "all-nogate", "mlp-nogate")


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
        _check_targets(self.targets, "LoRA.targets")
        require(self.alpha > 0, "LoRA.alpha", self.alpha, "positive; the paper uses 2 x rank")
        require(0 <= self.dropout < 1, "LoRA.dropout", self.dropout, "in [0, 1)")

    def label(self) -> str:
        """Name part, as in `lora-r64-all`; alpha is named where it is not 2 x rank."""
        alpha = "" if self.alpha == 2 * self.rank else f"-a{number(self.alpha)}"
        return f"lora-r{self.rank}-{self.targets}{alpha}"


@dataclass(frozen=True)
class AdaLoRA:
    """LoRA whose ranks are learnt: W + (alpha / rank) P diag(l) Q, pruned by importance from `rank` to `target_rank`.

    `target_rank` is the mean over matrices. Shares of all steps: the budget stays whole until `warm`, and is final
    `cool` before the end; ranks are given out anew every `every` steps. `orthogonality` weighs the penalty on P and Q.
    """

    rank: int
    target_rank: int
    alpha: float
    targets: Targets = "all"
    dropout: float = 0.0
    warm: float = 0.1
    cool: float = 0.3
    every: int = 1
    orthogonality: float = 0.5

    def __post_init__(self) -> None:
        require(self.rank > 0, "AdaLoRA.rank", self.rank, "a positive integer")
        require(0 < self.target_rank <= self.rank, "AdaLoRA.target_rank", self.target_rank, f"1 to {self.rank}")
        require(self.every > 0, "AdaLoRA.every", self.every, "a number of steps")
        shares = min(self.warm, self.cool) >= 0 and self.warm + self.cool < 1
        require(shares, "AdaLoRA.warm, cool", (self.warm, self.cool), "shares of all steps, together under 1")
        require(self.orthogonality >= 0, "AdaLoRA.orthogonality", self.orthogonality, "0 or more")
        _check_targets(self.targets, "AdaLoRA.targets")

    def label(self) -> str:
        """Name part, as in `adalora-r12to8-all`; what is not as usual is named: alpha beside 2 x rank, the schedule."""
        words = [] if self.alpha == 2 * self.rank else [f"a{number(self.alpha)}"]
        own, usual = (self.warm, self.cool, self.every), (AdaLoRA.warm, AdaLoRA.cool, AdaLoRA.every)
        words += ["t" + "x".join(map(number, own))] if own != usual else []
        words += [f"o{number(self.orthogonality)}"] if self.orthogonality != AdaLoRA.orthogonality else []
        return "-".join([f"adalora-r{self.rank}to{self.target_rank}-{self.targets}", *words])


@dataclass(frozen=True)
class S2LoRA:
    """Sparsely shared LoRA: W_l + scale B diag(l_l) A, with A and B shared by all matrices of one shape.

    Our reconstruction of arXiv 2309.11756, of which only the abstract was at hand. `sparsity` weighs the L1 penalty on
    the coefficients l, applied as a soft threshold after every step, so that they reach exact zeros; `orthogonality`
    the penalty on A and B; `unit` rescales rows of A and columns of B to unit length after every step, so that the
    penalty cannot be escaped by a larger B; `start` says what is zero at first: the coefficients, or B. `scale`
    multiplies the change, as alpha / r does in LoRA.
    """

    rank: int
    scale: float = 1.0
    targets: Targets = "all"
    sparsity: float = 0.0
    orthogonality: float = 0.0
    unit: bool = False
    start: Literal["coefficients", "b"] = "coefficients"

    def __post_init__(self) -> None:
        require(self.rank > 0, "S2LoRA.rank", self.rank, "a positive integer")
        require(self.scale > 0, "S2LoRA.scale", self.scale, "positive")
        require(self.sparsity >= 0, "S2LoRA.sparsity", self.sparsity, "0 or more")
        require(self.orthogonality >= 0, "S2LoRA.orthogonality", self.orthogonality, "0 or more")
        require(self.start in ("coefficients", "b"), "S2LoRA.start", self.start, "coefficients or b")
        fits = not (self.unit and self.start == "b")
        require(fits, "S2LoRA.unit", self.unit, "False where B starts at zero: its columns have no length to keep")
        _check_targets(self.targets, "S2LoRA.targets")

    def label(self) -> str:
        """Name part, as in `s2lora-r8-all-l1e-3`; switches are named where they are on."""
        words = [f"l{number(self.sparsity)}"] if self.sparsity else []
        words += [f"o{number(self.orthogonality)}"] if self.orthogonality else []
        words += ["unit"] if self.unit else []
        words += ["b0"] if self.start == "b" else []
        words += [f"x{number(self.scale)}"] if self.scale != 1 else []
        return "-".join([f"s2lora-r{self.rank}-{self.targets}", *words])


@dataclass(frozen=True)
class VeRA:
    """W + diag(b) B diag(d) A with random A and B, frozen and shared by all matrices; b and d are trained (PEFT's)."""

    rank: int
    targets: Targets = "all"

    def __post_init__(self) -> None:
        require(self.rank > 0, "VeRA.rank", self.rank, "a positive integer")
        _check_targets(self.targets, "VeRA.targets")

    def label(self) -> str:
        """Name part, as in `vera-r64-all`."""
        return f"vera-r{self.rank}-{self.targets}"


@dataclass(frozen=True)
class BitFit:
    """Only the biases are trained, and a classifier's head where there is one."""

    def label(self) -> str:
        """Name part."""
        return "bitfit"


@dataclass(frozen=True)
class Head:
    """Only a classifier's head is trained, on the features of a model that stays as it is."""

    def label(self) -> str:
        """Name part."""
        return "head"


Method = Full | LoRA | AdaLoRA | S2LoRA | VeRA | BitFit | Head


def _check_targets(targets: Targets, field: str) -> None:
    # One name alone needs more than letters, or any misspelt word would pass for a linear.
    named = all(word.isidentifier() for word in targets.split("+")) and not targets.isalpha()
    expected = f"one of {', '.join(TARGETS)}, or names of linears joined by +, as in q_proj+v_proj"
    require(targets in TARGETS or named, field, targets, expected)
