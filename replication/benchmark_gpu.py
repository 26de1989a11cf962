"""What the fast paths are worth on a GPU, and what they cost in accuracy.

    python -m replication.benchmark_gpu [--json [PATH]] [--peak TFLOPS]

A model of Qwen2.5-0.5B's shape with random weights trains on packed rows, full and by LoRA, under each of

    plain              masked sdpa, reference kernels
    varlen             attention document by document
    fused              liger-kernel's modules and the loss without logits
    fused+varlen       both
    liger, cut         liger-kernel's modules alone, the loss without logits alone
    compile            torch.compile of every block; cut+compile: with the loss without logits

through the pieces of the training loop (`train.accumulate`, `Engine.step`), so that what is timed is what trains:

    tokens/s           positions a second, median over `rounds`
    peak memory        torch's count of allocated bytes, beside the plan's estimate
    utilisation        6 N tokens/s / the card's dense bf16 peak, N = weights a token is multiplied with; under LoRA
                       4 N + 6 adapters, since frozen weights get no gradient. Attention's own products not counted
    gradient error     per group of parameters, against fp32 with plain kernels; weights are representable in bf16, so
                       the error is of arithmetic alone. A fast path is right if it errs no more than plain bf16 does
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from replication import attention, health, kernels, memory, provenance, shapes
from replication import engine as engines
from replication.benchmark_model import configuration
from replication.config import IFT, Budget, Full, LionW, LoRA, Method, Run, Source, Speed, Trapezoid
from replication.engine import Engine
from replication.gradients import accumulate
from replication.methods import attach
from replication.train import start_engine

Batch = dict[str, torch.Tensor]
Gradients = dict[str, torch.Tensor]

METHODS: dict[str, Method] = {"full": Full(), "lora": LoRA(128, 256, dropout=0.0)}
VARIANTS = {
    "plain": Speed(),
    "varlen": Speed(attention="varlen"),
    "fused": Speed(kernels="fused"),
    "fused+varlen": Speed(kernels="fused", attention="varlen"),
    "liger": Speed(kernels="liger"),
    "cut": Speed(kernels="cut"),
    "compile": Speed(compile=True),
    "cut+compile": Speed(kernels="cut", compile=True),
}
# Dense bf16 peaks in flop/s from NVIDIA's data sheets; the first name found in the device's own counts.
PEAKS = {
    "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12,
    "L4": 121e12, "A10": 125e12, "RTX 4090": 165e12,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One measurement's size: `rows` of `seq_len` tokens a step, `steps` a round; documents of `mean` tokens or so."""

    shape: shapes.Shape
    device: str = "cuda"
    rows: int = 8
    seq_len: int = 2048
    mean: int = 200
    warm: int = 3
    steps: int = 5
    rounds: int = 5
    parity_rows: int = 1


@dataclass(frozen=True)
class Measured:
    """One variant; bytes and shares are None where they cannot be measured, `reason` says why a row is empty."""

    method: str
    variant: str
    tokens_per_s: float | None = None
    peak_bytes: int | None = None
    estimated_bytes: float | None = None
    utilisation: float | None = None
    gradient_error: dict[str, float] | None = None
    reason: str = ""


