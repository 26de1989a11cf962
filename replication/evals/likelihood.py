"""Log-probabilities of given continuations, a prefix read once for all its continuations.

Two ways, both without padding before a text, so that a pass over many texts needs no mask but the causal one:

    plain     prefix and option in one row: options that share nothing, or next to nothing
    shared    first the prefixes, whose keys and values are kept; then each option in a row of its own behind them

        pass 1    p0 p1 p2 p3          pass 2    (p0 p1 p2 p3) a0 a1     positions of a row go on where its
                  q0 q1 [pad]                    (p0 p1 p2 p3) b0 b1 b2  own prefix ends
                                                 (q0 q1 [  ])  c0 c1     c sees no padding

The last token of an option is only predicted, never read; the first is predicted by its prefix, so options of one
token cost nothing more. Equal options of one prefix are computed once: their values are equal to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from replication.evals.lengths import Pair, check_pairs

Ids = Sequence[int]
_Item = TypeVar("_Item")

# Positions read in one forward pass: for models of .3M and 1M parameters on one core, passes of 2,048 to 8,192 cost
# the same per token. Logits held at once: 2^27 floats are 512 MiB.
PASS_TOKENS = 4_096
PASS_LOGITS = 1 << 27
# Positions of prefixes whose keys and values are kept at once. The more, the more alike in length are the options of
# a pass: of HellaSwag's positions 8 % are padding with 16,384, 23 % with 4,096.
KEPT_TOKENS = 16_384
# Columns that a query sees come in multiples of this: CPU kernels take the rest of a vector number by number (a query
# took 2.9 ns for each of 200 columns, 2.1 ns for each of 208, with AVX-512 and heads of 8).
ALIGNED = 16
# Shorter prefixes are read again for each option: the windows of a text all begin after one token.
SHARED_FROM = 8


@dataclass(frozen=True)
class _Option:
    """One continuation, the tokens before it, and which pairs ask for it."""

    prefix: tuple[int, ...]
    ids: tuple[int, ...]
    places: tuple[int, ...]


_Group = list[_Option]  # options of one prefix


def logprobs(
    model: Any, pairs: Sequence[Pair], *, context: int, batch_tokens: int = PASS_TOKENS
) -> Iterator[tuple[int, list[float]]]:
    """Natural-log probability of every token of each option, given its prefix: (place of the pair, its values).

    Pairs come batch by batch, not in order; one with an empty option has no values.

    Raises:
        ValueError: an empty prefix, or prefix and option longer than the model's context.
    """
    check_pairs(pairs, context)
    groups = _groups(pairs)
    yield from ((i, []) for i, (_, option) in enumerate(pairs) if not len(option))
    shared = [group for group in groups if _worth_sharing(group)]
    alone = [option for group in groups if not _worth_sharing(group) for option in group]
    tokens = min(batch_tokens, PASS_TOKENS, PASS_LOGITS // int(model.config.vocab_size))
    for options in _batches(alone, lambda o: len(o.prefix) + len(o.ids), tokens):
        yield from _by_place(zip(options, _plain(model, options, context), strict=True))
    for batch in _batches(shared, lambda g: len(g[0].prefix), min(batch_tokens, KEPT_TOKENS)):
        yield from _by_place(_behind_prefixes(model, batch, tokens, context=context))


def _worth_sharing(group: _Group) -> bool:
    return len(group) > 1 and len(group[0].prefix) >= SHARED_FROM


def _groups(pairs: Sequence[Pair]) -> list[_Group]:
    found: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = {}
    for i, (prefix, option) in enumerate(pairs):
        if len(option):
            found.setdefault(tuple(prefix), {}).setdefault(tuple(option), []).append(i)
    return [[_Option(p, ids, tuple(places)) for ids, places in options.items()] for p, options in found.items()]


def _batches(items: list[_Item], width: Callable[[_Item], int], limit: int) -> Iterator[list[_Item]]:
    """Items of similar width, so many that rows x widest is within the limit; one at least.

    Ties keep their order, so the batches are the same on every call.
    """
    batch: list[_Item] = []
    for item in sorted(items, key=width):
        if batch and (len(batch) + 1) * width(item) > limit:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _by_place(scored: Iterable[tuple[_Option, list[float]]]) -> Iterator[tuple[int, list[float]]]:
    for option, values in scored:
        yield from ((place, list(values)) for place in option.places)


def _plain(model: Any, options: list[_Option], context: int) -> list[list[float]]:
    """Each prefix and option in one row."""
    first = min(len(option.prefix) for option in options) - 1
    wholes = [option.prefix + option.ids for option in options]
    width = _aligned(max(map(len, wholes)) - 1, context)
    texts = _ids(wholes, width + 1, model.device)
    values = _values(_logits(model, texts[:, :-1], first, use_cache=False), texts[:, first + 1 :])
    starts = [len(option.prefix) - 1 - first for option in options]
    return [row[s : s + len(o.ids)] for row, s, o in zip(values.tolist(), starts, options, strict=True)]


def _behind_prefixes(
    model: Any, groups: list[_Group], limit: int, *, context: int
) -> Iterator[tuple[_Option, list[float]]]:
    """The prefixes of the groups, then their options in passes of similar length."""
    cache = _Prefixes()
    next_token = _read_prefixes(model, [group[0].prefix for group in groups], cache, limit=limit, context=context)
    asked = [(row, option) for row, group in enumerate(groups) for option in group]
    places, tokens = np.array([(row, option.ids[0]) for row, option in asked]).T
    starts = next_token[torch.from_numpy(places), torch.from_numpy(tokens)].tolist()
    read = [(row, option, start) for (row, option), start in zip(asked, starts, strict=True)]
    yield from ((option, [start]) for _, option, start in read if len(option.ids) == 1)
    longer = [item for item in read if len(item[1].ids) > 1]
    for batch in _batches(longer, lambda item: len(item[1].ids), limit):
        rows, options = [row for row, _, _ in batch], [option for _, option, _ in batch]
        ends = _options(model, cache, rows, options, context=context)
        for (_, option, start), values in zip(batch, ends, strict=True):
            yield option, [start, *values[: len(option.ids) - 1]]


def _read_prefixes(
    model: Any, prefixes: list[tuple[int, ...]], cache: _Prefixes, *, limit: int, context: int
) -> torch.Tensor:
    """Fill the cache; log-probabilities of the token behind each prefix, (prefixes, vocabulary)."""
    first = min(map(len, prefixes)) - 1
    ids = _ids(prefixes, _aligned(max(map(len, prefixes)), context), model.device)
    ends = torch.tensor([len(prefix) - 1 - first for prefix in prefixes], device=model.device)
    found = []
    for rows in torch.arange(len(prefixes), device=model.device).split(max(1, limit // ids.shape[1])):
        logits = _logits(model, ids[rows], first, past_key_values=cache, use_cache=True)
        found.append(logits[torch.arange(len(rows), device=model.device), ends[rows]].float().log_softmax(-1))
    return torch.cat(found)


def _options(
    model: Any, cache: _Prefixes, rows: list[int], options: list[_Option], *, context: int
) -> list[list[float]]:
    """Values of all tokens of each option but the first; `rows` says which prefix of the cache it stands behind."""
    width = max(len(option.ids) for option in options)
    texts = _ids([option.ids for option in options], width, model.device)
    lengths = torch.tensor([len(option.prefix) for option in options], device=model.device)
    before = cache.point(torch.tensor(rows, device=model.device), new=width - 1)
    positions = lengths[:, None] + torch.arange(width - 1, device=model.device)
    special = {
        "position_ids": positions.clamp(max=context - 1),  # only padding would go beyond
        "attention_mask": _visible(lengths, before, width - 1, model.dtype),
    }
    logits = _logits(model, texts[:, :-1], 0, past_key_values=cache, use_cache=True, **special)
    return _values(logits, texts[:, 1:]).tolist()


def _visible(lengths: torch.Tensor, before: int, new: int, dtype: torch.dtype) -> torch.Tensor:
    """What is added to attention scores, (rows, 1, new, before + new): 0 to see the first `lengths` of the columns
    before and the new ones up to oneself, else minus infinity."""
    columns, own = torch.arange(before, device=lengths.device), torch.ones(new, new, device=lengths.device)
    prefix = (columns < lengths[:, None])[:, None].expand(-1, new, -1)
    seen = torch.cat((prefix, own.tril().bool().expand(len(lengths), -1, -1)), 2)
    return torch.zeros(seen.shape, dtype=dtype, device=lengths.device).masked_fill_(~seen, float("-inf"))[:, None]


def _logits(model: Any, ids: torch.Tensor, first: int, **special: Any) -> torch.Tensor:
    """Logits of the columns from `first` on, (rows, columns - first, vocabulary)."""
    return model(input_ids=ids, logits_to_keep=ids.shape[1] - first, **special).logits


def _values(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probability of each target, (rows, columns)."""
    logits = logits.float()
    return logits.gather(2, targets[..., None])[..., 0] - logits.logsumexp(2)


