"""What an eval asks of a model: sampled completions and log-probabilities, as one protocol.

    eval --prompts, as token ids--> Generator --> Engine (transformers | vLLM)
                                    journal.py keeps every finished answer on the way

Prompts go in as token ids, made once by the eval, so that no engine can add a second beginning-of-text or strip a
space. An eval knows only `Generator`. `TransformersGenerator` is the engine for models small enough that starting a
server costs more than the work; `vllm_engine.py` is the other.

The random numbers of a completion are named by (seed, place of its prompt, place of the sample), so they do not
depend on which rows happened to share a batch. Rounding does: float32 sums differ in the last digits between batch
shapes. The same call on the same weights gives the same answer; pin `batch_tokens` to compare across calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any, Protocol, TypeVar

import torch

from replication.evals import decoding, likelihood
from replication.evals.completions import Completion, Ids, ending_tokens
from replication.evals.lengths import Pair, check_prompts
from replication.evals.sampling import Sampling
from replication.evals.transcript import Transcript

__all__ = ["Completion", "Engine", "Generator", "Sampling", "TransformersGenerator"]

_Answer = TypeVar("_Answer")


class Generator(Protocol):
    """Samples completions and scores given ones; the only door from an eval to a model."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that prompts must be made with."""

    @property
    def context(self) -> int:
        """Positions of the model: a prompt and its completion together have no more."""

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in order."""

    def logprobs(self, pairs: Sequence[Pair]) -> list[list[float]]:
        """Natural-log probability of each token of an option given its prefix and the option's earlier tokens."""


class Engine(Protocol):
    """What answers: each answer with the place of its question, in whatever order they are found."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that prompts must be made with."""

    @property
    def context(self) -> int:
        """Positions of the model."""

    def identity(self) -> dict[str, str]:
        """What, beside weights and questions, an answer depends on: engine, versions, number format."""

    def completions(
        self, prompts: Sequence[Ids], sampling: Sampling, places: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """`sampling.n` completions for each prompt; `places` name the prompts' random streams."""

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, list[float]]]:
        """Natural-log probability of each token of each option."""


class TransformersGenerator:
    """The transformers engine: a causal language model of `transformers`, on the device it lies on.

    Texts are continued together with a key-value cache, and samples that agree are computed once. Needs full causal
    attention in every layer (Llama, Qwen2, SmolLM2, GPT-NeoX, ...): sliding windows are not modelled.
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_tokens: int = 131_072) -> None:
        """Args:
        batch_tokens: the bound on memory: cache positions held at once, samples x (prompt + new tokens).
        """
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens={batch_tokens}; expected a positive number")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens

    @property
    def context(self) -> int:
        """Positions the model was made for; a model that does not say has no bound."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 1 << 30)

    def identity(self) -> dict[str, str]:
        """Engine, versions and number format."""
        versions = {name: metadata.version(name) for name in ("transformers", "torch")}
        device = self.model.device.type
        return {"engine": "transformers", "dtype": str(self.model.dtype), "device": device, **versions}

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in order."""
        return in_order(self.completions(prompts, sampling, range(len(prompts))), len(prompts))

    def logprobs(self, pairs: Sequence[Pair]) -> list[list[float]]:
        """Natural-log probability of each token of an option given its prefix and the option's earlier tokens."""
        return in_order(self.likelihoods(pairs), len(pairs))

    @torch.inference_mode()
    def completions(
        self, prompts: Sequence[Ids], sampling: Sampling, places: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """(place in `prompts`, its completions) as batches end."""
        check_prompts(prompts, self.context)
        eos = ending_tokens(self.model.generation_config.eos_token_id, self.tokenizer)
        context, named = self.context, list(places)
        transcript = Transcript(prompts, sampling, self.tokenizer, eos=eos, context=context, places=named)
        taken: set[int] = set()
        for _ in decoding.run(self.model, transcript, batch_tokens=self.batch_tokens):
            for prompt in transcript.done():
                if prompt not in taken:
                    taken.add(prompt)
                    yield prompt, transcript.completions(prompt)

    @torch.inference_mode()
    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, list[float]]]:
        """(place in `pairs`, log-probabilities of the option's tokens) as batches end."""
        yield from likelihood.logprobs(self.model, pairs, context=self.context, batch_tokens=self.batch_tokens)


def in_order(found: Iterable[tuple[int, _Answer]], count: int) -> list[_Answer]:
    """The answers by the places of their questions."""
    answers = dict(found)
    return [answers[place] for place in range(count)]