def measure(plan: Plan, *, methods: list[str], variants: list[str], peak: float | None) -> list[Measured]:
    """Every variant of every method, one after the other in this process."""
    engines.join_process_group()
    rows = []
    for method in methods:
        truth = _gradients(plan, replace(_run(plan, METHODS[method], Speed()), precision="fp32", zero_stage=0))
        for variant in variants:
            rows.append(_measure_one(plan, method, variant, truth, peak))
            print(line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def line(row: Measured) -> str:
    """One variant in words."""
    if row.tokens_per_s is None:
        return f"{row.method:5} {row.variant:13} not measured: {row.reason}"
    parts = [f"{row.tokens_per_s:12,.0f} tokens/s"]
    if row.peak_bytes is not None and row.estimated_bytes is not None:
        parts.append(f"peak {row.peak_bytes / 1e9:.1f} GB (estimate {row.estimated_bytes / 1e9:.1f})")
    if row.utilisation is not None:
        parts.append(f"utilisation {row.utilisation:.1%}")
    if row.gradient_error:
        worst = max(row.gradient_error, key=lambda group: row.gradient_error[group])  # type: ignore[index]
        parts.append(f"gradient error at most {row.gradient_error[worst]:.2%} ({worst})")
    return f"{row.method:5} {row.variant:13} {', '.join(parts)}"


def packed_batch(plan: Plan, rows: int, *, seed: int) -> Batch:
    """Rows of documents of lognormal length; labels on the second half of each, as after a prompt."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(plan.shape.vocab, size=(rows, plan.seq_len))
    positions, labels = np.empty_like(ids), np.full_like(ids, kernels.IGNORED)
    for row in range(rows):
        start = 0
        while start < plan.seq_len:
            size = min(plan.seq_len - start, max(2, int(rng.lognormal(np.log(plan.mean), 0.6))))
            positions[row, start : start + size] = np.arange(size)
            trained = slice(start + size // 2, start + size)
            labels[row, trained] = ids[row, trained]
            start += size
    made = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in made.items()}


def gradient_errors(found: Gradients, truth: Gradients) -> dict[str, float]:
    """Relative error of the gradient of each group of parameters."""
    wrong: dict[str, float] = defaultdict(float)
    whole: dict[str, float] = defaultdict(float)
    for name, right in truth.items():
        wrong[health.group_of(name)] += float((found[name] - right).double().square().sum())
        whole[health.group_of(name)] += float(right.double().square().sum())
    return {group: (wrong[group] / whole[group]) ** 0.5 for group in whole if whole[group]}


def flops_per_token(shape: shapes.Shape, method: Method) -> float:
    """Floating-point operations of a training step per token, without attention's products."""
    if isinstance(method, LoRA):
        return 4.0 * shapes.multiplied(shape) + 6.0 * shapes.trainable(shape, method)
    return 6.0 * shapes.multiplied(shape)


def _measure_one(plan: Plan, method: str, variant: str, truth: Gradients, peak: float | None) -> Measured:
    run = _run(plan, METHODS[method], VARIANTS[variant])
    row = Measured(method, variant, estimated_bytes=memory.estimate(plan.shape, run, world=1).total)
    try:
        errors = gradient_errors(_gradients(plan, run), truth)
        rate, peak_bytes = _time(plan, run)
    except torch.OutOfMemoryError:
        return replace(row, reason="out of memory")
    except ValueError as error:  # kernels.apply says what is missing
        return replace(row, reason=str(error))
    finally:
        _free(plan)
    share = None if peak is None else rate * flops_per_token(plan.shape, METHODS[method]) / peak
    return replace(row, tokens_per_s=rate, peak_bytes=peak_bytes, utilisation=share, gradient_error=errors)


def _run(plan: Plan, method: Method, speed: Speed) -> Run:
    return Run(
        scale="benchmark", study="gpu", task=IFT(Source("random"), "{prompt}"), model="random", method=method,
        optim=LionW(1e-5), schedule=Trapezoid(0), budget=Budget(1, "steps"), global_batch=plan.rows,
        micro_batch=plan.rows, seq_len=plan.seq_len, precision="bf16", zero_stage=1, speed=speed,
    )  # fmt: skip


def _engine(plan: Plan, run: Run) -> Engine:
    attached = attach(_model(plan, run.speed), run.method, seed=0)
    with torch.no_grad():
        for name, p in attached.trainable.items():
            if "lora_B" in name:  # zero at first, which leaves A without a gradient
                p.normal_(std=0.01)
            p.copy_(p.bfloat16())
    attached.model.train()
    return start_engine(run, attached)


def _model(plan: Plan, speed: Speed) -> PreTrainedModel:
    torch.manual_seed(0)
    config = configuration(plan.shape, plan.seq_len)
    # Importing attention.py has registered its name.
    chosen = attention.NAME if speed.attention == "varlen" else speed.attention
    with torch.device(plan.device):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=chosen)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.bfloat16())
    kernels.apply(model, speed)
    return model


def _gradients(plan: Plan, run: Run) -> Gradients:
    from deepspeed.utils import safe_get_full_grad

    engine = _engine(plan, run)
    accumulate(engine, [packed_batch(plan, plan.parity_rows, seed=1)], seed=0)
    whole = {name: p.grad if run.zero_stage == 0 else safe_get_full_grad(p) for name, p in engine.trainable.items()}
    found = {name: grad.float().cpu() for name, grad in whole.items() if grad is not None}
    engine.close()
    del engine, whole
    _free(plan)
    return found


def _time(plan: Plan, run: Run) -> tuple[float, int | None]:
    """Tokens a second, and the peak of allocated bytes."""
    engine = _engine(plan, run)
    batch = packed_batch(plan, plan.rows, seed=2)
    rates = []
    for turn in range(plan.rounds + 1):
        _wait(plan)
        began = time.perf_counter()
        for step in range(plan.steps if turn else plan.warm):
            accumulate(engine, [batch], seed=step)
            engine.step(1.0)
        _wait(plan)
        rates.append(plan.steps * plan.rows * plan.seq_len / (time.perf_counter() - began))
        if not turn and plan.device == "cuda":  # setting up held more than steps do
            torch.cuda.reset_peak_memory_stats()
    peak_bytes = torch.cuda.max_memory_allocated() if plan.device == "cuda" else None
    engine.close()
    return statistics.median(rates[1:]), peak_bytes


def _wait(plan: Plan) -> None:
    if plan.device == "cuda":
        torch.cuda.synchronize()


def _free(plan: Plan) -> None:
    gc.collect()
    if plan.device == "cuda":
        torch.cuda.empty_cache()


def main(arguments: list[str] | None = None) -> None:
    """Measure on the first GPU, print a line per variant, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", nargs="?", const="-", help="write JSON to this file; without a name, print it")
    parser.add_argument("--peak", type=float, help="the card's dense bf16 peak in TFLOP/s, where it is not known here")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--rows", type=int, default=8, help="rows a step")
    parser.add_argument("--seq-len", type=int, default=2048, help="tokens of a row")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.exit(2, "benchmark_gpu needs a CUDA device, and there is none; `python -m replication.benchmark` "
                       "measures what a CPU can\n")  # fmt: skip
    name = torch.cuda.get_device_name()
    known = next((flops for card, flops in PEAKS.items() if card in name), None)
    peak = options.peak * 1e12 if options.peak else known
    plan = Plan(shapes.KNOWN["Qwen/Qwen2.5-0.5B"], rows=options.rows, seq_len=options.seq_len)
    with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed's narration would break the JSON
        rows = measure(plan, methods=options.methods, variants=options.variants, peak=peak)
    content = {"device": name, "peak_flops": peak, "plan": asdict(plan), "measured": [asdict(row) for row in rows]}
    content |= {"code": provenance.code().label, "hardware": provenance.hardware(), "packages": provenance.packages()}
    if options.json == "-":
        print(json.dumps(content, indent=1))
    elif options.json:
        Path(options.json).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
