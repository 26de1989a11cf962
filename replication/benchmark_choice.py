"""Choice benchmarks against lm-evaluation-harness: the same scores, in how much of its time and memory.

HellaSwag, ARC-Challenge and WinoGrande are scored by lm-eval's `hf` backend with its own task files, and by ours with
the profile that follows them. Each side runs in a process of its own, in turns, on the same number of threads; loading
of libraries and model is not timed (lm-eval's search through its task files neither), reading the data, tokenising and
scoring are. Peak memory is that of the whole process.

    python -m replication.benchmark_choice --data FOLDER --model FOLDER

FOLDER of the data has a folder for each benchmark, in the hub's columns, or that in a `hub_schema` folder. Needs
lm-eval 0.4.13 (a development dependency). Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

Side = Literal["ours", "lm_eval"]
Seconds = tuple[float, float]  # by the clock, of the processor
TASKS = {"hellaswag": "validation", "arc_challenge": "test", "winogrande": "validation"}
_FILES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "winogrande": "winogrande/default.yaml",
}


def choice_speed(
    data: Path, model: Path, *, turns: int = 1, threads: int = 1, batch_size: str = "64"
) -> dict[str, Any]:
    """Seconds and peak memory of both sides, their ratios, and the largest difference of what they found.

    Args:
        batch_size: lm-eval's; ours is fixed by positions.
    """
    sides: tuple[Side, ...] = ("ours", "lm_eval")
    runs: dict[Side, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(turns):
        for side in sides:
            runs[side].append(in_process(side, data, model, threads=threads, batch_size=batch_size))
    seconds = {side: [run["seconds"] for run in runs[side]] for side in sides}
    memory = {side: max(run["peak_mib"] for run in runs[side]) for side in sides}
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["lm_eval"], strict=True)]
    return {
        "seconds": seconds,
        "cpu_seconds": {side: [run["cpu_seconds"] for run in runs[side]] for side in sides},
        "times_faster": statistics.median(ratios),
        "peak_mib": memory,
        "memory_ratio": memory["ours"] / memory["lm_eval"],
        "turns": turns,
        "threads": threads,
        "lm_eval_batch_size": batch_size,
        **agreement(runs["ours"][0]["tasks"], runs["lm_eval"][0]["tasks"]),
    }


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Items, both accuracies by task and metric, and the largest difference between two log-likelihoods."""
    differences = {}
    for task in ours:
        pairs = zip(ours[task]["loglikelihoods"], theirs[task]["loglikelihoods"], strict=True)
        differences[task] = max(abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True))
    return {
        "items": {task: len(ours[task]["loglikelihoods"]) for task in ours},
        "scores": {
            task: {
                metric: {"ours": ours[task][metric], "lm_eval": theirs[task][metric]}
                for metric in ("acc", "acc_norm")
                if metric in theirs[task]
            }
            for task in ours
        },
        "largest_difference": differences,
    }


def in_process(side: Side, data: Path, model: Path, *, threads: int = 1, batch_size: str = "64") -> dict[str, Any]:
    """What one side found, its seconds and its peak memory, from a fresh process."""
    command = [sys.executable, "-m", "replication.benchmark_choice", "--side", side, "--data", str(data)]
    command += ["--model", str(model), "--threads", str(threads), "--batch-size", batch_size]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = os.environ | offline | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{side} ended with {done.returncode}; its errors are above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def data_file(data: Path, task: str, split: str) -> Path | None:
    """The file of a split of a benchmark; None where it is not there."""
    folders = (data / task / "hub_schema", data / task)
    files = [path for folder in folders for path in sorted(folder.glob(f"{split}*")) if path.is_file()]
    return files[0] if files else None


# ---------------------------------------------------------------- one side, in its own process


def _ours(data: Path, model: Path) -> tuple[dict[str, Any], Seconds]:
    import datasets  # noqa: F401  (its import is not timed)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from replication.evals import evaluate
    from replication.evals.generate import TransformersGenerator
    from replication.suite import benchmarks

    files = {task: str(_needed(data, task)) for task in TASKS}
    specs = benchmarks("lm_eval", files)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    generator = TransformersGenerator(network, AutoTokenizer.from_pretrained(model))
    started, found = _now(), {}
    for task in TASKS:
        result = evaluate(specs[task], generator, 0)
        scores = {metric.name: metric.value for metric in result.metrics}
        found[task] = scores | {"loglikelihoods": [sample["logprobs"] for sample in result.samples]}
    return found, _since(started)


