"""The sizes at which the study runs. A scale is a value: model, data, lengths, rates and questions, and no code."""

from __future__ import annotations

import runpy
from pathlib import Path

from replication.config import CPT, IFT, Choice, Code, Cosine, HeldOut, Maths, Scale, Setting, Source, Trapezoid

INSTRUCT = "Instruction: {prompt}\nResponse:\n"


def _pocket(function: str) -> Source:
    return Source(f"python:replication.pocket.{function}")


POCKET = Scale(
    name="pocket",
    model="replication/pocket/base",
    ranks=(1, 4, 16),
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
                lengths=(64e3, 128e3, 256e3, 512e3),
                rates=(("full", 1e-4), ("r1", 1e-3), ("r4", 1e-3), ("r16", 1e-3)),
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
                lengths=(64e3, 128e3, 256e3, 512e3),
                rates=(("full", 1e-4), ("r1", 1e-3), ("r4", 1e-3), ("r16", 1e-3)),
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
                lengths=(1, 2, 4),
                rates=(("full", 1e-4), ("r1", 1e-3), ("r4", 1e-3), ("r16", 1e-3)),
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
                lengths=(1, 2, 4),
                rates=(("full", 1e-4), ("r1", 1e-3), ("r4", 1e-3), ("r16", 1e-3)),
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
    sweep_rates=(
        ("cpt/full", (1e-4, 2e-4, 4e-4, 8e-4)),
        ("cpt/r1", (5e-4, 1e-3, 2e-3, 4e-3)),
        ("cpt/r4", (5e-4, 1e-3, 2e-3, 4e-3)),
        ("cpt/r16", (5e-4, 1e-3, 2e-3, 4e-3)),
        ("ift/full", (1e-4, 2e-4, 4e-4, 8e-4)),
        ("ift/r1", (5e-4, 1e-3, 2e-3, 4e-3)),
        ("ift/r4", (5e-4, 1e-3, 2e-3, 4e-3)),
        ("ift/r16", (5e-4, 1e-3, 2e-3, 4e-3)),
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
