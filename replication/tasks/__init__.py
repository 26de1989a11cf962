"""A task = which sequences make up a batch + the loss on them. `open_stream` prepares a Run's data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from replication.config import ASR, CPT, IFT, Run, Sentiment
from replication.tasks import asr, cpt, ift, sentiment
from replication.tasks.stream import LANGUAGE, Objective, Stream

__all__ = ["LANGUAGE", "Objective", "Stream", "open_stream"]

OPEN: dict[type, Callable[..., Stream]] = {
    CPT: cpt.open_stream,
    IFT: ift.open_stream,
    ASR: asr.open_stream,
    Sentiment: sentiment.open_stream,
}


def open_stream(run: Run, tokenizer: PreTrainedTokenizerBase, *, cache: Path) -> Stream:
    """The training sequences of a Run, tokenised once under `cache`."""
    return OPEN[type(run.task)](run.task, run, tokenizer, cache=cache)
