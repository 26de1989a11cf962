"""Tokens a second of greedy decoding: merged, with the adapter beside the weights, and of the untuned base.

    turn    the models transcribe the same clips side by side, a token each in an order that rotates, PASSES times over
    time    of a model in a turn: the sum over tokens of the fastest pass at that token
    tokens  exactly `tokens` a clip whatever they are, so that no model wins by ending early

The base has the modules of a fully fine-tuned model, so its time is that of full fine-tuning. Because the models take
turns within milliseconds, a drift of the machine meets them all: a model that was timed against itself on two busy
cores came out between .8 and 1.6 where whole transcripts took turns, by the clock on the wall. Ratios are taken within
a turn; an item is a turn. The first token's time includes the encoder. On a CPU the time is the processor's, which
other processes do not lengthen; with a GPU it is the clock's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice

import torch

from replication.data.sources import documents
from replication.evals import transcriber
from replication.evals.result import ItemValues, Result, mean
from replication.evals.transcriber import Conventions, Transcriber
from replication.specs import DecodeSpeed

PASSES = 3


def score(spec: DecodeSpeed, reader: Transcriber, seed: int) -> Result:
    """Time every model in every turn. Nothing is drawn: `seed` is taken for the sake of one signature.

    Raises:
        ValueError: the source has fewer clips than a batch.
    """
    rows = list(islice(documents(spec.source), spec.batch))
    if len(rows) < spec.batch:
        raise ValueError(f"{spec.name}: {len(rows)} clips in {spec.source.where!r}, and a batch is {spec.batch}")
    names = [str(row.get("id", i)) for i, row in enumerate(rows)]
    features = next(transcriber.batches(rows, reader.extractor(), names=names, size=spec.batch, cut=True))
    asked = reader.conventions(spec.language)
    opened = {"merged": reader.merged(), "unmerged": reader.unmerged(), "base": reader.untuned()}
    models = {name: model for name, model in opened.items() if model is not None}
    fastest(models, features, asked, tokens=spec.tokens, first=0, passes=1)
    times = []
    for turn in range(spec.turns):
        times.append(fastest(models, features, asked, tokens=spec.tokens, first=turn, passes=PASSES))
        if reader.watch:
            reader.watch(turn + 1, spec.turns)
    return result(times, spec.batch * spec.tokens)


def fastest(
    models: dict[str, torch.nn.Module],
    features: torch.Tensor,
    asked: Conventions,
    *,
    tokens: int,
    first: int,
    passes: int,
) -> dict[str, float]:
    """Seconds that every model takes for the clips; `first` says which model begins."""
    names = list(models)
    best = {name: [math.inf] * tokens for name in names}
    for i in range(passes):
        running = {name: transcriber.steps(models[name], features, asked, max_tokens=tokens) for name in names}
        for token in range(tokens):
            shift = (first + i + token) % len(names)
            for name in names[shift:] + names[:shift]:
                best[name][token] = min(best[name][token], _seconds(running[name].__next__))
    return {name: math.fsum(found) for name, found in best.items()}


def _seconds(work: Callable[[], object]) -> float:
    """Time of a piece of work, a GPU's included."""
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu else time.process_time
    began = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - began


def result(times: list[dict[str, float]], tokens: int) -> Result:
    """Tokens a second, shares of the base's speed and what is lost of it, from every turn's seconds for `tokens`."""
    columns = {f"tokens_per_s_{name}": [tokens / turn[name] for turn in times] for name in times[0]}
    for name in times[0]:
        if name != "base":
            columns[f"{name}_over_base"] = [turn["base"] / turn[name] for turn in times]
            columns[f"lost_{name}"] = [1 - turn["base"] / turn[name] for turn in times]
    ids = tuple(f"turn{i}" for i in range(len(times)))
    items = tuple(ItemValues(metric, ids, tuple(values)) for metric, values in columns.items())
    samples = [
        {"id": name, "asked": f"{tokens} tokens", "seconds": turn} for name, turn in zip(ids, times, strict=True)
    ]
    return Result(tuple(mean(metric, values) for metric, values in columns.items()), items, samples)
