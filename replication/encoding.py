"""The way back from `config.encode`: plain JSON values to the frozen values they were made from."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from replication.config import (
    ASR,
    CPT,
    IFT,
    SGD,
    AdaLoRA,
    AdamW,
    BitFit,
    Branch,
    Budget,
    Cosine,
    Full,
    Head,
    LionW,
    LoRA,
    Run,
    S2LoRA,
    Sentiment,
    Source,
    Speed,
    Trapezoid,
    VeRA,
)
from replication.specs import Choice, Code, DecodeSpeed, HeldOut, Labels, Maths, Shots, Words

_KINDS: tuple[type, ...] = (
    Source, CPT, IFT, ASR, Sentiment, Full, LoRA, AdaLoRA, S2LoRA, VeRA, BitFit, Head, LionW, AdamW, SGD,
    Trapezoid, Cosine, Budget, Branch, Speed, Run,
    Choice, Code, Maths, HeldOut, Words, DecodeSpeed, Labels, Shots,
)  # fmt: skip


def decode(value: Any) -> Any:
    """The inverse of `encode`; a field that is absent has its default.

    Raises:
        ValueError: an unknown kind or field.
    """
    if isinstance(value, list):
        return tuple(decode(v) for v in value)
    if not isinstance(value, dict):
        return value
    kinds = {k.__name__: k for k in _KINDS}
    kind = value.get("kind")
    if kind not in kinds:
        raise ValueError(f"unknown kind {kind!r}; known are {sorted(kinds)}")
    known = {f.name for f in fields(kinds[kind])}
    unknown = sorted(set(value) - known - {"kind"})
    if unknown:
        raise ValueError(f"{kind} has no field {unknown[0]!r}; it has {sorted(known)}")
    return kinds[kind](**{k: decode(v) for k, v in value.items() if k != "kind"})
