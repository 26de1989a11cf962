"""Base models and tokenizers by name: a local folder, wherever the command runs from, or a hub id."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from replication import provenance, seeding
from replication.config import ASR, Run, Sentiment, Task
from replication.runs import is_adapter


@dataclass(frozen=True)
class Form:
    """What a base is loaded as: a language model, a speech recogniser, or a classifier of `labels` classes.

    A classifier's head is new: it is drawn from `seed`. `bits` of 8 holds the linears in 8 bits.
    """

    kind: Literal["language", "speech", "classifier"] = "language"
    labels: int | None = None
    seed: int = 0
    bits: Literal[8] | None = None


LANGUAGE = Form()
_CLASSES = {
    "language": AutoModelForCausalLM,
    "speech": AutoModelForSpeechSeq2Seq,
    "classifier": AutoModelForSequenceClassification,
}


@dataclass(frozen=True)
class Weights:
    """Whose answers are asked for: a base model, or a checkpoint tuned from it (adapter or full, as a folder)."""

    base: str
    tuned: Path | None = None
    form: Form = LANGUAGE

    def identity(self) -> dict[str, str]:
        """Digests of the files that decide the answers; a full checkpoint stands for itself."""
        if self.tuned is None:
            return {"base": identity(self.base)}
        found = {"tuned": provenance.fingerprint(self.tuned)}
        return found | ({"base": identity(self.base)} if is_adapter(self.tuned) else {})


def locate(where: str | Path) -> str:
    """A local model folder as a path; `python:module:function` is called and makes one; else it is a hub id.

    Raises:
        FileNotFoundError: neither a folder nor of the form owner/name.
    """
    if str(where).startswith("python:"):
        return str(_made(str(where)))
    found = provenance.resolve(str(where))
    if found is None and (str(where).startswith((".", "/")) or str(where).count("/") != 1):
        raise FileNotFoundError(f"no model at {str(where)!r}: neither a folder here nor a hub id (owner/name)")
    return str(where) if found is None else str(found)


def form_of(run: Run) -> Form:
    """What a run's base is loaded as; the head of a classifier is drawn from the run's seed."""
    return replace(form_of_task(run.task, seed=run.seed), bits=run.base_bits)


def form_of_task(task: Task | None, *, seed: int) -> Form:
    """What a base is loaded as for a task, and which seed its head is drawn from; None stands for language."""
    if isinstance(task, Sentiment):
        return Form("classifier", task.labels, seeding.derive(seed, "head"))
    return Form("speech") if isinstance(task, ASR) else LANGUAGE


def load_model(
    where: str | Path,
    *,
    form: Form = LANGUAGE,
    dtype: torch.dtype = torch.float32,
    mend: str | None = None,
    config: Mapping[str, object] | None = None,
) -> PreTrainedModel:
    """A model from a local folder or a hub id; `mend` is the advice where its files are damaged.

    `config` replaces values of the model's configuration, as in {"attention_dropout": 0.1}.
    """
    own: dict[str, object] = {} if form.labels is None else {"num_labels": form.labels}
    own |= {} if form.bits is None else _in_8_bits()
    if form.kind == "classifier":
        torch.manual_seed(form.seed)  # transformers draws a new head from the global generator
    with naming_damage(where, mend):
        model = _CLASSES[form.kind].from_pretrained(locate(where), dtype=dtype, **own, **(config or {}))
    if form.kind == "speech" and model.config.model_type != "whisper":
        raise ValueError(
            f"{where} is a {model.config.model_type}; speech is written by models of Whisper's architecture"
        )
    if form.kind == "speech":
        # Sinusoids: frozen where transformers builds a Whisper, forgotten where it loads one (5.19).
        model.get_encoder().embed_positions.requires_grad_(False)
    return model


def identity(where: str | Path) -> str:
    """What a model's name stands for now: a digest of a local folder's files, or the commit of a hub id.

    Raises:
        RuntimeError: a hub id that is neither cached nor to be asked of the hub.
    """
    found = _made(str(where)) if str(where).startswith("python:") else provenance.resolve(str(where))
    if found is not None:
        return provenance.fingerprint(found)
    from huggingface_hub import model_info, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError

    config = try_to_load_from_cache(str(where), "config.json")
    if isinstance(config, str):
        return Path(config).parent.name
    try:
        return str(model_info(str(where)).sha)
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RuntimeError(
            f"{where} is not on this machine and the hub does not give it ({reason}); log in with `hf auth login`, "
            "accept its licence, or name a local copy"
        ) from error


def _in_8_bits() -> dict[str, object]:
    """LLM.int8 (Dettmers et al., 2022) through bitsandbytes; the output layer stays whole, as it does by default.

    Raises:
        RuntimeError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RuntimeError("a base in 8 bits needs bitsandbytes: pip install -e '.[int8]'")
    where = {"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"}
    return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "device_map": where}


@functools.cache
def _made(where: str) -> Path:
    """The folder of a model that this project makes itself, such as a small recogniser of spoken digits."""
    module, _, function = where.removeprefix("python:").partition(":")
    found = getattr(importlib.import_module(module), function)()
    assert isinstance(found, Path)
    return found


@contextlib.contextmanager
def naming_damage(where: str | Path, mend: str | None = None) -> Iterator[None]:
    """Turn safetensors' error on a damaged file into one that says which folder it lies in and what to do.

    Raises:
        RuntimeError: a weights file in `where` cannot be read.
    """
    try:
        yield
    except SafetensorError as error:
        advice = mend or f"restore {where}, for instance from where it came"
        raise RuntimeError(f"the weights in {where} are damaged ({error}); {advice}") from None


def load_tokenizer(where: str | Path) -> PreTrainedTokenizerBase:
    """A tokenizer from a local folder or a hub id.

    Raises:
        FileNotFoundError: it is neither here nor to be had from the hub.
    """
    try:
        return AutoTokenizer.from_pretrained(locate(where))
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise FileNotFoundError(
            f"no tokenizer of {where} on this machine, and the hub does not give it ({reason}); log in with "
            "`hf auth login`, accept its licence, or name a local copy"
        ) from error


def tokenizer_of(run: Run) -> PreTrainedTokenizerBase:
    """The tokenizer of a run: its own where it names one, else the model's."""
    return load_tokenizer(run.tokenizer or run.model)
