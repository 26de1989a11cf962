"""Instruction tuning: responses and their end-of-text carry the loss; whole documents packed, each for itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from replication import seeding
from replication.config import IFT, Run
from replication.data import packing, tokens
from replication.tasks.stream import Sequence, Stream


def open_stream(task: IFT, run: Run, tokenizer: PreTrainedTokenizerBase, *, cache: Path) -> Stream:
    """Sequences of `run.seq_len` tokens of whole documents: filled by best fit, or `task.per_sequence` in each."""
    shards = tokens.prepare_instruct(task.source, task.template, tokenizer, cache, loss_on_prompt=task.loss_on_prompt)
    bins = packing.bins(shards, run.seq_len, per_sequence=task.per_sequence)

    def sequence(i: int) -> Sequence:
        return packing.packed(shards, run.seq_len, bins, i)

    lengths = np.minimum(shards.lengths, run.seq_len)
    real = np.array([lengths[documents].sum() for documents in bins])
    return Stream(len(bins), sequence, real, seeding.derive(run.seed, "data"), shards.digest)
