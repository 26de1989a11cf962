"""Multiple choice by log-likelihood, and partial evaluation: the one score behind the forgetting axis.

Rows are of one of two kinds, both with `gold`, the index of the right answer:

    {"query", "choices", "gold"}             which continuation is likeliest after the query   (HellaSwag, ARC)
    {"contexts", "continuation", "gold"}     after which context the continuation is likeliest (WinoGrande)

A continuation begins with the space it needs: query + choice is the text. Three scores, all reported:

    acc        sum of the log-probabilities of the continuation's tokens      (lm-evaluation-harness `acc`)
    acc_norm   the same per character of the continuation, leading space aside (lm-evaluation-harness `acc_norm`)
    acc_token  the same per token                                             (llm-foundry: lowest perplexity)

Token boundaries follow lm-evaluation-harness: trailing spaces of the context move to the continuation, and the
continuation's tokens are those of context + continuation behind the context's. Where a token straddles the
boundary for one choice, all choices of the item are scored from the last token they have in common, so that no
choice is excused from a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from replication.data.sources import documents
from replication.evals.generate import Generator
from replication.evals.result import ItemValues, Result, item_ids, mean
from replication.specs import Choice

METRICS = ("acc", "acc_norm", "acc_token")

Pair = tuple[list[int], list[int]]


def score(spec: Choice, generator: Generator, seed: int) -> Result:
    """Accuracy on every row of the source. Nothing is drawn: `seed` is taken for the sake of one signature."""
    rows = list(documents(spec.source))
    texts = [_texts(row, i) for i, row in enumerate(rows)]
    pairs = [encode_pairs(item, generator.tokenizer) for item in texts]
    found = iter(generator.logprobs([pair for item in pairs for pair in item]))
    logprobs = [[next(found) for _ in item] for item in pairs]
    samples = [_grade(*item) for item in zip(item_ids(rows), rows, texts, logprobs, strict=True)]
    ids = tuple(sample["id"] for sample in samples)
    items = tuple(ItemValues(m, ids, tuple(float(s[m]) for s in samples)) for m in METRICS)
    return Result(tuple(mean(i.metric, i.values) for i in items), items, samples)


def encode_pairs(texts: Sequence[tuple[str, str]], tokenizer: Any) -> list[Pair]:
    """Token ids of each (context, continuation) of one item, split at the boundary.

    An empty context becomes the beginning-of-text token, or end-of-text where the tokenizer has none.
    """
    moved = [_move_spaces(context, continuation) for context, continuation in texts]
    wholes = [list(ids) for ids in tokenizer([c + d for c, d in moved])["input_ids"]]
    contexts = [list(ids) for ids in tokenizer([c for c, _ in moved])["input_ids"]]
    common = [_common(a, b) for a, b in zip(contexts, wholes, strict=True)]
    if len({context for context, _ in moved}) == 1:
        common = [min(common)] * len(common)
    pairs = [(whole[:cut], whole[cut:]) for whole, cut in zip(wholes, common, strict=True)]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [(prefix or [start], option) for prefix, option in pairs]


def _texts(row: dict[str, Any], place: int) -> list[tuple[str, str]]:
    if {"query", "choices", "gold"} <= set(row):
        texts = [(row["query"], choice) for choice in row["choices"]]
    elif {"contexts", "continuation", "gold"} <= set(row):
        texts = [(context, row["continuation"]) for context in row["contexts"]]
    else:
        expected = "query, choices, gold or contexts, continuation, gold"
        raise ValueError(f"choice row {place} has columns {sorted(row)}; expected {expected}")
    if not 0 <= int(row["gold"]) < len(texts):
        raise ValueError(f"choice row {place} has gold {row['gold']!r}; expected 0 to {len(texts) - 1}")
    if not all(continuation.strip() for _, continuation in texts):
        raise ValueError(f"choice row {place} has an empty continuation; every choice needs text")
    return texts


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _common(context: list[int], whole: list[int]) -> int:
    """Tokens at the start of `whole` that are the context's; at least one is left to predict."""
    same = 0
    while same < min(len(context), len(whole) - 1) and context[same] == whole[same]:
        same += 1
    return same


def _grade(name: str, row: dict[str, Any], texts: list[tuple[str, str]], logprobs: list[list[float]]) -> dict[str, Any]:
    sums, tokens = [math.fsum(values) for values in logprobs], [len(values) for values in logprobs]
    characters = [len(continuation.lstrip()) for _, continuation in texts]
    gold = int(row["gold"])
    scaled = {"acc": np.array(sums), "acc_norm": np.array(sums) / characters, "acc_token": np.array(sums) / tokens}
    answers = {metric: int(np.argmax(values)) for metric, values in scaled.items()}
    return {
        "id": name,
        "asked": row.get("query", row.get("continuation")),
        "choices": row.get("choices", row.get("contexts")),
        "gold": gold,
        "answered": answers["acc"],
        "logprobs": [round(value, 6) for value in sums],
        "tokens": tokens,
        **{metric: int(answer == gold) for metric, answer in answers.items()},
    }
