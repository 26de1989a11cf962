"""Optimisers and schedules of the paper.

Decoupled LionW as in llm-foundry:

    p *= 1 - (lr / initial_lr) * weight_decay        # not multiplied by the rate itself
    p -= lr * sign(lerp(m, g, 1 - beta1))
    m  = lerp(m, g, 1 - beta2)                       # no bias correction

so that weight_decay is the share of a weight lost per step at the peak rate; llm-foundry warns from 1e-3 on.

LoRA+ is AdamW with a rate of B that is `b_ratio` times that of all other trained weights. AdamW's decay is multiplied
by the rate, so B's is `b_ratio` times as large too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch

from replication import config

LION_CHUNK = 2**24  # elements; above this a model is stepped in pieces
Stepping = Literal["default", "fused", "foreach", "loop"]
# An adapter's weight under any wrapper: "...q_proj.lora_A.default.weight", "...module.LORA_b.weight".
_ADAPTER = re.compile(r"(?:^|[._])lora_(?P<which>[ab])(?=[._]|$)", re.IGNORECASE)


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


def build(
    optim: config.Optim, trainable: Mapping[str, torch.nn.Parameter], *, stepping: Stepping = "default"
) -> torch.optim.Optimizer:
    """The optimiser of a Run over its trainable parameters, by name.

    Every group carries `ratio`, the factor of its rate: whoever sets rates multiplies by it.

    Args:
        stepping: `Speed.optimiser`, how torch's own step their tensors.

    Raises:
        ValueError: LoRA+ without two whole groups, or a way of stepping that the optimiser does not have.
    """
    groups = groups_of(optim, trainable)
    if isinstance(optim, config.LionW):
        if stepping != "default":
            raise ValueError(
                f"Speed.optimiser={stepping!r} is for AdamW and SGD; LionW steps its tensors in its own way: 'default'"
            )
        return LionW(groups, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)
    how = _stepping(stepping)
    if isinstance(optim, config.SGD):
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, weight_decay=optim.weight_decay, **how)
    return torch.optim.AdamW(
        groups, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, eps=optim.eps, **how
    )


def groups_of(optim: config.Optim, trainable: Mapping[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups with their rates: one, or two for LoRA+ (Hayou et al., ICML 2024), all others and the B's.

    Only an adapter's B takes the higher rate. PEFT's own grouping gives it to every trained vector too, the bias of a
    classifier's head included; here that stays with the others.

    Raises:
        ValueError: LoRA+ where there are no adapters, or an adapter without both of its weights.
    """
    ratio = optim.b_ratio if isinstance(optim, config.AdamW) else 1.0
    if ratio == 1:
        return [{"params": list(trainable.values()), "lr": optim.lr, "ratio": 1.0}]
    found = {name: match for name in trainable if (match := _ADAPTER.search(name))}
    owners = {which: {name[: m.start()] for name, m in found.items() if m["which"].upper() == which} for which in "AB"}
    alone = [f"{name} has only one" for name in sorted(owners["A"] ^ owners["B"])]
    alone += [f"{name} is neither" for name in trainable if "lora" in name.lower() and name not in found]
    if alone or not found:
        seen = alone[0] if alone else f"none of {len(trainable)} trained tensors is one"
        raise ValueError(
            f"AdamW.b_ratio={ratio:g} is LoRA+'s, whose groups are the lora_A and lora_B of every adapter, and {seen}: "
            "train LoRA, or take b_ratio=1"
        )
    raised = [name for name, m in found.items() if m["which"].upper() == "B"]
    others = [p for name, p in trainable.items() if name not in raised]
    return [
        {"params": others, "lr": optim.lr, "ratio": 1.0},
        {"params": [trainable[name] for name in raised], "lr": optim.lr * ratio, "ratio": ratio},
    ]


def _stepping(stepping: Stepping) -> dict[str, bool]:
    """The keyword of torch's optimisers; in one kernel on a GPU, as lists on a CPU, unless it is said otherwise."""
    if stepping == "default":
        return {"fused": True} if torch.cuda.is_available() else {"foreach": True}
    return {"foreach": False} if stepping == "loop" else {stepping: True}


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
