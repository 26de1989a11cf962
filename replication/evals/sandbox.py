"""Executes programs that a model wrote, and says what became of each.

Each worker is a zygote (zygote.py): a small Python process that forks one child per program. The child has

    time         `timeout` seconds, not counting those it waited for a processor on a busy machine
    memory       1 GiB of address space; core dumps off
    processes    none of its own and no threads; what is left behind all the same is killed
    files        an empty folder as working folder, HOME and TMPDIR, 16 MiB a file (64 MiB in all in its own mounts)
    environment  empty; stdin, stdout and stderr are /dev/null; no file descriptor of the caller

and, on Linux (`isolation()` says which of these stand here): a seccomp filter that refuses new processes, threads,
signals and sockets; Landlock, under which it reads Python and the system libraries and nothing else, and writes
its folder alone; and, for root and where users may have namespaces, its own process numbers and a network
without an interface.

A verdict counts only with a token that is drawn for each program. So leaving early (os._exit, sys.exit), writing to the
pipe or dying is not passing.

Not covered:
  - a program that searches the interpreter's frames or memory for the token could forge its own verdict: this
    is a guard against accidents and lazy cheating, not against an adversary that knows this file;
  - tests that can be fooled from inside, such as an object that is equal to everything;
  - faults in the kernel or in CPython that let a process out; the memory of several workers together;
  - where there is no Landlock (macOS, kernels before 5.13): reading and deleting the caller's files; without seccomp:
    signals to the caller's processes. Run it in a container there.

A program that times out without having had its processor time is run again, alone, once.
"""

from __future__ import annotations

import collections
import json
import logging
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

Outcome = Literal["passed", "assertion", "exception", "syntax", "timeout", "memory"]

# A program that used this share of its limit was not kept from running.
BUSY = 0.9
# Programs a worker takes at a time. Their answers fit into a pipe, so neither side can block the other.
PORTION = 8

_LOG = logging.getLogger(__name__)
_ZYGOTE = Path(__file__).with_name("zygote.py")


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
    with _Zygote() as zygote:
        return zygote.walls


class _Zygote:
    """A running zygote process and its pipes."""

    def __enter__(self) -> _Zygote:
        self._folder = tempfile.TemporaryDirectory(prefix="programs-", ignore_cleanup_errors=True)
        Path(self._folder.name).chmod(0o711)
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    def judge(self, programs: Sequence[str], timeout: float) -> list[Verdict]:
        """Run a few programs in turn. One that takes its zygote down has failed, and there is a new zygote."""
        verdicts: list[Verdict] = []
        while len(verdicts) < len(programs):
            try:
                # All at once: on a busy machine, waiting for each answer before the next program doubles the time.
                for program in programs[len(verdicts) :]:
                    self._send({"program": program, "timeout": timeout})
                while len(verdicts) < len(programs):
                    verdicts.append(_verdict(self._receive()))
            except (BrokenPipeError, EOFError):
                self._stop()
                self._start()
                verdicts.append(Verdict("exception", "it took the process that watched it down", 0.0, 0.0))
        return verdicts

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(_ZYGOTE), self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            start_new_session=True,
        )
        try:
            self.walls: dict[str, bool] = self._receive()
        except EOFError as error:
            reason = _pipe(self._process.stderr).read().decode(errors="replace").strip().splitlines()
            self._stop()
            raise RuntimeError(f"the sandbox does not start: {reason[-1] if reason else 'it says nothing'}") from error

    def _stop(self) -> None:
        # Closing its input ends a zygote; the kill is for one that is stuck.
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            try:
                _pipe(stream).close()
            except BrokenPipeError:
                continue
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

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
    """Let `workers` threads, each with its zygote, take programs until none is left."""
    if not places:
        return
    left, lock = iter([places[i : i + PORTION] for i in range(0, len(places), PORTION)]), threading.Lock()

    def work() -> None:
        with _Zygote() as zygote:
            for portion in _taking(left, lock):
                found = zygote.judge([programs[place] for place in portion], timeout)
                verdicts.update(zip(portion, found, strict=True))

    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()
        finally:
            # After an error or Ctrl-C nothing is left to take, so that the workers end and the pool can close.
            with lock:
                collections.deque(left, maxlen=0)


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
