"""`python -m replication.pocket` rebuilds the shipped base: random weights, trained by the one loop.

An entry point, so it may reach up to the loop; nothing imports it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from replication.config import CPT, AdamW, Budget, Cosine, Full, Run, Source
from replication.pocket import pretrain
from replication.runs import read_json
from replication.train import Progress, train


def recipe(model: Path) -> Run:
    """The run that pretrains the base from the untrained model at `model`."""
    return Run(
        scale="pocket",
        study="pretraining",
        task=CPT(Source("python:replication.pocket.pretrain:pretraining_documents")),
        model=str(model),
        method=Full(),
        optim=AdamW(pretrain.LEARNING_RATE, betas=pretrain.BETAS, weight_decay=pretrain.WEIGHT_DECAY),
        schedule=Cosine(warmup=pretrain.WARMUP_STEPS / pretrain.STEPS, floor=pretrain.FINAL_LEARNING_RATE),
        budget=Budget(pretrain.STEPS, "steps"),
        global_batch=pretrain.BATCH_SIZE,
        micro_batch=pretrain.BATCH_SIZE,
        seq_len=pretrain.SEQ_LEN,
        seed=pretrain.SEED,
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
    run = recipe(untrained)
    folder = train(run, options.runs, watch=_show)
    final = folder.checkpoints()[-1]
    print(f"base trained: {final}, loss {read_json(final / 'meta.json')['loss']:.4f} nats per token")
    if options.install:
        for name in ("model.safetensors", "config.json", "generation_config.json"):
            shutil.copy(final / name, pretrain.BASE / name)
        for file in untrained.glob("tokenizer*"):
            shutil.copy(file, pretrain.BASE / file.name)
        print(f"installed in {pretrain.BASE}; update its card")


def _show(progress: Progress) -> None:
    if progress.step % 50 == 0 or progress.step == progress.total:
        print(f"step {progress.step}/{progress.total}  loss {progress.loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
