"""The language that the claims are written in: scores with weights, contrasts, parts, claims.

Arms and lengths are named by role (`high` = the highest LoRA rank of the scale, `long` = the longest training), so
one claim is asked of every scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# "each" stands for every LoRA rank in turn, "ranks" for their mean, "arms" for the mean of the ranks and full.
Arm = Literal["full", "low", "middle", "high", "each", "ranks", "arms", "base"]
# "best" is the length at which that arm learnt most, as the paper reads its curves.
At = Literal["short", "long", "best"]
Axis = Literal["learning", "forgetting", "source_loss", "target_loss", "unique_correct", "unique_incorrect"]
Quantity = Literal["above_lora_ranks", "grows", "mlp_above_attention", "ends_below_middle"]
Rule = Literal["greater", "equal", "not less"]


@dataclass(frozen=True)
class Term:
    """A score with its weight; regime and domain are those of the row asked unless given."""

    weight: float
    arm: Arm
    at: At
    regime: Literal["cpt", "ift"] | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of scores on one axis, positive in the paper's direction."""

    axis: Axis
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Scores:
    """Decided by score rows: every contrast must hold."""

    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True)
class Front:
    """Decided by the trade-off: forgetting score of `left` minus `right` at equal learning, along their fronts."""

    left: Arm
    right: Arm


@dataclass(frozen=True)
class Spectra:
    """Decided by the spectra of the change made by full fine-tuning."""

    quantity: Quantity


@dataclass(frozen=True)
class Part:
    """One inequality. `regime` and `domain` say where it is asked; `each` what one row of verdicts stands for."""

    id: str
    statement: str
    measure: Scores | Front | Spectra
    rule: Rule
    smallest: float
    unit: str
    refuted_by: str
    each: Literal["setting", "domain", "regime"] = "setting"
    regime: Literal["cpt", "ift"] | None = None
    domain: str | None = None
    counts: bool = True


@dataclass(frozen=True)
class Claim:
    """A claim of the paper with its place there and its parts."""

    id: str
    statement: str
    source: str
    parts: tuple[Part, ...]
