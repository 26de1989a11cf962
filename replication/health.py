"""Is it really training? Checks that turn a run which silently does nothing into one that fails and says so.

What each guards against was seen elsewhere: adapters that never got a gradient, a loss of 0 or NaN that trained on,
a frozen model that "trained" to the end (pitfalls 11, 16, 22), a "46,000 tokens/s" of 72.44 % of the weights with a
gradient norm of 0 (Chronicals, figure 20; the rest was the embedding, unslothai/unsloth#1282).

How many weights a method should train is computed from the model's modules and never from `requires_grad`:

    full        every parameter, a tied one once, but those that transformers itself never trains
    LoRA        r (in + out) a targeted linear          AdaLoRA   r (in + out + 1)
    VeRA        r + out a targeted linear               S2-LoRA   r (in + out) a shape, and r a targeted linear
    BitFit      every bias                              a classifier's head is trained by every method
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

import torch
from transformers import PreTrainedModel

from replication.config import AdaLoRA, BitFit, Full, Head, LoRA, Method, S2LoRA, VeRA

_WRAPPERS = ("weight", "default", "base_model", "model", "layers", "module", "modules_to_save")
# Which linears of a block each word of `Targets` means, by parts of their names; told here a second time, so that a
# mistake in `methods/lora.py` is not repeated.
_WORDS = {"all": ("",), "attention": ("attn", "attention"), "mlp": ("mlp", "feed_forward")}


class TrainingFailed(RuntimeError):
    """The run cannot be what it claims to be; its message says what was seen."""


def check_trainable(trainable: Mapping[str, torch.nn.Parameter], method: str) -> int:
    """Number of trainable parameters; none is a failure."""
    count = sum(_numel(p) for p in trainable.values())
    if count == 0:
        raise TrainingFailed(f"method {method} leaves no parameter trainable: the model is frozen")
    return count


def expected_trainable(model: PreTrainedModel, method: Method) -> dict[str, int]:
    """Weights that a method should train, by group (`group_of`); ask it before the method is attached.

    Raises:
        ValueError: no rule for the method.
    """
    sizes: Counter[str] = Counter()
    for name, size in _expected(model, method):
        sizes[group_of(name)] += size
    return dict(sizes)


def check_expected(trainable: Mapping[str, torch.nn.Parameter], expected: Mapping[str, int], method: str) -> None:
    """What is trainable must be what the method should train, group by group; the failure names groups and counts."""
    seen: Counter[str] = Counter()
    for name, p in trainable.items():
        seen[group_of(name)] += _numel(p)
    if seen == Counter(expected):
        return
    wanted, trains = sum(expected.values()), sum(seen.values())
    missing = [f"{g} ({n - seen[g]:,} of {n:,})" for g, n in expected.items() if seen[g] < n]
    extra = [f"{g} ({n - expected.get(g, 0):,})" for g, n in seen.items() if n > expected.get(g, 0)]
    told = [f"missing: {', '.join(missing)}"] if missing else []
    told += [f"trained against its rule: {', '.join(extra)}"] if extra else []
    raise TrainingFailed(
        f"method {method} should train {wanted:,} weights and trains {trains:,} ({trains / max(1, wanted):.2%}); "
        + "; ".join(told)
    )


def check_owned(trainable: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
    """Every trainable weight must be in the optimiser, or it gets gradients and is never changed."""
    owned = {id(p) for group in optimiser.param_groups for p in group["params"]}
    lost: Counter[str] = Counter()
    for name, p in trainable.items():
        if id(p) not in owned:
            lost[group_of(name)] += _numel(p)
    if lost:
        names = ", ".join(f"{group} ({size:,})" for group, size in lost.items())
        whole = sum(_numel(p) for p in trainable.values())
        raise TrainingFailed(f"the optimiser lacks {sum(lost.values()):,} of {whole:,} trainable weights: {names}")


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
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
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
    before: Mapping[str, tuple[float, float]],
    after: Mapping[str, tuple[float, float]],
    *,
    every: bool = True,
    may_rest: Collection[str] = (),
) -> None:
    """Every trainable tensor must differ from where it started; after very few steps (not `every`), some must.

    Of those that `may_rest`, because their method puts them back, some must have moved.
    """
    resting = sorted(name for name in may_rest if after[name] == before[name])
    still = sorted(name for name, value in before.items() if after[name] == value and name not in may_rest)
    if resting and len(resting) == len(may_rest):
        still = sorted([*still, *resting])
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


def _expected(model: PreTrainedModel, method: Method) -> Iterator[tuple[str, int]]:
    """Name and size of everything that a method should train; names as `group_of` reads them."""
    sizes = {name: p.numel() for name, p in model.named_parameters() if not _never_trained(model, name)}
    heads = _heads(model)
    if isinstance(method, Full):
        yield from sizes.items()
        return
    yield from ((name, size) for name, size in sizes.items() if name.startswith(heads))
    if isinstance(method, Head):
        return
    if isinstance(method, BitFit):
        own = (name for name in sizes if name.endswith(".bias") and not name.startswith(heads))
        yield from ((name, sizes[name]) for name in own)
        return
    linears = {name: m for name, m in model.named_modules() if _is_targeted(name, m, method.targets)}
    if isinstance(method, S2LoRA):
        yield from ((f"{name}.coefficients", method.rank) for name in linears)
        for n_out, n_in in {(m.out_features, m.in_features) for m in linears.values()}:
            yield from ((f"shared.{n_out}x{n_in}.{w}", method.rank * n) for w, n in (("a", n_in), ("b", n_out)))
        return
    for name, linear in linears.items():
        yield from _of_adapter(name, linear, method)


def _of_adapter(name: str, linear: torch.nn.Linear, method: LoRA | AdaLoRA | VeRA) -> Iterator[tuple[str, int]]:
    if isinstance(method, VeRA):
        yield f"{name}.vera_lambda_d", method.rank
        yield f"{name}.vera_lambda_b", linear.out_features
        return
    yield f"{name}.lora_A", method.rank * linear.in_features
    yield f"{name}.lora_B", method.rank * linear.out_features
    if isinstance(method, AdaLoRA):
        yield f"{name}.lora_E", method.rank


def _is_targeted(name: str, module: torch.nn.Module, targets: str) -> bool:
    """Whether a module is a linear of a block, the embedding and the output layer lie outside, that `targets` means."""
    parts = name.split(".")
    if not isinstance(module, torch.nn.Linear) or not any(part.isdigit() for part in parts):
        return False
    word = targets.removesuffix("-nogate")
    if word not in _WORDS:
        return parts[-1] in targets.split("+")
    meant = any(sign in name for sign in _WORDS[word])
    return meant and not (targets.endswith("-nogate") and parts[-1] == "gate_proj")


def _heads(model: PreTrainedModel) -> tuple[str, ...]:
    """Beginnings of the names of a classifier's own layers, which are new; none for other models."""
    if not type(model).__name__.endswith("ForSequenceClassification"):
        return ()
    return tuple(f"{name}." for name, _ in model.named_children() if name != model.base_model_prefix)


def _never_trained(model: PreTrainedModel, name: str) -> bool:
    """Sinusoids that transformers computes once and freezes: Whisper's encoder's positions, DistilBERT's if asked."""
    kind = model.config.model_type
    if kind == "whisper":
        return name.endswith("encoder.embed_positions.weight")
    sinusoids = kind == "distilbert" and model.config.sinusoidal_pos_embds
    return bool(sinusoids) and name.endswith("embeddings.position_embeddings.weight")


def _numel(p: torch.nn.Parameter) -> int:
    # ZeRO-3 leaves an empty tensor in place of a partitioned parameter and its true size in ds_numel.
    return int(getattr(p, "ds_numel", p.numel()))
