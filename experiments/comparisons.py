"""The language that the claims are written in: scores with weights, contrasts, parts, claims.

Arms, lengths, rates and variants are named by role (`high` = the highest LoRA rank of the scale, `long` = the longest
training), so one claim is asked of every scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# "each" stands for every LoRA rank in turn, "ranks" for their mean, "arms" for the mean of the ranks and full.
# "matched" is the arm of a variant in the study of equal numbers of trained weights.
Arm = Literal["full", "low", "middle", "high", "each", "ranks", "arms", "base", "matched"]
# "best" is the length at which that arm learnt most, as the paper reads its curves; "shared" the longest at which all
# compared runs were trained.
At = Literal["short", "middle", "long", "best", "shared"]
# The setting's own rate of the arm; the one with the lowest held-out target loss; every rate of its sweep in turn.
Rate = Literal["own", "best", "each"]
Axis = Literal[
    "learning", "forgetting", "source_loss", "target_loss", "unique_correct", "unique_incorrect", "mmlu", "mt_bench"
]
Quantity = Literal["above_lora_ranks", "grows", "mlp_above_attention", "ends_below_middle"]
Rule = Literal["greater", "equal", "not less"]


@dataclass(frozen=True)
class Term:
    """A score with its weight; regime and domain are those of the row asked unless given.

    `variant` sets a run apart from the arm of that name in its setting: "attention" or "mlp" (linears), or a role:
    "alpha=r", "alpha=fixed" (that of the scale), "wd-low", "wd-high", "ad-low", "ad-high" (regularisation).
    """

    weight: float
    arm: Arm
    at: At
    regime: Literal["cpt", "ift"] | None = None
    domain: str | None = None
    variant: str = ""
    rate: Rate | float = "own"


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
class Measured:
    """Decided by a named estimate of another analysis (`*_effects.jsonl`), less `reference`.

    `trained` is False for what does not depend on what a model learnt, such as speed and memory. `pooled` asks the
    estimate over all settings in place of one in each. `beside` marks a side study's: its own analysis looks whether
    its models moved, and its seeds are its own.
    """

    quantity: str
    reference: float = 0.0
    trained: bool = True
    pooled: bool = False
    beside: bool = False


Measure = Scores | Front | Spectra | Measured


@dataclass(frozen=True)
class Part:
    """One inequality. `regime` and `domain` say where it is asked; `each` what one row of verdicts stands for.

    `ablation` names the study that it needs beside the setting's own ("alpha"); `on_the_way` parts are asked of
    settings whose one run is scored at several lengths, the others of settings with a run for each.
    """

    id: str
    statement: str
    measure: Measure
    rule: Rule
    smallest: float
    unit: str
    refuted_by: str
    each: Literal["setting", "domain", "regime"] = "setting"
    regime: Literal["cpt", "ift"] | None = None
    domain: str | None = None
    counts: bool = True
    ablation: str = ""
    on_the_way: bool = False


@dataclass(frozen=True)
class Claim:
    """A claim with its place in the paper (or in a follow-up) and its parts.

    `lacking` says what a scale lacks at which no part can be asked.
    """

    id: str
    statement: str
    source: str
    parts: tuple[Part, ...]
    family: Literal["paper", "follow-up", "side study"] = "paper"
    lacking: str = "settings to compare"


@dataclass(frozen=True)
class Question:
    """One comparison of two arms of a side study; its estimate is what a part's `Measured(quantity)` refers to.

    `left` and `right` are arms of the study, or "base". `metric` is one of the eval's, paired by item and seed; of the
    eval "run" it is a cost in the table of runs, such as "step_seconds". `kind`: left - right, the share of right that
    left saves (1 - left / right), or left by itself.
    """

    quantity: str
    left: str
    right: str
    eval: str
    metric: str
    kind: Literal["difference", "saved", "value"] = "difference"
