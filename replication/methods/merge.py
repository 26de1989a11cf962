"""Weights of a finished checkpoint, and what training changed in them, in fp32.

LoRA's change is returned as its factors: a product of 4096 x 16 by 16 x 4096 need not be formed to be analysed.
Merging adds the fp32 product to the fp32 weight once; a merge in bf16 rounds a small change away (pitfall 21).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import PreTrainedModel

from replication.models import load_model


@dataclass(frozen=True)
class Factors:
    """A change b @ a of one linear, scaling included: b (out, r), a (r, in), fp32."""

    b: torch.Tensor
    a: torch.Tensor

    def dense(self) -> torch.Tensor:
        """The change as one (out, in) matrix."""
        return self.b @ self.a


def is_adapter(checkpoint: Path) -> bool:
    """Whether a checkpoint holds an adapter, not a whole model."""
    return (checkpoint / "adapter_config.json").is_file()


def load_merged(base: str | Path, checkpoint: Path) -> PreTrainedModel:
    """The tuned model of a checkpoint in fp32; an adapter is merged into a fresh copy of the base."""
    if not is_adapter(checkpoint):
        return load_model(checkpoint)
    wrapped = PeftModel.from_pretrained(load_model(base), str(checkpoint))
    return wrapped.merge_and_unload(safe_merge=True)


def adapter_change(checkpoint: Path) -> Iterator[tuple[str, Factors]]:
    """Each adapted linear's name in the base model and its change, scaled by alpha / r."""
    settings = json.loads((checkpoint / "adapter_config.json").read_text())
    scaling = settings["lora_alpha"] / settings["r"]
    with safe_open(checkpoint / "adapter_model.safetensors", framework="pt") as tensors:
        for key in sorted(k for k in tensors.keys() if k.endswith("lora_A.weight")):  # noqa: SIM118
            a = tensors.get_tensor(key).float()
            b = tensors.get_tensor(key.replace("lora_A", "lora_B")).float()
            name = key.removeprefix("base_model.model.").replace(".lora_A", "")
            yield name, Factors(b * scaling, a)
