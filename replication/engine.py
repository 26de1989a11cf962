"""The DeepSpeed engine behind five calls: forward, backward, step, save, load.

Its configuration is generated from the Run, so that batch size and accumulation exist once. Accumulation is counted
by the loop: losses arrive already divided by the global batch's count, so DeepSpeed must not divide again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from replication import optim
from replication.config import Run
from replication.methods.attached import Attached


@dataclass(frozen=True)
class Engine:
    """A model, its optimiser and the process group, ready to step."""

    deepspeed: Any
    trainable: dict[str, torch.nn.Parameter]
    zero_stage: int
    grad_clip: float
    peak_lr: float

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
        """Clip, update at `rate` times the peak rate and clear gradients; returns the norm before clipping."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = self.peak_lr * rate
        norm = self._norm_before_step()
        self.deepspeed.step()
        return float(self.deepspeed.get_global_grad_norm()) if norm is None else norm

    def gradient_norms(self) -> Iterator[tuple[str, float]]:
        """Name and gradient norm of every trainable parameter, gathered over ranks; call before `step`."""
        for name, p in self.trainable.items():
            grad = p.grad if self.zero_stage == 0 else _gathered_gradient(p)
            yield name, 0.0 if grad is None else float(grad.norm())

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and whole current value of every trainable parameter, on every rank."""
        for name, p in self.trainable.items():
            with _gathered(p, self.zero_stage):
                yield name, p.detach()

    def save(self, folder: Path) -> None:
        """Write weights, optimiser state and counters for `load`; every rank calls it."""
        self.deepspeed.save_checkpoint(str(folder), tag="state", exclude_frozen_parameters=True)

    def load(self, folder: Path, *, mend: str) -> None:
        """Continue from what `save` wrote; files of our own making, since DeepSpeed reads pickles.

        Raises:
            FileNotFoundError: there is no state.
            RuntimeError: the state is damaged; the message ends with `mend`.
        """
        if not (folder / "state").is_dir():
            raise FileNotFoundError(f"{folder} holds no training state to continue from; {mend}")
        try:
            self.deepspeed.load_checkpoint(str(folder), tag="state", load_module_strict=False)
        except (RuntimeError, EOFError, AssertionError, KeyError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).split("\n")[0] or type(error).__name__
            raise RuntimeError(f"the training state in {folder} is damaged ({reason}); {mend}") from error

    def full_state(self) -> dict[str, torch.Tensor] | None:
        """The whole state dict on rank 0 where ZeRO-3 has partitioned it, else None: the module has it."""
        if self.zero_stage < 3:
            return None
        return self.deepspeed._zero3_consolidated_16bit_state_dict()

    def close(self) -> None:
        """Free the hooks and buffers, so that one process can train many runs."""
        self.deepspeed.destroy()

    def _norm_before_step(self) -> float | None:
        # Without ZeRO and in fp32 DeepSpeed clips without keeping the norm.
        if self.zero_stage > 0:
            return None
        grads = [p.grad for p in self.trainable.values() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(grads)) if grads else 0.0


def start(run: Run, attached: Attached) -> Engine:
    """Wrap an attached model and its new optimiser.

    Raises:
        ValueError: the global batch does not divide over the ranks.
    """
    join_process_group()
    import deepspeed

    world = torch.distributed.get_world_size()
    if run.global_batch % (run.micro_batch * world):
        raise ValueError(
            f"global_batch={run.global_batch} does not divide into micro-batches of {run.micro_batch} on {world} ranks"
        )
    wrapped, *_ = deepspeed.initialize(
        model=attached.model,
        optimizer=optim.build(run.optim, list(attached.trainable.values())),
        config=deepspeed_config(run, world),
        dist_init_required=False,
    )
    return Engine(wrapped, attached.trainable, run.zero_stage, run.grad_clip, run.optim.lr)


def deepspeed_config(run: Run, world: int) -> dict[str, Any]:
    """DeepSpeed's dictionary for a Run: fp32, or bf16 over fp32 masters with fp32 gradient accumulation."""
    accumulation = run.global_batch // (run.micro_batch * world)
    content: dict[str, Any] = {
        "train_batch_size": run.global_batch,
        "train_micro_batch_size_per_gpu": run.micro_batch,
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
    return content


def join_process_group() -> None:
    """Join the launcher's process group (RANK, WORLD_SIZE), or form a group of one inside this process."""
    if torch.distributed.is_initialized():
        return
    _quiet_deepspeed()
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group(backend)
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


def _gathered(p: torch.nn.Parameter, zero_stage: int) -> Any:
    if zero_stage < 3:
        return contextlib.nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([p])


def _gathered_gradient(p: torch.nn.Parameter) -> torch.Tensor | None:
    from deepspeed.utils import safe_get_full_grad

    return safe_get_full_grad(p)
