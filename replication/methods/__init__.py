"""How a model is made trainable: full fine-tuning or LoRA.

    attach(model, method, seed) -> Attached(model, trainable, on_step)

The loop calls `on_step` after every optimiser step and knows no method by name.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from replication.config import Full, LoRA, Method
from replication.methods import full, lora
from replication.methods.attached import Attached

METHODS: dict[type, Callable[..., Attached]] = {Full: full.attach, LoRA: lora.attach}


def attach(model: PreTrainedModel, method: Method, *, seed: int) -> Attached:
    """Make `model` trainable by `method`; the model is changed in place. `seed` draws new weights, if any."""
    return METHODS[type(method)](model, method, seed=seed)