def _aligned(width: int, context: int) -> int:
    """The next aligned width, if the model has so many positions."""
    return max(width, min(width + -width % ALIGNED, context))


def _ids(texts: Sequence[Ids], width: int, device: torch.device) -> torch.Tensor:
    """Ids as rows, padded behind their ends by 0, which nothing before them sees."""
    padded = np.zeros((len(texts), width), np.int64)
    for row, text in enumerate(texts):
        padded[row, : len(text)] = text
    return torch.from_numpy(padded).to(device)


class _Prefixes:
    """Keys and values of prefixes, as a cache of transformers: first they are read, then copied by row."""

    def __init__(self) -> None:
        self._read: list[list[tuple[torch.Tensor, torch.Tensor]]] = []  # per layer and pass: keys, values
        self._stored: list[tuple[torch.Tensor, torch.Tensor]] = []  # per layer, all passes
        self._rows: torch.Tensor | None = None
        self._gap = 0

    def point(self, rows: torch.Tensor, *, new: int) -> int:
        """From now on return these rows; the columns before `new` more, of which some may be a gap for alignment."""
        if not self._stored:
            joined = [zip(*passes, strict=True) for passes in self._read]
            self._stored = [(torch.cat(keys), torch.cat(values)) for keys, values in joined]
            self._read = []
        columns = self._stored[0][0].shape[2]
        self._rows, self._gap = rows, -(columns + new) % ALIGNED
        return columns + self._gap

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep the prefixes of one layer, or return the rows pointed to with the new columns behind them."""
        if self._rows is None:
            self._read += [[] for _ in range(layer + 1 - len(self._read))]
            self._read[layer].append((keys, values))
            return keys, values
        kept = self._stored[layer]
        return self._joined(kept[0], keys), self._joined(kept[1], values)

    def _joined(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        # Zeros, not empty: a masked column still enters the product, and 0 x NaN is NaN.
        gap = new.new_zeros(()).expand(*new.shape[:2], self._gap, new.shape[3])
        return torch.cat((kept[self._rows], gap, new), 2)

    def get_seq_length(self, layer: int = 0) -> int:
        """Columns before a prefix: none. (transformers asks for these three where it makes the mask itself.)"""
        return 0

    get_query_offset = get_seq_length

    def get_mask_sizes(self, new: int, layer: int = 0) -> tuple[int, int]:
        """Columns in all, and where they begin."""
        return new, 0
