"""Programs that try to get out, to cheat or to stay. Each must fail in its own way and harm nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from replication.evals.sandbox import Verdict, isolation, run_programs

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
        ("while True: pass", "timeout", ""),
        ("x = [0] * 10**11", "memory", "MemoryError"),
        ("x = []\nwhile True: x.append(bytearray(10**7))", "memory", "MemoryError"),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E", "exception", "E: "),
    ],
)
def test_outcomes(program: str, outcome: str, detail: str) -> None:
    verdict = run(program, timeout=5.0 if outcome == "memory" else 1.0)
    assert verdict.outcome == outcome
    assert detail in verdict.detail


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise SystemExit(0)",
        "raise KeyboardInterrupt",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "import ctypes\nctypes.string_at(0)",
        # Writes what a verdict might look like wherever it can, then leaves.
        """
        import os
        for fd in range(256):
            for text in (b"passed\\n", b"{\\"outcome\\": \\"passed\\"}", b"0" * 16 + b"passed\\n"):
                try: os.write(fd, text)
                except OSError: pass
        os._exit(0)
        """,
        # Floods whatever it can.
        """
        import os
        while True:
            for fd in range(3, 64):
                try: os.write(fd, b"x" * 65536)
                except OSError: pass
        """,
    ],
)
def test_leaving_early_or_forging_is_not_passing(program: str) -> None:
    assert run(program).outcome in ("exception", "timeout")


def test_huge_output_goes_nowhere() -> None:
    assert run("for _ in range(1000): print('x' * 100000)", timeout=5.0).outcome == "passed"
    assert run("while True: print('x' * 100000)").outcome == "timeout"


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
    os.mkdir("closed"); os.chmod("closed", 0)
    """
    verdicts = run_programs([textwrap.dedent(program)] * 3, timeout=5.0, workers=1)
    del os.environ["SECRET_OF_A_TEST"]
    assert [v.outcome for v in verdicts] == ["passed"] * 3, verdicts


def test_huge_files_meet_a_limit() -> None:
    verdict = run("f = open('x', 'wb')\nwhile True: f.write(b'x' * 10**6)", timeout=5.0)
    assert (verdict.outcome, "too large" in verdict.detail) == ("exception", True)


@LINUX
def test_every_wall_stands_on_this_machine_or_the_rest_is_skipped() -> None:
    walls = isolation()
    if os.geteuid() == 0 and not all(walls.values()):
        pytest.skip(f"this system refuses some walls: {walls}")
    assert set(walls) == {
        "own_processes", "own_network", "own_temporary_files", "files_closed", "no_new_processes",
    }  # fmt: skip


def needs(wall: str) -> None:
    if not isolation()[wall]:
        pytest.skip(f"this system does not allow {wall}")


@LINUX
@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import subprocess\nsubprocess.run(['true'])",
        "import os\nos.system('true') == 0 or 1 / 0",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()",
        "import os\nos.kill(os.getppid(), 9)",
        "import os\nos.kill(-1, 9)",
        "import os\nos.execv('/bin/true', ['true'])",
        "import socket\nsocket.create_connection(('127.0.0.1', 22), timeout=1)",
        "import socket\nsocket.socket(socket.AF_UNIX)",
    ],
)
def test_no_processes_threads_signals_or_sockets(program: str) -> None:
    needs("no_new_processes")
    verdicts = run_programs([program, "assert True"], timeout=5.0, workers=1)
    assert [v.outcome for v in verdicts] == ["exception", "passed"]


@LINUX
def test_files_of_the_caller_can_be_neither_read_nor_changed(tmp_path: Path) -> None:
    needs("files_closed")
    secret = tmp_path / "secret"
    secret.write_text("mine")
    programs = [
        f"open({str(secret)!r}).read()",
        f"open({str(secret)!r}, 'w')",
        f"import os\nos.remove({str(secret)!r})",
        f"import shutil\nshutil.rmtree({str(tmp_path)!r})",
        f"import os\nos.rename({str(secret)!r}, 'x')",
        f"import os\nos.listdir({str(Path.home())!r})",
        "open('/etc/passwd').read()",
        "open('/proc/1/environ').read()",
        "open('/tmp/left', 'w')",
    ]
    verdicts = run_programs(programs, timeout=5.0, workers=1)
    assert [v.outcome for v in verdicts] == ["exception"] * len(programs), verdicts
    assert secret.read_text() == "mine"
    assert not Path("/tmp/left").exists()


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
    assert verdict.outcome == "passed"
    assert verdict.seconds > 0.7


def test_nothing_is_left_when_all_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A temporary folder of this test's own: other tests run programs at the same time.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = (
        "import os, pathlib\npathlib.Path('x').write_text('y')\nassert os.getcwd().startswith("
        + repr(str(tmp_path))
        + ")"
    )
    outcomes = [v.outcome for v in run_programs([seen, "while True: pass"], timeout=0.5, workers=2)]
    assert outcomes == ["passed", "timeout"]
    assert list(tmp_path.iterdir()) == []
