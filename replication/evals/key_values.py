"""The keys and values of texts in flight: written in place, branched and dropped by row, merged by their last column.

`transformers` calls `update` once per layer and forward pass. Its own dynamic cache copies everything at every step;
here a step writes one column and storage grows by pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

GROW_COLUMNS = 32
GROW_ROWS = 1.5


class KeyValues:
    """Per layer: keys and values (rows, heads, columns, width), with room behind the filled rows and columns."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: list[int] = []
        self._stored: list[list[torch.Tensor]] = []  # per layer: keys, values

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new columns of one layer and return all its columns (transformers' cache interface)."""
        if layer == len(self._stored):
            self.rows = keys.shape[0]
            self._columns.append(0)
            self._stored.append([_room(new, 0, 0, rows=self.rows, columns=new.shape[2]) for new in (keys, values)])
        start, stop = self._columns[layer], self._columns[layer] + keys.shape[2]
        stored = self._stored[layer]
        for i, new in enumerate((keys, values)):
            if stop > stored[i].shape[2]:
                stored[i] = _room(stored[i], self.rows, start, rows=self.rows, columns=stop)
            stored[i][: self.rows, :, start:stop] = new
        self._columns[layer] = stop
        return stored[0][: self.rows, :, :stop], stored[1][: self.rows, :, :stop]

    def get_seq_length(self, layer: int = 0) -> int:
        """Columns filled (transformers' cache interface)."""
        return self._columns[layer] if self._columns else 0

    def branch(self, parents: torch.Tensor) -> None:
        """Append a copy of each of these rows."""
        columns, total = self.get_seq_length(), self.rows + len(parents)
        for stored in self._stored:
            for i, tensor in enumerate(stored):
                if total > tensor.shape[0]:
                    stored[i] = _room(tensor, self.rows, columns, rows=int(total * GROW_ROWS), columns=columns)
                stored[i][self.rows : total, :, :columns] = stored[i][parents, :, :columns]
        self.rows = total

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        columns = self.get_seq_length()
        for stored in self._stored:
            for i, tensor in enumerate(stored):
                kept = tensor[:, :, :columns].index_select(0, rows)
                stored[i] = _room(kept, len(rows), columns, rows=len(rows), columns=columns)
        self.rows = len(rows)


def merged(caches: Sequence[KeyValues]) -> KeyValues:
    """All rows of several caches, aligned at their last column; the columns before a shorter cache are zero."""
    last = max(cache.get_seq_length() for cache in caches)
    joined = KeyValues()
    joined.rows = sum(cache.rows for cache in caches)
    for layer in range(len(caches[0]._stored)):
        parts = [(cache, cache._stored[layer]) for cache in caches]
        joined._columns.append(last)
        joined._stored.append([_aligned([(c, pair[i]) for c, pair in parts], joined.rows, last) for i in (0, 1)])
    return joined


def _room(tensor: torch.Tensor, filled_rows: int, filled_columns: int, *, rows: int, columns: int) -> torch.Tensor:
    """A copy of what is filled, with room for `rows` rows and `columns` columns and some more."""
    larger = tensor.new_empty((rows, tensor.shape[1], columns + GROW_COLUMNS, tensor.shape[3]))
    larger[:filled_rows, :, :filled_columns] = tensor[:filled_rows, :, :filled_columns]
    return larger


def _aligned(parts: list[tuple[KeyValues, torch.Tensor]], rows: int, last: int) -> torch.Tensor:
    first = parts[0][1]
    # Zeros, not empty: a masked column still enters the product, and 0 x NaN is NaN.
    joined = first.new_zeros((rows, first.shape[1], last + GROW_COLUMNS, first.shape[3]))
    row = 0
    for cache, tensor in parts:
        columns = cache.get_seq_length()
        joined[row : row + cache.rows, :, last - columns : last] = tensor[: cache.rows, :, :columns]
        row += cache.rows
    return joined
