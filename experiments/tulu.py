"""The Tulu 2 mix as instruction rows: a conversation's last answer, asked with everything that was said before it.

llm-foundry trains on the last response of a conversation only (target_responses="last" is its default); the paper does
not state its own choice. So the prompt here is the whole history in the tags of the Tulu 2 models, and the loss is on
the last answer:

    <|user|>\\n...\\n<|assistant|>\\n...\\n<|user|>\\n...\\n<|assistant|>\\n  ->  the last answer
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from replication.config import Source

SOURCE = Source("allenai/tulu-v2-sft-mixture")


def rows() -> Iterator[dict[str, str]]:
    """Prompt and response of every conversation of the mix that has an answer."""
    # At the time of use: what lists and plans studies runs without the data packages.
    from replication.data.sources import documents

    yield from last_answers(documents(SOURCE))


def last_answers(conversations: Iterable[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Rows with `prompt` and `response` of conversations, whose `messages` have a role and a content each."""
    for conversation in conversations:
        messages = list(conversation["messages"])
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if len(messages) > 1:
            history = "".join(f"<|{m['role']}|>\n{m['content']}\n" for m in messages[:-1])
            yield {"prompt": f"{history}<|assistant|>\n", "response": messages[-1]["content"]}
