"""Training sequences in an order that depends on the seed and the step alone.

    sequence k of the run = order(epoch k // size)[k % size]        order(e) = a permutation drawn from (seed, e)

So a resumed run, a cooldown branch and any number of ranks read the same global batch at the same step, and nothing
about the position has to be saved.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from replication import kernels, seeding

Sequence = dict[str, np.ndarray]
IGNORED = -100


@dataclass(frozen=True)
class Objective:
    """What is asked of a batch: how many of its positions carry a loss, and their summed loss through `forward`."""

    supervised: Callable[[dict[str, torch.Tensor]], int]
    loss: Callable[[Callable[..., Any], dict[str, torch.Tensor]], tuple[torch.Tensor, int]]


def supervised(batch: dict[str, torch.Tensor]) -> int:
    """Number of positions that carry a loss: labels are shifted, so the first of each row never does."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def loss(forward: Callable[..., Any], batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy in nats and the number of positions in it.

    No attention mask is passed and no cache is used: with position ids that restart at every document, transformers
    then keeps packed documents apart by itself; with a mask it silently would not. A model with the fused loss
    (`kernels.py`) is given the labels and returns the sum.
    """
    if kernels.sums_loss(forward):
        return forward(**batch, use_cache=False).loss, supervised(batch)
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    logits = forward(**inputs, use_cache=False).logits[:, :-1]
    return cross_entropy(logits, batch["labels"][:, 1:]), supervised(batch)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy in nats, in fp32; labels of -100 are left out. logits (..., classes), labels (...)."""
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return functional.cross_entropy(flat, labels.reshape(-1), ignore_index=IGNORED, reduction="sum")


LANGUAGE = Objective(supervised, loss)


@dataclass(frozen=True)
class Stream:
    """`size` sequences an epoch; `sequence(i)` gives arrays by the name of the model's input, the same shapes for all.

    Of a language model int64 (seq_len,): input_ids, labels, maybe position_ids. `real` counts the tokens of each
    sequence that are not padding, shape (size,).
    """

    size: int
    sequence: Callable[[int], Sequence]
    real: np.ndarray
    seed: int
    digest: str
    objective: Objective = LANGUAGE

    def indices(self, step: int, batch: int) -> list[int]:
        """Which sequences make up the global batch of a step; a batch may reach into the next epoch."""
        wanted = range(step * batch, (step + 1) * batch)
        return [int(_order(self.seed, k // self.size, self.size)[k % self.size]) for k in wanted]

    def real_tokens(self, step: int, batch: int) -> int:
        """Tokens of a global batch that are not padding."""
        return int(self.real[self.indices(step, batch)].sum())

    def micro_batches(
        self, step: int, *, batch: int, micro: int, rank: int = 0, world: int = 1
    ) -> list[dict[str, torch.Tensor]]:
        """This rank's share of a global batch, in tensors (micro, seq_len)."""
        chosen = self.indices(step, batch)
        starts = range(rank * micro, batch, micro * world)
        return [_stack([self.sequence(i) for i in chosen[s : s + micro]]) for s in starts]


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return seeding.generator(seed, "order", epoch).permutation(size)


def _stack(sequences: list[Sequence]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.stack([s[key] for s in sequences])) for key in sequences[0]}
