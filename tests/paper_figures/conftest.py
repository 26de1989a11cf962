"""The made-up study, written once for all tests of the figures."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from paper_figures import rows as table


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The generator of rows; loaded by path because test folders are not packages."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("rows.py"))))


@pytest.fixture
def study(toy: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A complete study on disk and loaded: scale, analysis, results, inputs."""
    scale = toy.make_scale()
    analysis, results = toy.write_tables(tmp_path, scale)
    inputs = table.load(scale, analysis=analysis, results=results)
    return SimpleNamespace(scale=scale, analysis=analysis, results=results, inputs=inputs, toy=toy)
