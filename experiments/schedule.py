"""Run a list of runs on local worker processes: parents before branches, longest first, progress and ETA.

Workers stay alive between runs, because importing the training stack costs more than a short run.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments import jobs, logs
from experiments.jobs import Done
from replication import ranks
from replication.config import Run
from replication.runs import folder_of
from replication.scale import Scale
from replication.specs import Eval


@dataclass
class Board:
    """What is known while the runs go on: steps still planned for each run, steps made, and how fast."""

    planned: dict[str, int]
    evals_left: int
    position: dict[str, int] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    eval_seconds: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def advance(self, name: str, step: int, total: int) -> int:
        """Note that a run stands at `step` of `total`; returns how many of its planned steps that is on from before."""
        before = self.position.get(name, total - self.planned[name])
        self.position[name] = step
        self.made[name] = self.made.get(name, 0) + step - before
        return step - before

    def eta(self, workers: int) -> float | None:
        """Seconds left, or None before enough was measured."""
        spent, made = time.monotonic() - self.began, sum(self.made.values())
        if made < 20 or spent < 5:
            return None
        per_eval = sum(self.eval_seconds) / len(self.eval_seconds) if self.eval_seconds else 0.0
        per_step = max(1.0, spent * workers - sum(self.eval_seconds)) / made
        return ((sum(self.planned.values()) - made) * per_step + self.evals_left * per_eval) / workers


@dataclass(frozen=True)
class Order:
    """What to do: these runs of a scale under `root`, scored or not, and the base's own scores or not.

    `mirror` is the dashboard that shows the metrics too.
    """

    runs: list[Run]
    scale: Scale
    root: Path
    workers: int
    with_evals: bool = True
    with_base: bool = True
    mirror: str | None = None

    def evals(self, run: Run) -> tuple[Eval, ...]:
        """What a run is to be scored on."""
        return tuple(self.scale.eval(name) for name in run.evals) if self.with_evals else ()


def execute(order: Order) -> list[Done]:
    """Train and score all runs; returns how each ended. One that fails takes only its branches with it."""
    # Set before any worker imports torch: OpenMP reads it once. More threads than cores cost 5-10 times the speed.
    if order.scale.threads:
        os.environ["OMP_NUM_THREADS"] = str(order.scale.threads)
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    # A log file gets a line every half minute, a terminal a bar that moves.
    pause = 1.0 if sys.stderr.isatty() else 30.0
    start = (messages, order.scale.threads, os.getpid())
    with ProcessPoolExecutor(order.workers, mp_context=context, initializer=jobs.start_worker, initargs=start) as pool:
        planned = _plan_steps(order, pool)
        board = Board(planned, evals_left=len(order.runs) * order.with_evals + order.with_base)
        with tqdm(total=sum(planned.values()), dynamic_ncols=True, mininterval=pause, bar_format=_BAR) as bar:
            try:
                return list(_drain(order, pool, messages, board, bar))
            except BrokenProcessPool:
                raise RuntimeError(
                    "a worker was killed, most likely for lack of memory; the same command continues where it stood, "
                    "--workers 1 needs less"
                ) from None


_BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"


def inline(order: Order) -> list[Done]:
    """Run one after the other in this process: what every rank of a launcher (torchrun, srun) does.

    The first failure ends it: other ranks may be anywhere, and a trunk's branches need the trunk.
    """
    from replication.train import train

    jobs.quiet()
    first = ranks.rank() == 0
    ended: list[Done] = []
    for run in order.runs:
        folder = folder_of(run, order.root)
        try:
            with logs.kept(folder.path):
                train(run, order.root, watch=_print_progress if first else None, mirror=order.mirror)
        except (ValueError, RuntimeError, OSError) as error:
            return [*ended, Done(run.name(), error=jobs.one_line(error))]
        if first:
            ended.append(jobs.score(run, order.evals(run), order.root))
    return ended


def _drain(order: Order, pool: ProcessPoolExecutor, messages: Any, board: Board, bar: Any) -> Iterator[Done]:
    waiting = sorted(order.runs, key=lambda run: -board.planned[run.name()])
    finished: set[str] = set()
    failed: set[str] = set()
    going: dict[Future[Done], str] = {}
    if order.with_base:
        going[pool.submit(jobs.score_base, order.scale, order.root)] = "base"
    while waiting or going:
        for run in _ready(waiting, finished, order.runs)[: max(0, order.workers - len(going))]:
            going[pool.submit(jobs.train_and_score, run, order.evals(run), order.root, order.mirror)] = run.name()
            waiting.remove(run)
        ended, _ = wait(going, timeout=0.5, return_when=FIRST_COMPLETED)
        _listen(messages, board, bar, order.workers)
        for future in ended:
            name, done = going.pop(future), future.result()
            (failed if done.error else finished).add(name)
            yield _settle(done, board, bar)
        for run in [r for r in waiting if r.branch and r.branch.parent in failed]:
            waiting.remove(run)
            failed.add(run.name())
            yield _settle(Done(run.name(), error="its trunk failed"), board, bar)


def _ready(waiting: list[Run], finished: set[str], runs: list[Run]) -> list[Run]:
    """Runs whose parent is done. None is handed out ahead: it would still be trained after a Ctrl-C."""
    here = {run.name() for run in runs}
    return [r for r in waiting if r.branch is None or r.branch.parent in finished or r.branch.parent not in here]


def _settle(done: Done, board: Board, bar: Any) -> Done:
    name = done.name
    left = board.planned.get(name, 0) - board.made.get(name, 0)
    board.made[name] = board.made.get(name, 0) + left
    board.evals_left -= 1
    if done.eval_seconds:
        board.eval_seconds.append(done.eval_seconds)
    bar.update(left)
    bar.write(f"  {'FAILED' if done.error else 'done  '} {name:50s} {done.error or done.summary}", file=sys.stderr)
    return done


def _listen(messages: Any, board: Board, bar: Any, workers: int) -> None:
    while not messages.empty():
        told = messages.get()
        if isinstance(told, jobs.Answers):
            bar.set_description_str(f"{told.run} {told.name} {told.done}/{told.total} answers", refresh=False)
            continue
        eta = board.eta(workers)
        left = "..." if eta is None else f"{eta / 60:.0f} min" if eta > 90 else f"{eta:.0f} s"
        bar.set_description_str(f"{told.run} loss {told.loss:.3f}", refresh=False)
        bar.set_postfix_str(f"ETA {left}", refresh=False)
        bar.update(board.advance(told.run, told.step, told.total))


def _plan_steps(order: Order, pool: ProcessPoolExecutor) -> dict[str, int]:
    """Steps that each run still has to make; tokenises each setting's data once on the way."""
    keys = {run.name(): (run.task, run.seq_len, run.tokenizer or run.model) for run in order.runs}
    firsts = {keys[run.name()]: run for run in reversed(order.runs)}
    sizes = {key: pool.submit(jobs.sequences, run, order.root) for key, run in firsts.items()}
    planned = {}
    for run in order.runs:
        total = run.steps(run.budget.amount, sequences_per_epoch=sizes[keys[run.name()]].result())
        skipped = 0 if run.branch is None else run.branch.at_tokens // (run.global_batch * run.seq_len)
        planned[run.name()] = 0 if _complete(run, order.root) else total - skipped
    return planned


def _complete(run: Run, root: Path) -> bool:
    folder = folder_of(run, root)
    return folder.status == "complete" and folder.manifest["digest"] == run.digest()


def _print_progress(progress: Any) -> None:
    if progress.step % 10 == 0 or progress.step == progress.total:
        print(f"{progress.run}  step {progress.step}/{progress.total}  loss {progress.loss:.4f}", flush=True)
