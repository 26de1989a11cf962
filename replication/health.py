"""Is it really training? Checks that turn a run which silently does nothing into one that fails and says so.

What each guards against was seen elsewhere: adapters that never got a gradient, a loss of 0 or NaN that trained on,
a frozen model that "trained" to the end (pitfalls 11, 16, 22).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch


class TrainingFailed(RuntimeError):
    """The run cannot be what it claims to be; its message says what was seen."""


def check_trainable(trainable: Mapping[str, torch.nn.Parameter], method: str) -> int:
    """Number of trainable parameters; none is a failure."""
    count = sum(_numel(p) for p in trainable.values())
    if count == 0:
        raise TrainingFailed(f"method {method} leaves no parameter trainable: the model is frozen")
    return count


def check_loss(loss: float, step: int) -> None:
    """A loss that is not finite, or exactly 0, fails the run."""
    if not math.isfinite(loss):
        raise TrainingFailed(f"the loss is {loss} at step {step}; lower the learning rate or check the data")
    if loss == 0.0:
        raise TrainingFailed(f"the loss is exactly 0 at step {step}: no position carries a loss")


def group_of(name: str) -> str:
    """The kind of a parameter, the same in every layer: `self_attn.q_proj.lora_A`, `mlp.up_proj`, `embed_tokens`.

    >>> group_of("base_model.model.model.layers.3.self_attn.q_proj.lora_A.default.weight")
    'self_attn.q_proj.lora_A'
    """
    parts = [p for p in name.split(".") if p not in ("weight", "default", "base_model", "model", "layers", "module")]
    return ".".join(p for p in parts if not p.isdigit())


def check_gradients(norms: Iterable[tuple[str, float]], step: int) -> dict[str, float]:
    """Gradient norm of every group (root of summed squares); a group that is exactly zero fails the run.

    Ask it only once weights have moved: until then LoRA's A has no gradient because B is zero.
    """
    squares: dict[str, float] = {}
    for name, norm in norms:
        squares[group_of(name)] = squares.get(group_of(name), 0.0) + norm**2
    silent = sorted(group for group, square in squares.items() if square == 0.0)
    if silent:
        raise TrainingFailed(f"no gradient reaches {', '.join(silent)} at step {step}: they would never train")
    return {group: math.sqrt(square) for group, square in squares.items()}


def fingerprint(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, tuple[float, float]]:
    """Sum and absolute sum of each tensor in double precision: cheap, and changed by any training step."""
    return {name: (float(t.double().sum()), float(t.double().abs().sum())) for name, t in tensors}


def check_moved(
    before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]], *, every: bool = True
) -> None:
    """Every trainable tensor must differ from where it started; after very few steps (not `every`), some must."""
    still = sorted(name for name, value in before.items() if after[name] == value)
    if still and (every or len(still) == len(before)):
        shown = ", ".join(still[:3]) + (f" and {len(still) - 3} more" if len(still) > 3 else "")
        raise TrainingFailed(f"training did not move {shown}: {len(still)} of {len(before)} trainable tensors")


def share_changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> float:
    """Share of all sampled elements that differ, 0 to 1.

    A step of size 1e-5 leaves 85 % of bf16 weights of size .02 where they were, and 99 % at 1e-6 (pitfalls, section 5):
    without fp32 masters such steps are lost; with them they add up until the rounded weight moves.
    """
    changed = sum(int((after[name] != value).sum()) for name, value in before.items())
    return changed / max(1, sum(value.numel() for value in before.values()))


def _numel(p: torch.nn.Parameter) -> int:
    # ZeRO-3 leaves an empty tensor in place of a partitioned parameter and its true size in ds_numel.
    return int(getattr(p, "ds_numel", p.numel()))
