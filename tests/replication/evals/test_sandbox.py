"""What becomes of a program has a name; the pool that judges starts once, mends itself and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from replication.evals import sandbox, zygote
from replication.evals.sandbox import Verdict, close_pool, isolation, run_programs

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="these walls are Linux's")


def run(program: str, timeout: float = 1.0) -> Verdict:
    return run_programs([textwrap.dedent(program)], timeout=timeout, workers=1)[0]


@pytest.mark.parametrize(
    ("program", "outcome", "detail"),
    [
        ("assert 1 + 1 == 2", "passed", ""),
        ("assert 1 + 1 == 3, 'no'", "assertion", "AssertionError: no"),
        ("1 / 0", "exception", "ZeroDivisionError: division by zero"),
        ("def f(:", "syntax", "SyntaxError"),
        ("a\0b", "syntax", "null bytes"),
        ("x = " + "(" * 5000, "syntax", "SyntaxError"),
        ("def f(): f()\nf()", "exception", "RecursionError"),
        ("input()", "exception", "EOFError"),
        ("while True: pass", "timeout", "no verdict in time"),
        ("x = [0] * 10**11", "memory", "MemoryError"),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E", "exception", "E: "),
    ],
)
def test_outcomes(program: str, outcome: str, detail: str) -> None:
    verdict = run(program, timeout=5.0 if outcome == "memory" else 1.0)
    assert verdict.outcome == outcome
    assert detail in verdict.detail


# fmt: off
LEAVING = {
    "sys.exit": ("exception", "import sys\nsys.exit(0)\nassert False"),
    "exit": ("exception", "exit()\nassert False"),
    "SystemExit": ("exception", "raise SystemExit(0)"),
    "KeyboardInterrupt": ("exception", "raise KeyboardInterrupt"),
    "os._exit": ("exception", "import os\nos._exit(0)\nassert False"),
    "os.abort": ("exception", "import os\nos.abort()"),
    "SIGKILL": ("exception", "import os\nos.kill(os.getpid(), 9)"),
    "from a test it replaced": ("exception", "def check(f): raise SystemExit(0)\ncheck(len)"),
    "from an assertion's message": ("exception", "import sys\nassert False, sys.exit(0)"),
    "from an error's text": ("exception", """
        import os
        class Failed(AssertionError):
            def __str__(self): os._exit(0)
        raise Failed"""),
    "with what a verdict may look like": ("exception", r"""
        import os
        for fd in range(256):
            for text in (b"passed\n", b'{"outcome": "passed"}', b"0" * 16 + b"passed\n"):
                try: os.write(fd, text)
                except OSError: pass
        os._exit(0)"""),
    "without the pipe": ("exception", "import os\nos.closerange(0, 256)\nassert True"),
    "by a broken pointer": ("exception", "import ctypes\nctypes.string_at(0)"),
}
OVERRIDING = {
    "AssertionError": ("assertion", "import builtins\nbuiltins.AssertionError = ValueError\nassert False"),
    "AssertionError in its globals": ("assertion", "AssertionError = ValueError\nassert False"),
    "every exception": ("assertion", """
        import builtins
        for name in dir(builtins):
            if name.endswith(("Error", "Exception")): setattr(builtins, name, ())
        assert False"""),
    "print, exec, compile, __import__": ("assertion", """
        import builtins
        builtins.print = builtins.exec = builtins.compile = builtins.__import__ = lambda *a, **k: None
        assert print("x") is None and False"""),
    "every builtin": ("assertion", """
        import builtins
        change = setattr
        for name in dir(builtins): change(builtins, name, lambda *a, **k: True)
        assert False"""),
    "no builtin left": ("assertion", "import builtins\nbuiltins.__dict__.clear()\nassert False"),
    "no module left": ("assertion", "import sys\nsys.modules.clear()\nassert False"),
    "sys.exit, os._exit, os.write": (
        "assertion", "import os, sys\nos._exit = os.write = sys.exit = sys.excepthook = lambda *a: None\nassert False"),
    "the functions that judge it": ("assertion", """
        import __main__
        for name, value in list(vars(__main__).items()):
            if callable(value): setattr(__main__, name, lambda *a, **k: ("passed", ""))
        assert False"""),
    "json, struct and select": ("assertion", """
        import json, select, struct
        json.dumps = json.loads = struct.pack = select.select = lambda *a: b"passed"
        assert False"""),
    "what every call does": ("assertion exception", """
        import sys
        def trace(*_): raise SystemExit(0)
        sys.settrace(trace); sys.setprofile(trace)
        assert False"""),
}
# fmt: on


@pytest.mark.parametrize(
    ("outcomes", "program"),
    [pytest.param(*case, id=f"leaving early: {name}") for name, case in LEAVING.items()]
    + [pytest.param(*case, id=f"overriding: {name}") for name, case in OVERRIDING.items()],
)
def test_no_cheat_passes_and_none_reaches_the_next_program(outcomes: str, program: str) -> None:
    programs = [textwrap.dedent(program), "assert len('ab') == 2", "assert len('ab') == 3"]
    verdicts = [v.outcome for v in run_programs(programs, timeout=10.0, workers=1)]
    assert verdicts[0] in outcomes.split()
    assert verdicts[1:] == ["passed", "assertion"]


def test_a_program_starts_with_an_empty_folder_and_environment_and_nothing_of_ours() -> None:
    os.environ["SECRET_OF_A_TEST"] = "1"
    program = """
    import os, sys
    assert os.listdir(".") == []
    assert os.environ["HOME"] == os.getcwd() == os.environ["TMPDIR"]
    assert "SECRET_OF_A_TEST" not in os.environ
    assert sys.stdin.read() == ""
    assert "torch" not in sys.modules and "replication" not in sys.modules
    import os
    def is_open(fd):
        try: os.fstat(fd)
        except OSError: return False
        return True
    assert sum(is_open(fd) for fd in range(256)) == 4  # three times /dev/null, and the pipe
    open("left behind", "w").write("x")
    os.mkdir("closed", 0)
    """
    verdicts = run_programs([textwrap.dedent(program)] * 3, timeout=5.0, workers=1)
    del os.environ["SECRET_OF_A_TEST"]
    assert [v.outcome for v in verdicts] == ["passed"] * 3, verdicts


@LINUX
def test_every_wall_stands_on_this_machine_or_the_rest_is_skipped() -> None:
    walls = isolation()
    if os.geteuid() == 0 and not all(walls.values()):
        pytest.skip(f"this system refuses some walls: {walls}")
    assert set(walls) == {
        "own_processes", "own_network", "own_temporary_files", "files_closed", "no_new_processes",
    }  # fmt: skip


def test_what_programs_import_works() -> None:
    program = "import numpy, math, decimal, typing, sqlite3, json, hashlib\nassert numpy.arange(3).sum() == 3"
    assert run(program, timeout=20.0).outcome == "passed"


def test_verdicts_come_in_order_whatever_the_workers() -> None:
    programs = [f"assert {i % 3}" for i in range(30)]
    verdicts = run_programs(programs, timeout=5.0, workers=3)
    assert [v.outcome for v in verdicts] == ["assertion" if i % 3 == 0 else "passed" for i in range(30)]
    assert run_programs([], timeout=1.0, workers=2) == []


def test_time_waiting_for_a_processor_does_not_count() -> None:
    """With busy processes on its one core, a program that needs 0.5 s takes 0.9 s and more by the clock."""
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this kernel does not say how long a process waited")
    close_pool()  # a worker stays on the cores it started on
    core = {min(os.sched_getaffinity(0))}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        time.sleep(0.2)
        verdict = run("import time\nwhile time.process_time() < 0.5: pass", timeout=0.7)
    finally:
        for process in busy:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, before)
        close_pool()
    assert verdict.outcome == "passed"
    assert verdict.seconds > 0.7


def test_a_timeout_without_its_processor_time_is_judged_again_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine is made to seem busy at first: a right program, a slow one and an endless one had no verdict."""
    real, asked = sandbox._share, []

    def busy(programs: list[str], places: list[int], verdicts: dict[int, Verdict], **how: Any) -> None:
        asked.append((list(places), how["workers"]))
        real(programs, places, verdicts, **how)
        if len(asked) == 1:
            verdicts[0] = Verdict("timeout", "", 0.5, 0.1)

    monkeypatch.setattr(sandbox, "_share", busy)
    programs = ["assert True", "while True: pass", "assert False"]
    outcomes = [v.outcome for v in run_programs(programs, timeout=0.5, workers=2)]
    assert outcomes == ["passed", "timeout", "assertion"]
    assert asked[0] == ([0, 1, 2], 2)
    assert 0 in asked[1][0] and asked[1][1] == 1  # the endless one, too, if this machine is busy
    assert "run again alone" in caplog.text


