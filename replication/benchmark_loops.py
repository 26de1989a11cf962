"""One training loop of the speed benchmark, run as a process of its own and stepped by its parent.

    parent                          child = one of LOOPS
      start            ------>        set up, `warm` steps, print READY
      "go" on stdin    ------>        `segment` steps, print {"tokens", "seconds", "cpu_seconds"}
      ... `rounds` times

A process of its own, because the peers must run as their users run them: an initialised process group turns the
Trainer's model into a distributed one. Stepped, so that the parent can interleave loops on a machine whose speed
drifts. Tokens are those of documents; padding is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

from replication import optim
from replication.config import CPT, IFT, AdamW, Budget, Full, Run, Source, Speed, Trapezoid
from replication.data import chat
from replication.models import load_model, tokenizer_of
from replication.pocket.names import PEOPLE
from replication.pocket.template import TEMPLATE
from replication.tasks import open_stream
from replication.train import Progress, train

ROWS = 2000
# Lengths of CodeAlpaca's 2,017-row part in GPT-NeoX tokens are nearly lognormal: mean and spread of their logarithm.
PROMPT = (3.08, 0.48)
RESPONSE = (3.73, 1.02)
READY = "READY"
_HERE = "python:replication.benchmark_loops"


@dataclass(frozen=True)
class Plan:
    """What one child runs: `batch` rows of `seq_len` tokens a step; `folder` holds the model and the runs.

    `bf16` is mixed precision over fp32 masters, of both sides; `kernels` and `compile` are of our loop alone.
    """

    loop: str
    folder: str
    data: Literal["cpt", "ift"]
    threads: int
    seed: int
    warm: int
    segment: int
    rounds: int
    batch: int
    seq_len: int
    bf16: bool = False
    kernels: Literal["reference", "fused", "cut"] = "reference"
    compile: bool = False

    @property
    def steps(self) -> int:
        """Steps of the child's whole life."""
        return self.warm + self.rounds * self.segment


@dataclass
class Baton:
    """Counts a child's steps, reports each segment and waits for its next turn."""

    plan: Plan
    done: int = 0
    tokens: int = 0
    began: float = 0.0
    processor: float = 0.0

    def step(self, tokens: int) -> None:
        """One optimiser step over `tokens` tokens is over."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.done += 1
        self.tokens += tokens
        since = self.done - self.plan.warm
        if since < 0 or since % self.plan.segment:
            return
        wall, processor = time.perf_counter() - self.began, time.process_time() - self.processor
        report = {"tokens": self.tokens, "seconds": wall, "cpu_seconds": processor}
        print(json.dumps(report) if since else READY, flush=True)
        if self.done < self.plan.steps and sys.stdin.readline().strip() != "go":
            raise SystemExit("the parent has gone")
        self.tokens, self.began, self.processor = 0, time.perf_counter(), time.process_time()


def instructions() -> list[dict[str, str]]:
    """Rows as ragged as CodeAlpaca's: {"prompt", "response"}, of about one token a word."""
    rng = np.random.default_rng(0)
    return [{"prompt": _words(rng, PROMPT), "response": _words(rng, RESPONSE)} for _ in range(ROWS)]


def texts() -> list[str]:
    """The same rows as plain documents."""
    return [f"{row['prompt']} {row['response']}" for row in instructions()]


def run_of(plan: Plan) -> Run:
    """The plan as a Run: full fine-tuning with AdamW at a constant rate."""
    ift = IFT(Source(f"{_HERE}:instructions"), TEMPLATE)
    return Run(
        scale="benchmark",
        study=f"{plan.loop}_{plan.data}",
        task=CPT(Source(f"{_HERE}:texts")) if plan.data == "cpt" else ift,
        model=f"{plan.folder}/model",
        method=Full(),
        optim=AdamW(lr=1e-3),
        schedule=Trapezoid(warmup=0, cooldown=0.0),
        budget=Budget(plan.steps, "steps"),
        global_batch=plan.batch,
        seq_len=plan.seq_len,
        micro_batch=plan.batch,
        seed=plan.seed,
        precision="bf16" if plan.bf16 else "fp32",
        zero_stage=1 if plan.bf16 else 0,
        speed=Speed(kernels=plan.kernels, compile=plan.compile),
    )


# ---------------------------------------------------------------- loops


def ours(plan: Plan, baton: Baton) -> None:
    """The training loop of this repository, with its logging, checks and checkpoints."""
    run, root = run_of(plan), Path(plan.folder)
    stream = open_stream(run, tokenizer_of(run), cache=root / "cache")
    counts = [stream.real_tokens(step, plan.batch) for step in range(plan.steps)]

    def watch(progress: Progress) -> None:
        baton.step(counts[progress.step - 1])

    train(run, root, watch=watch)


