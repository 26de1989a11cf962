"""The ladder of checkpoints: where they fall, how they are saved, checked and continued from.

A checkpoint is a folder that appears whole or not at all:

    step_000193/   adapter_model.safetensors + adapter_config.json, or model.safetensors + config.json
                   meta.json   step and tokens
                   resume/     masters and optimiser state (state.py); only while something may continue from here

Weights are written as the masters are: in fp32, also where training computed in bf16. A change of 1e-5 is lost in a
bf16 file, and what is measured on such a file is the rounding (pitfall 23). A checkpoint that only a resume needs has
no weights beside its state: it is on disk in seconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from replication.config import Run
from replication.engine import Engine
from replication.models import naming_damage
from replication.runs import RunDir, read_json, retrain, write_json

NEARLY_FULL = 1 << 20  # bytes free after a write that failed


@dataclass(frozen=True)
class Meta:
    """Where in training a checkpoint stands. `tokens` counts positions as the paper does, padding included.

    `seconds` is the time in the loop that led here, a killed process's lost steps left out.
    """

    step: int
    tokens: int
    real_tokens: int
    supervised_tokens: int
    loss: float
    seconds: float = 0.0


def ladder(run: Run, *, sequences_per_epoch: int) -> dict[int, bool]:
    """Steps at which weights are kept, the last among them; True where a branch may continue from there."""
    total = run.steps(run.budget.amount, sequences_per_epoch=sequences_per_epoch)
    rungs = {run.steps(amount, sequences_per_epoch=sequences_per_epoch): run.is_trunk for amount in run.ladder}
    beyond = [step for step in rungs if step > total]
    if beyond:
        raise ValueError(f"ladder step {beyond[0]} lies beyond the run's {total} steps; shorten the ladder of the Run")
    return {total: False} | rungs


def save(folder: RunDir, engine: Engine, meta: Meta, *, weights: bool, resumable: bool) -> Path:
    """Write a checkpoint and read it back; it appears under its name only when whole. Every rank calls this."""
    path = folder.checkpoint(meta.step)
    partial = path.with_name(path.name + ".partial")
    first = torch.distributed.get_rank() == 0
    with _naming_full_disk(partial):
        if first:
            shutil.rmtree(partial, ignore_errors=True)
            (partial / "resume").mkdir(parents=True)
        torch.distributed.barrier()
        if resumable:
            engine.save(partial / "resume")
        if weights:
            _export(partial, engine, first=first)
        torch.distributed.barrier()
        if first:
            if not resumable:
                (partial / "resume").rmdir()
            write_json(partial / "meta.json", asdict(meta))
    if first:
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    torch.distributed.barrier()
    return path


def _export(partial: Path, engine: Engine, *, first: bool) -> None:
    """Gather the trained weights, one after the other; the first rank keeps, writes and reads them back."""
    gathered: dict[str, torch.Tensor] = {}
    for name, value in engine.weights():
        if first:
            gathered[name] = value.to("cpu", copy=True)
    if first:
        buffers = _persistent_buffers(engine.model)
        engine.model.save_pretrained(str(partial), state_dict=gathered | buffers)  # type: ignore[operator]
        # PEFT adds a model card full of placeholders.
        (partial / "README.md").unlink(missing_ok=True)
        check(partial, gathered)


def _persistent_buffers(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a model stores beside its parameters."""
    # PEFT asks for a buffer that many modules share by another of its names than the first.
    names = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    return {name: value for name, value in model.state_dict().items() if name in names}


@contextlib.contextmanager
def _naming_full_disk(partial: Path) -> Iterator[None]:
    """Turn torch's and safetensors' own errors on a full disk into the system's; what was half-written makes room.

    Raises:
        OSError: errno 28, in place of "inline_container.cc: unexpected pos".
    """
    try:
        yield
    except (RuntimeError, SafetensorError, OSError) as error:
        full = "os error 28" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
        full |= partial.is_dir() and shutil.disk_usage(partial).free < NEARLY_FULL
        shutil.rmtree(partial, ignore_errors=True)
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial.parent)) from error
        raise


def check(path: Path, live: Mapping[str, torch.Tensor]) -> None:
    """Read a checkpoint's weights back: none empty, none missing, equal to what is in memory.

    ZeRO-3 with LoRA has a history of saving empty adapters after a training that looked fine (pitfall 5).

    Raises:
        RuntimeError: what differs.
    """
    missing = {_stored_name(name): value for name, value in live.items()}
    for key, stored in stored_weights(path):
        value = missing.pop(key, None)
        if value is not None and (stored.numel() == 0 or not torch.equal(stored, value)):
            raise RuntimeError(f"checkpoint {path} holds another value of {key} than training does")
    if missing:
        raise RuntimeError(f"checkpoint {path} lacks {min(missing)}")


def _stored_name(name: str) -> str:
    """The name that PEFT stores a live tensor under: without that of the adapter, and of what wraps a new head."""
    plain = name.replace(".modules_to_save.default.", ".").replace(".default.", ".")
    return plain.removesuffix(".default")


def stored_weights(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of every tensor of a checkpoint folder, one in memory at a time.

    Raises:
        FileNotFoundError: the folder holds no weights.
        RuntimeError: a file is damaged; the message says how to mend it.
    """
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{path} holds no weights (*.safetensors); {retrain(path)}")
    for file in files:
        with naming_damage(path, mend=retrain(path)), safe_open(file, framework="pt") as content:
            yield from ((key, content.get_tensor(key)) for key in content.keys())  # noqa: SIM118


def read_meta(path: Path) -> Meta:
    """Where in training a checkpoint stands."""
    return Meta(**read_json(path / "meta.json"))


def latest_resumable(folder: RunDir) -> Path | None:
    """The furthest checkpoint that training can go on from."""
    ready = [p for p in folder.checkpoints() if (p / "resume").is_dir()]
    return ready[-1] if ready else None


def drop_passed(folder: RunDir, keep: dict[int, bool], step: int) -> None:
    """Drop the checkpoints before `step` that only a resume needed: one at a time is enough."""
    for path in folder.checkpoints():
        passed = int(path.name.removeprefix("step_"))
        if passed not in keep and passed < step:
            shutil.rmtree(path)


def thin(folder: RunDir, keep: dict[int, bool]) -> None:
    """Drop checkpoints that are off the ladder, and training state that nothing will continue from."""
    drop_passed(folder, keep, max(keep) + 1)
    for step, resumable in keep.items():
        if not resumable:
            shutil.rmtree(folder.checkpoint(step) / "resume", ignore_errors=True)
