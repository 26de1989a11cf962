"""Models and generators for the eval tests: a tiny random Llama, and answers written down in advance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from replication.evals.generate import Completion, Sampling, TransformersGenerator


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


class Scripted:
    """A Generator whose answers are written down: per prompt, the (text, finish) of each sample."""

    def __init__(self, tokenizer: Any, answers: Sequence[Sequence[tuple[str, str]]]) -> None:
        self.tokenizer, self.answers = tokenizer, answers
        self.asked: list[str] = []
        self.sampling: Sampling | None = None

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Completion]]:
        self.asked, self.sampling = [self.tokenizer.decode(p) for p in prompts], sampling
        return [[Completion(text, (), finish) for text, finish in row] for row in self.answers]  # type: ignore[arg-type]

    def logprobs(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        raise AssertionError("this generator only generates")


@pytest.fixture
def scripted(tiny: tuple[Any, Any]) -> Any:
    return lambda answers: Scripted(tiny[1], answers)
