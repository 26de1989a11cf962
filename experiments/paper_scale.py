"""The paper's study at its own size (`paper`) and the configuration of its first version (`paper_v1`), as values.

Every number comes from `paper_settings.py`, which says where it stands. What is ours, because the paper ran on another
framework, is here: how memory is shared out, and that no fast kernels are used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from experiments import paper_settings as said
from experiments.paper import Setting as Name
from replication import suite
from replication.config import CPT, IFT, Cosine, Full, LoRA, Method, Source, Speed, Targets, Task, Trapezoid
from replication.scale import DataSize, Scale, Setting

TITLES: dict[Name, str] = {
    "cpt_code": "Code CPT",
    "cpt_math": "Maths CPT",
    "ift_code": "Code IFT",
    "ift_math": "Maths IFT",
    "ift_mix": "Mixed IFT",
}
TARGETS: dict[str, str] = {"code": "humaneval", "math": "gsm8k", "mix": "gsm8k"}


def _source(name: Name) -> Source:
    hyper = said.HYPER[name]
    if name == "ift_mix":
        return Source("python:experiments.tulu:rows")
    # Only code is a subsample of a given size; maths is read whole and again.
    tokens = hyper.tokens.value if name == "cpt_code" else None
    return Source(hyper.dataset.value, columns=hyper.columns.value, max_tokens=tokens)


def _task(name: Name) -> Task:
    hyper = said.HYPER[name]
    if hyper.template is None or hyper.per_sequence is None:
        return CPT(_source(name))
    return IFT(_source(name), hyper.template.value, per_sequence=hyper.per_sequence.value)


def _setting(name: Name) -> Setting:
    hyper = said.HYPER[name]
    regime: Literal["cpt", "ift"] = "cpt" if name.startswith("cpt") else "ift"
    domain = name.removeprefix(f"{regime}_")
    documents, tokens = hyper.documents, hyper.tokens
    return Setting(
        regime=regime,
        domain=domain,
        title=TITLES[name],
        task=_task(name),
        lengths=hyper.durations.value,
        rates=tuple((arm, rate.value) for arm, rate in hyper.rates.items()),
        schedule=_schedule(regime),
        global_batch=hyper.global_batch.value,
        micro_batch=hyper.micro_batch.value,
        seq_len=hyper.seq_len.value,
        target=TARGETS[domain],
        # The paper reports no losses, and all of the data are trained on.
        target_loss="",
        tokenizer=said.TOKENIZER[regime].value,
        weight_decay=hyper.weight_decay.value,
        separate=name != "ift_mix",
        size=DataSize(
            documents.value,
            tokens.value,
            f"documents: {documents.source} ({documents.standing}); tokens: {tokens.source} ({tokens.standing})",
        ),
        also=("mmlu",) if name == "ift_mix" else (),
        sweep_length=said.SWEEP_EPOCHS.value if regime == "ift" else None,
    )


def _schedule(regime: str) -> Trapezoid | Cosine:
    # t_scale does nothing where alpha_f_decay is 1.
    if regime == "cpt":
        return Trapezoid(warmup=said.CPT_WARMUP_BATCHES.value, cooldown=said.CPT_COOLDOWN_SHARE.value)
    return Cosine(warmup=said.IFT_WARMUP_SHARE.value, floor=said.IFT_ALPHA_F.value, whole_steps=True)


# CPT is not swept: no sweep of the paper was, and one rate of one arm to the middle length costs 4B tokens.
SWEEP = tuple(
    (f"{name}/{arm}", said.SWEEP_RATES.value)
    for name in ("ift_code", "ift_math")
    for arm in ("full", *(f"r{rank}" for rank in said.RANKS.value))
)

PAPER = Scale(
    name="paper",
    model=said.BASE.value,
    ranks=said.RANKS.value,
    settings=tuple((name, _setting(name)) for name in said.HYPER),
    evals=tuple(suite.benchmarks("paper")[name] for name in ("humaneval", "gsm8k", *suite.FORGETTING, "mmlu")),
    forgetting=suite.FORGETTING,
    source_loss="",
    dropout=said.DROPOUT.value,
    # DeepSpeed's bf16 over fp32 masters is the nearest to composer's amp_bf16 over fp32 weights.
    precision="bf16",
    # The paper's FSDP shards weights, gradients and optimiser, as stage 3 does. With LoRA only the frozen base is
    # large: a copy on each GPU (13.5 GB) is cheaper than gathering it in every pass, and an adapter that is never
    # sharded is never saved empty (peft #453, trl #4416).
    zero_stage=3,
    zero_stage_lora=2,
    sweep_rates=SWEEP,
    engine="vllm",
    # The reference runs use no fast kernels: others report gradients that differ at equal loss (Liger #512, #968;
    # Cut Cross-Entropy PR #18). Recomputing activations is exact, and six sequences of 4,096 need it.
    speed=Speed(recompute=True),
    gpus=said.GPUS.value,
    ablations=(
        "ift_code.alpha",
        "cpt_math.alpha",
        "ift_code.optimiser",
        "ift_math.first_sweep",
        "ift_code.modules",
        "ift_code.regularisation",
        "ift_code.precision",
    ),
)

# ---------------------------------------------------------------- the first version


def _v1_methods(domain: str) -> tuple[tuple[str, Method], ...]:
    lora: dict[str, Method] = {}
    targets: Targets
    for targets in said.V1_TARGETS.value:
        for rank in said.V1_RANKS.value:
            alpha = said.V1_CODE_ALPHA.value if domain == "code" else said.ALPHA_PER_RANK.value * rank
            lora[f"r{rank}-{targets}"] = LoRA(rank, alpha=alpha, targets=targets, dropout=said.DROPOUT.value)
    return (("full", Full()), *lora.items())


def _v1(name: Name, setting: Setting) -> Setting:
    methods = _v1_methods(setting.domain)
    tokens = {"cpt_code": said.V1_CODE_TOKENS.value, "cpt_math": said.V1_MATH_TOKENS.value}
    return replace(
        setting,
        methods=methods,
        rates=tuple((label, setting.rate(label.split("-")[0])) for label, _ in methods),
        lengths=tokens.get(name, setting.lengths),
    )


_V1_NAMES: tuple[Name, ...] = ("cpt_code", "cpt_math", "ift_code", "ift_math")
PAPER_V1 = replace(
    PAPER,
    name="paper_v1",
    ranks=said.V1_RANKS.value,
    settings=tuple((name, _v1(name, dict(PAPER.settings)[name])) for name in _V1_NAMES),
    sweep_rates=(),
    ablations=(),
)
