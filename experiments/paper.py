"""Numbers of the paper (arXiv 2405.09673 v2) as data, each with the table, figure or line that it stands in.

Scores and memory are here, hyperparameters in `paper_settings.py`: these two files hold every number of the paper.
Scores are one model per condition, without seeds or intervals; the tables below are copied as printed. The base has
no row in them: its scores are read off the pixels of Figures 1 and 2, only GSM8K's is also in the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Setting = Literal["cpt_code", "cpt_math", "ift_code", "ift_math", "ift_mix"]
Method = Literal["base", "full", "r16", "r64", "r256"]
Quantity = Literal["humaneval", "gsm8k", "forgetting", "mt_bench", "mmlu"]
Unit = Literal["tokens", "epochs"]

# The settings of the main comparison. The Tulu mix (appendix C) stands beside it.
UNITS: dict[Setting, Unit] = {"cpt_code": "tokens", "cpt_math": "tokens", "ift_code": "epochs", "ift_math": "epochs"}
MIX: Setting = "ift_mix"

# ---------------------------------------------------------------- benchmarks (section 4.1; sizes of the data sets)

ITEMS = {"humaneval": 164, "gsm8k": 1319, "hellaswag": 10_042, "arc_challenge": 1172, "winogrande": 1267}
# Section 4.2: the forgetting score is their unweighted mean.
FORGETTING = ("hellaswag", "arc_challenge", "winogrande")

# ---------------------------------------------------------------- batches, for lengths counted in them

# Appendix A: 192 sequences of 4,096 tokens in both CPT settings.
CPT_TOKENS_PER_BATCH = 192 * 4096
# Code: README of the authors' repository. Maths: derived, 395,000 examples unpacked in batches of 768; not published.
IFT_BATCHES_PER_EPOCH: dict[Setting, float] = {"ift_code": 193, "ift_math": 395_000 / 768}

# ---------------------------------------------------------------- scores (appendix D)


@dataclass(frozen=True)
class Reported:
    """One score of the paper; `length` in `unit` (tokens, not billions), 0 for the base."""

    setting: Setting
    method: Method
    length: float
    unit: Unit
    quantity: Quantity
    value: float
    source: str


# StarCoder-Python CPT, HumanEval pass@1 (T=0.2), by tokens (B)
S1 = """
        .25   .5    1     2     4     8     16    20
r16     .143  .144  .141  .141  .154  .159  .162  .162
r64     .142  .146  .141  .153  .157  .176  .194  .196
r256    .144  .142  .143  .159  .159  .208  .211  .224
FT      .152  .153  .172  .181  .218  .258  .255  .263
"""

# StarCoder-Python CPT, forgetting average, by tokens (B)
S2 = """
        .25   .5    1     2     4     8     16    20
r16     .645  .642  .645  .642  .644  .640  .638  .635
r64     .646  .644  .646  .646  .639  .634  .626  .626
r256    .644  .645  .643  .639  .636  .630  .618  .617
FT      .625  .624  .625  .616  .599  .583  .551  .545
"""

# OpenWebMath CPT, GSM8K strict match, by tokens (B)
S3 = """
        .25   .5    1     2     4     8     16    20
r16     .162  .157  .161  .155  .165  .156  .152  .158
r64     .163  .167  .150  .166  .164  .168  .179  .163
r256    .162  .161  .140  .170  .193  .196  .203  .202
FT      .155  .152  .165  .158  .224  .238  .283  .293
"""

# OpenWebMath CPT, forgetting average, by tokens (B)
S4 = """
        .25   .5    1     2     4     8     16    20
r16     .640  .641  .646  .641  .643  .641  .636  .637
r64     .640  .640  .638  .637  .643  .634  .634  .627
r256    .638  .638  .637  .634  .633  .620  .620  .616
FT      .634  .634  .640  .630  .629  .619  .613  .618
"""

# Magicoder IFT, HumanEval pass@1 (T=0.2), by epochs
S5 = """
        1     2     4     8     16
r16     .197  .275  .358  .338  .324
r64     .249  .339  .417  .392  .405
r256    .299  .385  .498  .437  .466
FT      .302  .464  .470  .497  .416
"""

# Magicoder IFT, forgetting average, by epochs. Section 4.2 quotes r64 at 16 as .509; the table, kept here, says .510.
S6 = """
        1     2     4     8     16
r16     .653  .648  .652  .646  .609
r64     .652  .651  .632  .580  .510
r256    .655  .659  .631  .552  .517
FT      .595  .579  .512  .446  .414
"""

# MetaMathQA IFT, GSM8K strict match, by epochs
S7 = """
        1     2     4     8     16
r16     .447  .528  .580  .578  .569
r64     .527  .588  .624  .624  .595
r256    .557  .607  .625  .634  .594
FT      .604  .641  .642  .619  .599
"""

# MetaMathQA IFT, forgetting average, by epochs
S8 = """
        1     2     4     8     16
r16     .628  .617  .616  .616  .596
r64     .617  .609  .608  .586  .568
r256    .613  .607  .599  .584  .567
FT      .598  .599  .590  .572  .559
"""

# Table S9 is a heading. Tulu-v2-mix IFT, by epochs of one run: MT-bench, judged by GPT-4
S10 = """
        2      4      6
r16     5.681  5.997  5.712
r64     5.597  5.725  5.944
r256    5.788  5.834  5.894
FT      5.825  5.838  5.862
"""

# Tulu-v2-mix IFT, MMLU, by epochs
S11 = """
        2     4     6
r16     .491  .502  .504
r64     .503  .509  .504
r256    .502  .496  .492
FT      .507  .504  .502
"""

# Tulu-v2-mix IFT, GSM8K, by epochs
S12 = """
        2     4     6
