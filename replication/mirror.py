"""An optional mirror of the metrics to a dashboard: wandb, trackio or tensorboard.

    train --row--> metrics.jsonl        the record
             \\--> Mirror --queue--> a thread of its own --> the package

The record is `metrics.jsonl`; the mirror is a convenience and must never stop or slow a training. So everything that
may fail or hang (the log-in, the network, the disk) happens in a thread: an error ends that thread, Python prints it,
the next row says once that the mirror has stopped, and training goes on. None of the packages is a dependency: only
a missing one is an error, before the training.

A resumed run goes on in the same record of the dashboard. The rows between its last checkpoint and where it stopped
are sent again, with the same numbers. wandb's own step may not go back, so the step is a metric there.

The packages read their own settings from the environment (WANDB_API_KEY, WANDB_MODE, TRACKIO_SPACE_ID, ...).
Written against wandb 0.31, trackio 0.43 and tensorboard 2.21.
"""

from __future__ import annotations

import importlib
import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from replication.config import Run, encode

Kind = Literal["wandb", "trackio", "tensorboard"]
Row = dict[str, Any]
Send = Callable[[Row], object]
Finish = Callable[[], object]

PROJECT = "lora-learns-less"
CLOSE_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Mirror:
    """Rows on their way to a dashboard. `log` never waits and never fails."""

    def __init__(self, kind: str, start: Callable[[Row], tuple[Send, Finish]]) -> None:
        self._kind = kind
        self._start = start
        self._rows: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._warned = False
        self._ended = threading.Event()
        # A daemon: a package that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=f"mirror to {kind}", daemon=True)
        self._thread.start()

    def log(self, row: Row) -> None:
        """Pass on one row of the metrics; it has a "step"."""
        if not self._thread.is_alive():
            self._warn("has stopped")
            return
        self._rows.put(dict(row))

    def close(self, *, seconds: float = CLOSE_SECONDS) -> None:
        """Send what is left, for at most so many seconds. A second call does nothing."""
        self._rows.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._warn(f"is still sending after {seconds:g} s and is left behind")
        elif not self._ended.is_set():
            self._warn("has stopped")

    def _work(self) -> None:
        """Start with the first row, which says where a resumed run stands, and send until `close`."""
        first = self._rows.get()
        if first is not None:
            send, finish = self._start(first)
            send(first)
            while (row := self._rows.get()) is not None:
                send(row)
            finish()
        self._ended.set()

    def _warn(self, what: str) -> None:
        if not self._warned:
            _log.warning("the mirror to %s %s; training goes on, and metrics.jsonl has every row", self._kind, what)
        self._warned = True


def open_mirror(kind: str | None, run: Run, folder: Path) -> Mirror | None:
    """A mirror of a run's metrics; None where `kind` is None. `folder` is the run's: local files are kept there.

    Raises:
        ValueError: an unknown kind, or a package that is not installed.
    """
    if kind is None:
        return None
    if kind not in get_args(Kind):
        raise ValueError(f"mirror={kind!r}; expected one of {', '.join(get_args(Kind))}")
    try:
        package = importlib.import_module("torch.utils.tensorboard" if kind == "tensorboard" else kind)
    except ImportError as error:
        raise ValueError(
            f"the mirror to {kind} needs a package that is not here ({error}); pip install {kind}"
        ) from None
    start = {"wandb": _wandb, "trackio": _trackio, "tensorboard": _tensorboard}[kind]
    return Mirror(kind, lambda first: start(package, run, folder, first))


def _wandb(package: Any, run: Run, folder: Path, first: Row) -> tuple[Send, Finish]:
    """The digest is the id, so that a resumed run, on whatever machine, goes on in its own record."""
    del first
    record = package.init(
        project=f"{PROJECT}-{run.scale}",
        id=run.digest(),
        name=run.name(),
        group=run.study,
        config=encode(run),
        dir=str(folder),
        resume="allow",
        # Its default is to wait without end for an upload, also when the process exits.
        settings={"finish_timeout": CLOSE_SECONDS},
    )
    record.define_metric("step")
    record.define_metric("*", step_metric="step")
    return record.log, record.finish


def _trackio(package: Any, run: Run, folder: Path, first: Row) -> tuple[Send, Finish]:
    """Its records lie where TRACKIO_DIR says, of all runs together; "step" is a reserved word among its metrics."""
    del folder, first
    record = package.init(
        project=f"{PROJECT}-{run.scale}", name=run.name(), group=run.study, config=encode(run), resume="allow"
    )
    return lambda row: record.log({k: v for k, v in row.items() if k != "step"}, step=row["step"]), record.finish


def _tensorboard(package: Any, run: Run, folder: Path, first: Row) -> tuple[Send, Finish]:
    """Event files beside the metrics; what a killed process wrote from the first row's step on is hidden."""
    del run
    writer = package.SummaryWriter(log_dir=str(folder / "tensorboard"), purge_step=first["step"])

    def send(row: Row) -> None:
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)):
                writer.add_scalar(name, value, row["step"])
        writer.flush()

    return send, writer.close
