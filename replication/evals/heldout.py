"""Loss on held-out text: nats per token and bits per byte.

A document is scored as training presents it: behind an end-of-text token, and with its own at the end. Every token
is predicted once.

    text       tokens + end-of-text, in windows of `seq_len`. A window starts with the last token of the one before
               (the first with beginning-of-text if the tokenizer adds one, else end-of-text), which is given.
    template   the response and its end-of-text, behind its prompt; cut at `seq_len`, as training cuts it. Rows whose
               prompt alone fills `seq_len` have nothing to score and are left out.

nats_per_token is the sum over all documents divided by all scored tokens, so long documents weigh more; bits_per_byte
is the same sum / ln 2 divided by the UTF-8 bytes of the scored text, which does not depend on the tokenizer. The item
values are each document's own; the item rows `scored_tokens` and `scored_bytes` hold the weights that turn them into
the metric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from replication.data.chat import end_of_text, render_all
from replication.data.sources import documents
from replication.evals.generate import Generator
from replication.evals.result import ItemValues, Metric, Result, item_ids
from replication.specs import HeldOut

Pair = tuple[list[int], list[int]]


@dataclass(frozen=True)
class _Document:
    """What is scored of one row: (given, scored) token ids per window, and the bytes they spell."""

    windows: list[Pair]
    bytes: int
    start: str


def score(spec: HeldOut, generator: Generator, seed: int) -> Result:
    """Loss on every row of the source. Nothing is drawn: `seed` is taken for the sake of one signature."""
    rows = list(documents(spec.source))
    make = _texts if spec.template is None else _responses
    scored = [
        (name, document)
        for name, document in zip(item_ids(rows), make(rows, spec, generator.tokenizer), strict=True)
        if document.windows
    ]
    if not scored:
        raise ValueError(f"{spec.name}: every prompt fills seq_len={spec.seq_len}; nothing is left to score")
    found = iter(generator.logprobs([pair for _, document in scored for pair in document.windows]))
    nats = [-math.fsum(v for _ in document.windows for v in next(found)) for _, document in scored]
    tokens = [sum(len(option) for _, option in document.windows) for _, document in scored]
    sizes = [document.bytes for _, document in scored]
    return _result([name for name, _ in scored], [d.start for _, d in scored], nats, tokens=tokens, sizes=sizes)


def _texts(rows: list[dict[str, Any]], spec: HeldOut, tokenizer: Any) -> list[_Document]:
    _need(rows, ("text",), spec)
    return [_text(row["text"], spec.seq_len, tokenizer) for row in rows]


def _text(text: str, seq_len: int, tokenizer: Any) -> _Document:
    ids, eos = list(tokenizer(text)["input_ids"]), end_of_text(tokenizer)
    ids = ids if ids[-1:] == [eos] else [*ids, eos]
    if tokenizer.bos_token_id is None or ids[0] != tokenizer.bos_token_id:
        ids = [eos, *ids]
    windows = [(ids[i : i + 1], ids[i + 1 : i + 1 + seq_len]) for i in range(0, len(ids) - 1, seq_len)]
    return _Document(windows, len(text.encode()), text[:200])


def _responses(rows: list[dict[str, Any]], spec: HeldOut, tokenizer: Any) -> list[_Document]:
    _need(rows, ("prompt", "response"), spec)
    rendered = render_all(str(spec.template), [(r["prompt"], r["response"]) for r in rows], tokenizer)
    return [_response(*ids, r["response"], spec.seq_len, tokenizer) for ids, r in zip(rendered, rows, strict=True)]


def _response(prompt: list[int], response: list[int], text: str, seq_len: int, tokenizer: Any) -> _Document:
    kept = response[: max(0, seq_len - len(prompt))]
    cut = len(kept) < len(response)
    size = len((tokenizer.decode(kept, skip_special_tokens=True) if cut else text).encode())
    return _Document([(prompt, kept)] if kept else [], size, text[:200])


def _need(rows: list[dict[str, Any]], columns: Sequence[str], spec: HeldOut) -> None:
    for i, row in enumerate(rows):
        for column in columns:
            if not row.get(column):
                raise ValueError(f"{spec.name}: row {i} has no text in column {column!r}; it has {sorted(row)}")


def _result(ids: list[str], starts: list[str], nats: list[float], *, tokens: list[int], sizes: list[int]) -> Result:
    bits = [value / math.log(2) for value in nats]
    items = (
        ItemValues("nats_per_token", tuple(ids), tuple(v / t for v, t in zip(nats, tokens, strict=True))),
        ItemValues("bits_per_byte", tuple(ids), tuple(v / b for v, b in zip(bits, sizes, strict=True))),
        ItemValues("scored_tokens", tuple(ids), tuple(map(float, tokens))),
        ItemValues("scored_bytes", tuple(ids), tuple(map(float, sizes))),
    )
    samples = [
        {"id": name, "asked": start, "nats": nat, "tokens": count, "bytes": size}
        for name, start, nat, count, size in zip(ids, starts, nats, tokens, sizes, strict=True)
    ]
    return Result((_ratio("nats_per_token", nats, tokens), _ratio("bits_per_byte", bits, sizes)), items, samples)


def _ratio(name: str, totals: Sequence[float], weights: Sequence[float]) -> Metric:
    """Sum of totals over sum of weights; the standard error is that of a ratio estimator over documents."""
    n, weight = len(totals), math.fsum(weights)
    value = math.fsum(totals) / weight
    if n == 1:
        return Metric(name, value, n, None)
    residual = math.fsum((t - value * w) ** 2 for t, w in zip(totals, weights, strict=True))
    return Metric(name, value, n, math.sqrt(residual * n / (n - 1)) / weight)
