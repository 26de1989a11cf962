"""The sizes at which the study runs. A scale is a value: model, data, lengths, rates and questions, and no code."""

from __future__ import annotations

import runpy
from pathlib import Path

from replication.config import CPT, IFT, Choice, Code, Cosine, HeldOut, Maths, Source, Trapezoid
from replication.scale import Scale, Setting

INSTRUCT = "Instruction: {prompt}\nResponse:\n"
# Steps of 16 x 128 tokens: 20 to 160 for code; maths is learnt sooner, 16 to 128.
CODE_TOKENS = (40_960, 81_920, 163_840, 327_680)
MATHS_TOKENS = (32_768, 65_536, 131_072, 262_144)
IFT_EPOCHS = (1, 2, 4)
# Until the sweep has been run: full fine-tuning's from calibration (held-out target loss), LoRA's a guess.
PROVISIONAL = (("full", 3e-4), ("r1", 2e-3), ("r4", 2e-3), ("r16", 2e-3))

FULL_RATES = (1.5e-4, 3e-4, 6e-4)
LORA_RATES = (1e-3, 2e-3, 4e-3)


def _pocket(function: str) -> Source:
    return Source(f"python:replication.pocket.{function}")


POCKET = Scale(
    name="pocket",
    model="replication/pocket/base",
    ranks=(1, 4, 16),
    # The paper uses .05; on one thread that made a LoRA step 1.5 times as long (.54 s against .36 s).
    dropout=0.0,
    workers=2,
    threads=1,
    settings=(
        (
            "cpt_code",
            Setting(
                regime="cpt",
                domain="code",
                title="Code CPT",
                task=CPT(_pocket("code:cpt_documents")),
                lengths=CODE_TOKENS,
                rates=PROVISIONAL,
                schedule=Trapezoid(warmup=10),
                global_batch=16,
                micro_batch=16,
                seq_len=128,
                target="library",
                target_loss="cpt_code_loss",
            ),
        ),
        (
            "cpt_math",
            Setting(
                regime="cpt",
                domain="math",
                title="Maths CPT",
                task=CPT(_pocket("maths:cpt_documents")),
                lengths=MATHS_TOKENS,
                rates=PROVISIONAL,
                schedule=Trapezoid(warmup=10),
                global_batch=16,
                micro_batch=16,
                seq_len=128,
                target="conversions",
                target_loss="cpt_math_loss",
            ),
        ),
        (
            "ift_code",
            Setting(
                regime="ift",
                domain="code",
                title="Code IFT",
                task=IFT(_pocket("code:ift_rows"), INSTRUCT),
                lengths=IFT_EPOCHS,
                rates=PROVISIONAL,
                schedule=Cosine(),
                global_batch=16,
                micro_batch=16,
                seq_len=128,
                target="compose",
                target_loss="ift_code_loss",
            ),
        ),
        (
            "ift_math",
            Setting(
                regime="ift",
                domain="math",
                title="Maths IFT",
                task=IFT(_pocket("maths:ift_rows"), INSTRUCT),
                lengths=IFT_EPOCHS,
                rates=PROVISIONAL,
                schedule=Cosine(),
                global_batch=16,
                micro_batch=16,
                seq_len=128,
                target="word_problems",
                target_loss="ift_math_loss",
            ),
        ),
    ),
    evals=(
        Choice("what_next", _pocket("source:what_next")),
        Choice("facts", _pocket("source:facts")),
        Choice("which", _pocket("source:which")),
        HeldOut("source_loss", _pocket("source:heldout_documents"), seq_len=128),
        Code("library", _pocket("code:library"), max_tokens=64),
        Code("compose", _pocket("code:compose"), max_tokens=64, template="Instruction: {instruction}\nResponse:\n"),
        Maths("conversions", _pocket("maths:conversions"), max_tokens=64),
        Maths(
            "word_problems",
            _pocket("maths:word_problems"),
            max_tokens=64,
            template=INSTRUCT.replace("prompt", "question"),
        ),
        HeldOut("cpt_code_loss", _pocket("code:heldout_cpt_documents"), seq_len=128),
        HeldOut("cpt_math_loss", _pocket("maths:heldout_cpt_documents"), seq_len=128),
        HeldOut("ift_code_loss", _pocket("code:heldout_ift_rows"), seq_len=128, template=INSTRUCT),
        HeldOut("ift_math_loss", _pocket("maths:heldout_ift_rows"), seq_len=128, template=INSTRUCT),
    ),
    forgetting=("what_next", "facts", "which"),
    source_loss="source_loss",
    sweep_rates=tuple(
        (f"{regime}/{arm}", FULL_RATES if arm == "full" else LORA_RATES)
        for regime in ("cpt", "ift")
        for arm in ("full", "r1", "r4", "r16")
    ),
)

SCALES = {"pocket": POCKET}


def load(name: str) -> Scale:
    """A scale by name, or the `SCALE` that a Python file defines.

    Raises:
        ValueError: no such scale, or a file without a `SCALE`.
        FileNotFoundError: no such file.
    """
    if name in SCALES:
        return SCALES[name]
    if not name.endswith(".py"):
        raise ValueError(f"no scale {name!r}; there are {', '.join(SCALES)}, or give the path of a Python file")
    if not Path(name).is_file():
        raise FileNotFoundError(f"no scale file at {name!r}")
    found = runpy.run_path(name).get("SCALE")
    if not isinstance(found, Scale):
        raise ValueError(f"{name} defines no SCALE = Scale(...) of replication.config")
    return found
