r"""Sparsely Shared LoRA: one pair of factors for all matrices of a shape, and sparse coefficients for each matrix.

    W_l x + s B diag(c_l) A x        A (r, in), B (out, r) shared by all linears of shape (out, in);  c_l (r,) its own

    loss + mu sum_l |c_l|_1 + gamma sum_shapes (|A A^T - I|^2 + |B^T B - I|^2)

OUR RECONSTRUCTION. Of arXiv 2309.11756 (ICASSP 2024) only the abstract was at hand: it fixes that A and B are shared,
that each matrix keeps rank coefficients of its own, and that these are constrained to be sparse. Not known: mu and how
sparsity is brought about, whether orthogonality is asked for, the start, s, r, which linears, and how those of another
shape share. Each of these is a field of the configuration, and our default is no claim about theirs.

What sparsity means here. After every optimiser step c becomes sign(c) max(|c| - rate mu, 0), the proximal step of the
L1 penalty, which gives exact zeros; a subgradient never would. Under SGD this is proximal gradient descent on the loss
above. Adam divides each gradient by its own root mean square, the threshold is not divided: it is to L1 what AdamW's
decoupled decay is to L2. Adam moves a coefficient by rate * m / sqrt(v), and the threshold takes rate * mu back, so a
zero stays zero while |m| / sqrt(v) <= mu: mu is the least signal-to-noise ratio of its gradient that a coefficient
must show. It has no unit, does not depend on the scale of the loss, and from 1 on everything becomes zero.

The penalty alone can be escaped: B 10 times as large and c a tenth leave the product as it is. `unit` puts rows of A
and columns of B back to length 1 after every step; `orthogonality` pulls them there.

At the start c = 0 and the change is exactly zero: at first only c has a gradient, in LoRA only B. With start="b", B is
zero and c is 1. A sum over all matrices is what moves A and B, so that they learn faster than c at one rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from replication.config import S2LoRA
from replication.methods import part
from replication.methods.attached import Attached, trainable_parameters
from replication.methods.lora import head_modules, target_modules
from replication.methods.part import Part

TYPE = "S2LORA"
STD = 0.02  # of A and B at the start, as of AdaLoRA's factors in PEFT


class Factors(torch.nn.Module):
    """A (rank, in) and B (out, rank) of all linears of one shape."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(a)
        self.b = torch.nn.Parameter(b)

    def off_orthogonal(self) -> torch.Tensor:
        """|A A^T - I|^2 + |B^T B - I|^2 in Frobenius norms."""
        eye = torch.eye(self.a.shape[0], device=self.a.device, dtype=self.a.dtype)
        return (self.a @ self.a.T - eye).square().sum() + (self.b.T @ self.b - eye).square().sum()

    @torch.no_grad()
    def to_unit(self) -> None:
        """Rows of A and columns of B to length 1."""
        self.a.copy_(functional.normalize(self.a, dim=1))
        self.b.copy_(functional.normalize(self.b, dim=0))


class SharedLinear(torch.nn.Module):
    """A frozen linear plus scale * B diag(coefficients) A with factors that others share."""

    def __init__(self, base: torch.nn.Linear, factors: Factors, coefficients: torch.Tensor, *, scale: float) -> None:
        super().__init__()
        self.base = base
        self.coefficients = torch.nn.Parameter(coefficients)
        self.scale = scale
        # In a tuple, so that the shared parameters are not registered here as well.
        self._factors = (factors,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) to (..., out)."""
        (factors,) = self._factors
        inner = functional.linear(x, factors.a) * (self.scale * self.coefficients)
        return self.base(x) + functional.linear(inner, factors.b)

    @torch.no_grad()
    def merged(self) -> torch.nn.Linear:
        """The linear with the change added to its weight, once."""
        (factors,) = self._factors
        self.base.weight += self.scale * (factors.b * self.coefficients) @ factors.a
        return self.base


def attach(model: PreTrainedModel, method: S2LoRA, *, seed: int, steps: int) -> Attached:
    """Freeze the model and add shared factors, drawn from `seed`, to the linears of its blocks; a new head trains."""
    del steps
    wrapped = _share(model, method, torch.Generator().manual_seed(seed))
    factors = list(_factors(wrapped))
    coefficients = {name: p for name, p in wrapped.named_parameters() if name.endswith(".coefficients")}
    if method.unit:
        for pair in factors:
            pair.to_unit()

    def on_step(step: int, lr: float) -> None:
        del step
        if method.sparsity:
            for c in coefficients.values():
                soften(c, lr * method.sparsity)
        if method.unit:
            for pair in factors:
                pair.to_unit()

    def penalty() -> torch.Tensor:
        return method.orthogonality * torch.stack([pair.off_orthogonal() for pair in factors]).sum()

    return Attached(
        wrapped,
        trainable_parameters(wrapped),
        on_step,
        penalty if method.orthogonality else None,
        may_rest=frozenset(coefficients) if method.sparsity else frozenset(),
    )


@torch.no_grad()
def soften(c: torch.Tensor, threshold: float) -> None:
    """Soft threshold in place: sign(c) max(|c| - threshold, 0)."""
    c.copy_(functional.softshrink(c, threshold))


def load(model: PreTrainedModel, folder: Path) -> Part:
    """A base with the factors and coefficients of a folder beside its weights."""
    told = part.settings(folder)
    method = S2LoRA(rank=told["r"], scale=told["scale"], targets=told["target_modules"])
    wrapped = _share(model, method, torch.Generator().manual_seed(0))
    wrapped.restore(folder)
    return wrapped


def _share(model: PreTrainedModel, method: S2LoRA, generator: torch.Generator) -> Part:
    """Put a SharedLinear in the place of every target; what trains is the factors, the coefficients and a new head."""
    for p in model.parameters():
        p.requires_grad_(False)
    for head in head_modules(model):
        model.get_submodule(head).requires_grad_(True)
    targets = _targets(model, method.targets)
    shared = torch.nn.ModuleDict()
    for name, linear in targets.items():
        key = f"{linear.out_features}x{linear.in_features}"
        if key not in shared:
            shared[key] = _drawn(linear, method, generator)
        start = 0.0 if method.start == "coefficients" else 1.0
        c = torch.full((method.rank,), start, device=linear.weight.device, dtype=linear.weight.dtype)
        _replace(model, name, SharedLinear(linear, shared[key], c, scale=method.scale))  # type: ignore[arg-type]
    settings = {"peft_type": TYPE, "r": method.rank, "scale": method.scale, "target_modules": method.targets}
    return Part(model, settings, shared=shared, merge=_merge)


def _drawn(linear: torch.nn.Linear, method: S2LoRA, generator: torch.Generator) -> Factors:
    a = torch.randn(method.rank, linear.in_features, generator=generator) * STD
    b = torch.randn(linear.out_features, method.rank, generator=generator) * STD
    b = torch.zeros_like(b) if method.start == "b" else b
    return Factors(a.to(linear.weight), b.to(linear.weight))


def _targets(model: PreTrainedModel, targets: str) -> dict[str, torch.nn.Linear]:
    ends = tuple(f".{end}" for end in target_modules(model, targets))
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(ends)
    }


def _factors(wrapped: Part) -> Iterator[Factors]:
    return (module for module in wrapped.modules() if isinstance(module, Factors))


def _merge(model: PreTrainedModel) -> PreTrainedModel:
    for name, module in list(model.named_modules()):
        if isinstance(module, SharedLinear):
            _replace(model, name, module.merged())
    return model


def _replace(model: torch.nn.Module, name: str, module: torch.nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
