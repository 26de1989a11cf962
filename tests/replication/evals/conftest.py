"""Models and generators for the eval tests: a tiny random Llama, and answers written down in advance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from replication.evals.generate import Completion, TransformersGenerator


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> tuple[Any, Any]:
    """The tiny random Llama and its byte tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> tuple[Any, Any]:
    """A real pretrained model of 260,032 parameters, with a SentencePiece vocabulary."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    folder = shared_data / "models" / "stories260K"
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def generator(tiny: tuple[Any, Any]) -> TransformersGenerator:
    return TransformersGenerator(*tiny)


class Written:
    """A Generator whose completions are written down, one list per prompt, with a model of `context` positions."""

    def __init__(self, tokenizer: Any, completions: list[list[Completion]], context: int = 1 << 30) -> None:
        self.tokenizer, self.completions, self.context = tokenizer, completions, context
        self.asked: list[str] | None = None
        self.sampling: Any = None

    def generate(self, prompts: Any, sampling: Any) -> list[list[Completion]]:
        self.asked, self.sampling = [self.tokenizer.decode(p) for p in prompts], sampling
        return self.completions


@pytest.fixture
def written(tiny: tuple[Any, Any]) -> Any:
    return lambda completions, **settings: Written(tiny[1], completions, **settings)


@pytest.fixture
def scripted(written: Any) -> Any:
    return lambda answers: written([[Completion(text, (), finish) for text, finish in row] for row in answers])
