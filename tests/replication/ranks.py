"""Train encoded Runs, one after the other, on every rank of a launcher; rank 0 writes the losses as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from replication.encoding import decode
from replication.train import train


def main(request: Path) -> None:
    content = json.loads(request.read_text())
    losses: dict[str, list[float]] = {}
    for label, encoded in content["runs"].items():
        seen: list[float] = []
        train(
            decode(encoded),
            Path(content["root"]) / label,
            watch=lambda p, seen=seen: seen.append(p.loss),
            save_seconds=float(os.environ.get("SAVE_SECONDS", "60")),
        )
        losses[label] = seen
    if losses and any(losses.values()):
        request.with_suffix(".losses").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
