"""What every method hands to the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


def nothing(step: int) -> None:
    """The `on_step` of a method that has nothing to do between steps."""


@dataclass(frozen=True)
class Attached:
    """A model ready to train. `trainable` maps parameter names to the tensors that the optimiser owns."""

    model: torch.nn.Module
    trainable: dict[str, torch.nn.Parameter]
    on_step: Callable[[int], None] = nothing


def trainable_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters that ask for a gradient, by name; a tied tensor appears once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
