"""From a row of a benchmark to the token ids a model is asked with.

A template is a format string over the columns of the row; "chat:" before it asks in the tokenizer's chat template, as
instruction tuning with the template "chat" trained. Ids are made once, here, with the tokenizer's own rule
about beginning-of-text, and an end-of-text that a tokenizer appends is taken off: a prompt is not finished.
"""

from __future__ import annotations

import string
from typing import Any

from replication.data import chat

CHAT = "chat:"


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


def prompt_ids(template: str, row: dict[str, Any], tokenizer: Any) -> list[int]:
    """Token ids of the rendered template."""
    if template.startswith(CHAT):
        return chat.prompt_ids("chat", prompt_text(template, row), tokenizer)
    ids = list(tokenizer(prompt_text(template, row))["input_ids"])
    return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids
