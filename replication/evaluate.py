"""Score checkpoints: every eval once, kept beside the run, never lost and never paid for twice.

    <run>/evals/step_000193/<eval>@<version>/   scores.json   metrics and per-item values
                                                samples.jsonl.gz   per item: asked, answered, graded, why it failed

A folder appears whole or not at all. A score made under another definition of the same name and version is refused:
raise the version instead.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from replication import provenance, seeding
from replication.checkpoints import read_meta
from replication.config import Run, encode
from replication.evals import evaluate as run_eval
from replication.evals.generate import TransformersGenerator
from replication.methods.merge import load_merged
from replication.models import identity, load_model, load_tokenizer, locate, tokenizer_of
from replication.runs import RunDir, atomic_folder, now, read_json, write_json
from replication.specs import Eval

_ANEW = "restore it, or remove that folder to train anew"


def missing(folder: RunDir, step: int, evals: Sequence[Eval]) -> list[Eval]:
    """The evals that this checkpoint has not been scored on yet.

    Raises:
        ValueError: a score of the same name and version was made under another definition.
    """
    wanted = []
    for spec in evals:
        known = score_folder(folder, step, spec) / "scores.json"
        if not known.is_file():
            wanted.append(spec)
        elif read_json(known)["spec"] != encode(spec):
            raise ValueError(
                f"{known.parent} was scored under another definition of {spec.name!r} version {spec.version}; "
                "raise the version of the eval, or remove that folder"
            )
    return wanted


def score_folder(folder: RunDir, step: int, spec: Eval) -> Path:
    """Where one eval of one checkpoint lies."""
    return folder.path / "evals" / f"step_{step:06d}" / f"{spec.name}@{spec.version}"


def evaluate_run(run: Run, folder: RunDir, evals: Sequence[Eval]) -> int:
    """Score the last checkpoint of a finished run on what is missing; returns the number of new scores."""
    found = folder.checkpoints()
    if not found:
        advice = f"remove {folder.path} and run it again" if folder.status == "complete" else "train it first"
        raise FileNotFoundError(f"{folder.path} has no checkpoint; {advice}")
    now = identity(run.model)
    begun = folder.manifest.get("model_digest", now)
    if begun != now:
        raise ValueError(f"{folder.path} was trained from another {run.model} ({begun}, now {now}); {_ANEW}")
    step = read_meta(found[-1]).step
    return _score(
        folder, step, evals, run.seed, lambda: load_merged(locate(run.model), found[-1]), lambda: tokenizer_of(run)
    )


def evaluate_base(model: str, tokenizer: str | None, folder: RunDir, evals: Sequence[Eval]) -> int:
    """Score an untuned model on what is missing; its folder gets a manifest so that `collect` finds it."""
    path = provenance.resolve(model)
    digest = provenance.fingerprint(path)[:8] if path else model
    if folder.manifest and folder.manifest["digest"] != digest:
        raise ValueError(f"{folder.path} holds scores of another base model; remove that folder")
    folder.path.mkdir(parents=True, exist_ok=True)
    if not folder.manifest:
        code = provenance.code()
        content = {"status": "complete", "name": "base", "digest": digest, "code": code.label, "dirty": code.dirty}
        write_json(folder.path / "manifest.json", content | {"started": now(), "model": model})
    return _score(
        folder,
        0,
        evals,
        0,
        lambda: load_model(model),
        lambda: load_tokenizer(tokenizer or model),
    )


def _score(
    folder: RunDir,
    step: int,
    evals: Sequence[Eval],
    seed: int,
    load: Callable[[], PreTrainedModel],
    tokenizer: Callable[[], PreTrainedTokenizerBase],
) -> int:
    wanted = missing(folder, step, evals)
    if not wanted:
        return 0
    generator = TransformersGenerator(load(), tokenizer())
    for spec in wanted:
        began = time.monotonic()
        result = run_eval(spec, generator, seeding.derive(seed, "eval", spec.name))
        content: dict[str, Any] = {
            "spec": encode(spec),
            "step": step,
            "code": provenance.code().label,
            "seconds": round(time.monotonic() - began, 2),
            "metrics": [asdict(m) for m in result.metrics],
            "items": [asdict(i) for i in result.items],
        }
        with atomic_folder(score_folder(folder, step, spec)) as partial:
            lines = "".join(json.dumps(row) + "\n" for row in result.samples)
            (partial / "samples.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
            write_json(partial / "scores.json", content)
    return len(wanted)
