"""Processes that begin with the training stack loaded: forks of one clean interpreter, which has imported it once.

A new interpreter that imports torch, transformers, PEFT and DeepSpeed costs about ten seconds of a core, a fork of one
that has done so some milliseconds. It is a process all the same: it has its own environment, signals, rank and output,
can be killed, and inherits nothing from the tests. What it starts as workers are forks too, where the product spawns.
A claim about the start itself (what is imported, what is spawned, a launcher) takes a real interpreter.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STACK = ["replication.train", "replication.evaluate", "replication.tasks", "experiments.schedule"]
SERVER = multiprocessing.get_context("forkserver")
# The name under which a fork reads this file again: a test file cannot be imported by its name.
CHILD = "forked child"


def start(arguments: Sequence[object], output: Path, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """Begin `python *arguments` (a script, or -m and a module) in the root; what it prints goes to output.{out,err}."""
    given = dict(os.environ) | {"PYTHONPATH": str(ROOT)} | dict(environment or {})
    request = {"REQUEST": ([str(argument) for argument in arguments], str(output), given)}
    process = SERVER.Process(target=runpy.run_path, args=(__file__, request, CHILD))
    with _importable():
        process.start()
    return process


def call(
    *arguments: object, environment: Mapping[str, str] | None = None, timeout: float = 280
) -> subprocess.CompletedProcess[str]:
    """Run `python *arguments` to its end."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "said"
        process = start(arguments, output, environment)
        try:
            process.join(timeout)
            assert process.exitcode is not None, f"{arguments} still runs after {timeout} s"
        finally:
            process.kill()
        said = [output.with_suffix(ending).read_text() for ending in (".out", ".err")]
        return subprocess.CompletedProcess([*map(str, arguments)], process.exitcode, *said)


def run(command: Sequence[str], *, env: Mapping[str, str], **_: object) -> subprocess.CompletedProcess[str]:
    """In the place of `subprocess.run` of an interpreter."""
    assert command[0] == sys.executable
    return call(*command[1:], environment=env)


def launch(ranks: int, *arguments: object, environment: Mapping[str, str] | None = None, timeout: float = 280) -> None:
    """Run `python *arguments` as the ranks of one process group, told as torchrun tells them, to their end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = dict(environment or {}) | {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / f"rank{rank}" for rank in range(ranks)]
        processes = [
            start(arguments, output, group | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank, output in enumerate(outputs)
        ]
        try:
            # One rank that fails leaves the others waiting for it.
            sentinels = {process.sentinel: process for process in processes}
            deadline = time.monotonic() + timeout
            while sentinels and time.monotonic() < deadline:
                for sentinel in connection.wait(list(sentinels), timeout=1.0):
                    process = sentinels.pop(sentinel)  # type: ignore[call-overload]
                    process.join()
                    if process.exitcode:
                        sentinels.clear()
        finally:
            for process in processes:
                process.kill()
                process.join()
        said = "\n".join(output.with_suffix(".err").read_text()[-3000:] for output in outputs)
        assert {process.exitcode for process in processes} == {0}, said


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """The server, which begins with the first process, must find the packages that it is to load."""
    import torch

    # A GPU is for the forks to find: who has looked for it before may not use it after a fork.
    SERVER.set_forkserver_preload(STACK + ["deepspeed"] * (not torch.cuda.is_available()))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        forkserver.ensure_running()
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _become(arguments: list[str], output: str, environment: dict[str, str]) -> None:
    """In the fork: be the process that was asked for."""
    os.environ.clear()
    os.environ.update(environment)
    for number, ending in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output + ending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    fork = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: fork  # type: ignore[assignment]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == CHILD:
    _become(*REQUEST)  # type: ignore[name-defined]  # noqa: F821
