"""The arms that a setting compares: full fine-tuning, and LoRA on all linears at each rank with alpha = 2 r.

A setting may name others (`Setting.methods`), as the paper's first version did.
"""

from __future__ import annotations

from typing import Literal

from replication.config import AdamW, Budget, Full, LionW, LoRA, Method, Optim, Run
from replication.scale import Scale, Setting


def arms(scale: Scale, setting: Setting | None = None) -> dict[str, Method]:
    """Label and method of each arm: "full", "r16", ... or those that the setting names."""
    if setting is not None and setting.methods:
        return dict(setting.methods)
    lora = {f"r{rank}": LoRA(rank, alpha=2 * rank, dropout=scale.dropout) for rank in scale.ranks}
    return {"full": Full(), **lora}


def optimiser(scale: Scale, setting: Setting, lr: float) -> Optim:
    """The scale's optimiser at a rate, with the setting's weight decay."""
    kind = LionW if scale.optim == "lionw" else AdamW
    return kind(lr=lr, weight_decay=scale.weight_decay if setting.weight_decay is None else setting.weight_decay)


def base_run(scale: Scale, study: str, setting: Setting, arm: str, seed: int, *, lr: float | None = None) -> Run:
    """A run of an arm at its own rate (or `lr`) and the setting's first length; lengths are filled in by the study."""
    method = arms(scale, setting)[arm]
    asked = (setting.target, setting.target_loss, *setting.also, *scale.forgetting, scale.source_loss)
    return Run(
        scale=scale.name,
        study=study,
        task=setting.task,
        model=scale.model,
        tokenizer=setting.tokenizer or scale.tokenizer,
        method=method,
        optim=optimiser(scale, setting, setting.rate(arm) if lr is None else lr),
        schedule=setting.schedule,
        budget=Budget(setting.lengths[0], "tokens" if setting.regime == "cpt" else "epochs"),
        global_batch=setting.global_batch,
        micro_batch=setting.micro_batch,
        seq_len=setting.seq_len,
        seed=seed,
        precision=scale.precision,
        zero_stage=_stage(scale, method),
        speed=scale.speed,
        evals=tuple(filter(None, asked)),
    )


def _stage(scale: Scale, method: Method) -> Literal[0, 1, 2, 3]:
    own = scale.zero_stage_lora if isinstance(method, LoRA) else None
    return scale.zero_stage if own is None else own
