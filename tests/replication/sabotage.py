"""Harm done to a model between its loading and its training, which the proof of health must find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedModel

from replication import train as loop


def sabotaged(monkeypatch: pytest.MonkeyPatch, harm: Callable[[PreTrainedModel], Any]) -> None:
    """Let the loop load a model that somebody has tampered with."""
    real = loop.load_model

    def tampered(*args: Any, **options: Any) -> PreTrainedModel:
        model = real(*args, **options)
        harm(model)
        return model

    monkeypatch.setattr(loop, "load_model", tampered)
