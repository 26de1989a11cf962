"""Testable claims of two follow-ups, and a question of our own.

T1 to T4: "LoRA Without Regret" (Schulman and Thinking Machines, 29 Sep 2025). I1 to I3: "LoRA vs Full Fine-tuning: An
Illusion of Equivalence" (Shuttleworth et al., arXiv 2410.21228). O1 asks whether C8's high rank is the optimiser's.
"""

from __future__ import annotations

from experiments.claim_sizes import (
    CORRELATION,
    DOUBLINGS,
    FACTOR_OF_TWO,
    FORGETTING,
    INTRUDERS,
    LEARNING,
    MATCH,
    NATS,
    SIGN_SHARE,
)
from experiments.comparisons import Claim, Contrast, Measured, Part, Rule, Scores, Term

REGRET = "LoRA Without Regret"
ILLUSION = "An Illusion of Equivalence (arXiv 2410.21228)"

T1 = Claim(
    "T1",
    "LoRA's best learning rate is about ten times that of full fine-tuning.",
    f"{REGRET}: 9.8 times, over 14 models",
    (
        Part(
            "ten times the rate",
            "The best rate of LoRA is ten times that of full fine-tuning, within a factor of two (the same number as "
            "in C11, of the two claims one piece of evidence).",
            Measured("lr_ratio_mean", reference=1.0),
            "equal",
            FACTOR_OF_TWO,
            "powers of ten above a factor of 10",
            "A ratio below 5 or above 20.",
        ),
    ),
    family="follow-up",
)

T2 = Claim(
    "T2",
    "LoRA's best learning rate hardly depends on the rank.",
    f"{REGRET}: less than a factor of two from rank 4 to 512",
    (
        Part(
            "same rate at every rank",
            "The best rates of the lowest rank from 4 on and the highest are within a factor of two. There alpha is "
            "fixed, so the scale alpha / r falls with rank; here alpha = 2 r.",
            Measured("lr_rank_spread"),
            "equal",
            DOUBLINGS,
            "doublings",
            "Best rates more than a factor of two apart.",
        ),
    ),
    family="follow-up",
)


def _matched(name: str, statement: str, left: str, right: str, rule: Rule, size: float, refuted_by: str) -> Part:
    """Two choices of linears with equal numbers of trained weights, each at the better of its rates."""
    terms = tuple(
        Term(weight, "matched", "shared", variant=variant, rate="best") for weight, variant in ((1, left), (-1, right))
    )
    return Part(
        name, statement, Scores((Contrast("learning", terms),)), rule, size, "score", refuted_by, regime="ift",
        domain="code", ablation="matched",
    )  # fmt: skip


T3 = Claim(
    "T3",
    "With equal numbers of trained weights, adapters on the MLP match those on all linears and beat attention's.",
    f"{REGRET}: layers",
    (
        _matched(
            "MLP matches all, equal weights",
            "Adapters on the MLP score as adapters on all linears with as many weights.",
            "mlp",
            "all",
            "equal",
            MATCH,
            "A gap wider than the margin, either way.",
        ),
        _matched(
            "MLP above attention, equal weights",
            "Adapters on the MLP score above adapters on attention with as many weights.",
            "mlp",
            "attention",
            "greater",
            LEARNING,
            "Attention learning as much with as many weights.",
        ),
    ),
    family="follow-up",
    lacking="study of linears at equal numbers of weights (`.matched`)",
)

T4 = Claim(
    "T4",
    "The more bits the data hold for each weight of a rank, the further it falls behind full fine-tuning.",
    f"{REGRET}: capacity (2 bits a weight, Allen-Zhu and Li)",
    (
        Part(
            "capacity predicts the gap",
            "Over settings and ranks, the gap to full fine-tuning rises with data bits over capacity (rank "
            "correlation).",
            Measured("capacity_predicts", pooled=True),
            "greater",
            CORRELATION,
            "rank correlation",
            "Gaps that do not follow capacity.",
        ),
    ),
    family="follow-up",
)

