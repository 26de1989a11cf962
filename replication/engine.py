"""The DeepSpeed engine behind five calls: forward, backward, step, save, load.

Its configuration is generated from the Run, so that batch size and accumulation exist once. Accumulation is counted
by the loop: losses arrive already divided by the global batch's count, so DeepSpeed must not divide again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from replication import health, optim, ranks, state
from replication.config import Run
from replication.methods.attached import Attached, Memory

# ZeRO-3 puts a function of its own in its place, for the whole process and for good.
_LINEAR = torch.nn.functional.linear
SAMPLE = 4096  # weights of a parameter that `sample` looks at


@dataclass(frozen=True)
class Engine:
    """A model, its optimiser and the process group, ready to step."""

    deepspeed: Any
    trainable: dict[str, torch.nn.Parameter]
    zero_stage: int
    grad_clip: float
    peak_lr: float
    micro_batch: int
    memory: Memory | None = None

    @property
    def model(self) -> torch.nn.Module:
        """The module that was attached."""
        return self.deepspeed.module

    @property
    def world(self) -> int:
        """Number of data-parallel ranks."""
        return int(self.deepspeed.world_size)

    def forward(self, **batch: torch.Tensor) -> Any:
        """The model's output for one micro-batch; here so that ZeRO-3 can gather weights around it."""
        return self.deepspeed(**batch)

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """Add the gradient of one micro-batch; `last` marks the end of the global batch.

        DeepSpeed averages over ranks while the loss is a share of the global sum, hence the factor `world`.
        """
        self.deepspeed.set_gradient_accumulation_boundary(last)
        self.deepspeed.backward(loss * self.world, scale_wrt_gas=False)

    def step(self, rate: float) -> float:
        """Clip, update at `rate` times each group's peak rate, clear gradients; returns the norm before clipping."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = self.peak_lr * group["ratio"] * rate
        norm = self._norm_before_step()
        self.deepspeed.step()
        return float(self.deepspeed.get_global_grad_norm()) if norm is None else norm

    def gradient_norms(self) -> Iterator[tuple[str, float]]:
        """Name and gradient norm of every trainable parameter, gathered over ranks; call before `step`."""
        for name, p in self.trainable.items():
            grad = p.grad if self.zero_stage == 0 else _gathered_gradient(p)
            yield name, 0.0 if grad is None else float(grad.norm())

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and whole current value of every trainable parameter, in the masters' precision, on every rank."""
        for name, p in self.trainable.items():
            yield name, p.detach() if self.zero_stage == 0 else _gathered_master(p)

    def sample(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Copies of the first SAMPLE weights of this rank's pieces: as the forward pass reads them, and as masters."""
        seen, masters = {}, {}
        for piece in self.fragments():
            p = self.trainable[piece.name]
            shown = p.ds_tensor.data.view(-1) if self.zero_stage == 3 else p.data.view(-1)[piece.start :]  # type: ignore[attr-defined]
            size = min(SAMPLE, piece.master.numel())
            seen[piece.name], masters[piece.name] = shown[:size].clone(), piece.master[:size].clone()
        return seen, masters

    def fragments(self) -> list[state.Fragment]:
        """This rank's pieces of the masters."""
        return list(state.fragments(self.deepspeed.optimizer, self.trainable, self.zero_stage))

    @torch.no_grad()
    def set_masters(self, whole: Mapping[str, torch.Tensor]) -> None:
        """Begin from these weights: the masters that DeepSpeed made of bf16 weights have lost what rounding took."""
        for piece in self.fragments():
            piece.master.copy_(whole[piece.name].reshape(-1)[piece.start : piece.start + piece.master.numel()])

    def save(self, folder: Path) -> None:
        """Write this rank's share of masters and optimiser state for `load`; every rank calls it."""
        alone = self.zero_stage == 0
        rank, world = (0, 1) if alone else (torch.distributed.get_rank(), torch.distributed.get_world_size())
        if not alone or torch.distributed.get_rank() == 0:
            state.save(folder, self.fragments(), self._optimiser, rank=rank, world=world)
        if self.memory and torch.distributed.get_rank() == 0:
            save_file(self.memory.save(), folder / "method.safetensors")

    @torch.no_grad()
    def load(self, folder: Path, *, mend: str) -> None:
        """Continue from what `save` wrote on any number of ranks.

        Raises:
            FileNotFoundError: there is no state.
            RuntimeError: the state is damaged; the message ends with `mend`.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} holds no training state to continue from; {mend}")
        try:
            with state.opened(folder) as saved:
                state.load(saved, self.fragments(), self._optimiser, self.trainable, stage=self.zero_stage)
            if self.memory:
                self.memory.load(load_file(folder / "method.safetensors"))
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            reason = str(error).split("\n")[0] or type(error).__name__
            raise RuntimeError(f"the training state in {folder} is damaged ({reason}); {mend}") from error

    def close(self) -> None:
        """Free the hooks and buffers, so that one process can train many runs."""
        self.deepspeed.destroy()
        torch.nn.functional.linear = _LINEAR

    @property
    def _optimiser(self) -> torch.optim.Optimizer:
        """The optimiser below ZeRO's."""
        found = self.deepspeed.optimizer
        return found if self.zero_stage == 0 else found.optimizer

    def _norm_before_step(self) -> float | None:
        # Without ZeRO and in fp32 DeepSpeed clips without keeping the norm.
        if self.zero_stage > 0:
            return None
        grads = [p.grad for p in self.trainable.values() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(grads)) if grads else 0.0


def start(run: Run, attached: Attached) -> Engine:
    """Wrap an attached model and its new optimiser.

    Raises:
        ValueError: the global batch does not divide over the ranks, or the optimiser cannot do what the Run asks.
        TrainingFailed: the optimiser does not hold every trainable weight.
    """
    join_process_group()
    import deepspeed
    from deepspeed.runtime import bf16_optimizer

    # Stage 1 in bf16 prints the machine's memory seven times a start, whatever the log level.
    bf16_optimizer.see_memory_usage = lambda *_, **__: None
    world = torch.distributed.get_world_size()
    micro = micro_batch(run, world)
    optimiser = optim.build(run.optim, attached.trainable, stepping=run.speed.optimiser)
    health.check_owned(attached.trainable, optimiser)
    wrapped, *_ = deepspeed.initialize(
        model=attached.model,
        optimizer=optimiser,
        config=deepspeed_config(run, world),
        dist_init_required=False,
    )
    return Engine(wrapped, attached.trainable, run.zero_stage, run.grad_clip, run.optim.lr, micro, attached.memory)


def micro_batch(run: Run, world: int) -> int:
    """Sequences of a micro-batch on each of `world` ranks: the Run's, or as many as a rank's share has.

    The objective does not depend on it, so a run may go on on more ranks than it was planned for.

    Raises:
        ValueError: the global batch does not divide over the ranks.
    """
    if run.global_batch % world:
        raise ValueError(f"global_batch={run.global_batch} does not divide over {world} ranks; take a divisor of it")
    share = run.global_batch // world
    return max(size for size in range(1, min(run.micro_batch, share) + 1) if share % size == 0)


def deepspeed_config(run: Run, world: int) -> dict[str, Any]:
    """DeepSpeed's dictionary for a Run: fp32, or bf16 over fp32 masters with fp32 gradient accumulation.

    Pure bf16 has bf16 masters, which are no masters at all, and bf16 sums.
    """
    micro = micro_batch(run, world)
    accumulation = run.global_batch // (micro * world)
    content: dict[str, Any] = {
        "train_batch_size": run.global_batch,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": run.grad_clip,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": run.zero_stage},
    }
    if run.precision == "bf16":
        content |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
        # Sums over ranks as well: with a micro-batch a rank there is nothing to accumulate but these.
        content |= {"communication_data_type": "fp32"}
    if run.precision == "pure_bf16":
        pure = {"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
        content |= {"bf16": pure, "data_types": {"grad_accum_dtype": "bf16"}}
    return content


def join_process_group() -> None:
    """Join the launcher's process group (torchrun's variables, or Slurm's), or form a group of one in this process.

    Raises:
        RuntimeError: several ranks and no address to meet at.
    """
    if torch.distributed.is_initialized():
        return
    _quiet_deepspeed()
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    who = {"RANK": ranks.rank(), "LOCAL_RANK": ranks.local_rank(), "WORLD_SIZE": ranks.world()}
    if torch.cuda.is_available():
        torch.cuda.set_device(who["LOCAL_RANK"])
    if who["WORLD_SIZE"] > 1:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise RuntimeError(f"{who['WORLD_SIZE']} ranks and no {missing[0]}: start through slurm/*.sh or torchrun")
        os.environ.update({name: str(value) for name, value in who.items()})
        # One rank writes and reads back 27 GB of weights while the others wait; the default is ten minutes.
        torch.distributed.init_process_group(backend, timeout=timedelta(hours=2))
    else:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    import deepspeed

    # Its shared-memory reduction for inference would be compiled here (a C++ compiler, up to 100 s); training on a
    # CPU goes through gloo and never calls it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False, dist_init_required=False)


def _quiet_deepspeed() -> None:
    """Keep DeepSpeed's narration of its start, and its warning on any optimiser but its own, off the screen."""
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def _gathered_master(p: torch.nn.Parameter) -> torch.Tensor:
    from deepspeed.utils import safe_get_full_fp32_param

    return safe_get_full_fp32_param(p).detach()


def _gathered_gradient(p: torch.nn.Parameter) -> torch.Tensor | None:
    from deepspeed.utils import safe_get_full_grad

    return safe_get_full_grad(p)
