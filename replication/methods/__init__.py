"""How a model is made trainable: full fine-tuning, LoRA and its relatives, biases or a head alone.

    attach(model, method, seed, steps) -> Attached(model, trainable, on_step, penalty)

The loop calls `on_step` after every optimiser step, adds `penalty` to the loss, and knows no method by name.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from replication.config import AdaLoRA, BitFit, Full, Head, LoRA, Method, S2LoRA, VeRA
from replication.methods import adalora, bitfit, full, head, lora, s2lora, vera
from replication.methods.attached import Attached

METHODS: dict[type, Callable[..., Attached]] = {
    Full: full.attach,
    LoRA: lora.attach,
    AdaLoRA: adalora.attach,
    S2LoRA: s2lora.attach,
    VeRA: vera.attach,
    BitFit: bitfit.attach,
    Head: head.attach,
}


def attach(model: PreTrainedModel, method: Method, *, seed: int, steps: int = 1) -> Attached:
    """Make `model` trainable by `method`; the model is changed in place.

    Args:
        seed: draws new weights, if any.
        steps: optimiser steps of the whole run, for methods with a schedule of their own.
    """
    return METHODS[type(method)](model, method, seed=seed, steps=steps)
