"""Transcripts as an encoder-decoder recogniser is taught them.

    decoder reads   start  [language]  [task]  no-timestamps  w1 ... wn
    and is asked      -        -         -          w1        w2 ... end-of-text

The prompt (start to no-timestamps) is given, so it carries no loss. Which tokens it has is said by the model's own
generation configuration: a multilingual Whisper is told language and task, an English-only one is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import GenerationConfig
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from replication.data.audio import TooLong

IGNORED = -100


def prompt_tokens(generation: GenerationConfig, language: str | None) -> list[int]:
    """The tokens that every transcript of a model begins with.

    Args:
        language: a name or code that the model knows ("hindi", "hi"); None for a model of one language.

    Raises:
        ValueError: the model is to be told a language and is not, or knows none of that name, or is told in vain.
    """
    found = [int(generation.decoder_start_token_id)]
    languages: dict[str, int] | None = getattr(generation, "lang_to_id", None)
    if languages:
        tasks: dict[str, int] = generation.task_to_id  # type: ignore[attr-defined]  # of Whisper's alone
        found += [languages[_language(languages, language)], tasks["transcribe"]]
    elif language is not None and language.lower() not in ("english", "en"):
        raise ValueError(f"language={language!r}: this model knows a single language and is told none; leave it out")
    plain = getattr(generation, "no_timestamps_token_id", None)
    return found if plain is None else [*found, int(plain)]


def encode(tokenizer: Any, text: str, prompt: Sequence[int], *, name: str, length: int) -> tuple[np.ndarray, int]:
    """Token ids of a transcript, prompt first and end-of-text last, padded with end-of-text; and how many count.

    Args:
        name: of the clip, for the message.
        length: positions that the decoder reads; the ids are one more, shape (length + 1,) int64.

    Raises:
        TooLong: the transcript is longer than that.
    """
    ids = [*prompt, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    if len(ids) > length + 1:
        raise TooLong(
            f"the transcript of clip {name!r} takes {len(ids) - 1} positions with its prompt of {len(prompt)}, and "
            f"{length} are read; give it more (run.seq_len, or the eval's max_tokens), or leave the clip out: {text!r}"
        )
    return np.array(ids + [tokenizer.eos_token_id] * (length + 1 - len(ids)), dtype=np.int64), len(ids)


def shifted(ids: np.ndarray, count: int, prompt: int) -> tuple[np.ndarray, np.ndarray]:
    """What the decoder reads and what it is asked, both (length,): `ids` of `encode`, `prompt` its given tokens."""
    labels = ids[1:].copy()
    labels[: prompt - 1] = IGNORED
    labels[count - 1 :] = IGNORED
    return ids[:-1], labels


def _language(languages: dict[str, int], language: str | None) -> str:
    if language is None:
        raise ValueError(f"this model writes {len(languages)} languages: say which, as in language='hindi'")
    token = f"<|{TO_LANGUAGE_CODE.get(language.lower(), language.lower())}|>"
    if token not in languages:
        raise ValueError(f"language={language!r} is none that this model knows: {', '.join(sorted(languages))}")
    return token
