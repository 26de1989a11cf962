"""Classification of short texts: one label a text, padded to `run.seq_len`.

A text counts as one position: the loss is the mean cross-entropy of the labels. Where a batch ends does not matter to
it, as all texts have one length and padding is masked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from replication import seeding
from replication.config import Run, Sentiment
from replication.data import labelled
from replication.tasks.stream import Objective, Sequence, Stream, cross_entropy


def open_stream(task: Sentiment, run: Run, tokenizer: PreTrainedTokenizerBase, *, cache: Path) -> Stream:
    """Texts of the task's source, tokenised and padded, with an attention mask; few enough to need no cache."""
    del cache
    rows = labelled.rows(task.source, labels=task.labels)
    texts = labelled.encode([row["text"] for row in rows], tokenizer, seq_len=run.seq_len)
    labels = np.array([row["label"] for row in rows], dtype=np.int64)

    def sequence(i: int) -> Sequence:
        return {"input_ids": texts.ids[i], "attention_mask": texts.mask[i], "labels": labels[i]}

    seed = seeding.derive(run.seed, "data")
    return Stream(len(rows), sequence, texts.real, seed, _digest(texts.ids, texts.mask, labels), OBJECTIVE)


def supervised(batch: dict[str, torch.Tensor]) -> int:
    """Number of texts: each carries one loss."""
    return len(batch["labels"])


def loss(forward: Callable[..., Any], batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy of the labels in nats, and the number of texts."""
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    return cross_entropy(forward(**inputs).logits, batch["labels"]), supervised(batch)


OBJECTIVE = Objective(supervised, loss)


def _digest(*arrays: np.ndarray) -> str:
    """Sixteen hex digits over what the model is given."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode() + array.tobytes())
    return digest.hexdigest()[:16]
