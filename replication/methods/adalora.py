r"""AdaLoRA through PEFT: W x + (alpha / r) P diag(e) Q x, its ranks given out by importance while it trains.

    importance of an entry w    s u,   s = mean of |w dL/dw| over the last steps,   u = mean of | |w dL/dw| - s |
    of a triplet i of a matrix  that of e_i + mean over column i of P + mean over row i of Q

After every step the triplets of all matrices are ranked together and the e of the least important set to zero: none
until `warm` of all steps, then more and more (a cubic), and from `cool` before the end those that remain are final,
target_rank x matrices of them. PEFT names P, e and Q lora_B, lora_E and lora_A.

Where PEFT's own way does not fit this project's loop:

- PEFT reads p.grad, which the engine clears before `on_step`: hooks keep the very tensors, summed over micro-batches
  and ranks and clipped as for the step, and they are handed back for the call.
- PEFT adds its orthogonality penalty where the model returns a loss, which here it does not: it is in `penalty`.
- PEFT takes masked rows out of what it stores; here all are stored, with their zeros, so that a checkpoint holds what
  training does. alpha / r has the r of the start throughout, as in PEFT.
- Importances and final ranks are saved with the training state (`Memory`), so that a resumed run is the same run.
- Whole weights and gradients are needed between steps: ZeRO stage 0 only (`config.Run` refuses others).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from replication.config import AdaLoRA
from replication.methods.attached import Attached, Memory, nothing, trainable_parameters
from replication.methods.lora import head_modules, target_modules, task_type

_STATISTICS = ("exp_avg_ipt", "exp_avg_unc")
Ranks = dict[str, list[bool]]  # which triplets of every matrix were last kept; empty before the first pruning


def attach(model: PreTrainedModel, method: AdaLoRA, *, seed: int, steps: int) -> Attached:
    """Freeze the model and add adapters, drawn from `seed`, whose ranks are pruned over `steps`; a new head trains."""
    targets = target_modules(model, method.targets)
    torch.manual_seed(seed)
    # PEFT draws P and Q from the global generator, as in lora.py.
    wrapped = get_peft_model(
        model,
        AdaLoraConfig(
            init_r=method.rank,
            target_r=method.target_rank,
            lora_alpha=method.alpha,  # type: ignore[arg-type]  # annotated int, as in lora.py
            lora_dropout=method.dropout,
            target_modules=targets,
            tinit=round(method.warm * steps),
            tfinal=round(method.cool * steps),
            deltaT=method.every,
            orth_reg_weight=method.orthogonality,
            total_step=steps,
            bias="none",
            task_type=task_type(model),
            modules_to_save=head_modules(model) or None,
        ),
    )
    assert isinstance(wrapped, PeftModel)
    trainable = trainable_parameters(wrapped)
    factors = {name: p for name, p in trainable.items() if ".lora_" in name}
    prunes = method.target_rank < method.rank  # PEFT cannot leave all as they are
    ranks: Ranks = {}
    return Attached(
        wrapped,
        trainable,
        _pruning(wrapped, factors, ranks) if prunes else nothing,
        _off_orthogonal(factors, method.orthogonality) if method.orthogonality else None,
        may_rest=frozenset(name for name in factors if ".lora_E." in name),
        memory=_memory(wrapped, ranks) if prunes else None,
    )


def _pruning(
    wrapped: PeftModel, factors: Mapping[str, torch.nn.Parameter], ranks: Ranks
) -> Callable[[int, float], None]:
    """PEFT's `update_and_allocate` with the gradients of the step that was just made."""
    settings: Any = wrapped.peft_config["default"]
    inner: Any = wrapped.base_model
    gradients: dict[torch.Tensor, torch.Tensor | None] = {}

    def keep(p: torch.Tensor) -> None:
        gradients[p] = p.grad

    for p in factors.values():
        p.register_post_accumulate_grad_hook(keep)

    def on_step(step: int, lr: float) -> None:
        del lr
        for p, gradient in gradients.items():
            p.grad = gradient
        settings.rank_pattern = dict(ranks) or None
        inner.update_and_allocate(step + 1)  # counts steps made: the last one is total_step
        ranks.update(settings.rank_pattern or {})
        settings.rank_pattern = None  # else PEFT stores only the rows that it names
        for p in gradients:
            p.grad = None
        gradients.clear()

    return on_step


def _off_orthogonal(factors: Mapping[str, torch.nn.Parameter], weight: float) -> Callable[[], torch.Tensor]:
    """PEFT's penalty: `weight` times the mean of |P^T P - I| and |Q Q^T - I| over all matrices, in Frobenius norms."""
    wide = [p for name, p in factors.items() if ".lora_A." in name]
    tall = [p for name, p in factors.items() if ".lora_B." in name]

    def penalty() -> torch.Tensor:
        grams = torch.stack([p @ p.T for p in wide] + [p.T @ p for p in tall])  # (2 matrices, rank, rank)
        eye = torch.eye(grams.shape[-1], device=grams.device, dtype=grams.dtype)
        return weight * torch.linalg.matrix_norm(grams - eye).mean()

    return penalty


def _memory(wrapped: PeftModel, ranks: Ranks) -> Memory:
    """Importances, and the ranks that were last given out, as `statistic/name` and `kept/name`."""
    allocator: Any = wrapped.base_model.rankallocator

    def save() -> dict[str, torch.Tensor]:
        found = {f"{s}/{name}": value for s in _STATISTICS for name, value in getattr(allocator, s).items()}
        return found | {f"kept/{name}": torch.tensor(mask) for name, mask in ranks.items()}

    def load(saved: Mapping[str, torch.Tensor]) -> None:
        device = next(wrapped.parameters()).device
        for s in _STATISTICS:
            setattr(allocator, s, {name: value.to(device) for name, value in _under(s, saved)})
        # PEFT asks only whether a name is there, and replaces its value before it reads it.
        allocator.ipt = dict(allocator.exp_avg_ipt)
        ranks.update({name: mask.tolist() for name, mask in _under("kept", saved)})

    return Memory(save, load)


def _under(kind: str, saved: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    return ((key.removeprefix(f"{kind}/"), value) for key, value in saved.items() if key.startswith(f"{kind}/"))
