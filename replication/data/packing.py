"""Documents into rows of `seq_len` tokens.

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

With a limit on the documents of a row (`IFT.per_sequence`), they are spread evenly instead: `evenly`.
"""

from __future__ import annotations

import heapq
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


def bins(
    shards: TokenShards, seq_len: int, *, per_sequence: int | None = None, rng: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Bins of the documents of `shards`, for `packed`; warns of documents whose prompt leaves no room.

    Args:
        per_sequence: the most documents of a bin; None fills each by best fit.
        rng: of `best_fit`.
    """
    longer = np.flatnonzero(shards.lengths > seq_len)
    if silent := sum(shards.supervised_from(int(i)) >= seq_len for i in longer):
        _LOG.warning("%d documents have a prompt of %d tokens or more and train nothing", silent, seq_len)
    if per_sequence is not None:
        return evenly(shards.lengths, seq_len, most=per_sequence)
    return best_fit(shards.lengths, seq_len, rng=rng)


def evenly(lengths: Sequence[int] | np.ndarray, capacity: int, *, most: int) -> list[np.ndarray]:
    """Bins of at most `most` items, ceil(n / most) of them unless their lengths need more.

    Longest first, each item goes into the emptiest bin that may still take one; where that lacks the room, another is
    opened.

    This stands for llm-foundry's packing_ratio k (llmfoundry/data/packing.py). There each device reads k examples for
    every sequence of its batch, packs them first-fit, longest first, keeps the fullest bins as its batch and carries
    the others to the next; n / k sequences make an epoch, and what is still carried at its end is not trained on. A
    bin may hold more than k examples there, others fewer; the packing depends on batch size and devices, and
    documents of a Hugging Face model's row are not kept apart. Here the number of sequences is the same, no document
    is lost, and rows are those of best-fit packing: isolated, the same for any batch and any number of devices.

    Args:
        lengths: shape (n,), 1 or more each; those above `capacity` count as `capacity`, and a warning counts them.
        capacity: room of a bin, in tokens.

    Returns:
        Item indices of each bin, longest first.

    >>> [b.tolist() for b in evenly([5, 4, 3, 2, 1, 1], 8, most=2)]
    [[0, 5], [1, 4], [2, 3]]
    """
    sizes = _within(lengths, capacity)
    packing: list[list[int]] = [[] for _ in range(-(-len(sizes) // most))]
    roomy = [(-capacity, bin_) for bin_ in range(len(packing))]  # a heap: the emptiest bin first, then the earliest
    for item in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[item])
        if not roomy or -roomy[0][0] < size:
            heapq.heappush(roomy, (-capacity, len(packing)))
            packing.append([])
        room, bin_ = heapq.heappop(roomy)
        packing[bin_].append(item)
        if len(packing[bin_]) < most:
            heapq.heappush(roomy, (room + size, bin_))
    return [np.asarray(members, dtype=np.int64) for members in packing]


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
    sizes = _within(lengths, capacity)
    if not len(sizes):
        return []
    shuffle = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    order = shuffle[np.argsort(-sizes[shuffle], kind="stable")]
    values, counts = np.unique(sizes, return_counts=True)
    groups = np.split(order, np.cumsum(counts[::-1])[:-1])
    bin_of, n_bins = _place(groups, values[::-1].tolist(), capacity, n_items=len(sizes))
    by_bin = order[np.argsort(bin_of[order], kind="stable")]
    ends = np.cumsum(np.bincount(bin_of, minlength=n_bins)).tolist()
    return [by_bin[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _within(lengths: Sequence[int] | np.ndarray, capacity: int) -> np.ndarray:
    """Lengths cut to the capacity; warns of those above it."""
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and sizes.min() < 1:
        raise ValueError(f"length {sizes.min()}; every document holds at least its end-of-text")
    if cut := int((sizes > capacity).sum()):
        _LOG.warning("%d of %d documents are cut to %d tokens", cut, len(sizes), capacity)
    return np.minimum(sizes, capacity)


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
