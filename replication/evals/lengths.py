"""What fits into a model's context; refused before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from replication.evals.completions import Ids

Pair = tuple[Ids, Ids]


def check_prompts(prompts: Sequence[Ids], context: int) -> None:
    """Refuse a prompt that is empty or leaves no room for a token.

    Raises:
        ValueError: names the prompt.
    """
    for i, prompt in enumerate(prompts):
        if not 0 < len(prompt) < context:
            raise ValueError(f"prompt {i} has {len(prompt)} tokens; expected 1 to {context - 1} (model's context)")


def check_pairs(pairs: Sequence[Pair], context: int) -> None:
    """Refuse an empty prefix, and prefix and option longer than the context; the option's last token is never fed.

    Raises:
        ValueError: names the pair.
    """
    for i, (prefix, option) in enumerate(pairs):
        if not len(prefix):
            raise ValueError(f"pair {i} has an empty prefix; start it with the end-of-text token")
        if len(prefix) + len(option) - 1 > context:
            raise ValueError(f"pair {i} has {len(prefix)} + {len(option)} tokens; the model's context is {context}")