# ---------------------------------------------------------------- the pool


def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been started from now on, in an empty pool."""
    close_pool()
    made: list[Any] = []
    start = sandbox._Worker._start
    monkeypatch.setattr(sandbox._Worker, "_start", lambda self: (made.append(self), start(self)))
    return made


def test_a_pool_starts_once_and_serves_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    made = started(monkeypatch)
    for _ in range(3):
        assert [v.outcome for v in run_programs(["assert 1"] * 17, timeout=5.0, workers=2)] == ["passed"] * 17
    assert isolation()
    assert len(made) <= 2


def test_a_pool_that_was_closed_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = started(monkeypatch)
    for _ in range(2):
        assert run("assert 1").outcome == "passed"
        close_pool()
    assert len(made) == 2


def test_a_worker_that_died_in_the_meantime_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made = started(monkeypatch)
    assert run("assert 1").outcome == "passed"
    made[0]._process.kill()
    made[0]._process.wait()
    assert [run("assert 1").outcome, run("assert 0").outcome] == ["passed", "assertion"]
    assert len(made) == 2


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_hangs_does_not_cost_its_program_the_verdict(
    how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its group, so that the namespaces' first process is meant as well."""
    made = started(monkeypatch)
    isolation()
    monkeypatch.setattr(sandbox, "STUCK", 1.0)
    monkeypatch.setattr(zygote, "PATIENCE", 0)
    harm = threading.Timer(0.2, os.killpg, (made[0]._process.pid, how))
    harm.start()
    verdicts = run_programs(["import time\ntime.sleep(0.4)", "assert 0"], timeout=5.0, workers=1)
    harm.join()
    assert [v.outcome for v in verdicts] == ["passed", "assertion"]
    assert len(made) == 2


