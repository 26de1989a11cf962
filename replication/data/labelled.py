"""Short texts with a label each: rows checked, texts as arrays of one length.

A text that is too long loses its beginning, as in the DistilBERT study's original (`truncation_side="left"`); the
tokens that mark both ends stay.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from replication.config import Source
from replication.data.sources import documents

CUT = "left"


@dataclass(frozen=True, eq=False)
class Encoded:
    """Padded texts: token ids, and a mask that is 1 where there is one; both int64 (texts, seq_len)."""

    ids: np.ndarray
    mask: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """Tokens of each text that are not padding, shape (texts,)."""
        return self.mask.sum(axis=1)


def rows(source: Source, *, labels: int) -> list[dict[str, Any]]:
    """Rows of a source, each with a "text" and a "label" below `labels`.

    Raises:
        ValueError: a row has no text, or a label that is no such number; names row and value.
    """
    found = list(documents(source))
    for i, row in enumerate(found):
        _check(row, labels, f"row {i} of {source.where!r}")
    return found


def encode(texts: list[str], tokenizer: PreTrainedTokenizerBase, *, seq_len: int) -> Encoded:
    """Texts cut at the left and padded at the right to `seq_len` tokens."""
    cutting = copy.copy(tokenizer)
    cutting.truncation_side, cutting.padding_side = CUT, "right"
    found = cutting(texts, truncation=True, padding="max_length", max_length=seq_len, return_attention_mask=True)
    return Encoded(np.array(found["input_ids"], dtype=np.int64), np.array(found["attention_mask"], dtype=np.int64))


def _check(row: dict[str, Any], labels: int, where: str) -> None:
    for column in ("text", "label"):
        if column not in row:
            raise ValueError(f"{where} has no column {column!r}; it has {sorted(row)}: set Source.columns")
    text, label = row["text"], row["label"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: the text is {text!r}; expected words")
    if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or not 0 <= label < labels:
        raise ValueError(f"{where}: the label is {label!r}; expected a whole number from 0 to {labels - 1}")
