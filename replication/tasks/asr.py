"""Speech recognition: log-mel features of a clip in, loss on its transcript and end-of-text.

    cache/<digest>/features.raw   (clips, bands, frames) float32, by the model's own extractor, read by memory map
                   tokens.npy     (clips, seq_len + 1) int64: prompt, transcript, end-of-text, padding
                   counts.npy     (clips,) int64: how many of them are no padding
                   meta.json      written last

`run.seq_len` is what the decoder reads: prompt and transcript. Features are made once for all runs on the same clips
and the same front end; the folder appears whole or not at all, and other processes wait for the one that makes it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoFeatureExtractor, GenerationConfig, PreTrainedTokenizerBase

from replication import seeding
from replication.config import ASR, Run
from replication.data import audio, parts, sources, transcripts
from replication.data.tokens import tokenizer_hash
from replication.models import locate
from replication.runs import read_json, write_json
from replication.tasks.stream import Objective, Sequence, Stream, cross_entropy

_LOG = logging.getLogger(__name__)

FORMAT = 1  # in the digest: a changed layout never reads an old cache


@dataclass(frozen=True, eq=False)
class Clips:
    """Prepared clips: `prompt` leading tokens of every row of `tokens` are given."""

    digest: str
    features: np.ndarray  # (clips, bands, frames) float32, memory-mapped
    tokens: np.ndarray  # (clips, seq_len + 1) int64
    counts: np.ndarray  # (clips,) int64
    prompt: int


def open_stream(task: ASR, run: Run, tokenizer: PreTrainedTokenizerBase, *, cache: Path) -> Stream:
    """Clips of the task's source with the features that the model's own extractor makes."""
    clips = prepare(task, run.model, tokenizer, cache, seq_len=run.seq_len)

    def sequence(i: int) -> Sequence:
        reads, labels = transcripts.shifted(clips.tokens[i], int(clips.counts[i]), clips.prompt)
        return {"input_features": np.array(clips.features[i]), "decoder_input_ids": reads, "labels": labels}

    # DeepSpeed's bf16 casts weights and leaves inputs as they are.
    dtype = torch.float32 if run.precision == "fp32" else torch.bfloat16
    objective = Objective(supervised, functools.partial(loss, dtype=dtype))
    real = np.minimum(clips.counts - 1, run.seq_len)
    return Stream(len(clips.counts), sequence, real, seeding.derive(run.seed, "data"), clips.digest, objective)


def supervised(batch: dict[str, torch.Tensor]) -> int:
    """Number of positions that carry a loss: words and end-of-text; labels are already shifted."""
    return int((batch["labels"] != transcripts.IGNORED).sum())


def loss(
    forward: Callable[..., Any], batch: dict[str, torch.Tensor], *, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy in nats and the number of positions in it; features go in as `dtype`.

    No mask is needed: padding stands behind everything that is asked, and the decoder looks back only.
    """
    features = batch["input_features"].to(dtype)
    logits = forward(input_features=features, decoder_input_ids=batch["decoder_input_ids"], use_cache=False).logits
    return cross_entropy(logits, batch["labels"]), supervised(batch)


def prepare(task: ASR, model: str, tokenizer: PreTrainedTokenizerBase, cache: Path, *, seq_len: int) -> Clips:
    """Features and tokens of a task's clips for a model, made unless they are there.

    Raises:
        ValueError: a clip is longer than the model hears, or its transcript than `seq_len`; it is named.
    """
    where = locate(model)
    extractor = AutoFeatureExtractor.from_pretrained(where)
    prompt = transcripts.prompt_tokens(GenerationConfig.from_pretrained(where), task.language)
    clips = [sources.fingerprint(task.source), task.too_long]
    content = [FORMAT, clips, tokenizer_hash(tokenizer), extractor.to_dict(), prompt, seq_len]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=sources.as_json).encode()).hexdigest()[:16]
    folder, partial = cache / digest, cache / f"{digest}.partial"
    with parts.alone(partial, folder / "meta.json") as first:
        if first:
            try:
                _write(partial, task, extractor, tokenizer, prompt, seq_len)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial)
                raise
            (folder / parts.LOCK).unlink()
    return _open(folder)


def _write(
    folder: Path,
    task: ASR,
    extractor: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[int],
    seq_len: int,
) -> None:
    """Features to a file as they come, so that a large set does not have to fit in memory."""
    tokens, counts = [], []
    shape: tuple[int, ...] = ()
    left_out = 0
    rows = sources.documents(task.source)
    with (folder / "features.raw").open("wb") as raw:
        for i, row in enumerate(tqdm(rows, desc="features", unit="clip", disable=None)):
            name = clip_name(row, i)
            try:
                made = audio.log_mel(extractor, row["audio"], name=name)
                ids, count = transcripts.encode(tokenizer, row["text"], prompt, name=name, length=seq_len)
            except audio.TooLong:
                if task.too_long == "error":
                    raise
                left_out += 1
                continue
            raw.write(made.tobytes())
            shape = made.shape
            tokens.append(ids)
            counts.append(count)
    if left_out:
        _LOG.warning("%s: left out %d clips that are too long for the model", task.source.where, left_out)
    if not counts:
        raise ValueError(f"all {left_out} clips of {task.source.where!r} are too long for the model")
    np.save(folder / "tokens.npy", np.stack(tokens))
    np.save(folder / "counts.npy", np.array(counts))
    write_json(folder / "meta.json", {"shape": [len(counts), *shape], "prompt": len(prompt)})


def clip_name(row: dict[str, Any], place: int) -> str:
    """What a clip is called: its own id, else its place.

    Raises:
        ValueError: it lacks a column.
    """
    for column in ("audio", "text"):
        if row.get(column) is None:
            raise ValueError(f"clip {place} has no {column!r}; it has {sorted(row)}: set Source.columns")
    return str(row.get("id", place))


def _open(folder: Path) -> Clips:
    """Raises ValueError where a file is not as long as it was written."""
    meta = read_json(folder / "meta.json")
    shape = tuple(meta["shape"])
    path = folder / "features.raw"
    if not path.is_file() or path.stat().st_size != 4 * int(np.prod(shape)):
        raise ValueError(f"{path} is not what was written; delete {folder} to prepare it anew")
    features = np.memmap(path, dtype=np.float32, mode="r", shape=shape)
    tokens, counts = np.load(folder / "tokens.npy"), np.load(folder / "counts.npy")
    return Clips(folder.name, features, tokens, counts, meta["prompt"])
