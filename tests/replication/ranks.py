"""Train encoded Runs, one after the other, on every rank of a launcher; rank 0 writes the losses as JSON.

LEAVE_AT=n in the environment: at step n the machine is wanted back, as Slurm says it, and the run stops there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from replication import preemption
from replication.encoding import decode
from replication.train import Progress, train


def main(request: Path) -> None:
    content = json.loads(request.read_text())
    preemption.listen()
    losses: dict[str, list[float]] = {}
    for label, encoded in content["runs"].items():
        seen: list[float] = []

        def watch(progress: Progress, seen: list[float] = seen) -> None:
            seen.append(progress.loss)
            if progress.step == int(os.environ.get("LEAVE_AT", "0")):
                os.kill(os.getpid(), signal.SIGUSR1)

        with contextlib.suppress(preemption.Preempted):
            seconds = float(os.environ.get("SAVE_SECONDS", "60"))
            train(decode(encoded), Path(content["root"]) / label, watch=watch, save_seconds=seconds)
        preemption.forget()
        losses[label] = seen
    if losses and any(losses.values()):
        request.with_suffix(".losses").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
