"""VeRA through PEFT: W x + diag(b) B diag(d) A x with random A, B, frozen and shared; d (r,) and b (out,) are trained.

The nearest relative of Sparsely Shared LoRA: there A and B are trained, there is no b, and coefficients are sparse.
A and B are as large as the largest linear and smaller ones use a corner of them. They are stored with the adapter, as
drawn again from their key they would depend on the version of torch. d begins at .1 and b at 0, so the change is zero.
"""

from __future__ import annotations

from peft import VeraConfig, get_peft_model
from transformers import PreTrainedModel

from replication.config import VeRA
from replication.methods.attached import Attached, trainable_parameters
from replication.methods.lora import head_modules, target_modules, task_type

_KEYS = 2**31  # PEFT seeds a generator of torch with the key


def attach(model: PreTrainedModel, method: VeRA, *, seed: int, steps: int) -> Attached:
    """Freeze the model and add VeRA, its projections drawn from `seed`; a new head trains along."""
    del steps
    settings = VeraConfig(
        r=method.rank,
        target_modules=target_modules(model, method.targets),
        projection_prng_key=seed % _KEYS,
        save_projection=True,
        bias="none",
        task_type=task_type(model),
        modules_to_save=head_modules(model) or None,
    )
    wrapped = get_peft_model(model, settings)
    return Attached(wrapped, trainable_parameters(wrapped))
