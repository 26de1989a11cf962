"""BitFit: only the biases are trained (arXiv 2106.10199), with a classifier's new head.

PEFT has no such method: its `bias="all"` trains biases along with LoRA. A bias of a norm is a bias too. Whisper's key
projections have none, so that of whisper-small 224,256 numbers are trained; a Llama has none at all and is refused.
"""

from __future__ import annotations

from transformers import PreTrainedModel

from replication.config import BitFit
from replication.methods.attached import Attached
from replication.methods.lora import head_modules
from replication.methods.part import train_only


def attach(model: PreTrainedModel, method: BitFit, *, seed: int, steps: int) -> Attached:
    """Freeze everything but the biases and a new head; nothing is drawn, so the seed is not used.

    Raises:
        ValueError: the model has no biases.
    """
    del seed, steps
    heads = tuple(f"{name}." for name in head_modules(model))

    def wanted(name: str) -> bool:
        return name.split(".")[-1] == "bias" or name.startswith(heads)

    if not any(wanted(name) for name, _ in model.named_parameters() if not name.startswith(heads)):
        raise ValueError(f"{type(model).__name__} has no biases, so BitFit would train nothing; take another method")
    return train_only(model, wanted, method=method.label())
