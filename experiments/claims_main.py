"""The paper's main claims, C1 to C4, C7 and C8: learning, forgetting, the trade-off, diversity, the spectra."""

from __future__ import annotations

from typing import Literal

from experiments.claim_sizes import DOUBLINGS, FORGETTING, LEARNING, MATCH, NATS, NOISE_SHARE, STRINGS
from experiments.comparisons import Arm, At, Axis, Claim, Contrast, Front, Measured, Part, Scores, Spectra, Term


def gap(axis: Axis, left: Arm, right: Arm, at: At) -> Scores:
    """Left minus right at one length."""
    return Scores((Contrast(axis, (Term(1, left, at), Term(-1, right, at))),))


def change_of_gap(axis: Axis, left: Arm, right: Arm, wide: At, narrow: At) -> Scores:
    """Left minus right at one length, less the same at another."""
    terms = (Term(1, left, wide), Term(-1, right, wide), Term(-1, left, narrow), Term(1, right, narrow))
    return Scores((Contrast(axis, terms),))


C1 = Claim(
    "C1",
    "In continued pretraining LoRA learns less than full fine-tuning at every rank, and the gap grows with data.",
    "v2 section 4.1, Figure 1 A and C, Tables S1 and S3",
    (
        Part(
            "full above every rank",
            "After the longest training, full fine-tuning scores above every LoRA rank.",
            gap("learning", "full", "each", "long"),
            "greater",
            LEARNING,
            "score",
            "A LoRA rank that scores as well as full fine-tuning.",
            regime="cpt",
        ),
        Part(
            "gap grows",
            "Full fine-tuning is further ahead of the highest rank after the longest training than after the shortest.",
            change_of_gap("learning", "full", "high", "long", "short"),
            "greater",
            LEARNING,
            "score",
            "A gap that stays or closes as training goes on.",
            regime="cpt",
        ),
        Part(
            "rank orders learning",
            "After the longest training, the highest rank scores above the lowest.",
            gap("learning", "high", "low", "long"),
            "greater",
            LEARNING,
            "score",
            "The lowest rank learning as much as the highest.",
            regime="cpt",
        ),
    ),
)

C2 = Claim(
    "C2",
    "In instruction tuning low ranks fall behind, a high rank matches full fine-tuning, and LoRA needs more epochs.",
    "v2 section 4.1, Figure 1 B and D, Tables S5 and S7",
    (
        Part(
            "low rank behind",
            "Each at its best epoch, full fine-tuning scores above the lowest rank.",
            gap("learning", "full", "low", "best"),
            "greater",
            LEARNING,
            "score",
            "The lowest rank learning as much as full fine-tuning.",
            regime="ift",
        ),
        Part(
            "high rank matches",
            "Each at its best epoch, the highest rank and full fine-tuning score the same.",
            gap("learning", "high", "full", "best"),
            "equal",
            MATCH,
            "score",
            "A gap wider than the margin, either way.",
            regime="ift",
        ),
        Part(
            "middle rank suffices for maths",
            "In maths, the middle rank already matches full fine-tuning.",
            gap("learning", "middle", "full", "best"),
            "equal",
            MATCH,
            "score",
            "A gap wider than the margin, either way.",
            regime="ift",
            domain="math",
        ),
        Part(
            "middle rank not enough for code",
            "In code, full fine-tuning scores above the middle rank.",
            gap("learning", "full", "middle", "best"),
            "greater",
            LEARNING,
            "score",
            "The middle rank learning as much as full fine-tuning.",
            regime="ift",
            domain="code",
        ),
        Part(
            "LoRA needs more epochs",
            "Full fine-tuning is further ahead of the highest rank after the fewest epochs than after the most.",
            change_of_gap("learning", "full", "high", "short", "long"),
            "greater",
            LEARNING,
            "score",
            "A gap that stays or opens as epochs are added.",
            regime="ift",
        ),
    ),
)

_BY_REGIME = Contrast("forgetting", (Term(1, "arms", "long", regime="cpt"), Term(-1, "arms", "long", regime="ift")))
_BY_DOMAIN = Contrast("forgetting", (Term(1, "arms", "long", domain="math"), Term(-1, "arms", "long", domain="code")))

C3 = Claim(
    "C3",
    "LoRA forgets less than full fine-tuning; forgetting grows with rank and duration, with IFT and with code.",
    "v2 section 4.2, Figure 2, Tables S2, S4, S6 and S8",
    (
        Part(
            "low rank forgets less",
            "After the longest training, the lowest rank keeps more of the source skills than full fine-tuning.",
            gap("forgetting", "low", "full", "long"),
            "greater",
            FORGETTING,
            "score",
            "Full fine-tuning keeping as much as the lowest rank.",
        ),
        Part(
            "high rank forgets less on code",
            "On code, even the highest rank keeps more than full fine-tuning.",
            gap("forgetting", "high", "full", "long"),
            "greater",
            FORGETTING,
            "score",
            "Full fine-tuning keeping as much as the highest rank.",
            domain="code",
        ),
        Part(
            "high rank equals full on maths",
            "On maths, the highest rank forgets as much as full fine-tuning.",
            gap("forgetting", "high", "full", "long"),
            "equal",
            FORGETTING,
            "score",
            "A gap wider than the margin, either way.",
            domain="math",
        ),
        Part(
            "grows with rank",
            "After the longest training, the highest rank has forgotten more than the lowest.",
            gap("forgetting", "low", "high", "long"),
            "greater",
            FORGETTING,
            "score",
            "Ranks that forget alike.",
        ),
        Part(
            "grows with duration",
            "Averaged over all arms, the longest training has forgotten more than the shortest.",
            Scores((Contrast("forgetting", (Term(1, "arms", "short"), Term(-1, "arms", "long"))),)),
            "greater",
            FORGETTING,
            "score",
            "Forgetting that does not depend on how long one trains.",
        ),
        Part(
            "instruction tuning forgets more",
            "Averaged over all arms at their longest, IFT has forgotten more than CPT.",
            Scores((_BY_REGIME,)),
            "greater",
            FORGETTING,
            "score",
            "CPT forgetting as much as IFT.",
            each="domain",
        ),
        Part(
            "code forgets more",
            "Averaged over all arms at their longest, code has forgotten more than maths.",
            Scores((_BY_DOMAIN,)),
            "greater",
            FORGETTING,
            "score",
            "Maths forgetting as much as code.",
            each="regime",
        ),
        Part(
            "low rank forgets less, by loss",
            "The same as the first part, on the held-out loss of the source text.",
            gap("source_loss", "full", "low", "long"),
            "greater",
            NATS,
            "nats per token",
            "Full fine-tuning keeping as low a loss as the lowest rank.",
            counts=False,
        ),
    ),
)

