"""The claims as data: what is said, which runs decide it, by how much, and what would refute it.

C1 to C12 are the paper's (v2; `claims_main.py`, `claims_sweeps.py`); T1 to T4 are those of "LoRA Without Regret", I1 to
I3 of "LoRA vs Full Fine-tuning: An Illusion of Equivalence", O1 is this project's (`claims_followups.py`, family
"follow-up"). The side studies bring their own (`experiments/sides.py`, family "side study").

A claim has parts; a part is one inequality (or equality) between weighted sums of scores, and is asked once per
setting, per domain or per regime (`experiments/comparisons.py` is the language). `analysis/verdicts.py` computes;
nothing here does.

The rule, fixed before any comparison was looked at. With a 95 % interval of the effect, written so that the paper's
direction is positive, and s the smallest effect of interest:

    greater     supported: low > 0 and effect >= s      not supported: high < 0, or the interval within (-s, s)
    equal       supported: the interval within (-s, s)  not supported: the interval wholly outside
    not less    supported: low > -s                     not supported: high < -s
    otherwise   undecided, which is an answer

Some parts presuppose something, tested by the rule for "greater" and undecided without it. Between models that did
nothing neither a difference nor its absence is a finding: some compared model must have moved from the base. "equal"
presupposes that full fine-tuning itself moved on the axis compared (it can still be refuted). Fronts are compared at
equal learning: both arms must have learnt. Strings can only be lost where the base writes several.
"best" takes each arm's best length on the items that also score it: a bias of up to +.04 for the flatter curve at 80
items and one seed, less with more of either.
A part with several contrasts is supported if all are and not supported if any is not. The same holds for a claim
over its parts; parts with `counts=False` stand beside the claim and do not enter.

Sizes come from the paper's own tables (`claim_sizes.py`), none from this project's runs.
"""

from __future__ import annotations

from experiments.claims_followups import I1, I2, I3, O1, T1, T2, T3, T4
from experiments.claims_main import C1, C2, C3, C4, C7, C8
from experiments.claims_sweeps import C5, C6, C9, C10, C11, C12
from experiments.comparisons import Claim
from experiments.sides import CLAIMS as SIDES

CLAIMS: tuple[Claim, ...] = (C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, T1, T2, T3, T4, I1, I2, I3, O1, *SIDES)
