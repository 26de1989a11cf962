"""The same studies for one GPU of 24 GB: Qwen2.5-0.5B on shares of the paper's data, as a value.

Every arm's rate follows the rule that LoRA wants about ten times the rate of full fine-tuning (v2 Appendix B; "LoRA
Without Regret") and is PROVISIONAL: it stands until the sweep, `python -m experiments run learning_rates --scale desk`,
has been run here and its best rates by held-out target loss are typed in below.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from experiments import paper_settings as said
from experiments.paper import Setting as Name
from replication import suite
from replication.config import CPT, IFT, Cosine, Source, Speed, Task, Trapezoid
from replication.scale import DataSize, Scale, Setting
from replication.specs import HeldOut

MODEL = "Qwen/Qwen2.5-0.5B"
# About the share of the weights that 16, 64 and 256 are of Llama-2-7B's: .9, 3.6 and 14 % here.
RANKS = (8, 32, 128)
SEQ_LEN = 1024
BATCH = 32
# 244 to 1,953 steps of 32,768 tokens; none lies inside the warm-up.
CPT_TOKENS = (8e6, 16e6, 32e6, 64e6)
CPT_WARMUP = 50
IFT_EPOCHS = (1.0, 2.0, 4.0)
# Rows that are read of each data set, from its beginning.
LIMITS: dict[Name, int] = {"cpt_code": 80_000, "cpt_math": 60_000, "ift_code": 20_000, "ift_math": 40_000}
# Estimates at 1,000, 2,300, 656 and 261 tokens a row: the paper's own averages, or its dataset cards'.
TOKENS: dict[Name, float] = {"cpt_code": 80e6, "cpt_math": 138e6, "ift_code": 13e6, "ift_math": 10.4e6}
HELD_OUT = 400

FULL_RATE, LORA_RATE = 2e-5, 2e-4
PROVISIONAL = (("full", FULL_RATE), *((f"r{rank}", LORA_RATE) for rank in RANKS))
_FULL = (5e-6, 1e-5, 2e-5, 4e-5, 8e-5)
_LORA = (5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
SWEEP = tuple(
    (f"{regime}/{arm}", _FULL if arm == "full" else _LORA) for regime in ("cpt", "ift") for arm, _ in PROVISIONAL
)


def _source(name: Name) -> Source:
    hyper = said.HYPER[name]
    return Source(hyper.dataset.value, columns=hyper.columns.value, part="train", limit=LIMITS[name])


def _task(name: Name) -> Task:
    template = said.HYPER[name].template
    return CPT(_source(name)) if template is None else IFT(_source(name), template.value)


def _held_out(name: Name) -> HeldOut:
    template = said.HYPER[name].template
    source = replace(_source(name), part="heldout", limit=HELD_OUT)
    return HeldOut(f"{name}_loss", source, SEQ_LEN, template=None if template is None else template.value)


def _setting(name: Name, title: str, target: str) -> Setting:
    regime: Literal["cpt", "ift"] = "cpt" if name.startswith("cpt") else "ift"
    cpt = regime == "cpt"
    return Setting(
        regime=regime,
        domain=name.removeprefix(f"{regime}_"),
        title=title,
        task=_task(name),
        lengths=CPT_TOKENS if cpt else IFT_EPOCHS,
        rates=PROVISIONAL,
        schedule=Trapezoid(warmup=CPT_WARMUP) if cpt else Cosine(whole_steps=True),
        global_batch=BATCH,
        micro_batch=4,
        seq_len=SEQ_LEN,
        target=target,
        target_loss=f"{name}_loss",
        weight_decay=said.HYPER[name].weight_decay.value,
        size=DataSize(LIMITS[name], TOKENS[name], "rows: our limit; tokens: an estimate by the paper's averages"),
    )


NAMES: tuple[Name, ...] = ("cpt_code", "cpt_math", "ift_code", "ift_math")
# What Qwen2.5 was pretrained on is not published; web text stands for it.
SOURCE_LOSS = HeldOut("source_loss", Source("allenai/c4", "validation", name="en", limit=HELD_OUT), SEQ_LEN)

DESK = Scale(
    name="desk",
    model=MODEL,
    ranks=RANKS,
    settings=(
        ("cpt_code", _setting("cpt_code", "Code CPT", "humaneval")),
        ("cpt_math", _setting("cpt_math", "Maths CPT", "gsm8k")),
        ("ift_code", _setting("ift_code", "Code IFT", "humaneval")),
        ("ift_math", _setting("ift_math", "Maths IFT", "gsm8k")),
    ),
    evals=(
        *(suite.benchmarks("paper")[name] for name in ("humaneval", "gsm8k", *suite.FORGETTING)),
        *(_held_out(name) for name in NAMES),
        SOURCE_LOSS,
    ),
    forgetting=suite.FORGETTING,
    source_loss="source_loss",
    dropout=said.DROPOUT.value,
    precision="bf16",
    # Masters, gradients and momenta of half a billion weights are 7 GB; one GPU has nothing to share out.
    zero_stage=1,
    sweep_rates=SWEEP,
    engine="vllm",
    # The vocabulary of 151,936 makes the logits the largest thing: 2.5 GB in fp32 for 4 x 1,024 tokens.
    speed=Speed(recompute=True),
    gpus=1,
    # Hours each. The optimisers' 23 runs are left to whoever asks that question.
    ablations=("ift_code.alpha", "ift_code.modules", "ift_code.regularisation", "ift_code.precision"),
)
