"""Speed and memory of full fine-tuning and LoRA against batch size, at whatever model is at hand (Figure S10).

    python -m replication.benchmark_batch --out analysis/results/pocket [--model PATH] [--ranks 1 4 16] [--json PATH]

Every configuration is a process of its own that trains through this project's loop, all sequences of a batch in one
pass. The configurations of one batch size live at the same time and take turns of a few steps, so that a drift of the
machine meets them all; the value is their fastest turn (whatever else a machine does only slows), `low` and `high`
are the slowest and the fastest. `tokens_per_cpu_s` counts processor time and is blind to other processes.

Memory is the peak of the whole process (VmHWM: weights, gradients, optimiser, activations, and the libraries) with
nothing taken off; `floor_memory_gb` is what the process held before the model was loaded. On a GPU both are
`torch.cuda.max_memory_allocated`, and the floor is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from replication import provenance
from replication.benchmark import Child, Speed
from replication.benchmark_loops import Baton, Plan, run_of
from replication.config import Full, LoRA, Run
from replication.costs import forget_peak
from replication.models import tokenizer_of
from replication.tasks import open_stream
from replication.train import Progress, train

MODEL = "replication/pocket/base"
RANKS = (1, 4, 16)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
WARM = 2  # steps: the first allocates, the second meets the allocator's reserve
TURN = 16  # sequences at least; below that a turn takes less than a clock can tell apart from noise


@dataclass(frozen=True)
class Config:
    """One point of the figure: an arm ("full", "r16") at a batch of `plan.batch` sequences of `plan.seq_len`."""

    model: str
    rank: int | None
    plan: Plan

    @property
    def arm(self) -> str:
        """Label of the arm."""
        return "full" if self.rank is None else f"r{self.rank}"

    @property
    def memory(self) -> Path:
        """Where the process leaves its memory: bytes before the model was loaded, and the peak."""
        return Path(self.plan.folder) / f"memory-{self.arm}-{self.plan.batch}.json"

    def run(self) -> Run:
        """What is trained: LoRA on all linears with alpha twice the rank, without dropout, as at the pocket scale."""
        method = Full() if self.rank is None else LoRA(self.rank, alpha=2 * self.rank, dropout=0.0)
        plain = run_of(self.plan)
        return replace(plain, model=self.model, method=method, study=f"batch{self.plan.batch}")


@dataclass(frozen=True)
class Row:
    """One measured point: tokens/s (fastest turn, `low` to `high` over turns) and memory in GB (1e9 bytes)."""

    arm: str
    rank: int | None
    batch: int
    seq_len: int
    tokens_per_s: float
    low: float
    high: float
    tokens_per_cpu_s: float
    peak_memory_gb: float
    floor_memory_gb: float
    hardware: str
    repeats: int


def configs(
    model: str, ranks: Sequence[int], batches: Sequence[int], folder: str, *, seq_len: int, rounds: int, threads: int
) -> list[list[Config]]:
    """One group of configurations per batch size, smallest batch first."""
    groups = []
    for batch in batches:
        plan = Plan(
            loop="ours", folder=folder, data="cpt", threads=threads, seed=0, warm=WARM,
            segment=max(1, TURN // batch), rounds=rounds, batch=batch, seq_len=seq_len,
        )  # fmt: skip
        groups.append([Config(model, rank, plan) for rank in (None, *ranks)])
    return groups


def measure(group: Sequence[Config], hardware: str) -> list[Row]:
    """Run the configurations of one batch size in turns."""
    with ExitStack() as stack:
        children = []
        for config in group:
            children.append(_start(config))
            stack.callback(children[-1].close)
        for child in children:
            child.ready()
        speeds: list[list[Speed]] = [[] for _ in group]
        for _ in range(group[0].plan.rounds):
            for child, found in zip(children, speeds, strict=True):
                child.turn()
                found.append(child.report())
    return [row_of(config, found, hardware) for config, found in zip(group, speeds, strict=True)]


def row_of(config: Config, speeds: Sequence[Speed], hardware: str) -> Row:
    """The row of one configuration from its turns and the memory that its process wrote down."""
    wall = [speed.wall for speed in speeds]
    memory = json.loads(config.memory.read_text())
    return Row(
        arm=config.arm, rank=config.rank, batch=config.plan.batch, seq_len=config.plan.seq_len,
        tokens_per_s=max(wall), low=min(wall), high=max(wall),
        tokens_per_cpu_s=max(speed.processor for speed in speeds),
        peak_memory_gb=memory["peak"] / 1e9, floor_memory_gb=memory["floor"] / 1e9,
        hardware=hardware, repeats=len(speeds),
    )  # fmt: skip


def peak_memory() -> int:
    """Most bytes this process has held so far: on the GPU if there is one, else resident in memory.

    Raises:
        RuntimeError: the system does not say.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("peak memory is read from /proc/self/status, which this system does not have; run on Linux")


