"""From a row of a benchmark to the token ids a model is asked with, and from what it generated to its answer.

A template is a format string over the columns of the row; "chat:" before it asks in the tokenizer's chat template, as
instruction tuning with the template "chat" trained. Ids are made once, here, with the tokenizer's own rule
about beginning-of-text, and an end-of-text that a tokenizer appends is taken off: a prompt is not finished.

A generation may go on behind the place where a convention ends an answer, so that it can be scored under several: an
`Answer` is what was generated, `cut` what counts of it.
"""

from __future__ import annotations

import logging
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from replication.data import chat
from replication.evals.completions import Completion
from replication.specs import TooLong

CHAT = "chat:"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a model generated: `text` + `stop` up to its end, why it ended there, and in how many tokens."""

    text: str
    stop: str
    finish: str
    tokens: int

    def ends_at(self, cuts: Sequence[str]) -> int | None:
        """Where the first of the cut strings begins; None where none was generated."""
        whole = self.text + self.stop
        return min((place for cut in cuts if (place := whole.find(cut)) >= 0), default=None)

    def cut(self, cuts: Sequence[str]) -> str:
        """The text before the first of the cut strings; all of it where none was generated."""
        place = self.ends_at(cuts)
        return self.text if place is None else (self.text + self.stop)[:place]

    def ran_on(self, cuts: Sequence[str]) -> bool:
        """Whether neither a cut string nor end-of-text came before the limit."""
        return self.finish == "length" and self.ends_at(cuts) is None

    def fields(self) -> dict[str, Any]:
        """As it is kept in samples; `Answer(**fields)` is the way back."""
        return {"text": self.text, "stop": self.stop, "finish": self.finish, "tokens": self.tokens}


def answer(completion: Completion) -> Answer:
    """What is kept of a completion."""
    return Answer(completion.text, completion.stop, completion.finish, len(completion.tokens))


def prompt_text(template: str, row: dict[str, Any]) -> str:
    """The rendered template, without the frame of a chat.

    Raises:
        ValueError: the template names a column that the row does not have, or none at all.
    """
    template = template.removeprefix(CHAT)
    fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if missing := sorted(fields - set(row)):
        raise ValueError(f"template {template!r} asks for column {missing[0]!r}; the row has {sorted(row)}")
    if not fields:
        raise ValueError(
            f"template {template!r} names no column, so all items would be asked alike; the row has {sorted(row)}, "
            'and a chat is asked by "chat:{question}"'
        )
    return template.format(**row)


def prompt_ids(template: str, row: dict[str, Any], tokenizer: Any, *, before: str = "") -> list[int]:
    """Token ids of the rendered template behind `before`, the worked examples; in a chat, all in one turn."""
    text = before + prompt_text(template, row)
    if template.startswith(CHAT):
        return chat.prompt_ids("chat", text, tokenizer)
    ids = list(tokenizer(text)["input_ids"])
    return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids


def require_text(rows: Sequence[dict[str, Any]], columns: Sequence[str], name: str) -> None:
    """Refuse rows that lack a column, or have something else than text in it.

    Raises:
        ValueError: names the eval, the row and the column.
    """
    for i, row in enumerate(rows):
        for column in columns:
            if column not in row:
                raise ValueError(f"{name}: row {i} has no column {column!r}; it has {sorted(row)}")
            if not isinstance(row[column], str) or not row[column].strip():
                raise ValueError(f"{name}: row {i} has {row[column]!r} in column {column!r}; expected text")


def fit(
    prompts: Sequence[list[int]], ids: Sequence[str], *, name: str, context: int, max_tokens: int, too_long: TooLong
) -> tuple[list[list[int]], list[bool]]:
    """Prompts that leave room for `max_tokens` behind them, and which of them have lost their beginning for it.

    Args:
        context: positions of the model.

    Raises:
        ValueError: a prompt is too long and `too_long` is "error", or nothing would be left of any.
    """
    window = context - max_tokens
    if window < 1:
        raise ValueError(
            f"{name}: max_tokens={max_tokens} leave no room for a prompt in the model's {context} positions; lower it"
        )
    long = [len(prompt) > window for prompt in prompts]
    if too_long == "error" and any(long):
        first = long.index(True)
        raise ValueError(
            f"{name}: item {ids[first]!r} is asked with {len(prompts[first])} tokens, but the model's {context} "
            f"positions less max_tokens={max_tokens} leave {window} ({sum(long)} of {len(long)} items are too long); "
            'lower max_tokens, give fewer examples, or set too_long="cut" to drop the beginning of such prompts'
        )
    if any(long):
        _LOG.warning("%s: %d of %d prompts lost their beginning to fit", name, sum(long), len(long))
    return [prompt[-window:] for prompt in prompts], long
