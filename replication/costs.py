"""What a run costs, and the proof that it trained: the time of a step, the peak of memory, gradients, moved weights.

A figure of speed without the proof is worth nothing: a run that trains nothing is the fastest.
"""

from __future__ import annotations

import statistics
import sys
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
    """Seconds of every step (forward, backward, update), and the norms of the last look at the gradients."""

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
        peak = peak_gb()
        return {
            "step_seconds": round(statistics.median(timed), 6),
            "gradient_norms": self.gradient_norms,
            "moved": sum(after[name] != value for name, value in before.items()),
            "tensors": len(before),
        } | ({} if peak is None else {"peak_memory_gb": round(peak, 4)})


def forget_peak() -> None:
    """Begin a new peak of memory: a worker process trains many runs."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        _CLEAR.write_text("5")


def peak_gb() -> float | None:
    """Peak since `forget_peak` in GB (1e9 bytes): allocated on the GPU, else resident, libraries and all.

    None where neither can be measured.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform != "linux":
        return None
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e9
