"""Numbers of the paper (arXiv 2405.09673 v2) as data, each with the table, figure or line that it stands in.

Scores are one model per condition, without seeds or intervals; the tables below are copied as printed. The base has
no row in them: its scores are read off the pixels of Figures 1 and 2, only GSM8K's is also in the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Setting = Literal["cpt_code", "cpt_math", "ift_code", "ift_math"]
Method = Literal["base", "full", "r16", "r64", "r256"]
Quantity = Literal["humaneval", "gsm8k", "forgetting"]
Unit = Literal["tokens", "epochs"]

UNITS: dict[Setting, Unit] = {"cpt_code": "tokens", "cpt_math": "tokens", "ift_code": "epochs", "ift_math": "epochs"}

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

# The dashed line of the figures.
BASE: dict[Quantity, tuple[float, str]] = {
    "humaneval": (0.138, "Figure 1 A and B, read off the pixels"),
    "gsm8k": (0.145, "Figure 1 C and D, read off the pixels; also in the text"),
    "forgetting": (0.671, "Figure 2, read off the pixels"),
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
    unit = UNITS[setting]
    size = {"tokens": 1e9, "epochs": 1}[unit]
    return tuple(
        Reported(setting, _ROWS[label], float(length) * size, unit, quantity, float(value), f"Table {name}")
        for label, *values in rows
        for length, value in zip(head, values, strict=True)
    )


def _base(setting: Setting, quantity: Quantity) -> Reported:
    return Reported(setting, "base", 0, UNITS[setting], quantity, *BASE[quantity])


REPORTED: tuple[Reported, ...] = (
    *_table("S1", S1, "cpt_code", "humaneval"),
    *_table("S2", S2, "cpt_code", "forgetting"),
    *_table("S3", S3, "cpt_math", "gsm8k"),
    *_table("S4", S4, "cpt_math", "forgetting"),
    *_table("S5", S5, "ift_code", "humaneval"),
    *_table("S6", S6, "ift_code", "forgetting"),
    *_table("S7", S7, "ift_math", "gsm8k"),
    *_table("S8", S8, "ift_math", "forgetting"),
    _base("cpt_code", "humaneval"),
    _base("cpt_code", "forgetting"),
    _base("cpt_math", "gsm8k"),
    _base("cpt_math", "forgetting"),
    _base("ift_code", "humaneval"),
    _base("ift_code", "forgetting"),
    _base("ift_math", "gsm8k"),
    _base("ift_math", "forgetting"),
)
_BY_KEY: dict[tuple[Setting, str, float, Quantity], Reported] = {
    (row.setting, row.method, row.length, row.quantity): row for row in REPORTED
}
