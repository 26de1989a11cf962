"""An eval up to its first question: what is wrong with data, columns and lengths shows, and nothing is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from replication.evals import evaluate
from replication.evals.completions import Completion, Ids
from replication.evals.lengths import Pair
from replication.evals.sampling import Sampling
from replication.specs import Eval


class _Asked(Exception):
    """The eval has come to its first question."""


class _Stage:
    """A Generator that ends the rehearsal where the model would be asked."""

    def __init__(self, tokenizer: Any, context: int) -> None:
        self.tokenizer, self.context = tokenizer, context

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[list[Completion]]:
        """Nothing: the eval is ready to ask."""
        self._end()

    def logprobs(self, pairs: Sequence[Pair]) -> list[list[float]]:
        """Nothing: the eval is ready to ask."""
        self._end()

    def _end(self) -> NoReturn:
        raise _Asked


def rehearse(spec: Eval, tokenizer: Any, context: int) -> None:
    """Raise what the eval would raise before its first question, and nothing else."""
    try:
        evaluate(spec, _Stage(tokenizer, context), 0)
    except _Asked:
        return
