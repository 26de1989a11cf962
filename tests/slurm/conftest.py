"""The Slurm of two nodes that the tests of this folder share: booted once, stopped at the end."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _cluster() -> ModuleType:
    """The module beside this file; tests are not packages."""
    spec = importlib.util.spec_from_file_location("slurm_cluster", Path(__file__).with_name("cluster.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["slurm_cluster"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def slurm() -> Iterator[object]:
    """A running Slurm of the nodes n1 and n2, or a skip with its reason."""
    cluster = _cluster()
    if reason := cluster.missing():
        pytest.skip(reason)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    variables |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(cluster.ROOT)}
    # Of pytest's own folders the path may be too long for munge's socket (108 bytes).
    with tempfile.TemporaryDirectory(prefix="slurm-") as at, cluster.started(Path(at), variables) as going:
        yield going
