"""A polite end: at SIGTERM or SIGUSR1 the step that goes on is finished, its state saved, and the process leaves.

Slurm sends one of them some time before it takes the nodes away. The handler only notes it: what a step does cannot be
interrupted half-way without losing the optimiser's state.
"""

from __future__ import annotations

import signal
from types import FrameType

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again later

_noted = False


class Preempted(Exception):
    """The machine is wanted back; everything is saved, and the same command continues."""


def listen() -> None:
    """Note SIGTERM and SIGUSR1 from now on, in place of dying of them."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _note)


def asked() -> bool:
    """Whether the machine is wanted back."""
    return _noted


def forget() -> None:
    """Go on as if nobody had asked: for a process that outlives the run it was to leave."""
    global _noted
    _noted = False


def _note(number: int, frame: FrameType | None) -> None:
    global _noted
    del number, frame
    _noted = True
