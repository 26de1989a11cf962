"""Full fine-tuning: every weight trains, as the checkpoint stores it."""

from __future__ import annotations

from transformers import PreTrainedModel

from replication.config import Full
from replication.methods.attached import Attached, trainable_parameters


def attach(model: PreTrainedModel, method: Full, *, seed: int, steps: int) -> Attached:
    """Train what the model leaves trainable; nothing is drawn, so the seed is not used."""
    del method, seed, steps
    return Attached(model, trainable_parameters(model))
