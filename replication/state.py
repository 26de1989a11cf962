"""Training state that any number of ranks can continue from: fp32 masters and the optimiser's moments, in pieces.

ZeRO gives every rank a piece of the masters and moments; what piece depends on the number of ranks and the stage. So a
piece is written with its place in the parameter it belongs to,

    resume/rank_00003-of-00008.safetensors
        model.layers.0.self_attn.q_proj.weight/master    elements start .. start + n of the flattened parameter
        model.layers.0.self_attn.q_proj.weight/exp_avg
        metadata: the start of every parameter's piece, and the optimiser's scalars (AdamW's step)

and a rank that continues reads whatever overlaps with its own pieces. Every rank writes at once, nothing is gathered.
DeepSpeed's own checkpoints resume on the world size that wrote them only, and are pickles.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

MASTER = "master"


@dataclass(frozen=True)
class Fragment:
    """A rank's piece of a trainable parameter: elements `start` and on, flattened, as a view of the master weights.

    `owner` is the tensor that the optimiser steps; the piece lies in it at `offset`, and so do its moments in theirs.
    """

    name: str
    start: int
    master: torch.Tensor
    owner: torch.Tensor
    offset: int

    def moments(self, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
        """The optimiser's tensors for this piece, as views; empty before the first step."""
        held = {k: v for k, v in optimiser.state.get(self.owner, {}).items() if v.shape == self.owner.shape and v.dim()}
        return {k: v.view(-1).narrow(0, self.offset, self.master.numel()) for k, v in held.items()}


def fragments(zero: Any, trainable: Mapping[str, torch.nn.Parameter], stage: int) -> Iterator[Fragment]:
    """This rank's piece of every trainable parameter; `zero` is DeepSpeed's optimiser."""
    piece = {0: _whole, 1: _of_flat_group, 2: _of_flat_group, 3: _of_partition}[stage]
    for name, p in trainable.items():
        found = piece(zero, name, p)
        if found is not None and found.master.numel():
            yield found


def save(folder: Path, pieces: list[Fragment], optimiser: torch.optim.Optimizer, *, rank: int, world: int) -> None:
    """Write this rank's pieces; the folder is complete when all ranks have."""
    tensors: dict[str, torch.Tensor] = {}
    for piece in pieces:
        for key, value in {MASTER: piece.master, **piece.moments(optimiser)}.items():
            tensors[f"{piece.name}/{key}"] = value.detach().to("cpu", copy=True).contiguous()
    told = {"starts": {piece.name: piece.start for piece in pieces}, "scalars": _scalars(pieces, optimiser)}
    file = folder / f"rank_{rank:05d}-of-{world:05d}.safetensors"
    # One key: safetensors writes several in any order, and equal states should be equal files.
    save_file(tensors, file, metadata={"pieces": json.dumps(told)})
    with file.open("rb") as written:
        os.fsync(written.fileno())


@dataclass(frozen=True)
class Saved:
    """What all ranks wrote, open for reading: the pieces of every `name/kind` by their start."""

    pieces: dict[str, list[tuple[int, int, Any]]]
    scalars: dict[str, float]

    @property
    def kinds(self) -> set[str]:
        """master, exp_avg, ..."""
        return {key.rsplit("/", 1)[1] for key in self.pieces}

    def read(self, key: str, start: int, size: int) -> torch.Tensor:
        """Elements start .. start + size of a flattened tensor, from the pieces that overlap.

        Raises:
            KeyError: some element was not saved.
        """
        found, have = torch.empty(0), 0
        for begin, end, file in self.pieces.get(key, ()):
            first, last = max(begin, start), min(end, start + size)
            if first < last:
                part = file.get_slice(key)[first - begin : last - begin]
                found = torch.empty(size, dtype=part.dtype) if not have else found
                found[first - start : last - start] = part
                have += last - first
        if have != size:
            raise KeyError(f"{key}: {have} of {size} elements were saved")
        return found


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Saved]:
    """Open the state that `save` wrote, whatever the number of ranks.

    Raises:
        FileNotFoundError: there is none, or a rank's file is missing.
        SafetensorError: a file is damaged.
    """
    files = sorted(folder.glob("rank_*-of-*.safetensors"))
    if not files or len(files) != int(files[0].stem.rsplit("-", 1)[1]):
        raise FileNotFoundError(f"{folder} holds {len(files)} files of training state, not one of every rank")
    pieces: dict[str, list[tuple[int, int, Any]]] = defaultdict(list)
    scalars: dict[str, float] = {}
    with contextlib.ExitStack() as held:
        for path in files:
            file = held.enter_context(safe_open(path, framework="pt"))
            metadata = file.metadata() or {}
            if "pieces" not in metadata:
                raise SafetensorError(f"{path.name} does not say where its pieces belong")
            told = json.loads(metadata["pieces"])
            starts = told["starts"]
            scalars |= told["scalars"]
            for key in file.keys():  # noqa: SIM118
                start = starts[key.rsplit("/", 1)[0]]
                pieces[key].append((start, start + file.get_slice(key).get_shape()[0], file))
        yield Saved(dict(pieces), scalars)


