"""The run directory: one folder per run, a manifest that is never half-written, and the lock on both.

    runs/<scale>/<study>/<name>/
      manifest.json   status, the whole Run, digest, code, packages, hardware, times, error; replaced atomically
      code.diff       only where the code differed from the commit
      metrics.jsonl   one line per logged step
      checkpoints/step_000193/    weights (safetensors), meta.json, resume/ where training can go on from
      evals/step_000193/<eval>@<version>/

Same folder and same digest: resume. Same name and another digest: an error, because the name would lie.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication import provenance
from replication.config import Run, encode
from replication.encoding import decode
from replication.preemption import Preempted

STATUSES = ("running", "complete", "preempted", "failed", "oom")


@dataclass(frozen=True)
class RunDir:
    """The folder of one run. Nothing is cached: every question reads the disk."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as written; an empty dict where there is none yet."""
        return read_json(self.path / "manifest.json") if (self.path / "manifest.json").is_file() else {}

    @property
    def status(self) -> str:
        """One of STATUSES, or absent."""
        return str(self.manifest.get("status", "absent"))

    @property
    def run(self) -> Run:
        """The Run that the manifest records."""
        run = decode(self.manifest["run"])
        assert isinstance(run, Run)
        return run

    def checkpoints(self) -> list[Path]:
        """Finished checkpoints, by step."""
        return sorted(p for p in (self.path / "checkpoints").glob("step_*") if p.suffix != ".partial")

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint at `step`."""
        return self.path / "checkpoints" / f"step_{step:06d}"

    def update(self, **changes: object) -> None:
        """Replace the manifest by itself with `changes`."""
        write_json(self.path / "manifest.json", self.manifest | changes)


def folder_of(run: Run, root: Path) -> RunDir:
    """Where a run lives under `root`; nothing is created."""
    return RunDir(root / run.scale / run.name())


def open_run(run: Run, root: Path) -> RunDir:
    """Create the folder of a run, or return it for resuming.

    Raises:
        ValueError: the folder holds a run of the same name with another configuration.
    """
    folder = folder_of(run, root)
    known = folder.manifest
    if known and known["digest"] != run.digest():
        changed = ", ".join(_differences(known["run"], encode(run)))
        raise ValueError(
            f"{folder.path} holds a run of this name with another configuration (digest {known['digest']}, now "
            f"{run.digest()}; changed: {changed}); remove that folder or restore the old value"
        )
    if not known:
        folder.path.mkdir(parents=True, exist_ok=True)
        _write_first_manifest(folder, run)
    elif known["status"] != "complete":
        _note_code(folder, known)
    return folder


def find_runs(root: Path, *, scale: str, study: str | None = None) -> list[RunDir]:
    """All run folders of a scale that have a manifest, by name; scratch runs are not among them."""
    found = sorted((root / scale).glob(f"{study or '*'}/*/manifest.json"))
    return [RunDir(path.parent) for path in found]


def is_adapter(checkpoint: Path) -> bool:
    """Whether a checkpoint folder holds a PEFT adapter, not a whole model."""
    return (checkpoint / "adapter_config.json").is_file()


def retrain(checkpoint: Path) -> str:
    """What to do about a finished run whose checkpoint is damaged or gone."""
    return f"remove the run's folder {checkpoint.parent.parent} and run it again"


@contextlib.contextmanager
def locked(folder: RunDir, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder for this process; a second process is told so at once, or waits.

    The lock dies with its process, so a killed run never blocks its own continuation.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / ".lock").open("w") as handle:
        for left in (3, 2, 1, 0):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if not left:
                    told = f"{folder.path} is in use by another process; wait for it or stop it"
                    raise RuntimeError(told) from None
                time.sleep(0.05)  # `status` looks for a moment whether anybody holds it
        yield


@contextlib.contextmanager
def recorded(folder: RunDir) -> Iterator[None]:
    """Record how the body ends: `complete`, or the error, which is raised again."""
    folder.update(status="running", error=None)
    try:
        yield
    except Preempted:
        folder.update(status="preempted")
        raise
    except BaseException as error:
        status = "oom" if "out of memory" in str(error).lower() else "failed"
        # A full disk must not hide the error that it caused.
        with contextlib.suppress(OSError):
            folder.update(status=status, error=f"{type(error).__name__}: {error}")
        raise
    folder.update(status="complete", finished=now())


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` only if the body succeeds."""
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(path, ignore_errors=True)
    os.replace(partial, path)


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line, flushed to the kernel, so that a killed process loses at most the line it is writing."""
    with path.open("a") as handle:
        handle.write(json.dumps(row) + "\n")


def drop_lines_after(path: Path, step: int) -> None:
    """Forget metrics past `step`, and a half-written last line: the resumed run writes them again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            if json.loads(line)["step"] <= step:
                kept.append(line)
    _write_text(path, "".join(line + "\n" for line in kept))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file; a damaged one is an error that names it."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); remove its folder to start over") from None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a JSON file atomically."""
    _write_text(path, json.dumps(value, indent=1) + "\n")


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _write_first_manifest(folder: RunDir, run: Run) -> None:
    code = provenance.code()
    if code.diff:
        _write_text(folder.path / "code.diff", code.diff)
    write_json(
        folder.path / "manifest.json",
        {
            "status": "running",
            "name": run.name(),
            "digest": run.digest(),
            "git_sha": code.sha,
            "dirty": code.dirty,
            "code": code.label,
            "started": now(),
            "seconds": 0.0,
            "error": None,
            "packages": provenance.packages(),
            "hardware": provenance.hardware(),
            "run": encode(run),
        },
    )


def _note_code(folder: RunDir, known: dict[str, Any]) -> None:
    """A run that goes on under other code names both, and is dirty if either was."""
    code = provenance.code()
    if code.label not in known["code"].split(", "):
        folder.update(code=f"{known['code']}, {code.label}", dirty=known["dirty"] or code.dirty)


def _write_text(path: Path, text: str) -> None:
    # A name of this process's own: two that write the same file at once must not take each other's part away.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, path)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    changed: list[str] = []
    for key in sorted({*old, *new} - {"evals"}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            changed.append(f"{prefix}{key} {a!r} -> {b!r}")
    return changed