C4 = Claim(
    "C4",
    "At equal learning LoRA forgets less on code; on maths full fine-tuning is as good or better; rank is a knob.",
    "v2 section 4.3, Figure 3",
    (
        Part(
            "LoRA's front is better on code",
            "On code, at equal learning, the highest rank keeps more than full fine-tuning.",
            Front("high", "full"),
            "greater",
            FORGETTING,
            "score at equal learning",
            "A front of full fine-tuning on or above LoRA's.",
            domain="code",
        ),
        Part(
            "full's front is no worse on maths",
            "On maths, at equal learning, full fine-tuning keeps no less than the highest rank.",
            Front("full", "high"),
            "not less",
            FORGETTING,
            "score at equal learning",
            "A front of LoRA clearly above full fine-tuning's.",
            domain="math",
        ),
        Part(
            "rank is a knob",
            "After the longest training, the highest rank has both learnt more and forgotten more than the lowest.",
            Scores(
                (
                    Contrast("learning", (Term(1, "high", "long"), Term(-1, "low", "long"))),
                    Contrast("forgetting", (Term(1, "low", "long"), Term(-1, "high", "long"))),
                )
            ),
            "greater",
            LEARNING,
            "score",
            "Ranks that learn alike or forget alike.",
        ),
    ),
)


def _fewer_strings(outcome: Literal["correct", "incorrect"]) -> tuple[Part, Part]:
    """The two steps base > LoRA > full for samples of one outcome."""
    axis: Axis = "unique_correct" if outcome == "correct" else "unique_incorrect"
    over_full = Part(
        f"LoRA above full, {outcome}",
        f"Among {outcome} samples of a problem, LoRA (mean of ranks) writes more different strings than full "
        "fine-tuning.",
        gap(axis, "ranks", "full", "long"),
        "greater",
        STRINGS,
        "strings per problem",
        "Full fine-tuning writing as many different strings.",
        regime="ift",
    )
    under_base = Part(
        f"base above LoRA, {outcome}",
        f"Among {outcome} samples of a problem, the base writes more different strings than LoRA (mean of ranks).",
        gap(axis, "base", "ranks", "long"),
        "greater",
        STRINGS,
        "strings per problem",
        "LoRA writing as many different strings as the base.",
        regime="ift",
    )
    return over_full, under_base


C7 = Claim(
    "C7",
    "Generations are most diverse from the base, then from LoRA, then from full fine-tuning, correct or not.",
    "v2 section 4.5, Figure 5",
    (
        *_fewer_strings("correct"),
        *_fewer_strings("incorrect"),
        Part(
            "LoRA above full, hot",
            "At temperature .8, on equal numbers of correct and of incorrect samples of each problem, LoRA (mean of "
            "ranks) writes more different strings than full fine-tuning.",
            Measured("unique_matched_lora_minus_full_at_t0.8"),
            "greater",
            STRINGS,
            "strings per problem",
            "Full fine-tuning writing as many different strings.",
            domain="code",
            counts=False,
        ),
    ),
)

C8 = Claim(
    "C8",
    "Full fine-tuning changes weights by matrices of high rank from the start, rising with tokens and higher in MLPs.",
    "v2 section 4.6, Figures 6 and S7",
    (
        Part(
            "above the LoRA ranks",
            "At the earliest checkpoint, holding 90 % of the change takes at least twice the highest LoRA rank "
            "(the paper: 10 to 100 times its ranks).",
            Spectra("above_lora_ranks"),
            "greater",
            DOUBLINGS,
            "doublings",
            "A change that the highest LoRA rank could hold.",
            regime="cpt",
            domain="code",
        ),
        Part(
            "rises with tokens",
            "The rank of the change, as a share of pure noise's, is higher at the end than at the earliest checkpoint.",
            Spectra("grows"),
            "greater",
            NOISE_SHARE,
            "share of noise rank",
            "A rank that is there from the start.",
            regime="cpt",
            domain="code",
        ),
        Part(
            "MLP above attention",
            "The rank of the change, as a share of pure noise's of that shape, is higher in MLP than in "
            "attention matrices.",
            Spectra("mlp_above_attention"),
            "greater",
            NOISE_SHARE,
            "share of noise rank",
            "A difference that the shapes of the matrices explain.",
            regime="cpt",
            domain="code",
        ),
        Part(
            "first and last layers lower",
            "The rank of the change, as a share of pure noise's, is lower in the first and last layers than in "
            "those between.",
            Spectra("ends_below_middle"),
            "greater",
            NOISE_SHARE,
            "share of noise rank",
            "Layers that change alike.",
            regime="cpt",
            domain="code",
        ),
    ),
)
