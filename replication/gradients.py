"""Gradients of one global batch, over micro-batches and ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch

from replication import health, seeding
from replication.engine import Engine
from replication.tasks import LANGUAGE, Objective


def accumulate(
    engine: Engine,
    batches: list[dict[str, torch.Tensor]],
    *,
    seed: int,
    objective: Objective = LANGUAGE,
    penalty: Callable[[], torch.Tensor] | None = None,
) -> tuple[float, int]:
    """Gradients of one global batch; returns its mean loss in nats and the positions in it, over all ranks.

    Dropout is drawn by the micro-batch's place in the global batch, whichever rank has it. The penalty of a method
    enters the gradient, once a global batch, and not the loss that is returned.
    """
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    device = next(engine.model.parameters()).device
    count = over_ranks(sum(objective.supervised(b) for b in batches), device)
    if count == 0:
        raise health.TrainingFailed("no position of a global batch carries a loss; are prompts longer than seq_len?")
    total = torch.zeros((), device=device)
    for i, batch in enumerate(batches):
        torch.manual_seed(seeding.derive(seed, rank + i * world))
        batch = {k: v.to(device) for k, v in batch.items()}
        summed, _ = objective.loss(engine.forward, batch)
        last = i == len(batches) - 1
        extra = penalty() / world if penalty is not None and last else 0.0
        engine.backward(summed / count + extra, last=last)
        total += summed.detach()
    return over_ranks(float(total), device) / count, int(count)


def over_ranks(value: float, device: torch.device) -> float:
    """Sum of a number over ranks."""
    if torch.distributed.get_world_size() == 1:
        return value
    tensor = torch.tensor(float(value), dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor)
    return float(tensor)
