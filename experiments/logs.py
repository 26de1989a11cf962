"""What a run prints lies where the run is: `<run folder>/logs/<job id>-rank<k>.log`, one file for each rank.

Standard output and error are replaced as file descriptors, so that libraries in C and their children write there too.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from replication import ranks
from replication.preemption import Preempted


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Send this process's words to the run's own log inside a Slurm job; elsewhere they stay on the screen.

    An error is written there before it goes on, so that the log ends with it.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        yield
        return
    path = folder / "logs" / f"{job}-rank{ranks.rank()}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"{folder.name}: log in {path}", flush=True)
    with _replaced(path):
        try:
            yield
        except Preempted as left:
            print(f"preempted: {left}", flush=True)
            raise
        except BaseException:
            traceback.print_exc()
            raise


def last_line(folder: Path) -> str:
    """The last words in the newest log of a run folder that has any; empty where there is none."""
    files = sorted((folder / "logs").glob("*-rank*.log"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return lines[-1].strip()
    return ""


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(number) for number in (1, 2)]
    with path.open("a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)