def load(
    saved: Saved,
    pieces: list[Fragment],
    optimiser: torch.optim.Optimizer,
    trainable: Mapping[str, torch.nn.Parameter],
    *,
    stage: int,
) -> None:
    """Put back masters and moments of this rank's pieces, and the weights that the forward pass uses."""
    for owner in {id(piece.owner): piece.owner for piece in pieces}.values():
        state = optimiser.state[owner]
        state |= {kind: torch.zeros_like(owner) for kind in saved.kinds - {MASTER} if kind not in state}
        # A fused optimiser's kernel reads its step where the weights are.
        place = owner.device if optimiser.defaults.get("fused") else torch.device("cpu")
        state |= {key: torch.tensor(value, device=place) for key, value in saved.scalars.items()}
    for piece in pieces:
        for kind, view in {MASTER: piece.master, **piece.moments(optimiser)}.items():
            view.copy_(saved.read(f"{piece.name}/{kind}", piece.start, view.numel()))
    show(pieces, trainable, lambda name, size: saved.read(f"{name}/{MASTER}", 0, size), stage=stage)


@torch.no_grad()
def show(
    pieces: list[Fragment],
    trainable: Mapping[str, torch.nn.Parameter],
    whole: Callable[[str, int], torch.Tensor],
    *,
    stage: int,
) -> None:
    """Copy masters into the weights that the forward pass uses, where these are another tensor (ZeRO)."""
    if stage == 3:
        for piece in pieces:
            trainable[piece.name].ds_tensor.data.view(-1)[: piece.master.numel()].copy_(piece.master)  # type: ignore[attr-defined]
    elif stage > 0:
        for name, p in trainable.items():
            p.data.view(-1).copy_(whole(name, p.numel()))


def _scalars(pieces: list[Fragment], optimiser: torch.optim.Optimizer) -> dict[str, float]:
    state = optimiser.state.get(pieces[0].owner, {}) if pieces else {}
    return {key: float(value) for key, value in state.items() if torch.is_tensor(value) and value.dim() == 0}


def _whole(zero: Any, name: str, p: torch.nn.Parameter) -> Fragment:
    return Fragment(name, 0, p.data.view(-1), p, 0)


def _of_flat_group(zero: Any, name: str, p: torch.nn.Parameter) -> Fragment | None:
    """ZeRO 1 and 2: the masters of a group lie in one flat tensor, cut evenly over the ranks."""
    place = p._hp_mapping  # type: ignore[attr-defined]
    if place is None:
        return None
    (owner,) = zero.optimizer.param_groups[place.param_group_index]["params"]
    return Fragment(name, place.lp_fragment_address.start, place.hp_fragment, owner, place.hp_fragment_address.start)


def _of_partition(zero: Any, name: str, p: Any) -> Fragment:
    """ZeRO 3: every parameter is cut evenly over the ranks, the last piece padded."""
    group, offset, size = zero.grad_position[zero.get_param_id(p)]
    owner = zero.fp32_partitioned_groups_flat[group]
    start = size * torch.distributed.get_rank()
    real = max(0, min(size, p.ds_numel - start))
    return Fragment(name, start, owner.detach().narrow(0, offset, real), owner, offset)
