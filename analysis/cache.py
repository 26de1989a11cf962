"""Results of costly computations on tensors, kept by the content of what went in.

The key is a SHA-256 of what is computed, the version of the computation, and the bytes, dtype and shape of each tensor.
So the same weights in other files, shards or folders are found again (the base of every run, say), and changed weights
never are. One file per result, written under another name and moved into place: a process that is killed loses the
matrix at hand and no other.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import torch


def key(what: str, tensors: tuple[torch.Tensor, ...]) -> str:
    """The name of a result: a digest of what is computed and of all that it is computed from."""
    digest = hashlib.sha256(what.encode())
    for tensor in tensors:
        digest.update(f"|{tensor.dtype} {tuple(tensor.shape)}|".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(folder: Path, name: str) -> dict[str, np.ndarray] | None:
    """The arrays kept under a name, or None; a file cut short (by a full disk, say) counts as none."""
    try:
        # Opened here, so that it is closed even where numpy cannot make a table of contents of it.
        with _place(folder, name).open("rb") as file, np.load(file) as content:
            return dict(content)
    except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile):
        return None


def save(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Keep arrays under a name; whoever reads sees all of them or none."""
    place = _place(folder, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f"{place.name}.{os.getpid()}-{threading.get_ident()}.partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(partial, place)


def _place(folder: Path, name: str) -> Path:
    return folder / name[:2] / f"{name}.npz"
