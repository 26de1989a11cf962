"""Throughput: which of the advertised optimisations makes training faster, at the same loss?

Chronicals (arXiv 2601.02609) reports 3.51 times the speed of Unsloth for full fine-tuning and 4.10 times for LoRA. Left
uncontrolled there: one side recomputes its activations and steps 8-bit moments, the other does neither; pad tokens
count; none of its own kernels, its packer and its LoRA+ is called by the benchmarks; losses are not compared.

Here every arm trains, at every step, on the same documents, all of a small fixed set, with the same optimiser and
precision and without recomputing: the trajectory of the loss is fixed, and an arm whose losses leave its reference's
by more than rounding has not made anything faster. That the right weights train is checked in every run (`health.py`).

    full, lora       the reference: a document a row, padded to `seq_len`, AdamW as lists ("foreach")
    -trimmed         rows as long as the longest document only: what honest padding costs
    -packed          whole documents packed by best fit, kept apart from each other
    -compile, -fused, -loop, -cut      torch.compile; AdamW in one kernel, or tensor by tensor; the loss without logits
    -liger, -kernels                   liger's modules, alone and with the loss (CUDA)
    -all, -allkernels                  packed, cut, compiled, fused; packed, every kernel, fused
    lora-plus        LoRA+: another trajectory on purpose, 16 times the rate for B
    learn-lora, learn-lora-plus        the main study's whole training and scores, each at its own tuned rate

Hypotheses: packing saves the padding and no more; a fused optimiser saves little where the model is large; the loss
without logits saves memory, and time only for large vocabularies; LoRA+ takes as long a step and learns the same at
tuned rates. Cost: 3 to 5 minutes a seed on two cores, 2 for the rates. At desk scale (random weights of Qwen2.5-0.5B's
shape, which is all that speed asks for) about 1 hour of one GPU for three seeds, an estimate; there, under ZeRO-1, the
optimiser steps one flat tensor, so that its three ways differ little: X4 is a question for pocket.

    python -m experiments run throughput --seeds 3
    python -m replication.benchmark --only peers --model qwen --bf16 --batch 32 --seq-len 512     against TRL, on a GPU
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from experiments.arms import base_run
from experiments.claims_throughput import CLAIMS, QUESTIONS
from replication.config import IFT, AdamW, Budget, Cosine, Full, LoRA, Run, Source, Speed
from replication.scale import Scale, Setting
from replication.specs import Choice, Code, HeldOut

__all__ = ["ARMS", "CLAIMS", "QUESTIONS", "SCALES", "arms", "reference", "vary"]

TEMPLATE = "Instruction: {prompt}\nResponse:\n"
RATIO = 16.0  # where the paper of LoRA+ starts
LORA = LoRA(16, alpha=32, dropout=0.0)
# LoRA+ is an optimiser of LoRA: an arm with a rate of its own.
ARMS = (("full", Full()), ("lora", LORA), ("lora-plus", LORA))
# Lowest validation loss of each arm's sweep; full fine-tuning is only timed, at a rate that trains.
RATES = (("full", 1e-3), ("lora", 8e-3), ("lora-plus", 2e-3))
# Random weights are only timed: rates that train them without a jump.
DESK_RATES = (("full", 1e-4), ("lora", 2e-4), ("lora-plus", 1e-4))


@dataclass(frozen=True)
class Fixed:
    """What a timed arm trains on at every step: `documents` rows, `bins` when packed, `longest` tokens at most.

    `bins` and `longest` follow from the data, the tokenizer and `seq_len` (tests/experiments/test_throughput.py).
    """

    documents: int
    bins: int
    longest: int
    micro: int
    steps: int


FIXED = {
    "throughput": Fixed(documents=32, bins=13, longest=71, micro=32, steps=16),
    "throughput-desk": Fixed(documents=160, bins=32, longest=512, micro=16, steps=40),
}


def _pocket(function: str) -> Source:
    return Source(f"python:replication.pocket.{function}")


def _setting(source: Source, seq_len: int, rates: tuple[tuple[str, float], ...], **asked: str) -> Setting:
    return Setting(
        regime="ift", domain="code", title="Throughput", task=IFT(source, TEMPLATE), lengths=(4,), rates=rates,
        schedule=Cosine(), global_batch=16, micro_batch=16, seq_len=seq_len, methods=ARMS, sweep_length=2,
        target=asked.get("target", ""), target_loss=asked.get("target_loss", ""),
    )  # fmt: skip


_CODE = _setting(_pocket("code:ift_rows"), 128, RATES, target="compose", target_loss="ift_code_loss")
_RAGGED = _setting(Source("python:replication.benchmark_loops:instructions"), 512, DESK_RATES)

POCKET = Scale(
    name="throughput",
    side="throughput",
    model="replication/pocket/base",
    settings=(("throughput", _CODE),),
    evals=(
        Choice("what_next", _pocket("source:what_next")),
        Choice("facts", _pocket("source:facts")),
        Choice("which", _pocket("source:which")),
        HeldOut("source_loss", _pocket("source:heldout_documents"), seq_len=128),
        Code("compose", _pocket("code:compose"), max_tokens=64, template="Instruction: {instruction}\nResponse:\n"),
        HeldOut("ift_code_loss", _pocket("code:heldout_ift_rows"), seq_len=128, template=TEMPLATE),
    ),
    forgetting=("what_next", "facts", "which"),
    source_loss="source_loss",
    ranks=(16,),
    optim="adamw",
    dropout=0.0,
    # One run at a time on all cores: what is timed has the machine for itself.
    workers=1,
    threads=2,
    sweep_rates=(("ift/lora", (2e-3, 4e-3, 8e-3, 1.6e-2)), ("ift/lora-plus", (5e-4, 1e-3, 2e-3, 4e-3))),
)
DESK = replace(
    POCKET,
    name="throughput-desk",
    model="python:replication.benchmark_model:qwen_shaped",
    settings=(("throughput", _RAGGED),),
    evals=(),
    forgetting=(),
    source_loss="",
    precision="bf16",
    zero_stage=1,
    threads=None,
    gpus=1,
    sweep_rates=(),
)
SCALES: dict[str, Scale] = {"pocket": POCKET, "desk": DESK}


def arms(scale: Scale, seed: int) -> dict[str, Run]:
    """Runs by label: every timed arm, and where there is something to ask of them, the two that are trained out.

    Raises:
        ValueError: nobody counted the documents of this scale.
    """
    if scale.name not in FIXED:
        raise ValueError(
            f"throughput trains on fixed sets of documents, counted for {', '.join(FIXED)} and not for {scale.name!r}; "
            "keep the name, the source and the tokenizer of one of them and change its model"
        )
    _, setting = scale.settings[0]
    found: dict[str, Run] = {}
    for method in ("full", "lora"):
        padded = _padded(scale, method, seed)
        found |= {method: padded} | {f"{method}-{word}": run for word, run in _variants(scale, padded).items()}
    found["lora-plus"] = _padded(scale, "lora-plus", seed)
    if scale.evals:
        for arm in ("lora", "lora-plus"):
            found[f"learn-{arm}"] = vary(arm, base_run(scale, "throughput", setting, arm, seed))
    return found


def reference(arm: str) -> str | None:
    """The arm whose losses an arm must repeat to rounding; None for a reference and for other trajectories."""
    other = arm in ("full", "lora", "lora-plus") or arm.startswith("learn-")
    return None if other else arm.split("-")[0]


def vary(arm: str, run: Run) -> Run:
    """The run of an arm of `ARMS` that is more than a method: LoRA+ is AdamW with two rates."""
    assert isinstance(run.optim, AdamW)
    return replace(run, optim=replace(run.optim, b_ratio=RATIO)) if arm == "lora-plus" else run


def _padded(scale: Scale, arm: str, seed: int) -> Run:
    """The reference: a document a row, all of them in every step; nothing is asked of it but its costs."""
    fixed, (_, setting) = FIXED[scale.name], scale.settings[0]
    run = vary(arm, base_run(scale, "throughput", setting, arm, seed))
    assert isinstance(run.task, IFT)
    return replace(
        run,
        task=replace(run.task, source=replace(run.task.source, limit=fixed.documents), per_sequence=1),
        budget=Budget(fixed.steps, "steps"),
        global_batch=fixed.documents,
        micro_batch=fixed.micro,
        speed=Speed(optimiser="foreach"),
        evals=(),
    )


def _variants(scale: Scale, padded: Run) -> dict[str, Run]:
    """The reference with one thing changed, and with all of them."""
    fixed = FIXED[scale.name]
    assert isinstance(padded.task, IFT)
    whole = replace(padded.task, per_sequence=None)
    packed = replace(padded, task=whole, global_batch=fixed.bins, micro_batch=min(fixed.micro, fixed.bins))
    speeds = {
        "compile": Speed(compile=True, optimiser="foreach"),
        "fused": Speed(optimiser="fused"),
        "loop": Speed(optimiser="loop"),
        "cut": Speed(kernels="cut", optimiser="foreach"),
    }
    together = {"all": Speed(kernels="cut", compile=True, optimiser="fused")}
    if scale.gpus:
        speeds |= {"liger": Speed(kernels="liger", optimiser="foreach")}
        speeds |= {"kernels": Speed(kernels="fused", optimiser="foreach")}
        together |= {"allkernels": Speed(kernels="fused", optimiser="fused")}
    # What the name of a run does not tell, the name of its study does.
    studies = {"trimmed": ".trimmed", "kernels": ".kernels", "allkernels": ".kernels"}
    found = {"trimmed": replace(padded, seq_len=fixed.longest)} if fixed.longest < padded.seq_len else {}
    found |= {"packed": packed} | {word: replace(padded, speed=speed) for word, speed in speeds.items()}
    found |= {word: replace(packed, speed=speed) for word, speed in together.items()}
    return {word: replace(run, study=run.study + studies.get(word, "")) for word, run in found.items()}
