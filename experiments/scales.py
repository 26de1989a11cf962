"""The sizes at which the study runs. A scale is a value: model, data, lengths, rates and questions, and no code.

The pocket scale is here, the others in `desk.py` and `paper_scale.py`.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Literal

from experiments.desk import DESK
from experiments.paper_scale import PAPER, PAPER_V1
from experiments.reported import SCALE as REPORTED
from experiments.sides import SCALES as SIDES
from replication.config import CPT, IFT, Cosine, Source, Trapezoid
from replication.scale import Scale, Setting
from replication.specs import Choice, Code, HeldOut, Maths

Regime = Literal["cpt", "ift"]
Rates = tuple[tuple[str, float], ...]

INSTRUCT = "Instruction: {prompt}\nResponse:\n"
# Steps of 16 x 128 tokens: 20 to 160 for code; maths is learnt sooner, 16 to 128.
CPT_TOKENS = {"code": (40_960, 81_920, 163_840, 327_680), "math": (32_768, 65_536, 131_072, 262_144)}
IFT_EPOCHS = (1, 2, 4)
# The lowest held-out target loss of each arm's sweep (experiments/results; tests/experiments/test_scales.py checks).
CPT_CODE_RATES = (("full", 1.2e-3), ("r1", 8e-3), ("r4", 4e-3), ("r16", 2e-3))
CPT_MATH_RATES = (("full", 2.4e-3), ("r1", 8e-3), ("r4", 4e-3), ("r16", 4e-3))
IFT_CODE_RATES = (("full", 6e-4), ("r1", 1.6e-2), ("r4", 8e-3), ("r16", 4e-3))
IFT_MATH_RATES = (("full", 1.2e-3), ("r1", 1.6e-2), ("r4", 4e-3), ("r16", 4e-3))


# A factor of two apart, and on until the best of each arm is neither the lowest nor the highest.
_LORA = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
SWEEP = (
    ("cpt/full", (1.5e-4, 3e-4, 6e-4, 1.2e-3, 2.4e-3, 4.8e-3)),
    ("cpt/r1", _LORA),
    ("cpt/r4", _LORA),
    ("cpt/r16", _LORA),
    ("ift/full", (3e-4, 6e-4, 1.2e-3, 2.4e-3)),
    ("ift/r1", (4e-3, 8e-3, 1.6e-2, 3.2e-2)),
    ("ift/r4", (2e-3, 4e-3, 8e-3, 1.6e-2)),
    ("ift/r16", (1e-3, 2e-3, 4e-3, 8e-3)),
    # Not arms: `ablations.py` asks for them. The best of 5e-4, 1e-3, 2e-3 and of .05, .2 by held-out target loss.
    ("ift_code/r16-a2", (1.6e-2, 3.2e-2, 6.4e-2)),
    ("ift_code/r16-a16", (1.6e-2,)),
    ("cpt_code/full-adamw", (2e-3,)),
    ("cpt_code/full-sgd", (0.2,)),
)
ABLATIONS = (
    "ift_code.modules",
    "ift_code.alpha",
    "ift_code.regularisation",
    "ift_code.matched",
    "ift_code.optimiser",
    "cpt_math.alpha",
    "cpt_code.artefact",
)


def _pocket(function: str) -> Source:
    return Source(f"python:replication.pocket.{function}")


def _setting(regime: Regime, domain: str, title: str, target: str, rates: Rates) -> tuple[str, Setting]:
    """A setting of the pocket study; all four have the same batch: 16 sequences of 128 tokens."""
    name = f"{regime}_{domain}"
    world = {"code": "code", "math": "maths"}[domain]
    cpt = regime == "cpt"
    return name, Setting(
        regime=regime,
        domain=domain,
        title=title,
        task=CPT(_pocket(f"{world}:cpt_documents")) if cpt else IFT(_pocket(f"{world}:ift_rows"), INSTRUCT),
        lengths=CPT_TOKENS[domain] if cpt else IFT_EPOCHS,
        rates=rates,
        schedule=Trapezoid(warmup=10) if cpt else Cosine(),
        global_batch=16,
        micro_batch=16,
        seq_len=128,
        target=target,
        target_loss=f"{name}_loss",
    )


POCKET = Scale(
    name="pocket",
    model="replication/pocket/base",
    ranks=(1, 4, 16),
    # The paper uses .05; on one thread that made a LoRA step 1.5 times as long (.54 s against .36 s).
    dropout=0.0,
    workers=2,
    threads=1,
    settings=(
        _setting("cpt", "code", "Code CPT", "library", CPT_CODE_RATES),
        _setting("cpt", "math", "Maths CPT", "conversions", CPT_MATH_RATES),
        _setting("ift", "code", "Code IFT", "compose", IFT_CODE_RATES),
        _setting("ift", "math", "Maths IFT", "word_problems", IFT_MATH_RATES),
    ),
    evals=(
        Choice("what_next", _pocket("source:what_next")),
        Choice("facts", _pocket("source:facts")),
        Choice("which", _pocket("source:which")),
        HeldOut("source_loss", _pocket("source:heldout_documents"), seq_len=128),
        Code("library", _pocket("code:library"), max_tokens=64),
        Code("compose", _pocket("code:compose"), max_tokens=64, template="Instruction: {instruction}\nResponse:\n"),
        # Figure S9's temperature; asked of single runs by `evaluate --ask`.
        Code("library_hot", _pocket("code:library"), samples=64, temperature=0.8, max_tokens=64),
        Code(
            "compose_hot",
            _pocket("code:compose"),
            samples=64,
            temperature=0.8,
            max_tokens=64,
            template="Instruction: {instruction}\nResponse:\n",
        ),
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
    sweep_rates=SWEEP,
    ablations=ABLATIONS,
    # As the paper's 32 was: an eighth of the highest rank and half of the middle one.
    fixed_alpha=2,
    # Figure 4's 5e-5 and 1e-4 a step, over an epoch of 193 steps there and 23 here: the same share of a weight.
    weight_decays=(4.2e-4, 8.4e-4),
)

SCALES = {"pocket": POCKET, "desk": DESK, "paper": PAPER, "paper_v1": PAPER_V1, "reported": REPORTED, **SIDES}


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
    try:
        found = runpy.run_path(name).get("SCALE")
    except (TypeError, NameError, AttributeError, ImportError, SyntaxError) as error:
        raise ValueError(f"{name} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(found, Scale):
        raise ValueError(f"{name} defines no SCALE = Scale(...) of replication.config")
    return found
