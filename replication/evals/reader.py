"""What answers the evals of models that do not continue text: weights with the versions that decide their answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import torch

from replication.models import Weights


@dataclass(frozen=True)
class Reader:
    """Weights to be asked; `mend` is the advice where their files are damaged, `watch` is told (done, total)."""

    weights: Weights
    mend: str | None = None
    watch: Callable[[int, int], None] | None = None

    def identity(self) -> dict[str, str]:
        """What, beside weights and questions, an answer depends on."""
        return {
            "engine": "transformers",
            "transformers": metadata.version("transformers"),
            "torch": torch.__version__,
            "dtype": "float32",
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }
