"""Scoring in this process, one model after the other: what one vLLM serves, and models that nobody trained here."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from experiments import jobs, published
from experiments.jobs import Done
from experiments.published import Published
from replication.config import Run
from replication.runs import RunDir, folder_of
from replication.scale import Scale

if TYPE_CHECKING:
    from replication.evaluate import Candidate

Engine = Literal["transformers", "vllm"]
STUDY = "published"


@dataclass(frozen=True)
class Shelf:
    """Published checkpoints to be scored: which, at which branches, and where copies of them lie.

    `branch` is a name, or "all". `copies` holds local folders in the hub's layout, `base` the base model beside them.
    """

    only: str | None = None
    branch: str = "main"
    copies: Path | None = None
    base: str | None = None


def score_runs(
    runs: Sequence[Run], scale: Scale, root: Path, *, engine: Engine, with_base: bool, base_last: bool = False
) -> list[Done]:
    """Score the base and trained runs on what is missing, all by one engine.

    The base comes first, where a wrong column shows soonest; `base_last` for jobs side by side, of which all but one
    would wait for it.
    """
    from replication.evaluate import on_its_way

    def listed() -> Iterator[Candidate]:
        if with_base and not base_last:
            yield jobs.base(scale, root)
        for run in runs:
            yield from on_its_way(run, folder_of(run, root), [scale.eval(name) for name in run.evals])
        if with_base and base_last:
            yield jobs.base(scale, root)

    return _score(list(listed()), root, engine)


def score_published(scale: Scale, root: Path, shelf: Shelf, *, engine: Engine) -> list[Done]:
    """Score the base and published checkpoints on every eval of the scale: a folder per checkpoint and branch.

    Raises:
        ValueError: nothing on the shelf fits.
    """
    base = shelf.base or scale.model
    if not shelf.copies and scale.model != published.BASE:
        raise ValueError(f"the published checkpoints were tuned from {published.BASE}; pass --scale paper, or --copies")
    items = [*(published.copies(shelf.copies, base=base) if shelf.copies else published.PUBLISHED)]
    chosen = [item for item in items if shelf.only is None or shelf.only in item.name]
    if not chosen:
        raise ValueError(f"--only {shelf.only!r} fits none of {', '.join(item.name for item in items)}")
    named = [
        (item, branch)
        for item in chosen
        for branch in (published.branches(item.where) if shelf.branch == "all" else [shelf.branch])
    ]
    at_start = jobs.untuned(scale, base, RunDir(root / scale.name / STUDY / "base"), name=f"{STUDY}/base")
    candidates = [at_start, *(_of_published(*found, scale, root, base) for found in named)]
    return _score(candidates, root, engine)


def _of_published(item: Published, branch: str, scale: Scale, root: Path, base: str) -> Candidate:
    """One checkpoint, fetched if need be. The base's tokenizer serves all, so that one engine can."""
    from replication.evaluate import of_model
    from replication.models import Weights, locate

    name = f"{item.name}@{branch.replace('/', '--')}"
    where = published.locate(item, branch)
    return of_model(
        Weights(locate(base), where),
        RunDir(root / scale.name / STUDY / name),
        scale.evals,
        name=f"{STUDY}/{name}",
        tokenizer=scale.tokenizer or base,
        published={"name": item.name, "branch": branch, "commit": published.commit(where)},
    )


def _score(candidates: Sequence[Candidate], root: Path, engine: Engine) -> list[Done]:
    """Score all, telling how far each eval is."""
    from replication.evaluate import score_all

    jobs.quiet()
    ended = []
    began = time.monotonic()
    with tqdm(total=len(candidates), unit="model", dynamic_ncols=True) as bar, contextlib.closing(_Answers()) as told:
        for candidate, found in score_all(candidates, root, engine=engine, watch=told.watch):
            error = found if isinstance(found, str) else None
            done = Done(candidate.name, time.monotonic() - began, jobs.summary(candidate.folder.path), error)
            ended.append(done)
            bar.update()
            what = "FAILED" if error else f"{found} new scores" if found else "nothing new"
            bar.write(f"  {candidate.name:60s} {what:14s} {error or done.summary}", file=sys.stderr)
            began = time.monotonic()
    return ended


class _Answers:
    """A bar below the models': the answers of the eval that goes on, with its ETA."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._title = ""

    def watch(self, run: str, name: str, done: int, total: int) -> None:
        """Note that an eval of a model has `done` of `total` answers."""
        if self._title != f"{run} {name}":
            self.close()
            self._title = f"{run} {name}"
            self._bar = tqdm(
                total=total, initial=done - 1, unit="answer", desc=self._title, leave=False, dynamic_ncols=True
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