def child(config: Config) -> None:
    """Train one configuration in turns that the parent gives, and leave its memory beside the run."""
    torch.set_num_threads(config.plan.threads)
    run, root = config.run(), Path(config.plan.folder)
    stream = open_stream(run, tokenizer_of(run), cache=root / "cache")
    counts = [stream.real_tokens(step, run.global_batch) for step in range(config.plan.steps)]
    forget_peak()  # as training will
    floor, baton = peak_memory(), Baton(config.plan)

    def watch(progress: Progress) -> None:
        if progress.step == config.plan.steps:
            config.memory.write_text(json.dumps({"floor": floor, "peak": peak_memory()}))
        baton.step(counts[progress.step - 1])

    train(run, root, watch=watch)


def _start(config: Config) -> Child:
    threads = str(config.plan.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(provenance.ROOT), os.environ.get("PYTHONPATH", "")])
    log = Path(config.plan.folder) / f"{config.arm}-{config.plan.batch}.log"
    command = [sys.executable, "-m", "replication.benchmark_batch", "--child", json.dumps(asdict(config))]
    pipe = subprocess.PIPE
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, text=True, env=environment)
    return Child(config.plan, process, log)


def _hardware(threads: int) -> str:
    found = provenance.hardware()
    gpus = found["gpus"]
    assert isinstance(gpus, list)
    return ", ".join(map(str, gpus)) if gpus else f"{found['cpu']}, {threads} thread{'s' * (threads > 1)}"


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned lines."""
    lines = [f"{'batch':>6} {'arm':>5} {'tokens/s':>9} {'(range)':>16} {'per CPU s':>10} {'peak GB':>8}"]
    for r in rows:
        spread = f"({r.low:,.0f} to {r.high:,.0f})"
        lines.append(
            f"{r.batch:>6} {r.arm:>5} {r.tokens_per_s:>9,.0f} {spread:>16} {r.tokens_per_cpu_s:>10,.0f} "
            f"{r.peak_memory_gb:>8.3f}"
        )
    return "\n".join(lines)


def progress(done: int, total: int, seconds: float) -> str:
    """A bar and the time left; done and total in sequences trained, which is what the time goes by."""
    filled = round(20 * done / total)
    left = f"{seconds * (total - done) / done:.0f} s left" if done else "time left unknown"
    return f"[{'#' * filled}{'.' * (20 - filled)}] {done / total:4.0%}  {left}"


def main(arguments: list[str] | None = None) -> None:
    """Measure all configurations, print the table and write `throughput.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="folder or name of the model")
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS), help="of the LoRA arms beside full")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="sequences a step")
    parser.add_argument("--seq-len", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each configuration")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--out", type=Path, help="folder for throughput.jsonl, as analysis/results/pocket")
    parser.add_argument("--json", type=Path, help="write rows, load, code and packages here")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(Config(**options.child | {"plan": Plan(**options.child["plan"])}))
        return
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > 0.5 * cores:
        print(f"the machine is busy (load {load:.1f} on {cores} cores): trust only processor time", file=sys.stderr)
    rows = measure_all(options)
    print(table(rows))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(asdict(row)) + "\n" for row in rows]
        (options.out / "throughput.jsonl").write_text("".join(lines))
    if options.json:
        content = {"rows": [asdict(row) for row in rows], "load_before": load, "code": provenance.code().label}
        options.json.write_text(json.dumps(content | {"packages": provenance.packages()}, indent=1) + "\n")


def measure_all(options: argparse.Namespace) -> list[Row]:
    """All batch sizes, with a bar on the terminal."""
    hardware, rows, began = _hardware(options.threads), [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batch-") as folder:
        groups = configs(
            options.model, options.ranks, sorted(options.batches), folder,
            seq_len=options.seq_len, rounds=options.rounds, threads=options.threads,
        )  # fmt: skip
        # Starting four processes costs about as much as training this many sequences.
        weight = [100 + group[0].plan.steps * group[0].plan.batch for group in groups]
        for index, group in enumerate(groups):
            rows += measure(group, hardware)
            bar = progress(sum(weight[: index + 1]), sum(weight), time.monotonic() - began)
            print(f"{bar}  batch {group[0].plan.batch} done", file=sys.stderr)
    return rows


if __name__ == "__main__":
    main()
