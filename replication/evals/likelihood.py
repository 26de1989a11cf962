"""Log-probabilities of given continuations, a prefix read once for all its continuations.

The continuations of one prefix share a row of the batch. Each is a branch behind the prefix: it sees the prefix and
itself, and its positions start where the prefix ends, so it is scored as if it stood there alone.

    columns    [pad] p0 p1 p2 | a0 a1 | b0 b1 b2 | [pad]
    positions        0  1  2    3  4    3  4  5
    b1 sees          x  x  x            x  x

The last token of a branch is only predicted, never read. A batch holds prefixes of similar length, aligned at their
end, so that the logits that count are the last columns of every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Ids = Sequence[int]

# Positions read in one forward pass: for a model of 1M parameters on one core, 2,048 to 4,096 were fastest (16k
# tokens/s against 9k at 16,384). Logits held at once: 2^27 floats are 512 MiB.
PASS_TOKENS = 4_096
PASS_LOGITS = 1 << 27


@dataclass(frozen=True)
class _Group:
    """One prefix, its continuations and the place of each in the answer."""

    prefix: Ids
    options: list[Ids]
    places: list[int]

    @property
    def tail(self) -> int:
        return sum(len(option) - 1 for option in self.options)


def logprobs(
    model: Any, pairs: Sequence[tuple[Ids, Ids]], *, context: int, batch_tokens: int = PASS_TOKENS
) -> Iterator[tuple[int, list[float]]]:
    """Natural-log probability of every token of each option, given its prefix: (place of the pair, its values).

    Pairs come batch by batch, not in order; one with an empty option has no values.

    Raises:
        ValueError: an empty prefix, or prefix and option longer than the model's context.
    """
    groups = _groups(pairs, context)
    yield from ((i, []) for i, (_, option) in enumerate(pairs) if not len(option))
    limit = min(batch_tokens, PASS_TOKENS)
    for batch in _batches(groups, limit, int(model.config.vocab_size)):
        for group, scores in zip(batch, _score(model, batch), strict=True):
            yield from zip(group.places, scores, strict=True)


def _groups(pairs: Sequence[tuple[Ids, Ids]], context: int) -> list[_Group]:
    found: dict[tuple[object, ...], _Group] = {}
    for i, (prefix, option) in enumerate(pairs):
        if not len(prefix):
            raise ValueError(f"pair {i} has an empty prefix; start it with the end-of-text token")
        if len(prefix) + len(option) - 1 > context:
            raise ValueError(f"pair {i} has {len(prefix)} + {len(option)} tokens; the model's context is {context}")
        if len(option):
            # Sharing saves the prefix and costs attention between branches: windows of a text, which all begin after
            # one token, must not end up in one row (60,000 tokens of stories took over 5 minutes, apart 16 s).
            shared = len(prefix) > len(option)
            group = found.setdefault((*prefix, *([] if shared else ["alone", i])), _Group(prefix, [], []))
            group.options.append(option)
            group.places.append(i)
    # Ties keep the order of the pairs, so the batches are the same on every call.
    return sorted(found.values(), key=lambda g: (len(g.prefix), g.tail))


def _batches(groups: list[_Group], limit: int, vocabulary: int) -> Iterator[list[_Group]]:
    batch: list[_Group] = []
    head = tail = 0
    for group in groups:
        new_head, new_tail = max(head, len(group.prefix)), max(tail, group.tail)
        rows = len(batch) + 1
        full = rows * (new_head + new_tail) > limit or rows * (new_tail + 1) * vocabulary > PASS_LOGITS
        if batch and full:
            yield batch
            batch, new_head, new_tail = [], len(group.prefix), group.tail
        batch.append(group)
        head, tail = new_head, new_tail
    if batch:
        yield batch


def _score(model: Any, batch: list[_Group]) -> list[list[list[float]]]:
    head = max(len(g.prefix) for g in batch)
    ids, positions, branch = (torch.from_numpy(x).to(model.device) for x in _layout(batch, head))
    # Rows without padding before them and without branches are plain causal text, which needs no mask.
    plain = all(len(g.options) == 1 and len(g.prefix) == head for g in batch)
    special = {} if plain else {"position_ids": positions, "attention_mask": _visible(branch)[:, None]}
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - head + 1, **special).logits
    rows, columns, targets = (torch.tensor(x, device=logits.device) for x in _wanted(batch))
    chosen = logits[rows, columns].float()
    values = chosen.gather(1, targets[:, None])[:, 0] - chosen.logsumexp(1)
    flat = iter(values.tolist())
    return [[[next(flat) for _ in option] for option in group.options] for group in batch]


def _layout(batch: list[_Group], head: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, positions and branch (-1 padding, 0 prefix, 1.. options), each (rows, columns)."""
    shape = (len(batch), head + max(g.tail for g in batch))
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    branch = np.full(shape, -1, np.int64)
    for row, group in enumerate(batch):
        length = len(group.prefix)
        spans = [(head - length, group.prefix, 0)]
        column = head
        for option in group.options:
            spans.append((column, option[:-1], length))
            column += len(option) - 1
        for number, (start, tokens, first) in enumerate(spans):
            span = slice(start, start + len(tokens))
            ids[row, span] = tokens
            positions[row, span] = np.arange(first, first + len(tokens))
            branch[row, span] = number
    return ids, positions, branch


def _visible(branch: torch.Tensor) -> torch.Tensor:
    """Which column each column sees: (rows, columns) -> (rows, columns, columns). Padding sees only itself."""
    columns = branch.shape[1]
    same = branch[:, None, :] == branch[:, :, None]
    prefix = (branch == 0)[:, None, :] & (branch >= 0)[:, :, None]
    causal = torch.ones(columns, columns, dtype=torch.bool, device=branch.device).tril()
    real = (branch >= 0)[:, None, :]
    return ((same | prefix) & causal & real) | torch.eye(columns, dtype=torch.bool, device=branch.device)


def _wanted(batch: list[_Group]) -> tuple[list[int], list[int], list[int]]:
    """Row, kept column and token of every prediction. Kept column 0 is the prefix's last."""
    rows, columns, targets = [], [], []
    for row, group in enumerate(batch):
        column = 1
        for option in group.options:
            rows += [row] * len(option)
            columns += [0, *range(column, column + len(option) - 1)]
            targets += [int(token) for token in option]
            column += len(option) - 1
    return rows, columns, targets
