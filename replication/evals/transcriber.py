"""A speech model and its greedy transcripts: the encoder once, then token after token with cached keys and values.

    prompt -> decoder -> likeliest token that is not suppressed -> decoder -> ...  until end-of-text

What the prompt is and what is suppressed (always, or at the first place) is said by the model's generation
configuration, so that a real Whisper writes what `transformers` would let it write by greedy search without timestamps.
Models compute in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import AutoFeatureExtractor, DynamicCache, EncoderDecoderCache, GenerationConfig
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.modeling_outputs import BaseModelOutput

from replication.data import audio, transcripts
from replication.evals.reader import Reader
from replication.methods.merge import load_unmerged, load_weights
from replication.models import load_model, load_tokenizer, locate
from replication.runs import is_adapter

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Conventions:
    """How a model is asked and what it may not write: `prompt` begins every transcript, `end` ends it."""

    prompt: list[int]
    end: int
    suppressed: list[int]
    suppressed_first: list[int]


@dataclass(frozen=True)
class Transcriber(Reader):
    """Opens a recogniser: merged, with its adapter beside the weights, or untuned."""

    def merged(self) -> torch.nn.Module:
        """The tuned model, or the base where nothing is tuned."""
        return _ready(load_weights(self.weights, mend=self.mend))

    def unmerged(self) -> torch.nn.Module | None:
        """The tuned model with its adapter beside the weights, of 8 bits where it was trained so; None without one."""
        if self.weights.tuned is None or not is_adapter(self.weights.tuned):
            return None
        return _ready(load_unmerged(self.weights.base, self.weights.tuned, form=self.weights.form))

    def untuned(self) -> torch.nn.Module:
        """The base, whole."""
        return _ready(load_model(self.weights.base, form=replace(self.weights.form, bits=None)))

    def tokenizer(self) -> Tokenizer:
        """The base's tokenizer: tuning leaves it as it is."""
        return load_tokenizer(self.weights.base)

    def extractor(self) -> Any:
        """The base's front end."""
        return AutoFeatureExtractor.from_pretrained(locate(self.weights.base))

    def conventions(self, language: str | None) -> Conventions:
        """How the base's generation configuration wants it asked."""
        found = GenerationConfig.from_pretrained(locate(self.weights.base))
        return Conventions(
            prompt=transcripts.prompt_tokens(found, language),
            end=_end(found),
            suppressed=list(getattr(found, "suppress_tokens", None) or []),
            suppressed_first=list(getattr(found, "begin_suppress_tokens", None) or []),
        )


def batches(
    rows: Sequence[Row], extractor: Any, *, names: Sequence[str], size: int, cut: bool = False
) -> Iterator[torch.Tensor]:
    """Features of `size` clips at a time, (clips, bands, frames); `cut` hears the beginning of those too long."""
    for start in range(0, len(rows), size):
        own = zip(rows[start : start + size], names[start : start + size], strict=True)
        heard = [audio.log_mel(extractor, row["audio"], name=name, cut=cut) for row, name in own]
        yield torch.from_numpy(np.stack(heard))


@torch.inference_mode()
def steps(
    model: torch.nn.Module, features: torch.Tensor, asked: Conventions, *, max_tokens: int
) -> Iterator[torch.Tensor]:
    """The likeliest token of every clip, (clips,), one place after the other, `max_tokens` times whatever they are.

    Raises:
        ValueError: the decoder has no room for so many.
    """
    _check_room(model, asked, max_tokens)
    device = next(model.parameters()).device
    forward: Callable[..., Any] = model
    heard: dict[str, Any] = {"input_features": features.to(device)}
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    given = torch.tensor([asked.prompt] * len(features), device=device)
    for step in range(max_tokens):
        out = forward(**heard, decoder_input_ids=given, past_key_values=cache, use_cache=True)
        heard = {"encoder_outputs": BaseModelOutput(last_hidden_state=out.encoder_last_hidden_state)}
        logits = out.logits[:, -1]
        logits[:, asked.suppressed + (asked.suppressed_first if step == 0 else [])] = -torch.inf
        given = logits.argmax(-1)[:, None]
        yield given[:, 0]


def write(model: torch.nn.Module, features: torch.Tensor, asked: Conventions, *, max_tokens: int) -> list[list[int]]:
    """Greedy transcripts of the clips, as tokens without prompt and end-of-text.

    Raises:
        ValueError: the decoder has no room for so many.
    """
    written: list[torch.Tensor] = []
    for token in steps(model, features, asked, max_tokens=max_tokens):
        written.append(token)
        if bool((torch.stack(written) == asked.end).any(0).all()):
            break
    return [_until(row, asked.end) for row in torch.stack(written, 1).tolist()]


@torch.inference_mode()
def nats(
    model: torch.nn.Module, features: torch.Tensor, reads: torch.Tensor, labels: torch.Tensor
) -> tuple[list[float], list[int]]:
    """Summed nats of every clip's transcript and end-of-text when it is given, and how many tokens those are."""
    device = next(model.parameters()).device
    forward: Callable[..., Any] = model
    logits = forward(input_features=features.to(device), decoder_input_ids=reads.to(device), use_cache=False).logits
    each = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels.to(device), ignore_index=transcripts.IGNORED, reduction="none"
    )
    return each.sum(1).tolist(), (labels != transcripts.IGNORED).sum(1).tolist()


def _check_room(model: torch.nn.Module, asked: Conventions, max_tokens: int) -> None:
    config: Any = model.config
    room = config.max_target_positions - len(asked.prompt)
    if max_tokens > room:
        raise ValueError(f"{max_tokens} tokens are asked for and the decoder has room for {room} behind its prompt")


def _until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens


def _end(found: GenerationConfig) -> int:
    end = found.eos_token_id
    return int(end[0] if isinstance(end, list) else end)


def _ready(model: Any) -> torch.nn.Module:
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
