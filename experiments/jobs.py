"""What a worker process does: prepare data, train one run and score it, or score the base.

Each function imports what it needs, so that the parent, which only plans and reports, never loads torch.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.config import Run
from replication.runs import RunDir
from replication.scale import Scale
from replication.specs import Eval

if TYPE_CHECKING:
    from replication.evaluate import Candidate

_MESSAGES: Queue[Any] | None = None


@dataclass(frozen=True)
class Done:
    """How a job ended: seconds spent on scoring; `error` is one line, or None."""

    name: str
    eval_seconds: float = 0.0
    summary: str = ""
    error: str | None = None


@dataclass(frozen=True)
class Step:
    """A run has made a step."""

    run: str
    step: int
    total: int
    loss: float


@dataclass(frozen=True)
class Answers:
    """An eval of a run has got answers."""

    run: str
    name: str
    done: int
    total: int


# Questions between two messages about an eval.
TELL_EVERY = 50


def start_worker(messages: Queue[Any], threads: int | None, parent: int) -> None:
    """Set up a worker: its threads, and its death when the parent dies, so that no orphan holds a run."""
    global _MESSAGES
    _MESSAGES = messages
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died while this process started
            os._exit(1)
    import torch

    if threads:
        torch.set_num_threads(threads)


def sequences(run: Run, root: Path) -> int:
    """Prepare the data of a run; returns its training sequences per epoch."""
    quiet()
    from replication.models import tokenizer_of
    from replication.tasks import open_stream

    return open_stream(run, tokenizer_of(run), cache=root / "cache").size


def train_and_score(run: Run, evals: tuple[Eval, ...], root: Path, mirror: str | None = None) -> Done:
    """Train a run from wherever it stands and score its end; errors come back as their one line."""
    quiet()
    from replication.health import TrainingFailed
    from replication.train import train

    try:
        train(run, root, watch=_tell, mirror=mirror)
    except (ValueError, RuntimeError, OSError, TrainingFailed) as error:
        return Done(run.name(), error=one_line(error))
    return score(run, evals, root)


def score(run: Run, evals: tuple[Eval, ...], root: Path) -> Done:
    """Score the end of a trained run on what is missing; errors come back as their one line."""
    from replication import evaluate
    from replication.runs import folder_of

    began = time.monotonic()
    folder = folder_of(run, root)
    try:
        if evals:
            for candidate in evaluate.on_its_way(run, folder, evals):
                evaluate.score(candidate, root, watch=_tell_answers)
    except (ValueError, RuntimeError, OSError) as error:
        return Done(run.name(), error=one_line(error))
    return Done(run.name(), eval_seconds=time.monotonic() - began, summary=summary(folder.path))


def score_base(scale: Scale, root: Path) -> Done:
    """Score the untuned model on every eval of the scale."""
    quiet()
    from replication import evaluate

    began = time.monotonic()
    folder = base_folder(scale, root)
    try:
        evaluate.score(base(scale, root), root, watch=_tell_answers)
    except (ValueError, RuntimeError, OSError) as error:
        return Done("base", error=one_line(error))
    return Done("base", eval_seconds=time.monotonic() - began, summary=summary(folder.path))


def base(scale: Scale, root: Path) -> Candidate:
    """The untuned model of a scale, to be scored on every eval of it."""
    return untuned(scale, scale.model, base_folder(scale, root), name="base")


def untuned(scale: Scale, model: str, folder: RunDir, *, name: str) -> Candidate:
    """A base model, to be scored on every eval of a scale."""
    from replication.evaluate import of_model
    from replication.models import Weights, form_of_task, locate

    task = scale.settings[0][1].task if scale.settings else None
    weights = Weights(locate(model), form=form_of_task(task, seed=0))
    return of_model(weights, folder, scale.evals, name=name, tokenizer=scale.tokenizer or model)


def base_folder(scale: Scale, root: Path) -> RunDir:
    """Where the scores of the untuned model lie."""
    return RunDir(root / scale.name / "base")


def one_line(error: BaseException) -> str:
    """An error as one line that a person can act on."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.errno == 28:
        return f"the disk is full ({text}); free some space and run the same command: it continues where it stood"
    return text


def _tell(progress: Any) -> None:
    assert _MESSAGES is not None
    _MESSAGES.put(Step(progress.run, progress.step, progress.total, progress.loss))


def _tell_answers(run: str, name: str, done: int, total: int) -> None:
    # The last process of a launcher scores without a parent to tell.
    if _MESSAGES is not None and (done % TELL_EVERY == 0 or done == total):
        _MESSAGES.put(Answers(run, name, done, total))


def summary(path: Path) -> str:
    """The primary scores of a run folder's last step, for the screen."""
    import json

    steps = sorted((path / "evals").glob("step_*"))
    parts = []
    for file in sorted(steps[-1].glob("*/scores.json")) if steps else ():
        content = json.loads(file.read_text())
        counts = content["spec"].get("metric", content["metrics"][0]["name"])
        metric = next(m for m in content["metrics"] if m["name"] == counts)
        parts.append(f"{file.parent.name.split('@')[0]} {metric['value']:.3f}")
    return "  ".join(parts)


def quiet() -> None:
    """Keep the libraries' own progress bars off the one that the user reads."""
    import warnings

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="peft|deepspeed|transformers")
