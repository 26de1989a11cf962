"""What the S2-LoRA side study compares, and the claims of its original that it is asked.

S1 as good as AdaLoRA with fewer weights, S2 better out of domain, S3 ranks that resemble AdaLoRA's, S4 AdaLoRA above
LoRA. Standard library only.
"""

from __future__ import annotations

from experiments.comparisons import Claim, Question
from experiments.side import claim, part

STUDY = "s2lora"


def _errors(better: str, worse: str, group: str) -> Question:
    """How much lower the first arm's word error rate is: positive in the direction claimed."""
    return Question(f"{STUDY}_{group}_{better}_below_{worse}", worse, better, group, "wer")


def _below(better: str, worse: str, group: str) -> str:
    return _errors(better, worse, group).quantity


QUESTIONS: tuple[Question, ...] = (
    *(_errors("s2lora", other, group) for group in ("test", "unseen", "source") for other in ("adalora", "lora")),
    *(_errors("s2lora", "s2lora-dense", group) for group in ("test", "unseen")),
    *(_errors("s2lora", "full", group) for group in ("test", "unseen")),
    *(_errors("adalora", "lora", group) for group in ("test", "unseen")),
    Question(f"{STUDY}_weights_saved", "s2lora", "adalora", "run", "trainable", kind="saved"),
)
# Word error rate. A test set has some 600 words, so that one arm's is known to .02 and paired differences to .015.
CLOSE, LOWER = 0.03, 0.02
UNIT = "word error rate"
ORIGINAL = "arXiv 2309.11756, of which only the abstract was at hand"
CLAIMS: tuple[Claim, ...] = (
    claim(
        "S1",
        "Sparsely Shared LoRA is as good as AdaLoRA in domain, with far fewer trained weights.",
        f"{ORIGINAL}; whether each method had a rate of its own is not known.",
        (
            part(
                "as good in domain", "S2-LoRA's errors on the speakers it knows are at most 3 points above AdaLoRA's.",
                _below("s2lora", "adalora", "test"), "not less", CLOSE, UNIT, "More than 3 points above.",
            ),
            part(
                "far fewer weights", "S2-LoRA trains less than half of AdaLoRA's weights.",
                f"{STUDY}_weights_saved", "greater", 0.5, "share saved", "Half of them or more.", trained=False,
            ),
        ),
        study=STUDY,
    ),
    claim(
        "S2",
        "Sparsely Shared LoRA generalises better out of domain than AdaLoRA and LoRA.",
        f"{ORIGINAL}; a method that learns less in domain also loses less out of it, so that S1 must hold beside it.",
        tuple(
            part(
                f"below {name} out of domain", f"S2-LoRA's errors on the unheard speaker are below {name}'s.",
                _below("s2lora", arm, "unseen"), "greater", LOWER, UNIT, f"Errors above {name}'s.",
            )
            for arm, name in (("adalora", "AdaLoRA"), ("lora", "LoRA"))
        )
        + (
            part(
                "sparsity helps out of domain", "Sparse S2-LoRA's errors on the unheard speaker are below dense's.",
                _below("s2lora", "s2lora-dense", "unseen"), "greater", LOWER, UNIT, "Errors above dense's.",
                counts=False,
            ),
        ),
        study=STUDY,
    ),
    claim(
        "S3",
        "The rank distribution that Sparsely Shared LoRA learns resembles AdaLoRA's.",
        f"{ORIGINAL}; how far AdaLoRA's own distribution repeats with another seed was not reported.",
        (
            part(
                "ranks correlate", "Over the matrices, ranks of S2-LoRA and AdaLoRA correlate by more than .3.",
                f"{STUDY}_rank_correlation", "greater", 0.3, "Spearman's correlation", "No correlation, or a negative.",
            ),
            part(
                "AdaLoRA's ranks repeat", "Over the matrices, AdaLoRA's ranks at two seeds correlate by more than .3.",
                "adalora_rank_repeat", "greater", 0.3, "Spearman's correlation", "No correlation.", counts=False,
            ),
        ),
        study=STUDY,
    ),
    claim(
        "S4",
        "AdaLoRA beats LoRA, thanks to rank coefficients that it learns.",
        f"{ORIGINAL}; what the coefficients are thanked for is AdaLoRA's budget, penalty and rate as well.",
        (
            part(
                "below LoRA in domain", "AdaLoRA's errors on the speakers it knows are below LoRA's.",
                _below("adalora", "lora", "test"), "greater", LOWER, UNIT, "Errors above LoRA's.",
            ),
        ),
        study=STUDY,
    ),
)  # fmt: skip
