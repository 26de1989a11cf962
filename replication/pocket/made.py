"""Models that this project makes itself, once on a machine.

    ${XDG_CACHE_HOME:-~/.cache}/lora-learns-less/models/<name>-<digest>

The digest is of what the model is made from and of the file that makes it, so a changed recipe never meets an old
model. Whoever comes first makes it, under a lock; the others wait. The folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path

from replication.runs import RunDir, atomic_folder, locked


def folder(name: str, ingredients: object, make: Callable[[Path], None]) -> Path:
    """The folder of a model; `make` fills an empty one where it is not there yet.

    Args:
        ingredients: all that decides the model, beside the file in which `make` stands, as plain JSON values.
    """
    recipe = Path(inspect.getfile(make)).read_bytes()
    digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode() + recipe).hexdigest()[:12]
    path = home() / f"{name}-{digest}"
    if path.is_dir():
        return path
    with locked(RunDir(path.with_name(f".{path.name}")), wait=True):
        if not path.is_dir():
            with atomic_folder(path) as partial:
                make(partial)
    return path


def home() -> Path:
    """Where made models lie."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lora-learns-less" / "models"
