"""What an eval asks of a model: sampled completions and log-probabilities, as one protocol with one engine.

Prompts go in as token ids, made once by the eval, so that no engine can add a second beginning-of-text or strip a
space. An eval knows only the `Generator` protocol; `TransformersGenerator` is the engine for models small enough that
starting a server costs more than the work.

The random numbers of a completion are named by (seed, place of its prompt, place of the sample), so they do not
depend on which rows happened to share a batch. Rounding does: float32 sums differ in the last digits between batch
shapes. The same call on the same weights gives the same answer; pin `batch_tokens` to compare across calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from replication.evals import decoding, likelihood
from replication.evals.sampling import Sampling
from replication.evals.transcript import Transcript

__all__ = ["Completion", "Generator", "Sampling", "TransformersGenerator"]

Ids = Sequence[int]


@dataclass(frozen=True)
class Completion:
    """One sampled answer. `text` ends before the first stop string; `tokens` are all that were generated.

    `finish` is "length" where neither a stop string nor end-of-text came within `max_tokens` or the model's context.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Literal["stop", "eos", "length"]


class Generator(Protocol):
    """Samples completions and scores given ones; the only door from an eval to a model."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that prompts must be made with."""

    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in order."""

    def logprobs(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[list[float]]:
        """Natural-log probability of each token of an option given its prefix and the option's earlier tokens."""


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

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Ids], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each prompt, in order."""
        context = _context(self.model)
        for i, prompt in enumerate(prompts):
            if not 0 < len(prompt) < context:
                raise ValueError(f"prompt {i} has {len(prompt)} tokens; expected 1 to {context - 1} (model's context)")
        eos = _eos_ids(self.model, self.tokenizer)
        transcript = Transcript(prompts, sampling, self.tokenizer, eos=eos, context=context)
        decoding.run(self.model, transcript, batch_tokens=self.batch_tokens)
        n = sampling.n
        return [[Completion(*transcript.ending(p * n + s)) for s in range(n)] for p in range(len(prompts))]

    @torch.inference_mode()
    def logprobs(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[list[float]]:
        """Natural-log probability of each token of an option given its prefix and the option's earlier tokens."""
        return likelihood.logprobs(self.model, pairs, context=_context(self.model), batch_tokens=self.batch_tokens)


def _context(model: Any) -> int:
    """Positions the model was made for; a model that does not say has no bound."""
    return int(getattr(model.config, "max_position_embeddings", None) or 1 << 30)


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a text: chat models have more than one."""
    configured = model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    found = frozenset(int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None)
    if not found:
        raise ValueError("neither model nor tokenizer names an end-of-text token; set tokenizer.eos_token")
    return found