def bare(plan: Plan, baton: Baton) -> None:
    """The shortest loop there is over batches that lie ready in memory: the speed of the model itself."""
    run = run_of(plan)
    stream = open_stream(run, tokenizer_of(run), cache=Path(plan.folder) / "cache")
    counts = [stream.real_tokens(step, plan.batch) for step in range(plan.steps)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: torch.nn.Module = load_model(run.model).train()
    model.to(device)
    optimizer = optim.build(run.optim, dict(model.named_parameters()))
    ready = [stream.micro_batches(step, batch=plan.batch, micro=plan.batch)[0] for step in range(plan.steps)]
    ready = [{k: v.to(device) for k, v in batch.items()} for batch in ready]
    for batch, count in zip(ready, counts, strict=True):
        labels = batch.pop("labels")[:, 1:].reshape(-1)
        logits = model(**batch, use_cache=False).logits[:, :-1]
        functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), run.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        baton.step(count)


def trainer_padding(plan: Plan, baton: Baton) -> None:
    """transformers' Trainer on batches padded to their longest row, as many rows as make up the same tokens."""
    run = run_of(plan)
    tokenizer = tokenizer_of(run)
    pairs = [(row["prompt"], row["response"]) for row in instructions()]
    rendered = chat.render_all(TEMPLATE, pairs, tokenizer)
    rows = [_padded_row(prompt, response, plan.seq_len) for prompt, response in rendered]
    mean = float(np.mean([len(row["input_ids"]) for row in rows]))
    collate = DataCollatorForSeq2Seq(tokenizer)
    counts: list[int] = []

    def counting(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        counts.append(sum(len(row["input_ids"]) for row in features))
        return collate(features)

    arguments = TrainingArguments(**_arguments(plan), per_device_train_batch_size=round(_positions(plan) / mean))
    trainer = Trainer(
        model=load_model(run.model),
        args=arguments,
        train_dataset=rows,
        data_collator=counting,
        callbacks=[_Turns(baton, counts)],
    )
    trainer.train()


def trl_packing(plan: Plan, baton: Baton) -> None:
    """TRL's SFTTrainer with its best-fit packing, otherwise as it comes."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    run = run_of(plan)
    rows = [{"prompt": TEMPLATE.format(prompt=r["prompt"]), "completion": r["response"]} for r in instructions()]
    arguments = SFTConfig(
        **_arguments(plan), per_device_train_batch_size=plan.batch, packing=True, max_length=plan.seq_len
    )
    counts: list[int] = []
    trainer = SFTTrainer(
        model=load_model(run.model),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer_of(run),
        callbacks=[_Turns(baton, counts)],
    )
    collate = trainer.data_collator

    def counting(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        counts.append(sum(len(row["input_ids"]) for row in features))
        return collate(features)

    trainer.data_collator = counting
    trainer.train()


LOOPS: dict[str, Callable[[Plan, Baton], None]] = {
    "ours": ours,
    "bare": bare,
    "trainer_padding": trainer_padding,
    "trl_packing": trl_packing,
}


class _Turns(TrainerCallback):
    """Passes the Trainer's steps to the baton; its batches are fetched ahead, hence the list of counts."""

    def __init__(self, baton: Baton, counts: list[int]) -> None:
        self.baton, self.counts = baton, counts

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after each optimiser step."""
        self.baton.step(self.counts[state.global_step - 1])


def _arguments(plan: Plan) -> dict[str, Any]:
    """What both peers are told: the same optimiser, rate, clipping and logging; no checkpoints, no reports."""
    return {
        "output_dir": f"{plan.folder}/{plan.loop}",
        "max_steps": plan.steps,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "adam_beta2": 0.95,
        "bf16": plan.bf16,
        "gradient_checkpointing": False,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": plan.seed,
    }


def _positions(plan: Plan) -> int:
    return plan.batch * plan.seq_len


def _padded_row(prompt: list[int], response: list[int], seq_len: int) -> dict[str, list[int]]:
    ids, labels = prompt + response, [-100] * len(prompt) + response
    return {"input_ids": ids[:seq_len], "attention_mask": [1] * len(ids[:seq_len]), "labels": labels[:seq_len]}


def _words(rng: np.random.Generator, shape: tuple[float, float]) -> str:
    count = max(1, round(rng.lognormal(*shape)))
    start = int(rng.integers(len(PEOPLE)))
    return " ".join(islice(cycle(PEOPLE), start, start + count))


def main() -> None:
    """Run the loop that a plan in JSON names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=json.loads)
    plan = Plan(**parser.parse_args().plan)
    torch.set_num_threads(plan.threads)
    LOOPS[plan.loop](plan, Baton(plan))


if __name__ == "__main__":
    main()
