"""Every random stream of a run, derived from its seed and a purpose.

Streams are named, so that adding one never shifts another, and a resumed run needs no saved generator state: the
stream of step 193 is the same whether or not step 192 ran in this process.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, as in `derive(run.seed, "dropout", step)`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """A numpy generator for one purpose."""
    return np.random.default_rng(derive(seed, *purpose))
