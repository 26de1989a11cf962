"""The arms that every setting compares: full fine-tuning, and LoRA on all linears at each rank with alpha = 2 r."""

from __future__ import annotations

from replication.config import AdamW, Budget, Full, LionW, LoRA, Method, Optim, Run
from replication.scale import Scale, Setting


def arms(scale: Scale) -> dict[str, Method]:
    """Label and method of each arm: "full", "r16", ..."""
    lora = {f"r{rank}": LoRA(rank, alpha=2 * rank, dropout=scale.dropout) for rank in scale.ranks}
    return {"full": Full(), **lora}


def optimiser(scale: Scale, setting: Setting, lr: float) -> Optim:
    """The scale's optimiser at a rate, with the setting's weight decay."""
    kind = LionW if scale.optim == "lionw" else AdamW
    return kind(lr=lr, weight_decay=scale.weight_decay if setting.weight_decay is None else setting.weight_decay)


def base_run(scale: Scale, study: str, setting: Setting, arm: str, seed: int, *, lr: float | None = None) -> Run:
    """A run of an arm at its own rate (or `lr`) and the setting's first length; lengths are filled in by the study."""
    return Run(
        scale=scale.name,
        study=study,
        task=setting.task,
        model=scale.model,
        tokenizer=setting.tokenizer or scale.tokenizer,
        method=arms(scale)[arm],
        optim=optimiser(scale, setting, setting.rate(arm) if lr is None else lr),
        schedule=setting.schedule,
        budget=Budget(setting.lengths[0], "tokens" if setting.regime == "cpt" else "epochs"),
        global_batch=setting.global_batch,
        micro_batch=setting.micro_batch,
        seq_len=setting.seq_len,
        seed=seed,
        precision=scale.precision,
        zero_stage=scale.zero_stage,
        speed=scale.speed,
        evals=tuple(filter(None, (setting.target, setting.target_loss, *scale.forgetting, scale.source_loss))),
    )
