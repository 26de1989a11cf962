"""Instruction rows as token ids: where the prompt ends, and that the response ends with end-of-text.

The prompt is tokenised alone, exactly as an eval will tokenise it. The response is what prompt and response
tokenised *together* hold beyond it: tokenised on its own it would, with SentencePiece vocabularies, start with a
space that the model would then learn to write. Where a token would straddle the boundary, the response is
tokenised on its own after all: what the model is given at evaluation time decides.

The end-of-text token belongs to the response and is trained; a model that never saw it would not stop
(trl #1623: padding masked by value hid it there, so nothing here is masked by value).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

Ids = list[int]


def render(template: str, prompt: str, response: str, tokenizer: Any) -> tuple[Ids, Ids]:
    """Token ids of one rendered prompt and of its response with end-of-text."""
    return render_all(template, [(prompt, response)], tokenizer)[0]


def render_all(template: str, pairs: Sequence[tuple[str, str]], tokenizer: Any) -> list[tuple[Ids, Ids]]:
    """`render` over many (prompt, response) pairs with two tokenizer calls."""
    eos = end_of_text(tokenizer)
    check_template(template)
    chat = template == "chat"
    texts = [_chat_texts(p, r, tokenizer) if chat else _plain_texts(template, p, r) for p, r in pairs]
    # A chat template writes its own special tokens.
    prompts = ids_of(tokenizer, [p for p, _ in texts], special=not chat)
    wholes = ids_of(tokenizer, [p + r for p, r in texts], special=not chat)
    rendered = []
    for (_, response), asked, whole in zip(texts, prompts, wholes, strict=True):
        asked = _without_end(asked, eos)
        if whole[: len(asked)] == asked:
            answer = whole[len(asked) :]
        else:
            (answer,) = ids_of(tokenizer, [response], special=False)
        rendered.append((asked, answer if answer[-1:] == [eos] else [*answer, eos]))
    return rendered


def prompt_ids(template: str, prompt: str, tokenizer: Any) -> Ids:
    """Token ids of a rendered prompt alone, for an eval that asks a tuned model: what `render` trains on."""
    return render(template, prompt, "", tokenizer)[0]


def check_template(template: str) -> None:
    """Refuse a template with any field but `{prompt}`, or without it.

    Raises:
        ValueError: names the unknown field.
    """
    if template == "chat":
        return
    try:
        known = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}; write a literal brace as {{{{ or }}}}") from error
    if unknown := sorted(known - {"prompt"}):
        raise ValueError(f"template {template!r} has an unknown field {unknown[0]!r}; the only one is {{prompt}}")
    if not known:
        raise ValueError(f"template {template!r} has no {{prompt}}")


def end_of_text(tokenizer: Any) -> int:
    """Id of the end-of-text token.

    Raises:
        ValueError: the tokenizer has none, so a model could never learn to stop.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-text token; set tokenizer.eos_token to one of its tokens")
    return int(tokenizer.eos_token_id)


def ids_of(tokenizer: Any, texts: Sequence[str], *, special: bool = True) -> list[Ids]:
    """Token ids of each text, as `tokenizer(texts)` gives them, of any length and without padding.

    A fast tokenizer's core is asked directly: without offsets and masks, which nobody reads here, it takes two thirds
    of the time. `special` adds what the tokenizer puts around a text by itself. `tokenizer` may be that core.
    """
    core = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(core, "encode_batch_fast"):
        # Not verbose: a text longer than the model is cut later or split into blocks, and no reason for a warning.
        return list(tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"])
    # Left behind by earlier calls of the tokenizer, which sets both anew at each call.
    core.no_truncation()
    core.no_padding()
    return [found.ids for found in core.encode_batch_fast(list(texts), add_special_tokens=special)]


def _plain_texts(template: str, prompt: str, response: str) -> tuple[str, str]:
    return template.format(prompt=prompt), response


def _chat_texts(prompt: str, response: str, tokenizer: Any) -> tuple[str, str]:
    if not tokenizer.chat_template:
        raise ValueError('template "chat" needs a tokenizer with a chat template; give a format string instead')
    ask = [{"role": "user", "content": prompt}]
    both = [*ask, {"role": "assistant", "content": response}]
    start = tokenizer.apply_chat_template(ask, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(both, tokenize=False)
    if not whole.startswith(start):
        raise ValueError("the chat template changes the prompt once it is answered; give a format string instead")
    # Templates close a turn with a newline after its end token; the model has stopped by then.
    return start, whole[len(start) :].rstrip("\n")


def _without_end(ids: Ids, eos: int) -> Ids:
    """Prompt ids without the end-of-text that some tokenizers add by themselves."""
    return ids[:-1] if len(ids) > 1 and ids[-1] == eos else ids
