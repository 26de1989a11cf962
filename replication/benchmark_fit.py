"""How large a batch fits into a memory: full fine-tuning and LoRA, of whatever runs are at hand.

    python -m replication.benchmark_fit RUN RUN ... --batches 64 256 512 --memory 1 --out whisper_fit.jsonl

RUN is the folder of a run, of any task. Its configuration is trained for a few steps at every batch size, each in a
process of its own and in one pass, and the peak of its memory is read; a straight line through the peaks,

    peak = fixed + per item x batch,

gives the largest batch within the memory; take batches that come near it, a line far beyond its marks is a guess. Fixed
are weights, gradients and optimiser; per item are the activations. On a GPU memory is what torch allocated, else the
resident memory of the process beyond what it held before the run (`costs.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from replication import provenance
from replication.config import Budget, Run
from replication.runs import RunDir

STEPS = 4  # the second meets the optimiser's state, the others the allocator's reserve


@dataclass(frozen=True)
class Row:
    """The largest batch of a method within `memory_gb` (1e9 bytes), from its peaks at some batch sizes.

    `arm` is the method's name and, where there is one, what else sets the run apart ("lora-r8-all int8").
    """

    arm: str
    memory_gb: float
    largest_batch: int
    fixed_gb: float
    per_item_gb: float
    batches: tuple[int, ...]
    peaks_gb: tuple[float, ...]
    hardware: str


def largest(batches: Sequence[int], peaks: Sequence[float], memory: float) -> tuple[int, float, float]:
    """The largest batch on the line through the peaks, and the line: fixed and per item, in the unit of the peaks.

    Raises:
        ValueError: there is no line, or it does not rise.
    """
    if len(set(batches)) < 2:
        raise ValueError(f"batches {list(batches)}: a line takes two different ones")
    slope, fixed = (float(value) for value in np.polyfit(batches, peaks, 1))
    if slope <= 0:
        raise ValueError(f"peaks {list(peaks)} do not rise with the batch {list(batches)}; take larger ones")
    return max(0, math.floor((memory - fixed) / slope)), fixed, slope


def at_batch(run: Run, batch: int) -> Run:
    """The run at another batch, in one pass, for a few steps."""
    return replace(
        run, scale="fit", study=f"batch{batch}", global_batch=batch, micro_batch=batch, budget=Budget(STEPS, "steps"),
        ladder=(), branch=None, evals=(),
    )  # fmt: skip


def peak(folder: Path, batch: int, root: Path) -> float:
    """Peak memory in GB of a run at a batch, trained in a new process.

    Raises:
        RuntimeError: the process failed; ends with its last words.
    """
    command = [sys.executable, "-m", "replication.benchmark_fit", str(folder), "--child", str(batch)]
    found = os.environ | {"PYTHONPATH": os.pathsep.join([str(provenance.ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, "--root", str(root)], capture_output=True, text=True, env=found, check=False)
    if done.returncode:
        raise RuntimeError(f"{folder} at a batch of {batch} failed: {done.stderr[-600:]}")
    return float(done.stdout.splitlines()[-1])


def measure(folder: Path, batches: Sequence[int], memory: float) -> Row:
    """The row of one run."""
    hardware = provenance.hardware()
    gpus = hardware["gpus"]
    assert isinstance(gpus, list)
    with tempfile.TemporaryDirectory(prefix="fit-") as root:
        peaks = [peak(folder, batch, Path(root)) for batch in batches]
    found, fixed, slope = largest(batches, peaks, memory)
    return Row(
        arm=_arm(RunDir(folder).run), memory_gb=memory, largest_batch=found, fixed_gb=round(fixed, 4),
        per_item_gb=slope, batches=tuple(batches), peaks_gb=tuple(peaks),
        hardware=", ".join(map(str, gpus)) or str(hardware["cpu"]),
    )  # fmt: skip


def _arm(run: Run) -> str:
    return f"{run.method.label()} int8" if run.base_bits == 8 else run.method.label()


def child(folder: Path, batch: int, root: Path) -> float:
    """Train in this process and return the peak that the loop noted.

    Raises:
        RuntimeError: this system does not say what memory a process held.
    """
    run = at_batch(RunDir(folder).run, batch)
    from replication.train import train  # torch is not needed to start children

    found = train(run, root).manifest.get("peak_memory_gb")
    if found is None:
        raise RuntimeError("peak memory is not known on this system; run on Linux or with a GPU")
    return float(found)


def main(arguments: list[str] | None = None) -> None:
    """Measure every run, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, one per arm")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 512], help="two sizes or more")
    parser.add_argument("--memory", type=float, default=1.0, help="GB (1e9 bytes) to fit into")
    parser.add_argument("--out", type=Path, help="file for the rows, as analysis/results/pocket/whisper_fit.jsonl")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(child(options.runs[0], options.child, options.root))
        return
    rows: list[Row] = []
    for folder in options.runs:
        rows.append(measure(folder, options.batches, options.memory))
        if options.out:  # what is measured is kept, whatever becomes of the next
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
        peaks = ", ".join(f"{b}: {p:.3f}" for b, p in zip(rows[-1].batches, rows[-1].peaks_gb, strict=True))
        print(f"{rows[-1].arm:<28} largest batch {rows[-1].largest_batch:>6}   peak GB by batch {peaks}", flush=True)


if __name__ == "__main__":
    main()
