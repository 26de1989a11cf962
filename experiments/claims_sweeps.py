"""The paper's claims about choices: the instruction mix (C5), regularisation (C6), alpha (C9), linears (C10), rates
(C11), and what LoRA costs and saves (C12). All but the mix are read off pictures: sizes are those of the tables."""

from __future__ import annotations

from experiments.claim_sizes import (
    FACTOR_OF_TWO,
    FORGETTING,
    LEARNING,
    MATCH,
    MEMORY_LARGE,
    MEMORY_SMALL,
    MIX_FIRST,
    MIX_LAST,
    MIX_LEARNING,
    MIX_RANKS,
    MMLU,
    MT_BENCH,
    NATS,
    THROUGHPUT,
)
from experiments.claims_main import change_of_gap, gap
from experiments.comparisons import Axis, Claim, Contrast, Measured, Part, Rate, Rule, Scores, Term

C5 = Claim(
    "C5",
    "Tuned on a mix, every rank matches full fine-tuning on MT-bench; GSM8K is ordered by rank, MMLU is not; full "
    "fine-tuning is ahead at first and forgets most in the end.",
    "v2 section 4.4 and Appendix C, Tables S10 to S13",
    (
        Part(
            "every rank matches on MT-bench",
            "After the most epochs, every rank scores as full fine-tuning on MT-bench (the paper: within one standard "
            "error of 160 data points).",
            gap("mt_bench", "each", "full", "long"),
            "equal",
            MT_BENCH,
            "points of 10",
            "A rank that is better or worse by more than the margin.",
            on_the_way=True,
        ),
        Part(
            "rank orders GSM8K",
            "After the most epochs, the highest rank scores above the lowest on GSM8K.",
            gap("learning", "high", "low", "long"),
            "greater",
            MIX_LEARNING,
            "score",
            "The lowest rank scoring as well as the highest.",
            on_the_way=True,
        ),
        Part(
            "rank does not order MMLU",
            "After the most epochs, the highest and the lowest rank score the same on MMLU.",
            gap("mmlu", "high", "low", "long"),
            "equal",
            MMLU,
            "score",
            "A gap wider than the margin, either way.",
            on_the_way=True,
        ),
        Part(
            "full is there first",
            "On GSM8K, full fine-tuning is further ahead of the highest rank after the fewest epochs than after the "
            "most.",
            change_of_gap("learning", "full", "high", "short", "long"),
            "greater",
            MIX_LEARNING,
            "score",
            "A gap that stays or opens as epochs are added.",
            on_the_way=True,
        ),
        Part(
            "full forgets least at first",
            "After the fewest epochs, full fine-tuning keeps more than every rank.",
            gap("forgetting", "full", "each", "short"),
            "greater",
            MIX_FIRST,
            "score",
            "A rank that keeps as much.",
            on_the_way=True,
        ),
        Part(
            "full forgets most in the end",
            "After the most epochs, every rank keeps more than full fine-tuning.",
            gap("forgetting", "each", "full", "long"),
            "greater",
            MIX_LAST,
            "score",
            "A rank that has forgotten as much.",
            on_the_way=True,
        ),
        Part(
            "rank orders forgetting",
            "After the most epochs, the highest rank has forgotten more than the lowest.",
            gap("forgetting", "low", "high", "long"),
            "greater",
            MIX_RANKS,
            "score",
            "Ranks that forget alike.",
            on_the_way=True,
        ),
    ),
    lacking="instruction mix",
)

REGULARISERS = ("wd-low", "wd-high", "ad-low", "ad-high")


def _regularised(axis: Axis, left: Term, sign: int = 1) -> Scores:
    """A score minus that of full fine-tuning under each weight decay and attention dropout, at the same length."""
    others = [Term(-sign, "full", left.at, variant=variant) for variant in REGULARISERS]
    return Scores(tuple(Contrast(axis, (left, other)) for other in others))


def _regularisation(name: str, statement: str, measure: Scores, rule: Rule, size: float, refuted_by: str) -> Part:
    return Part(
        name, statement, measure, rule, size, "score", refuted_by, regime="ift", domain="code",
        ablation="regularisation",
    )  # fmt: skip


_DECAYED = Contrast("learning", (Term(1, "full", "long"), Term(-1, "full", "long", variant="wd-high")))

