"""Every attack has its verdict, and a right and a wrong program after it, in the same worker, have theirs.

An attack runs behind the walls of this machine, and again where they are fewer: without namespaces (many containers),
or without any wall (macOS, old kernels) if nothing could happen to the machine that runs the tests. No attack names a
file, process or address that a test did not make, but for those that a program finds around itself.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.evals import sandbox, zygote
from replication.evals.sandbox import close_pool, isolation, run_programs

GOOD = "import os\nassert os.listdir('.') == []\nassert sorted(map(str, range(3))) == ['0', '1', '2']"
WRONG = "assert sorted(map(str, range(3))) == ['0', '1']"

# A zygote that finds some walls missing.
FEWER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("zygote", {path!r})
zygote = sys.modules["zygote"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zygote)
for missing in {missing!r}:
    setattr(zygote, missing, lambda *_: None)
zygote.main()
"""
MISSING = {
    "all walls": (),
    "no namespaces": ("_enter_namespaces",),
    "no walls": ("_enter_namespaces", "_landlock_rules", "_seccomp_filter"),
}


@pytest.fixture(scope="module", params=MISSING)
def walls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Workers of this file's own, behind the named walls."""
    script = tmp_path_factory.mktemp("zygote") / "fewer.py"
    script.write_text(FEWER.format(path=zygote.__file__, missing=MISSING[request.param]))
    close_pool()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zygote, "__file__", str(script))
        stand = isolation()
        if request.param == "all walls" and not all(stand.values()):
            pytest.skip(f"this system has too few walls: {stand}")
        if request.param == "no namespaces" and not (stand["no_new_processes"] and stand["files_closed"]):
            pytest.skip(f"this system has too few walls: {stand}")
        if request.param != "no walls":  # one fork that does no harm, before bombs are tried
            assert run_programs(["import os\nos.fork()"], timeout=10.0, workers=1)[0].outcome == "exception"
        yield request.param
        close_pool()


def judge_with_two_after(attack: str, outcomes: str, timeout: float = 10.0) -> None:
    """One of the outcomes for the attack; and both programs after it, in a worker that lived on, have theirs."""
    (worker,) = sandbox._IDLE
    process = worker._process.pid
    verdicts = run_programs([textwrap.dedent(attack), GOOD, WRONG], timeout=timeout, workers=1)
    assert verdicts[0].outcome in outcomes.split(), verdicts
    assert [v.outcome for v in verdicts[1:]] == ["passed", "assertion"], verdicts
    assert [w._process.pid for w in sandbox._IDLE] == [process]


def seconds_for(outcomes: str) -> float:
    """No longer than it takes to see that there is no end."""
    return 0.25 if "timeout" in outcomes else 10.0


Attack = tuple[str, str]  # the outcomes it may have, program