def test_a_program_that_takes_every_worker_down_is_the_only_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two such programs is given a second worker, and a program between them none of the blame."""
    made = started(monkeypatch)
    ask = sandbox._Worker._ask

    def fragile(self: sandbox._Worker, programs: list[str], timeout: float, verdicts: list[Verdict]) -> None:
        """A worker that goes down at a program that says so."""
        ask(
            self,
            programs[: programs.index("bad", len(verdicts))] if "bad" in programs[len(verdicts) :] else programs,
            timeout,
            verdicts,
        )
        if len(verdicts) < len(programs):
            raise EOFError

    monkeypatch.setattr(sandbox._Worker, "_ask", fragile)
    verdicts = run_programs(["assert 1", "bad", "bad", "assert 0", "bad", "assert 1"], timeout=5.0, workers=1)
    failed = "it took the process that watched it down"
    assert [v.outcome for v in verdicts] == ["passed", "exception", "exception", "assertion", "exception", "passed"]
    assert [v.detail == failed for v in verdicts] == [False, True, True, False, True, False]
    assert len(made) == 1 + 3 * 2


def test_two_threads_share_no_worker() -> None:
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(run_programs, [f"assert {i % 2}"] * 20, timeout=5.0, workers=2) for i in range(4)]
        outcomes = [{v.outcome for v in call.result()} for call in calls]
    assert outcomes == [{"assertion"}, {"passed"}] * 2


# A program that judges programs. The package's __init__ is left out: it imports torch, for two seconds.
USER = """
import os, sys, time, types
package = sys.modules["replication.evals"] = types.ModuleType("replication.evals")
package.__path__ = [sys.argv[1]]
from replication.evals.sandbox import run_programs
def outcomes():
    return [v.outcome for v in run_programs(["assert 1", "assert 0", "open('x', 'w')"], timeout=5.0, workers=2)]
expected = ["passed", "assertion", "passed"]
assert outcomes() == expected
assert os.listdir(os.environ["TMPDIR"])
if os.fork() == 0:
    assert outcomes() == expected
    sys.exit(7)
assert os.wait()[1] == 7 << 8
assert outcomes() == expected
if sys.argv[2:]:
    print("ready", flush=True)
    time.sleep(60)
"""


def processes_in(folder: Path) -> list[str]:
    """Command lines that name the folder, which those of zygotes do."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_text())
    return [line for line in found if str(folder) in line]


def start_user(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(Path(sandbox.__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", USER, str(Path(sandbox.__file__).parent), *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_fork_has_a_pool_of_its_own_and_nothing_is_left_at_exit(tmp_path: Path) -> None:
    user = start_user(tmp_path)
    _, complaints = user.communicate(timeout=60)
    assert (user.returncode, complaints) == (0, b"")
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@LINUX
def test_no_worker_outlives_a_caller_that_was_killed(tmp_path: Path) -> None:
    with start_user(tmp_path, "stay") as user:
        assert user.stdout is not None and user.stdout.readline() == b"ready\n"
        assert processes_in(tmp_path)
        user.kill()
    deadline = time.monotonic() + 10
    while processes_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_in(tmp_path) == []


def test_the_filter_refuses_the_same_calls_on_both_machines() -> None:
    """Arm lacks eight old forms that x86-64 has; of what is left each machine has as many."""
    x86, arm = (set(zygote.REFUSED[machine][1]) for machine in ("x86_64", "aarch64"))
    old = {57, 58, 90, 92, 94, 132, 235, 261}
    assert len(x86 - old) == len(arm)
    assert {n for n in x86 - old if n >= 424} == {n for n in arm if n >= 424}  # newer numbers are the same everywhere
