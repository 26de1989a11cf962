"""Some of a model's own parameters are trained, and only those are stored: biases, a head, or what was put beside them.

    step_000193/   adapter_model.safetensors   the trained tensors under their names
                   adapter_config.json         {"peft_type": "PART", ...}: how to put them back

The folder looks as PEFT's do, so that the rest of the project handles one kind of adapter; `merge.py` tells them apart
by `peft_type`. PEFT itself has no such type and refuses to load it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from replication.methods.attached import Attached, trainable_parameters

TYPE = "PART"


def as_it_is(model: PreTrainedModel) -> PreTrainedModel:
    """The merge of a method that trains parameters in place."""
    return model


class Part(torch.nn.Module):
    """A model of which only the trained tensors are stored; it answers as the model inside.

    `settings` is what a load needs to know beside the base, `shared` holds parameters that belong to no module of the
    model, and `merge` gives the model its own shape back.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Mapping[str, Any],
        *,
        shared: torch.nn.Module | None = None,
        merge: Callable[[PreTrainedModel], PreTrainedModel] = as_it_is,
    ) -> None:
        super().__init__()
        self.settings = {"base_model_name_or_path": model.name_or_path, **settings}
        # Registered before the model: the first name of a parameter is the one it is known by.
        if shared is not None:
            self.shared = shared
        self.model = model
        self._merge = merge

    @property
    def config(self) -> Any:
        """The configuration of the model inside."""
        return self.model.config

    @property
    def sums_loss(self) -> bool:
        """Whether the model inside sums the loss itself (`kernels.py`)."""
        return bool(getattr(self.model, "sums_loss", False))

    def forward(self, *args: Any, **inputs: Any) -> Any:
        """The output of the model inside."""
        return self.model(*args, **inputs)

    def generate(self, *args: Any, **inputs: Any) -> Any:
        """What the model inside generates."""
        model: Any = self.model
        return model.generate(*args, **inputs)

    def merge_and_unload(self, safe_merge: bool = True) -> PreTrainedModel:
        """The model in its own shape with what was learnt in its weights; as PEFT's, always checked for NaN.

        Raises:
            ValueError: a stored tensor is not finite.
        """
        del safe_merge
        _check_finite(dict(self.named_parameters()))
        return self._merge(self.model)

    def save_pretrained(self, folder: str, *, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Write the trained tensors among `state_dict` and the settings, in PEFT's layout."""
        kept = {name: state_dict[name].contiguous() for name in trainable_parameters(self)}
        save_file(kept, Path(folder) / "adapter_model.safetensors", metadata={"format": "pt"})
        (Path(folder) / "adapter_config.json").write_text(json.dumps(self.settings, indent=1) + "\n")

    @torch.no_grad()
    def restore(self, folder: Path) -> None:
        """Put the stored tensors of a folder in place.

        Raises:
            ValueError: the folder has a tensor that the model lacks, or one of another shape.
        """
        own = dict(self.named_parameters())
        for name, value in load_file(folder / "adapter_model.safetensors").items():
            if name not in own or own[name].shape != value.shape:
                found = "none" if name not in own else tuple(own[name].shape)
                raise ValueError(f"{folder} holds {name} {tuple(value.shape)}, the base has {found}; name its own base")
            own[name].copy_(value)


def train_only(model: PreTrainedModel, wanted: Callable[[str], bool], *, method: str) -> Attached:
    """Freeze a model but for the parameters whose names are `wanted`; `method` says in the files who trained them."""
    for name, p in model.named_parameters():
        p.requires_grad_(wanted(name))
    # The last two are what PEFT's files always have.
    wrapped = Part(model, {"peft_type": TYPE, "method": method, "r": None, "target_modules": None})
    return Attached(wrapped, trainable_parameters(wrapped))


def load(model: PreTrainedModel, folder: Path) -> Part:
    """A base with the stored parameters of a folder in place of its own."""
    wrapped = Part(model, settings(folder))
    wrapped.restore(folder)
    return wrapped


def settings(folder: Path) -> dict[str, Any]:
    """What an adapter's folder says about itself."""
    content: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return content


def _check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"NaN or infinite values in {broken[0]}; the run did not train, see its metrics")