r16     .251  .275  .280
r64     .285  .270  .295
r256    .296  .335  .301
FT      .324  .291  .303
"""

# Tulu-v2-mix IFT, forgetting average, by epochs
S13 = """
        2     4     6
r16     .650  .657  .657
r64     .649  .655  .647
r256    .653  .649  .629
FT      .660  .652  .621
"""

# The dashed line of the figures.
BASE: dict[Quantity, tuple[float, str]] = {
    "humaneval": (0.138, "Figure 1 A and B, read off the pixels"),
    "gsm8k": (0.145, "Figure 1 C and D, read off the pixels; also in the text"),
    "forgetting": (0.671, "Figure 2, read off the pixels"),
    "mt_bench": (2.74, "Appendix C, taken there from the MT-bench paper"),
}

_ROWS: dict[str, Method] = {"r16": "r16", "r64": "r64", "r256": "r256", "FT": "full"}


def reported(setting: Setting, method: str, length: float, quantity: Quantity) -> Reported | None:
    """The paper's score, or None where it reports none; the base has length 0.

    Raises:
        ValueError: a setting or quantity that the paper does not have.
    """
    for what, value, known in (("setting", setting, get_args(Setting)), ("quantity", quantity, get_args(Quantity))):
        if value not in known:
            raise ValueError(f"{what}={value!r}; the paper has {', '.join(known)}")
    return _BY_KEY.get((setting, method, length, quantity))


def lengths(setting: Setting) -> tuple[float, ...]:
    """The training lengths reported for a setting, in tokens or epochs, ascending."""
    return tuple(sorted({row.length for row in REPORTED if row.setting == setting and row.method != "base"}))


def _table(name: str, text: str, setting: Setting, quantity: Quantity) -> tuple[Reported, ...]:
    head, *rows = (line.split() for line in text.strip().splitlines())
    unit = UNITS.get(setting, "epochs")
    size = {"tokens": 1e9, "epochs": 1}[unit]
    return tuple(
        Reported(setting, _ROWS[label], float(length) * size, unit, quantity, float(value), f"Table {name}")
        for label, *values in rows
        for length, value in zip(head, values, strict=True)
    )


def _base(setting: Setting, quantity: Quantity) -> Reported:
    return Reported(setting, "base", 0, UNITS.get(setting, "epochs"), quantity, *BASE[quantity])


REPORTED: tuple[Reported, ...] = (
    *_table("S1", S1, "cpt_code", "humaneval"),
    *_table("S2", S2, "cpt_code", "forgetting"),
    *_table("S3", S3, "cpt_math", "gsm8k"),
    *_table("S4", S4, "cpt_math", "forgetting"),
    *_table("S5", S5, "ift_code", "humaneval"),
    *_table("S6", S6, "ift_code", "forgetting"),
    *_table("S7", S7, "ift_math", "gsm8k"),
    *_table("S8", S8, "ift_math", "forgetting"),
    *_table("S10", S10, MIX, "mt_bench"),
    *_table("S11", S11, MIX, "mmlu"),
    *_table("S12", S12, MIX, "gsm8k"),
    *_table("S13", S13, MIX, "forgetting"),
    _base("cpt_code", "humaneval"),
    _base("cpt_code", "forgetting"),
    _base("cpt_math", "gsm8k"),
    _base("cpt_math", "forgetting"),
    _base("ift_code", "humaneval"),
    _base("ift_code", "forgetting"),
    _base("ift_math", "gsm8k"),
    _base("ift_math", "forgetting"),
    _base(MIX, "mt_bench"),
)
_BY_KEY: dict[tuple[Setting, str, float, Quantity], Reported] = {
    (row.setting, row.method, row.length, row.quantity): row for row in REPORTED
}

# ---------------------------------------------------------------- memory (appendix H), without activations


@dataclass(frozen=True)
class Footprint:
    """Weights, gradients and optimiser state of one GPU, in 1e9 bytes; `parameters` of the model. LoRA trains 1 %."""

    parameters: float
    optimizer: Literal["adam", "lion"]
    lora: bool
    gpus: int
    gigabytes: float
    source: str


# 7B
S14 = """
             1      8      16     32     64
Adam         112    14     7      3.5    1.75
Adam+LoRA    15.12  1.89   .945   .4725  .236
Lion         84     10.5   5.25   2.625  1.3125
Lion+LoRA    14.84  1.855  .9275  .464   .232
"""

# 70B
S15 = """
             1      8      16     32     64
Adam         1120   140    70     35     17.5
Adam+LoRA    151.2  18.9   9.45   4.725  2.36
Lion         840    105    52.5   26.25  13.125
Lion+LoRA    148.4  18.55  9.275  4.64   2.32
"""

# 405B
S16 = """
             1      8        16      32       64      128     256
Adam         6480   810      405     202.5    101.25  50.625  25.3
Adam+LoRA    874.8  109.35   54.65   27.34    13.67   6.83    3.42
Lion         4860   607.5    303.75  151.875  75.94   37.97   18.98
Lion+LoRA    858.6  107.325  53.66   26.83    13.42   6.71    3.35
"""


def _memory(name: str, text: str, parameters: float) -> tuple[Footprint, ...]:
    head, *rows = (line.split() for line in text.strip().splitlines())
    found = []
    for label, *values in rows:
        optimizer: Literal["adam", "lion"] = "adam" if label.startswith("Adam") else "lion"
        for gpus, value in zip(head, values, strict=True):
            lora = label.endswith("+LoRA")
            found.append(Footprint(parameters, optimizer, lora, int(gpus), float(value), f"Table {name}"))
    return tuple(found)


MEMORY: tuple[Footprint, ...] = (
    *_memory("S14", S14, 7e9),
    *_memory("S15", S15, 70e9),
    *_memory("S16", S16, 405e9),
)
