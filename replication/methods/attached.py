"""What every method hands to the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


def nothing(step: int, lr: float) -> None:
    """The `on_step` of a method that has nothing to do between steps."""


@dataclass(frozen=True)
class Memory:
    """What a method knows beyond its parameters, as tensors by name; saved and put back with the training state."""

    save: Callable[[], dict[str, torch.Tensor]]
    load: Callable[[Mapping[str, torch.Tensor]], None]


@dataclass(frozen=True)
class Attached:
    """A model ready to train. `trainable` maps parameter names to the tensors that the optimiser owns.

    `on_step(step, lr)` is called after optimiser step `step` (0-based), which was made at rate `lr`. `penalty` is added
    to the loss of every global batch, in nats a position. `may_rest` names trainable tensors that the method itself may
    put back to where they began, such as sparse coefficients to 0; all of them together must still move.
    `memory` is what a resumed run needs beside weights and the optimiser's state.
    """

    model: torch.nn.Module
    trainable: dict[str, torch.nn.Parameter]
    on_step: Callable[[int, float], None] = nothing
    penalty: Callable[[], torch.Tensor] | None = None
    may_rest: frozenset[str] = frozenset()
    memory: Memory | None = None


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters that ask for a gradient, by name; a tied tensor appears once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
