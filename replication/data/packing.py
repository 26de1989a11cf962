"""Documents into rows of `seq_len` tokens, two ways.

Concat-and-chunk (continued pretraining): all documents in one line, cut every `seq_len` tokens. A block may begin in
the middle of a document and its documents see each other, as in the paper's pretraining.

Best-fit packing (instruction tuning): whole documents, sorted by length, each put where it leaves the least room.
Documents in a row are isolated: position_ids restart at 0 for each and no attention mask is given, from which
transformers builds a block-diagonal mask (pass use_cache=False). Anything else, such as a 2-D mask of ones or a KV
cache, silently lets them see each other.

    input_ids     p p p r r e | p p r e | e e        p prompt, r response, e end-of-text; the last two are padding
    position_ids  0 1 2 3 4 5 | 0 1 2 3 | 0 1
    labels        . . . r r e | . . r e | . .        . is -100; the model shifts labels by one itself

Padding is a document of its own without labels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from replication.data.tokens import TokenShards

IGNORE = -100  # the label that torch's cross entropy leaves out

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Blocks:
    """Concat-and-chunk view of shards; the tail that does not fill a block is left out."""

    shards: TokenShards
    seq_len: int

    @property
    def digest(self) -> str:
        """Digest of the shards."""
        return self.shards.digest

    @property
    def n_blocks(self) -> int:
        """Number of whole blocks."""
        return self.shards.n_tokens // self.seq_len

    def __len__(self) -> int:
        return self.n_blocks

    def block(self, i: int) -> np.ndarray:
        """Token ids of block i, int64, shape (seq_len,)."""
        if not 0 <= i < self.n_blocks:
            raise IndexError(f"block {i} of {self.n_blocks}")
        return self.shards.tokens[i * self.seq_len : (i + 1) * self.seq_len].astype(np.int64)


def blocks(shards: TokenShards, seq_len: int) -> Blocks:
    """All documents in one line, cut every `seq_len` tokens.

    Raises:
        ValueError: the data do not fill one block.
    """
    view = Blocks(shards, seq_len)
    if not view.n_blocks:
        raise ValueError(f"{shards.n_tokens} tokens do not fill one block of {seq_len}; take more data")
    return view


def bins(shards: TokenShards, seq_len: int, *, rng: np.random.Generator | None = None) -> list[np.ndarray]:
    """Best-fit bins of the documents of `shards`, for `packed`; warns of documents whose prompt leaves no room."""
    longer = np.flatnonzero(shards.lengths > seq_len)
    if silent := sum(shards.supervised_from(int(i)) >= seq_len for i in longer):
        _LOG.warning("%d documents have a prompt of %d tokens or more and train nothing", silent, seq_len)
    return best_fit(shards.lengths, seq_len, rng=rng)


def best_fit(
    lengths: Sequence[int] | np.ndarray, capacity: int, *, rng: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Best-fit-decreasing bin packing of integer lengths.

    Longest first, each item goes into the bin with the least room that still holds it. Items of one length are placed
    together: the fullest bins that fit take floor(room / length) of them each, which is what best-fit would do one
    by one. The rooms in use are the bits of one integer, so the next one that fits is found in one operation.

    Args:
        lengths: shape (n,), 1 or more each; those above `capacity` count as `capacity`, and a warning counts them.
        capacity: room of a bin, in tokens.
        rng: shuffles items of equal length, so that bins differ from epoch to epoch; None keeps their order.

    Returns:
        Item indices of each bin, longest first.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if not len(sizes):
        return []
    if sizes.min() < 1:
        raise ValueError(f"length {sizes.min()}; every document holds at least its end-of-text")
    if cut := int((sizes > capacity).sum()):
        _LOG.warning("%d of %d documents are cut to %d tokens", cut, len(sizes), capacity)
    sizes = np.minimum(sizes, capacity)
    shuffle = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    order = shuffle[np.argsort(-sizes[shuffle], kind="stable")]
    values, counts = np.unique(sizes, return_counts=True)
    groups = np.split(order, np.cumsum(counts[::-1])[:-1])
    bin_of, n_bins = _place(groups, values[::-1].tolist(), capacity, n_items=len(sizes))
    by_bin = order[np.argsort(bin_of[order], kind="stable")]
    ends = np.cumsum(np.bincount(bin_of, minlength=n_bins)).tolist()
    return [by_bin[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _place(groups: list[np.ndarray], sizes: list[int], capacity: int, *, n_items: int) -> tuple[np.ndarray, int]:
    """Bin of every item, and the number of bins. Groups hold the items of one size, largest size first."""
    bin_of = np.empty(n_items, dtype=np.int64)
    n_bins, rooms = 0, 0
    open_bins: dict[int, list[np.ndarray]] = {}  # by room left; bit r of `rooms` is set where open_bins has r

    def push(room: int, ids: np.ndarray) -> None:
        nonlocal rooms
        if room and len(ids):
            open_bins.setdefault(room, []).append(ids)
            rooms |= 1 << room

    for items, size in zip(groups, sizes, strict=True):
        while len(items):
            fitting = rooms >> size
            if fitting:
                room = size + (fitting & -fitting).bit_length() - 1
                ids = np.concatenate(open_bins.pop(room))
                rooms ^= 1 << room
            else:
                room = capacity
                ids = np.arange(n_bins, n_bins - (-len(items) // (room // size)))
                n_bins += len(ids)
            each = room // size
            used = min(len(ids), -(-len(items) // each))
            taken = min(len(items), used * each)
            bin_of[items[:taken]] = np.repeat(ids[:used], each)[:taken]
            in_last = taken - each * (used - 1)
            push(room - each * size, ids[: used - 1])
            push(room - in_last * size, ids[used - 1 : used])
            push(room, ids[used:])
            items = items[taken:]
    return bin_of, n_bins


def packed(shards: TokenShards, seq_len: int, bins: Sequence[np.ndarray], i: int) -> dict[str, np.ndarray]:
    """Row i of a best-fit packing: input_ids, position_ids and labels, each int64 of shape (seq_len,)."""
    row = {
        "input_ids": np.full(seq_len, shards.eos, dtype=np.int64),
        "position_ids": np.empty(seq_len, dtype=np.int64),
        "labels": np.full(seq_len, IGNORE, dtype=np.int64),
    }
    start = 0
    for index in bins[i]:
        ids = shards.doc(int(index))[: seq_len - start]
        end = start + len(ids)
        # Nothing comes before the first token of a document, so nothing can predict it.
        first = max(1, shards.supervised_from(int(index)))
        row["input_ids"][start:end] = ids
        row["position_ids"][start:end] = np.arange(len(ids))
        row["labels"][start + first : end] = ids[first:]
        start = end
    row["position_ids"][start:] = np.arange(seq_len - start)
    return row