# fmt: off
LOOPS = {
    "plain": ("timeout", "while True: pass"),
    "that catches everything": ("timeout", """
        while True:
            try:
                while True: pass
            except BaseException: pass"""),
    "in one call of C": ("timeout", "sum(iter(int, 1))"),
    "in a regular expression": ("timeout", "import re\nre.match('(a+)+b', 'a' * 50)"),
    "asleep": ("timeout", "import time\nwhile True: time.sleep(1000)"),
    "in a number": ("timeout memory", "10 ** 10 ** 10"),
}
OUTPUT = {
    "printed": ("timeout", "while True: print('x' * 100000)"),
    "to stderr": ("timeout", "import sys\nwhile True: sys.stderr.write('x' * 100000)"),
    "to descriptor 1": ("timeout", "import os\nwhile True: os.write(1, b'x' * 100000)"),
    "to every descriptor": ("timeout exception", """
        import os
        while True:
            for fd in range(64):
                try: os.write(fd, b'x' * 65536)
                except OSError: pass"""),
    "in a message": ("exception", "raise ValueError('x' * 10**8)"),
}
RECURSION = {
    "a function": ("exception", "def f(): f()\nf()"),
    "a function that catches": ("exception timeout", "def f():\n    try: f()\n    except RecursionError: f()\nf()"),
    "a function without a bound": (
        "exception memory timeout", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()"),
    "repr": ("exception", "x = []\nfor _ in range(10**5): x = [x]\nrepr(x)"),
    "repr without a bound": (
        "exception timeout", "import sys\nsys.setrecursionlimit(9**9)\nx = 0\nfor _ in range(10**6): x = [x]\nrepr(x)"),
    "json read": ("exception", "import json\njson.loads('[' * 10**5)"),
    "json written": ("exception", "import json\nx = []\nfor _ in range(10**5): x = [x]\njson.dumps(x)"),
    "comparison": ("exception", "a, b = [], []\nfor _ in range(10**5): a, b = [a], [b]\nassert a == b"),
    "pickle": ("exception", "import pickle\nx = []\nfor _ in range(10**5): x = [x]\npickle.dumps(x)"),
    "__getattr__": ("exception", "class A:\n    def __getattr__(self, name): return getattr(self, name)\nA().x"),
    "source": ("syntax exception memory", "-" * 10**5 + "1"),
    "eval": ("exception memory", "eval('(' * 10**5)"),
    "a chain to free": ("assertion", "x = None\nfor _ in range(10**6): x = (x,)\ndel x\nassert False"),
}
MASKING = {
    "ignored": ("timeout", """
        import signal
        for s in signal.valid_signals():
            try: signal.signal(s, signal.SIG_IGN)
            except OSError: pass
        while True: pass"""),
    "blocked": ("timeout", """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True: pass"""),
    "handled": ("timeout", """
        import signal
        for s in (signal.SIGTERM, signal.SIGALRM, signal.SIGXCPU, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        while True: pass"""),
    "an alarm": ("exception", """
        import signal
        signal.signal(signal.SIGALRM, lambda *_: exit())
        signal.setitimer(signal.ITIMER_REAL, 1e-6)
        while True: pass"""),
}
ALLOCATION = {
    "of 100 GB": ("memory", "x = bytearray(100 * 10**9)"),
    "of 100 GB as a list": ("memory", "x = [0] * (100 * 10**9 // 8)"),
    "of 100 GB as text": ("memory", "x = 'x' * (100 * 10**9)"),
    "of 100 GB by mmap": ("exception memory", "import mmap\nmmap.mmap(-1, 100 * 10**9)"),
    "in steps of 10 MB": ("memory", "x = []\nwhile True: x.append(bytearray(10**7))"),
    "in steps of 1 kB": ("memory", "x = []\nwhile True: x.append(bytes(10**3))"),
    "that doubles": ("memory", "x = 'x'\nwhile True: x += x"),
    "kept by the error": ("memory", "def f(x):\n    while True: x += (bytearray(10**7),)\nf(())"),
}
FORKS = {
    "os.fork": ("exception", "import os\nwhile True: os.fork()"),
    "os.fork again and again": ("timeout", """
        import os
        while True:
            try: os.fork()
            except OSError: pass"""),
    "subprocess": ("exception", "import subprocess, sys\nwhile True: subprocess.Popen([sys.executable, '-V'])"),
    "posix_spawn": ("exception", "import os\nos.posix_spawn('/bin/true', ['true'], {})"),
    "os.system": ("assertion", "import os\nassert os.system('true') == 0"),
    "multiprocessing": ("exception", "import multiprocessing as m\nm.Process(target=len).start()"),
    "execv": ("exception", "import os\nos.execv('/bin/true', ['true'])"),
}
KILLING = {
    "by its number": ("exception", "import os\nos.kill(os.getppid(), 9)"),
    "stopping it": ("exception", "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)"),
    "with its group": ("exception", "import os\nos.killpg(os.getpgid(os.getppid()) or os.getppid(), 9)"),
    "with its own group": ("exception", "import os\nos.killpg(0, 9)"),
    "by a queued signal": ("assertion", """
        import ctypes, os
        number = {"x86_64": 129, "aarch64": 138}[os.uname().machine]
        assert ctypes.CDLL(None).syscall(number, os.getppid(), 9, ctypes.create_string_buffer(128)) == 0"""),
    "by a descriptor": ("exception", "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)"),
}
SOCKETS = {
    "TCP": ("exception", "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=1)"),
    "UDP": ("exception", "import socket as s\ns.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"),
    "listening": ("exception", "import socket\nsocket.create_server(('127.0.0.1', 0))"),
    "UNIX": ("exception", "import socket\nsocket.socket(socket.AF_UNIX)"),
    "urllib": ("exception", "import urllib.request as u\nu.urlopen('http://127.0.0.1:9', timeout=1)"),
}
THREADS = {
    "that outlive it": ("exception", "import threading as t, time\nt.Thread(target=time.sleep, args=(999,)).start()"),
    "daemons": (
        "exception", "import threading as t, time\nt.Thread(target=time.sleep, args=(999,), daemon=True).start()"),
    "of a pool": ("exception", "from concurrent.futures import ThreadPoolExecutor as P\nP().submit(len, '')"),
    "of a timer": ("exception", "import threading\nthreading.Timer(0.1, print).start()"),
}
HIDDEN = {
    "shared": ("assertion", """
        import ctypes, os
        number = {"x86_64": 29, "aarch64": 194}[os.uname().machine]
        assert ctypes.CDLL(None).syscall(number, 0, 1 << 20, 0o1600) >= 0"""),
    "in a file without a name": ("exception", "import os\nos.memfd_create('x')"),
}
FILES = {
    "one file": ("exception", "f = open('x', 'wb')\nwhile True: f.write(b'x' * 10**6)"),
    "one empty file": ("exception", "import os\nf = open('x', 'wb')\nos.ftruncate(f.fileno(), 10**12)"),
    "small files": ("exception timeout", "i = 0\nwhile True: open(str(i), 'w').write('x'); i += 1"),
    "closed folders": (
        "passed", "import os\nfor i in range(99): os.makedirs(f'{i}/x'); os.mkdir(f'{i}/y', 0)\nos.mkdir('z', 0)"),
    "open files": ("exception", "x = []\nwhile True: x.append(open('x', 'w'))"),
    "links": ("passed", "import os\nos.symlink('/', 'x'); os.mkdir('y'); os.symlink('/usr', 'y/x')"),
    "a pipe": ("timeout", "import os\nos.mkfifo('x')\nopen('x')"),
}
FILES_IN_MEMORY = {
    "folders in folders": ("passed", "import os\nfor _ in range(1200): os.mkdir('x'); os.chdir('x')"),
    "many files": ("exception", "for i in range(10**6): open(str(i), 'w').close()"),
    "many large files": ("exception", "for i in range(10**6): open(str(i), 'wb').write(b'x' * 10**7)"),
    "again and again": ("timeout", """
        i = 0
        while True:
            i += 1
            try: open(str(i), "wb").write(b"x" * 10**6)
            except OSError: pass"""),
}
# fmt: on


def attacks(**kinds: dict[str, Attack]) -> pytest.MarkDecorator:
    cases = [
        pytest.param(*attack, id=f"{kind.replace('_', ' ')}: {name}")
        for kind, named in kinds.items()
        for name, attack in named.items()
    ]
    return pytest.mark.parametrize(("outcomes", "program"), cases)


def behind(*places: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("walls", places, indirect=True, scope="module")


@behind("all walls")
@attacks(endless_loop=LOOPS, endless_output=OUTPUT, deep_recursion=RECURSION, signals=MASKING, allocation=ALLOCATION)
def test_the_sandbox_survives_what_does_not_end(walls: str, outcomes: str, program: str) -> None:
    judge_with_two_after(program, outcomes, seconds_for(outcomes))


@behind("all walls", "no namespaces")
@attacks(
    fork_bomb=FORKS, killing_its_parent=KILLING, socket=SOCKETS, threads=THREADS, hidden_memory=HIDDEN, file_bomb=FILES
)
def test_the_sandbox_survives_what_seccomp_refuses(walls: str, outcomes: str, program: str) -> None:
    judge_with_two_after(program, outcomes, seconds_for(outcomes))


@behind("all walls")
@attacks(file_bomb=FILES_IN_MEMORY, killing={"all it sees": ("exception", "import os\nos.kill(-1, 9)")})
def test_the_sandbox_survives_behind_all_walls(walls: str, outcomes: str, program: str) -> None:
    judge_with_two_after(program, outcomes, seconds_for(outcomes))


@behind("all walls", "no namespaces")
def test_what_a_program_deletes_or_changes_is_its_own(walls: str, tmp_path: Path) -> None:
    kept = tmp_path / "folder" / "kept"
    kept.parent.mkdir()
    kept.write_text("mine")
    kept.chmod(0o640)
    before = kept.stat()
    attack = f"""
    import os, shutil
    kept = {str(kept)!r}
    def everything():
        yield lambda: shutil.rmtree({str(tmp_path)!r})
        yield lambda: os.unlink(kept)
        yield lambda: os.truncate(kept, 0)
        yield lambda: open(kept, "w")
        yield lambda: os.rename(kept, "x")
        yield lambda: os.link(kept, "y")
        yield lambda: open(os.path.dirname(kept) + "/new", "w")
        yield lambda: os.chmod(kept, 0)
        yield lambda: os.chmod(os.path.dirname(kept), 0)
        yield lambda: os.chown(kept, 1, 1)
        yield lambda: os.utime(kept, (1, 1))
        yield lambda: os.setxattr(kept, "user.x", b"x")
        yield lambda: os.rename(".", "../away")
        yield lambda: open("../left", "w")
        yield lambda: shutil.rmtree("..")
    done = []
    for number, step in enumerate(everything()):
        try: step()
        except OSError: continue
        done.append(number)
    assert not done, done
    """
    judge_with_two_after(attack, "passed")
    after = kept.stat()
    assert kept.read_text() == "mine"
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["folder", "kept"]


@behind("all walls", "no namespaces")
def test_files_of_the_caller_cannot_be_read(walls: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    attack = f"""
    import os
    read = []
    for path in ({str(tmp_path / "secret")!r}, "/etc/passwd", "/proc/1/environ", "/proc/self/mem", "/dev/shm/x"):
        try: read.append(open(path, "rb").read(1))
        except OSError: pass
    for path in ("/", "/tmp", "..", os.path.dirname({str(tmp_path)!r}), {str(Path.home())!r}):
        try: read.append(os.listdir(path))
        except OSError: pass
    assert not read, read
    """
    judge_with_two_after(attack, "passed")


@behind("all walls", "no namespaces")
def test_a_program_that_deletes_all_it_can_write_leaves_a_folder_for_the_next(walls: str) -> None:
    attack = "import os, shutil\nopen('x', 'w').close()\nshutil.rmtree('.', ignore_errors=True)\nassert os.listdir('.')"
    judge_with_two_after(attack, "assertion", timeout=5.0)


@behind("all walls", "no walls")
def test_the_environment_of_the_caller_cannot_be_read(walls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_A_TEST", "hunter2")
    close_pool()
    isolation()  # a worker that starts now
    attack = """
    import ctypes, os
    ctypes.CDLL(None).getenv.restype = ctypes.c_char_p
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    found = [*os.environ, *os.environ.values(), str(getenv(b"SECRET_OF_A_TEST"))]
    for process in ("self", os.getppid()):
        try: found.append(open(f"/proc/{process}/environ").read())
        except OSError: pass
    assert any("SECRET" in text or "hunter2" in text for text in found)
    """
    judge_with_two_after(attack, "assertion", timeout=5.0)


@behind("no walls")
def test_threads_end_with_their_program_where_it_may_have_them(walls: str, tmp_path: Path) -> None:
    """What a thread or an exit handler would write later never comes. (A limit keeps all but root from threads.)"""
    attack = f"""
    import atexit, threading, time
    def late():
        time.sleep(0.3)
        open({str(tmp_path / "late")!r}, "w")
    threading.Thread(target=late).start()
    threading.Thread(target=late, daemon=True).start()
    atexit.register(open, {str(tmp_path / "exit")!r}, "w")
    """
    judge_with_two_after(attack, "passed" if os.geteuid() == 0 else "exception")
    after = "import time\ntime.sleep(0.5)"
    assert run_programs([after], timeout=5.0, workers=1)[0].outcome == "passed"
    assert list(tmp_path.iterdir()) == []


@behind("all walls", "no walls")
def test_exit_handlers_and_finalizers_neither_run_nor_take_time(walls: str) -> None:
    attack = """
    import atexit, weakref
    def forever(*_):
        while True: pass
    class Last:
        __del__ = forever
    last = Last()
    weakref.finalize(last, forever)
    atexit.register(forever)
    """
    judge_with_two_after(attack, "passed", timeout=2.0)


@behind("no walls")
def test_a_parent_that_can_be_killed_is_replaced(walls: str) -> None:
    verdicts = run_programs([GOOD, "import os\nos.kill(os.getppid(), 9)", GOOD, WRONG], timeout=5.0, workers=1)
    assert [v.outcome for v in verdicts] == ["passed", "exception", "passed", "assertion"], verdicts


@behind("all walls")
def test_a_folder_that_cannot_be_emptied_meets_no_other_program(walls: str) -> None:
    """Root may make a folder immutable; then the worker goes, and its folder with it."""
    attack = """
    import fcntl, os, struct
    os.mkdir("left")
    for folder in ("left", "."):
        fcntl.ioctl(os.open(folder, os.O_RDONLY), 0x40086602, struct.pack("l", 0x10))
    """
    verdicts = run_programs([textwrap.dedent(attack), GOOD, WRONG], timeout=5.0, workers=1)
    assert [v.outcome for v in verdicts] == ["exception", "passed", "assertion"], verdicts
