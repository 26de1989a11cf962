"""Base models and tokenizers by name: a local folder, wherever the command runs from, or a hub id."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from replication import provenance
from replication.config import Run


def locate(where: str | Path) -> str:
    """A local model folder as a path; anything else is taken for a hub id.

    Raises:
        FileNotFoundError: neither a folder nor of the form owner/name.
    """
    found = provenance.resolve(str(where))
    if found is None and (str(where).startswith((".", "/")) or str(where).count("/") != 1):
        raise FileNotFoundError(f"no model at {str(where)!r}: neither a folder here nor a hub id (owner/name)")
    return str(where) if found is None else str(found)


def load_model(where: str | Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model from a local folder or a hub id."""
    return AutoModelForCausalLM.from_pretrained(locate(where), dtype=dtype)


def load_tokenizer(where: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a local folder or a hub id."""
    return AutoTokenizer.from_pretrained(locate(where))


def tokenizer_of(run: Run) -> PreTrainedTokenizerBase:
    """The tokenizer of a run: its own where it names one, else the model's."""
    return load_tokenizer(run.tokenizer or run.model)
