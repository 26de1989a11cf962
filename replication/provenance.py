"""Which code, packages and machine made a number.

A run is `dirty` where the code that decides its weights and scores differs from the commit it names; the
difference is then kept beside it as `code.diff`. Tracked results and figures do not count as code.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_CODE = ("replication", "experiments/*.py", "pyproject.toml", "constraints.txt")
# Files of a tokenizer that are not JSON.
_TOKENIZERS = ("tokenizer.model", "merges.txt", "vocab.txt", "chat_template.jinja")
_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "datasets", "numpy", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Code:
    """The commit, and what differs from it. Without git the sha is "unknown" and the code counts as dirty."""

    sha: str
    diff: str

    @property
    def dirty(self) -> bool:
        """Whether the commit alone does not tell the code."""
        return bool(self.diff) or self.sha == "unknown"

    @property
    def label(self) -> str:
        """Twelve digits of the commit, with "+dirty" where that is not all."""
        return self.sha[:12] + ("+dirty" if self.dirty else "")


@functools.cache
def code() -> Code:
    """The state of the repository this package runs from, read once per process."""
    sha = _git("rev-parse", "HEAD")
    if sha is None:
        return Code("unknown", "")
    tracked = _git("diff", "HEAD", "--", *_CODE) or ""
    new = _git("ls-files", "--others", "--exclude-standard", "--", *_CODE) or ""
    return Code(sha.strip(), tracked + "".join(f"new file: {name}\n" for name in new.splitlines()))


@functools.cache
def packages() -> dict[str, str]:
    """Installed version of each package that can change a number."""
    return {name: metadata.version(name) for name in _PACKAGES}


@functools.cache
def hardware() -> dict[str, object]:
    """Processor, cores and, where torch sees one, the GPU."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "python": platform.python_version(),
    }


def fingerprint(folder: Path) -> str:
    """Twelve hex digits over the weights, configuration and tokenizer files of a local model folder."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".json") or p.name in _TOKENIZERS]
    if not files:
        raise FileNotFoundError(f"{folder} holds no model files (*.safetensors, *.json)")
    states = [(path, path.stat()) for path in files]
    return _fingerprint(tuple((path, state.st_size, state.st_mtime_ns) for path, state in states))


@functools.lru_cache(maxsize=256)
def _fingerprint(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Of files by path, size and time of change: those of a 7B model take half a minute to read."""
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()[:12]


def resolve(where: str) -> Path | None:
    """A relative path against the working directory, then against the repository; None if neither exists."""
    for base in (Path.cwd(), ROOT):
        if (base / where).exists():
            return base / where
    return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
