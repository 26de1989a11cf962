"""The rule of `experiments/claims.py` for one effect: its answer, its p values, and what a design can find.

Each p value is one-sided and agrees with the 95 % interval: below .025 exactly where the interval's bound is on the
right side of the threshold that the rule names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from experiments.comparisons import Rule
from replication.stats import Estimate, detectable, p_above, p_below

Answer = Literal["supported", "not supported", "undecided"]
SIGNS = {"supported": "✓", "not supported": "✗", "undecided": "?"}
NOT_ASKED = "–"  # undecided for want of any row, which is no finding
NORMAL_80, NORMAL_90 = 0.8416, 1.2816  # quantiles of the normal distribution


def answer(est: Estimate, rule: Rule, smallest: float) -> Answer:
    """The verdict for one effect with the smallest effect of interest."""
    inside = -smallest < est.low and est.high < smallest
    outside = est.low > smallest or est.high < -smallest
    if rule == "equal":
        return "supported" if inside else "not supported" if outside else "undecided"
    if rule == "not less":
        return "supported" if est.low > -smallest else "not supported" if est.high < -smallest else "undecided"
    if est.low > 0 and est.value >= smallest:
        return "supported"
    return "not supported" if est.high < 0 or inside else "undecided"


def together(answers: Sequence[Answer]) -> Answer:
    """Supported if all are, not supported if any is not, else undecided."""
    if "not supported" in answers:
        return "not supported"
    return "supported" if answers and all(a == "supported" for a in answers) else "undecided"


def is_asked(row: Mapping[str, Any]) -> bool:
    """Whether a row of verdicts, a part's or a claim's, rests on any number at all."""
    return row["p_against"] is not None


def sign(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sign for several parts together: what refutes goes first; nothing where there are none."""
    if not rows:
        return ""
    if not any(is_asked(row) for row in rows):
        return NOT_ASKED
    return SIGNS[together([row["answer"] for row in rows])]


def p_support(est: Estimate, rule: Rule, smallest: float) -> float:
    """How likely an effect on the edge of what the rule excludes would support as clearly; for "equal" of two tests."""
    if rule == "equal":
        return max(p_above(est, -smallest), p_below(est, smallest))
    return p_above(est, 0.0 if rule == "greater" else -smallest)


def p_against(est: Estimate, rule: Rule, smallest: float) -> float:
    """How likely an effect of which the rule holds would refute it as clearly."""
    if rule == "equal":
        return min(p_above(est, smallest), p_below(est, -smallest))
    if rule == "not less":
        return p_below(est, -smallest)
    # Below zero, or known to be too small either way; both imply an effect below the smallest of interest.
    return min(p_below(est), max(p_below(est, smallest), p_above(est, -smallest)))


def detects(est: Estimate, rule: Rule, smallest: float) -> float:
    """What a design with these errors finds in 80 % of studies.

    For "greater" the smallest true effect called supported, which must also reach `smallest`; for "equal" and "not
    less" the smallest margin at which a true effect of 0 is called supported.
    """
    if rule == "greater":
        return max(est.mde, smallest + NORMAL_80 * est.stderr)
    if rule == "not less":
        return est.mde
    # Two bounds must hold at once, each in 90 %.
    if est.seeds == 1 or est.item_error == est.seed_error == 0:
        return est.mde + (NORMAL_90 - NORMAL_80) * est.stderr
    of_seeds = math.sqrt(max(est.stderr**2 - est.item_error**2, 0.0))  # what mde is computed from too
    return max(est.mde, detectable(est.item_error, of_seeds, seeds=est.seeds, items=est.items, power=0.9))