C6 = Claim(
    "C6",
    "Weight decay and dropout learn and forget as plain full fine-tuning does; LoRA forgets less than either.",
    "v2 section 4.3, Figure 4",
    (
        _regularisation(
            "regularised full learns as full",
            "At the middle length, full fine-tuning scores the same with either weight decay or attention dropout.",
            _regularised("learning", Term(1, "full", "middle")),
            "equal",
            MATCH,
            "A regulariser that changes learning by more than the margin.",
        ),
        _regularisation(
            "regularised full forgets as full",
            "At the middle length, full fine-tuning forgets as much with either weight decay or attention dropout.",
            _regularised("forgetting", Term(1, "full", "middle")),
            "equal",
            FORGETTING,
            "A regulariser that changes forgetting by more than the margin.",
        ),
        _regularisation(
            "weight decay degrades in the end",
            "After the longest training, full fine-tuning scores above itself with the stronger weight decay.",
            Scores((_DECAYED,)),
            "greater",
            LEARNING,
            "Weight decay that costs nothing after the longest training.",
        ),
        _regularisation(
            "high rank learns as regularised full",
            "At the middle length, the highest rank scores as full fine-tuning with any of the regularisers.",
            _regularised("learning", Term(1, "high", "middle")),
            "equal",
            MATCH,
            "A gap wider than the margin, either way.",
        ),
        _regularisation(
            "high rank forgets less than regularised full",
            "After the longest training, the highest rank keeps more than full fine-tuning with any of them.",
            _regularised("forgetting", Term(1, "high", "long")),
            "greater",
            FORGETTING,
            "A regulariser with which full fine-tuning keeps as much.",
        ),
        _regularisation(
            "low rank learns least",
            "After the longest training, the lowest rank scores below full fine-tuning with any of them.",
            _regularised("learning", Term(-1, "low", "long"), sign=-1),
            "greater",
            LEARNING,
            "A regulariser with which full fine-tuning learns as little.",
        ),
        _regularisation(
            "low rank forgets least",
            "After the longest training, the lowest rank keeps more than full fine-tuning with any of them.",
            _regularised("forgetting", Term(1, "low", "long")),
            "greater",
            FORGETTING,
            "A regulariser with which full fine-tuning keeps as much.",
        ),
    ),
    lacking="study of weight decay and dropout (`.regularisation`)",
)


def _alpha(name: str, variant: str, said: str, rate: Rate) -> Part:
    """Alpha of 2 r above another on code, at every rate of the sweep or each at its best."""
    left, right = Term(1, "high", "shared", rate=rate), Term(-1, "high", "shared", variant=variant, rate=rate)
    when = "At every learning rate" if rate == "each" else "Each at its own best learning rate (by held-out loss)"
    return Part(
        name,
        f"{when}, the highest rank scores higher with alpha = 2 r than with {said}.",
        Scores((Contrast("learning", (left, right)),)),
        "greater",
        LEARNING,
        "score",
        f"A rate at which {said} scores as well." if rate == "each" else "A rate at which it scores as well.",
        regime="ift",
        domain="code",
        ablation="alpha",
    )


_CPT_ALPHA = Contrast("learning", (Term(1, "high", "shared"), Term(-1, "high", "shared", variant="alpha=fixed")))

# What alpha does to a step is also what a rate does ("LoRA Without Regret", invariances), so at one rate for all an
# alpha may lose because the rate was chosen for another: "each at its best rate" is the fair question.
C9 = Claim(
    "C9",
    "Alpha = 2 r is crucial at the highest rank: it beats r and a low fixed alpha at every learning rate.",
    "v2 Appendix B.2, Figure S3",
    (
        _alpha("2 r above r, every rate", "alpha=r", "alpha = r", "each"),
        _alpha("2 r above a low alpha, every rate", "alpha=fixed", "a low fixed alpha", "each"),
        _alpha("2 r above r, best rates", "alpha=r", "alpha = r", "best"),
        _alpha("2 r above a low alpha, best rates", "alpha=fixed", "a low fixed alpha", "best"),
        Part(
            "2 r above a low alpha in maths",
            "In continued pretraining on maths, at the rate chosen for 2 r, the highest rank scores higher with "
            "alpha = 2 r than with a low fixed alpha.",
            Scores((_CPT_ALPHA,)),
            "greater",
            LEARNING,
            "score",
            "A low alpha that scores as well.",
            regime="cpt",
            domain="math",
            ablation="alpha",
        ),
    ),
    lacking="study of alpha (`.alpha`)",
)


