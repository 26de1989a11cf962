"""What a run costs, and the proof that it trained: the time of a step, the peak of memory, gradients, moved weights.

A figure of speed without the proof is worth nothing: a run that trains nothing is the fastest.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

# Steps that are left out of the median: allocators, caches and compilers settle in them.
WARM = 3
# Linux: writing 5 there sets a process's peak of resident memory to what it holds now.
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Costs:
    """Seconds of every step (forward, backward, update), and the norms of the last look at the gradients.

    `floor_gb` is what the process held before the run, None where memory cannot be measured.
    """

    floor_gb: float | None = None
    step_seconds: list[float] = field(default_factory=list)
    gradient_norms: dict[str, float] = field(default_factory=dict)

    def record(
        self, before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]
    ) -> dict[str, object]:
        """What the manifest keeps: cost and proof; what could not be measured is left out.

        Args:
            before: fingerprints of the trained tensors where this process began; after: now.
        """
        timed = self.step_seconds[WARM:] or self.step_seconds
        return {
            "step_seconds": round(statistics.median(timed), 6),
            "gradient_norms": self.gradient_norms,
            "moved": sum(after[name] != value for name, value in before.items()),
            "tensors": len(before),
        } | ({} if self.floor_gb is None else {"peak_memory_gb": round(peak_gb() - self.floor_gb, 4)})


def forget_peak() -> float | None:
    """Begin a new peak of memory, and return what the process holds now in GB (1e9 bytes).

    A worker process trains many runs: what earlier ones and the libraries left is no cost of the next. None where no
    peak can be measured, as in a container without a writable /proc.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e9
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what was freed
        _CLEAR.write_text("5")
        return _resident("VmRSS")
    except (OSError, AttributeError):
        return None


def peak_gb() -> float:
    """Peak since `forget_peak` in GB: allocated on the GPU, else resident, libraries and all."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else _resident("VmHWM")


def _resident(field: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e9
