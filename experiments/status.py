"""Where every run stands, read from the run folders alone: no accounting of the cluster is asked.

A manifest says `running` from a run's begin to its end. A process that was killed could not change that: nobody holds
the lock of its folder any more, and it is shown as stopped.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Sequence
from pathlib import Path

from experiments import logs
from replication.runs import RunDir


def table(folders: Sequence[RunDir]) -> str:
    """One line per run: state, step of all, age of the last metrics, name, and the error's or the log's last line."""
    lines = []
    for folder in folders:
        where = f"{state(folder):9s} {step(folder):>13s} {age(folder):>5s}"
        lines.append(f"{where}  {folder.manifest['name']:56s} {words(folder)}".rstrip())
    return "\n".join(lines)


def state(folder: RunDir) -> str:
    """The manifest's status; `stopped` where it says running and nobody holds the folder."""
    return "stopped" if folder.status == "running" and not _held(folder.path / ".lock") else folder.status


def step(folder: RunDir) -> str:
    """Last logged step of all steps."""
    file = folder.path / "metrics.jsonl"
    lines = [line for line in file.read_text().splitlines() if line.endswith("}")] if file.is_file() else []
    done = json.loads(lines[-1])["step"] if lines else 0
    return f"{done}/{folder.manifest.get('steps', '?')}"


def age(folder: RunDir) -> str:
    """Time since the last line of metrics was written, as 42s, 7m, 3h or 2d; a dash where there is none."""
    file = folder.path / "metrics.jsonl"
    if not file.is_file():
        return "-"
    spent = max(0.0, time.time() - file.stat().st_mtime)
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if spent >= size:
            return f"{spent / size:.0f}{letter}"
    return f"{spent:.0f}s"


def words(folder: RunDir) -> str:
    """What an unfinished run said last: its error, else the last line of its newest log."""
    if folder.status == "complete":
        return ""
    error = str(folder.manifest.get("error") or "").strip()
    return " ".join(error.split()) or logs.last_line(folder.path)


def _held(lock: Path) -> bool:
    """Whether some process holds a lock; asked with a shared lock that is given back at once."""
    if not lock.is_file():
        return False
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