def _modules(name: str, statement: str, contrasts: tuple[Contrast, ...], rule: Rule, size: float, no: str) -> Part:
    return Part(
        name, statement, Scores(contrasts), rule, size, "score", no, regime="ift", domain="code", ablation="modules"
    )


def _linears(left: str, right: str) -> Contrast:
    """Adapters on some linears against others, at every rank in turn."""
    return Contrast(
        "learning", (Term(1, "each", "shared", variant=left), Term(-1, "each", "shared", variant=right))
    )  # fmt: skip


def _by_rank(variant: str) -> Contrast:
    high, low = Term(1, "high", "shared", variant=variant), Term(-1, "low", "shared", variant=variant)
    return Contrast("learning", (high, low))


C10 = Claim(
    "C10",
    "Adapters on the MLP learn as well as adapters on all linears, on attention less; learning rises with rank.",
    "v2 section 4.7, Figure 7",
    (
        _modules(
            "MLP matches all",
            "At every rank, adapters on the MLP alone score as adapters on all linears.",
            (_linears("mlp", ""),),
            "equal",
            MATCH,
            "A gap wider than the margin, either way.",
        ),
        _modules(
            "MLP above attention",
            "At every rank, adapters on the MLP score above adapters on attention.",
            (_linears("mlp", "attention"),),
            "greater",
            LEARNING,
            "A rank at which attention alone learns as much.",
        ),
        _modules(
            "rises with rank",
            "On attention, on the MLP and on all linears, the highest rank scores above the lowest.",
            tuple(_by_rank(variant) for variant in ("attention", "mlp", "")),
            "greater",
            LEARNING,
            "Linears on which the lowest rank learns as much.",
        ),
    ),
    lacking="study of the linears that are adapted (`.modules`)",
)

C11 = Claim(
    "C11",
    "LoRA's best learning rate is about ten times that of full fine-tuning; up to divergence higher is better, and "
    "a rate below the best costs more than it does full fine-tuning.",
    "v2 Appendix B.1, Figure S1",
    (
        Part(
            "ten times the rate",
            "The best rate of LoRA (mean of ranks) is ten times that of full fine-tuning, within a factor of two.",
            Measured("lr_ratio_mean", reference=1.0),
            "equal",
            FACTOR_OF_TWO,
            "powers of ten above a factor of 10",
            "A ratio below 5 or above 20.",
        ),
        Part(
            "monotone up to divergence",
            "The highest rate at which LoRA trains scores no lower than the rate before it.",
            Measured("lora_monotone"),
            "not less",
            LEARNING,
            "score",
            "A best rate well below the highest that trains.",
        ),
        Part(
            "LoRA is more sensitive",
            "Half the best rate costs LoRA more held-out loss than it costs full fine-tuning.",
            Measured("lr_sensitivity"),
            "greater",
            NATS,
            "nats per token",
            "Full fine-tuning losing as much at half its best rate.",
        ),
    ),
)

C12 = Claim(
    "C12",
    "LoRA trains about 15 % slower and needs less memory: 40 % less at small batches, 15 % less at large ones.",
    "v2 Appendix I, Figure S10",
    (
        Part(
            "slower",
            "LoRA trains fewer tokens per second than full fine-tuning: a benchmark of its own, processor time.",
            Measured("slower_benchmark", trained=False),
            "greater",
            THROUGHPUT,
            "share of full fine-tuning's speed",
            "LoRA training as fast.",
        ),
        Part(
            "slower in the study's runs",
            "The same by the clock of the training runs, which shared their machine.",
            Measured("slower", trained=False),
            "greater",
            THROUGHPUT,
            "share of full fine-tuning's speed",
            "LoRA training as fast.",
            counts=False,
        ),
        Part(
            "less memory at small batches",
            "At the smallest batch, LoRA's peak memory is lower.",
            Measured("memory_small", trained=False),
            "greater",
            MEMORY_SMALL,
            "share of full fine-tuning's memory",
            "LoRA saving less than half of what the paper reports.",
        ),
        Part(
            "less memory at large batches",
            "At the largest batch, LoRA's peak memory is lower.",
            Measured("memory_large", trained=False),
            "greater",
            MEMORY_LARGE,
            "share of full fine-tuning's memory",
            "LoRA saving less than half of what the paper reports.",
        ),
    ),
)
