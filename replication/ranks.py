"""Which process of a launch this is: by torchrun's variables, else by Slurm's, else the only one.

Slurm's count only inside a job step (`srun`), which sets SLURM_PROCID for each task; the batch script itself is
task 0 of a step that nobody joins.
"""

from __future__ import annotations

import os


def rank() -> int:
    """Index of this process among all, 0 for the first."""
    return _read("RANK", "SLURM_PROCID", 0)


def world() -> int:
    """Number of processes in all."""
    return _read("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", 1)


def local_rank() -> int:
    """Index of this process on its machine: which GPU is its own."""
    return _read("LOCAL_RANK", "SLURM_LOCALID", 0)


def _read(launcher: str, slurm: str, alone: int) -> int:
    if "RANK" in os.environ:
        return int(os.environ[launcher])
    stepped = "SLURM_STEP_ID" in os.environ and "SLURM_STEP_NUM_TASKS" in os.environ
    return int(os.environ[slurm]) if stepped else alone