I1 = Claim(
    "I1",
    "In instruction tuning LoRA writes more intruder dimensions, singular vectors unlike the base's, than full does.",
    f"{ILLUSION}: section 3",
    (
        Part(
            "LoRA above full",
            "After the longest training, LoRA (mean of ranks) has more intruders per matrix than full fine-tuning.",
            Measured("intruders_lora_above_full"),
            "greater",
            INTRUDERS,
            "intruders per matrix",
            "Full fine-tuning with as many.",
            regime="ift",
        ),
        Part(
            "LoRA above full in CPT",
            "The same after continued pretraining, of which the follow-up has no runs.",
            Measured("intruders_lora_above_full"),
            "greater",
            INTRUDERS,
            "intruders per matrix",
            "Full fine-tuning with as many.",
            regime="cpt",
            counts=False,
        ),
        Part(
            "more than its size explains",
            "LoRA has more intruders per matrix than a random change of the same size.",
            Measured("intruders_lora_above_matched"),
            "greater",
            INTRUDERS,
            "intruders per matrix",
            "Random changes of the same size with as many.",
            counts=False,
        ),
    ),
    family="follow-up",
)

I2 = Claim(
    "I2",
    "The more intruders, the more has been forgotten.",
    f"{ILLUSION}: Spearman .59 over Llama-2-7B checkpoints",
    (
        Part(
            "intruders go with forgetting",
            "Over LoRA's ranks and lengths, more intruders go with more forgetting (rank correlation within settings, "
            "their mean), beyond what both share with length.",
            Measured("intruders_vs_forgetting", pooled=True),
            "greater",
            CORRELATION,
            "rank correlation",
            "Forgetting that does not follow intruders.",
        ),
        Part(
            "the size of the change goes with forgetting",
            "The same with the size of the change in place of intruders: the plain rival.",
            Measured("change_vs_forgetting", pooled=True),
            "greater",
            CORRELATION,
            "rank correlation",
            "Forgetting that does not follow the size of the change.",
            counts=False,
        ),
    ),
    family="follow-up",
)

I3 = Claim(
    "I3",
    "Scaling the first intruder down gives back what was forgotten at little cost to what was learnt.",
    f"{ILLUSION}: MetaMath at half its size, forgetting -22 to -40 %, accuracy -7 to +2 %",
    (
        Part(
            "forgetting goes down",
            "Halving the first intruder of every matrix gives back some of what was forgotten.",
            Measured("scaling_forgetting_alone"),
            "greater",
            FORGETTING,
            "score",
            "A run that keeps as much with its first intruders whole.",
        ),
        # A direction of the base: halving it takes knowledge away, so this alone would not show that anything returns.
        Part(
            "more than from its neighbour",
            "Halving the first intruder of every matrix gives back more than halving its neighbour.",
            Measured("scaling_forgetting"),
            "greater",
            FORGETTING,
            "score",
            "The neighbour giving back as much.",
        ),
        Part(
            "forgetting goes down, by loss",
            "The same as the first part, on the held-out loss of the source text, as the follow-up measured it.",
            Measured("scaling_source_loss_alone"),
            "greater",
            NATS,
            "nats per token",
            "A run with as low a loss with its first intruders whole.",
            counts=False,
        ),
        Part(
            "the target stays",
            "Halving the first intruder of every matrix costs the target no more than the margin.",
            Measured("scaling_target"),
            "not less",
            MATCH,
            "score",
            "A loss on the target of more than the margin.",
        ),
    ),
    family="follow-up",
)

O1 = Claim(
    "O1",
    "Part of the high rank of full fine-tuning's change is the optimiser's sign: at equal loss SGD's has a lower.",
    "this project; C8 with a control",
    (
        Part(
            "LionW above SGD",
            "At equal target loss, the change under LionW has a higher rank, as a share of pure noise's, than under "
            "SGD.",
            Measured("artefact_sign"),
            "greater",
            SIGN_SHARE,
            "share of noise rank",
            "SGD making changes of as high a rank.",
            regime="cpt",
            domain="code",
        ),
        Part(
            "LionW above AdamW",
            "The same against AdamW, whose steps are nearly signs.",
            Measured("artefact_adam"),
            "greater",
            SIGN_SHARE,
            "share of noise rank",
            "AdamW making changes of as high a rank.",
            regime="cpt",
            domain="code",
            counts=False,
        ),
    ),
    family="follow-up",
)
