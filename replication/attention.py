"""Attention document by document: "varlen", beside transformers' own "sdpa" and "eager".

A packed row holds several documents, told apart by position ids that restart. The masked path computes all L^2 pairs
and throws away those between documents; here each document attends to itself only, so no mask is built:

    row of L tokens, documents of n_1 .. n_k:    L^2 pairs  ->  sum n_i^2 pairs

    o_i = sum_j<=i softmax(q_i k_j / sqrt(d)) v_j        over the j of the document that holds i

On CUDA in half precision all documents of a batch go through one flash kernel (torch.nn.attention.varlen). Elsewhere,
in fp32, and with attention dropout, which that kernel does not have, each goes through scaled_dot_product_attention.
Importing this file registers the name. It is for training: a padding mask or a cache is refused, not ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import varlen
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "varlen"


@dataclass(frozen=True)
class Documents:
    """Where the documents of a batch lie; token t of row b counts as b * L + t.

    `bounds` is int32 (documents + 1,) on the model's device, `lengths` the same as plain numbers, `longest` their
    maximum. A document never spans rows.
    """

    bounds: torch.Tensor
    lengths: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return max(self.lengths)


# Every layer asks for the documents of the same tensor; finding them waits for the device once per forward pass.
_FOUND: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def documents(position_ids: torch.Tensor | None, rows: int, length: int, device: torch.device) -> Documents:
    """The documents of a batch of `rows` x `length` tokens.

    A document begins with each row and wherever a position does not follow the one before, which is also how
    transformers finds packed documents for its masks. None means one document per row.
    """
    if position_ids is None:
        ends = range(0, (rows + 1) * length, length)
        return Documents(torch.tensor(list(ends), dtype=torch.int32, device=device), (length,) * rows)
    key = (position_ids._version, rows)
    if (kept := _FOUND.get(position_ids)) is not None and kept[0] == key:
        return kept[1]
    first = torch.ones(rows, length, dtype=torch.bool, device=device)
    first[:, 1:] = position_ids.diff(dim=-1) != 1  # (1, L) position ids hold for every row
    starts = first.flatten().nonzero().flatten()
    bounds = torch.cat([starts, starts.new_tensor([rows * length])])
    found = Documents(bounds.to(torch.int32), tuple(bounds.diff().tolist()))
    _FOUND[position_ids] = (key, found)
    return found


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_ids: torch.Tensor | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document, as transformers calls an attention function.

    Args:
        query: (rows, heads, length, head size); key and value may have fewer heads, which groups of queries share.
        position_ids: (rows or 1, length), restarting with every document; transformers' Llama and Qwen2 pass them on.

    Returns:
        (rows, length, heads, head size), and None in place of the weights.

    Raises:
        ValueError: a mask, a cache or a sliding window, none of which this function knows.
    """
    del module
    if attention_mask is not None or sliding_window is not None or query.shape[2] != key.shape[2]:
        raise ValueError(
            "attention 'varlen' takes no mask, cache or sliding window: it is for training. Load with attention 'sdpa'"
        )
    rows, _heads, length, _size = query.shape
    parts = documents(position_ids, rows, length, query.device)
    if dropout == 0 and _flash(query):
        return _all_at_once(query, key, value, parts, scaling), None
    if len(parts.lengths) == rows:
        return _causal(query, key, value, dropout, scaling).transpose(1, 2), None
    return _one_by_one(query, key, value, parts, dropout, scaling), None


def no_mask(*, attention_mask: torch.Tensor | None = None, **_: Any) -> None:
    """The mask of this attention: none.

    Raises:
        ValueError: the caller gave a padding mask, which would be lost.
    """
    if attention_mask is not None:
        raise ValueError("attention 'varlen' takes no attention_mask: pack the documents, or load with 'sdpa'")


def _flash(query: torch.Tensor) -> bool:
    """Whether torch's flash kernel takes these: Ampere or newer, half precision, heads a multiple of 8 up to 256."""
    if not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16):
        return False
    size = query.shape[-1]
    return size % 8 == 0 and size <= 256 and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _all_at_once(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, parts: Documents, scaling: float | None
) -> torch.Tensor:
    rows, heads, length, size = query.shape
    # (rows, heads, length, size) -> (tokens, heads, size); contiguous, since the tensors come transposed.
    q, k, v = (x.transpose(1, 2).reshape(rows * length, x.shape[1], size) for x in (query, key, value))
    out = varlen.varlen_attn(
        q,
        k,
        v,
        parts.bounds,
        parts.bounds,
        parts.longest,
        parts.longest,
        scale=scaling,
        window_size=(-1, 0),  # causal
        enable_gqa=heads != key.shape[1],
    )
    assert isinstance(out, torch.Tensor)  # a pair only where the log-sum-exp is asked for
    return out.view(rows, length, heads, size)


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    parts: Documents,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    rows, heads, length, size = query.shape
    # One line of tokens, (1, heads, rows * length, size), then views of it.
    lines = [x.transpose(0, 1).reshape(1, x.shape[1], rows * length, size) for x in (query, key, value)]
    pieces = zip(*(line.split(parts.lengths, dim=2) for line in lines), strict=True)
    out = torch.cat([_causal(q, k, v, dropout, scaling).transpose(1, 2) for q, k, v in pieces], dim=1)
    return out.view(rows, length, heads, size)


def _causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float | None
) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, no_mask)
