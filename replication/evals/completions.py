"""A sampled answer: from the tokens that an engine generated to text, cut at the first stop string.

The one rule for all engines, so that the same tokens are the same text. Completions are decoded behind the end of
their prompt: SentencePiece tokenizers strip the space a text starts with, which would unindent a function body.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Ids = Sequence[int]

# Tokens of the prompt's end that a completion is decoded behind.
LEAD = 8


@dataclass(frozen=True)
class Completion:
    """One sampled answer. `text` ends before the first stop string; `tokens` are all that were generated.

    `finish` is "length" where neither a stop string nor end-of-text came within `max_tokens` or the model's context.
    `stop` is the stop string that ended it: text + stop is what was generated up to there.
    """

    text: str
    tokens: tuple[int, ...]
    finish: Literal["stop", "eos", "length"]
    stop: str = ""


def complete(prompt: Ids, tokens: Ids, *, stops: Sequence[str], tokenizer: Any, eos: Collection[int]) -> Completion:
    """The completion that `tokens` are behind `prompt`."""
    whole = text_behind(prompt, tokens, tokenizer=tokenizer, eos=eos)
    found = [(place, stop) for stop in stops if (place := whole.find(stop)) >= 0]
    if found:
        place, stop = min(found)
        return Completion(whole[:place], tuple(tokens), "stop", stop)
    return Completion(whole, tuple(tokens), "eos" if tokens and tokens[-1] in eos else "length")


def text_behind(prompt: Ids, tokens: Ids, *, tokenizer: Any, eos: Collection[int]) -> str:
    """The text of `tokens` without end-of-text, as it reads behind the prompt."""
    lead = list(prompt[-LEAD:])
    before, whole = (
        tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for ids in (lead, lead + [token for token in tokens if token not in eos])
    )
    return whole[len(before) :]


def ending_tokens(configured: int | list[int] | None, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a text: those the model's generation config names (chat models have several), and the
    tokenizer's.

    Raises:
        ValueError: there is none.
    """
    listed = configured if isinstance(configured, list) else [configured]
    found = frozenset(int(i) for i in [*listed, tokenizer.eos_token_id] if i is not None)
    if not found:
        raise ValueError("neither model nor tokenizer names an end-of-text token; set tokenizer.eos_token")
    return found
