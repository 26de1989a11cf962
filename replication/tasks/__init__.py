"""A task = which sequences make up a batch + the loss on them. `open_stream` prepares a Run's data."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from replication.config import CPT, Run
from replication.tasks import cpt, ift
from replication.tasks.stream import Stream


def open_stream(run: Run, tokenizer: PreTrainedTokenizerBase, *, cache: Path) -> Stream:
    """The training sequences of a Run, tokenised once under `cache`."""
    if isinstance(run.task, CPT):
        return cpt.open_stream(run.task, run, tokenizer, cache=cache)
    return ift.open_stream(run.task, run, tokenizer, cache=cache)
