"""Continued pretraining: documents joined by end-of-text, cut into blocks, loss on every position.

As in llm-foundry's streaming text data, attention runs across the documents of a block.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from replication import seeding
from replication.config import CPT, Run
from replication.data import packing, tokens
from replication.tasks.stream import Sequence, Stream


def open_stream(task: CPT, run: Run, tokenizer: PreTrainedTokenizerBase, *, cache: Path) -> Stream:
    """Blocks of `run.seq_len` tokens; what is left at the end of the corpus is dropped."""
    shards = tokens.prepare_text(task.source, tokenizer, cache)
    blocks = packing.blocks(shards, run.seq_len)

    def sequence(i: int) -> Sequence:
        ids = blocks.block(i)
        return {"input_ids": ids, "labels": ids}

    real = np.full(blocks.n_blocks, run.seq_len)
    return Stream(blocks.n_blocks, sequence, real, seeding.derive(run.seed, "data"), shards.digest)
