"""`python -m replication.pocket` rebuilds the shipped base: random weights, trained in two stages by the one loop.

An entry point, so it may reach up to the loop; nothing imports it.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from replication.config import CPT, AdamW, Budget, Cosine, Full, Run, Source, Trapezoid
from replication.pocket import pretrain
from replication.runs import RunDir, read_json
from replication.train import Progress, train

KEPT = ("model.safetensors", "config.json", "generation_config.json")


def drill(untrained: Path) -> Run:
    """The first stage: lists of random words, repeated, until the copying circuit has formed."""
    return Run(
        scale="pocket",
        study="drill",
        task=CPT(Source("python:replication.pocket.pretrain:drill_documents")),
        model=str(untrained),
        method=Full(),
        optim=AdamW(pretrain.LEARNING_RATE, betas=pretrain.BETAS, weight_decay=pretrain.WEIGHT_DECAY),
        schedule=Trapezoid(pretrain.DRILL_WARMUP_STEPS, cooldown=0.0),
        budget=Budget(pretrain.DRILL_STEPS, "steps"),
        global_batch=pretrain.BATCH_SIZE,
        micro_batch=pretrain.BATCH_SIZE,
        seq_len=pretrain.SEQ_LEN,
        seed=pretrain.SEED,
    )


def pretraining(drilled: Path, untrained: Path) -> Run:
    """The second stage: the mixture, from the drilled weights and a fresh optimiser."""
    return replace(
        drill(drilled),
        study="pretraining",
        tokenizer=str(untrained),
        task=CPT(Source("python:replication.pocket.pretrain:pretraining_documents")),
        schedule=Cosine(warmup=pretrain.WARMUP_STEPS / pretrain.STEPS, floor=pretrain.FINAL_LEARNING_RATE),
        budget=Budget(pretrain.STEPS, "steps"),
    )


def main() -> None:
    """Pretrain under --runs and, with --install, replace the shipped base."""
    parser = argparse.ArgumentParser(prog="python -m replication.pocket", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/_base"), help="where to train (default runs/_base)")
    parser.add_argument("--install", action="store_true", help="replace the base that the package ships")
    options = parser.parse_args()
    untrained = options.runs / "untrained"
    if not untrained.is_dir():
        untrained.mkdir(parents=True)
        pretrain.save_untrained(untrained)
    drilled = train(drill(untrained), options.runs, watch=_show)
    final = _last(train(pretraining(_last(drilled), untrained), options.runs, watch=_show))
    print(f"base trained: {final}, loss {read_json(final / 'meta.json')['loss']:.4f} nats per token")
    if options.install:
        pretrain.BASE.mkdir(exist_ok=True)
        for file in [*(final / name for name in KEPT), *untrained.glob("tokenizer*")]:
            shutil.copy(file, pretrain.BASE / file.name)
        print(f"installed in {pretrain.BASE}; update its card")


def _last(folder: RunDir) -> Path:
    return folder.checkpoints()[-1]


def _show(progress: Progress) -> None:
    if progress.step % 50 == 0 or progress.step == progress.total:
        print(f"step {progress.step}/{progress.total}  loss {progress.loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
