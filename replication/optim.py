"""Optimisers and schedules of the paper.

Decoupled LionW as in llm-foundry:

    p *= 1 - (lr / initial_lr) * weight_decay        # not multiplied by the rate itself
    p -= lr * sign(lerp(m, g, 1 - beta1))
    m  = lerp(m, g, 1 - beta2)                       # no bias correction

so that weight_decay is the share of a weight lost per step at the peak rate; llm-foundry warns from 1e-3 on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from replication import config

LION_CHUNK = 2**24  # elements; above this a model is stepped in pieces


class LionW(torch.optim.Optimizer):
    """Decoupled Lion over parameter groups that carry `lr`, `initial_lr`, `betas` and `weight_decay`."""

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "initial_lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; a closure is refused."""
        if closure is not None:
            raise ValueError("LionW.step takes no closure")
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for p in params:
            if not self.state[p]:
                self.state[p]["exp_avg"] = torch.zeros_like(p)
        grads = [p.grad for p in params]
        momenta = [self.state[p]["exp_avg"] for p in params]
        keep = 1 - (group["lr"] / group["initial_lr"]) * group["weight_decay"]
        step = lion_step if sum(p.numel() for p in params) > LION_CHUNK else _lion_at_once
        step(params, grads, momenta, lr=group["lr"], keep=keep, betas=group["betas"])


def _lion_at_once(
    params: list[torch.Tensor],
    grads: list[torch.Tensor],
    momenta: list[torch.Tensor],
    *,
    lr: float,
    keep: float,
    betas: tuple[float, float],
) -> None:
    """One step of all tensors together: the fewest calls, and a temporary as large as the model."""
    if keep != 1:
        torch._foreach_mul_(params, keep)
    update = torch._foreach_lerp(momenta, grads, 1 - betas[0])
    torch._foreach_sign_(update)
    torch._foreach_add_(params, update, alpha=-lr)
    torch._foreach_lerp_(momenta, grads, 1 - betas[1])


@torch.no_grad()
def lion_step(
    params: list[torch.Tensor],
    grads: list[torch.Tensor],
    momenta: list[torch.Tensor],
    *,
    lr: float,
    keep: float,
    betas: tuple[float, float],
    chunk: int = LION_CHUNK,
) -> None:
    """One step of decoupled Lion in place, with a temporary of `chunk` elements in place of one as large as the model.

    The same operations on the same elements as torch's foreach functions, so the same bits. ZeRO hands over one flat
    tensor of billions of elements: it is cut, and pieces are small enough to stay in a GPU's cache between operations.

    Args:
        keep: share of a weight that the decay leaves, 1 - (lr / initial_lr) * weight_decay.
        chunk: elements of a piece.
    """
    for whole in zip(params, grads, momenta, strict=True):
        line = all(t.is_contiguous() for t in whole)
        cut = [t.view(-1).split(chunk) if line else (t,) for t in whole]
        for p, g, m in zip(*cut, strict=True):
            if keep != 1:
                p.mul_(keep)
            p.add_(torch.lerp(m, g, 1 - betas[0]).sign_(), alpha=-lr)
            m.lerp_(g, 1 - betas[1])


def build(optim: config.Optim, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a Run over its trainable parameters."""
    if isinstance(optim, config.LionW):
        return LionW(params, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)
    how = {"fused": True} if torch.cuda.is_available() else {"foreach": True}
    if isinstance(optim, config.SGD):
        return torch.optim.SGD(params, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay, **how)
    return torch.optim.AdamW(
        params, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, eps=optim.eps, **how
    )


def factor(schedule: config.Schedule, step: int, total: int) -> float:
    """Share of the peak rate that optimiser step `step` (0-based) of `total` uses.

    As llm-foundry counts: a warm-up over w steps starts at rate 0 and reaches the peak at step w; the last step of
    a cooldown over c steps uses 1/c.
    """
    if not 0 <= step < total:
        raise ValueError(f"step {step} is outside the run's {total} steps")
    if isinstance(schedule, config.Trapezoid):
        return _trapezoid(schedule, step, total)
    warmup = schedule.warmup * total
    if schedule.whole_steps:
        warmup = int(warmup)
    if step < warmup:
        return step / warmup
    done = (step - warmup) / max(1.0, total - warmup)
    return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * done))


def _trapezoid(schedule: config.Trapezoid, step: int, total: int) -> float:
    # As in llm-foundry, the warm-up wins where it overlaps the cooldown: a cooldown that
    # would start inside it starts at the peak after it, and does not reach 0.
    if step < schedule.warmup:
        return step / schedule.warmup
    cooldown = round(schedule.cooldown * total)
    left = max(total, schedule.warmup + cooldown) - step
    return min(1.0, left / cooldown) if cooldown else 1.0