def _lm_eval(data: Path, model: Path, batch_size: str) -> tuple[dict[str, Any], Seconds]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    backend = HFLM(
        pretrained=str(model),
        device="cpu",
        dtype="float32",
        batch_size=int(batch_size) if batch_size.isdigit() else batch_size,
    )
    with tempfile.TemporaryDirectory() as folder:
        files = [str(lm_eval_task(data, task, Path(folder))) for task in TASKS]
        manager = TaskManager(include_defaults=False)
        started = _now()
        ran = lm_eval.simple_evaluate(model=backend, tasks=files, task_manager=manager, bootstrap_iters=0)
        seconds = _since(started)
    found = {}
    for task in TASKS:
        scores = {name.split(",")[0]: value for name, value in ran["results"][task].items() if name.endswith(",none")}
        samples = sorted(ran["samples"][task], key=lambda sample: sample["doc_id"])
        found[task] = scores | {"loglikelihoods": [[r[0][0] for r in sample["resps"]] for sample in samples]}
    return found, seconds


def lm_eval_task(data: Path, task: str, folder: Path) -> Path:
    """A task file that is lm-eval's own but for its data, which are local.

    Where there is no training file, lm-eval would take worked examples from the benchmark itself.
    """
    files = {TASKS[task]: str(_needed(data, task))}
    training = data_file(data, task, "train")
    files |= {"train": str(training)} if training else {}
    config = {
        "include": str(resources.files("lm_eval") / "tasks" / _FILES[task]),
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        "training_split": "train" if training else None,
        "validation_split": None,
        f"{TASKS[task]}_split": TASKS[task],
    }
    path = folder / f"{task}.yaml"
    path.write_text(json.dumps(config))  # which is YAML
    return path


def _needed(data: Path, task: str) -> Path:
    found = data_file(data, task, TASKS[task])
    if found is None:
        raise FileNotFoundError(f"no {TASKS[task]} file in {data / task} or its hub_schema folder")
    return found


def _side(side: Side, data: Path, model: Path, *, threads: int, batch_size: str) -> dict[str, Any]:
    import torch

    torch.set_num_threads(threads)
    found, seconds = _ours(data, model) if side == "ours" else _lm_eval(data, model, batch_size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tasks": found, "seconds": seconds[0], "cpu_seconds": seconds[1], "peak_mib": peak}


def _now() -> Seconds:
    return time.perf_counter(), time.process_time()


def _since(started: Seconds) -> Seconds:
    wall, cpu = _now()
    return wall - started[0], cpu - started[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the comparison, as a few lines or as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder with a folder for each benchmark")
    parser.add_argument("--model", type=Path, required=True, help="a model in transformers' format")
    parser.add_argument("--turns", type=int, default=1, help="how often each side runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", default="64", help="lm-eval's: a number or auto")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=("ours", "lm_eval"), help="run this side only and print what it found")
    given = parser.parse_args(argv)
    if given.side:
        side = _side(given.side, given.data, given.model, threads=given.threads, batch_size=given.batch_size)
        print(json.dumps(side))
        return
    found = choice_speed(given.data, given.model, turns=given.turns, threads=given.threads, batch_size=given.batch_size)
    print(json.dumps(found, indent=2) if given.json else table(found))


def table(found: dict[str, Any]) -> str:
    """The comparison in a few lines."""
    lines = [f"{'':14}{'items':>7}{'acc ours':>12}{'lm-eval':>12}{'norm ours':>12}{'lm-eval':>12}{'largest diff':>14}"]
    for task, items in found["items"].items():
        scores = [
            found["scores"][task].get(m, {}).get(side) for m in ("acc", "acc_norm") for side in ("ours", "lm_eval")
        ]
        shown = "".join(f"{'-' if score is None else format(score, '.6f'):>12}" for score in scores)
        lines.append(f"{task:14}{items:7}{shown}{found['largest_difference'][task]:14.1e}")
    for side, seconds in found["seconds"].items():
        listed = ", ".join(f"{s:.1f}" for s in seconds)
        cpu = ", ".join(f"{s:.1f}" for s in found["cpu_seconds"][side])
        lines.append(f"{side:14}{listed} s (processor {cpu} s), peak {found['peak_mib'][side]:.0f} MiB")
    lines.append(f"{found['times_faster']:.2f} times as fast, {found['memory_ratio']:.2f} of the memory")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
