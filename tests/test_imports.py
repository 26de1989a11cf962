"""The floors of the house, read off the source text: imports point down, and nothing shadows a library."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS: dict[str, float] = {
    "replication.fields": -0.2,
    "replication.method": -0.1,
    "replication.config": 0,
    "replication.f1": 0,
    "replication.specs": 0.1,
    "replication.encoding": 0.2,
    "replication.profiles": 0.3,
    "replication.suite": 0.5,
    "replication.scale": 1,
    "replication.seeding": 0,
    "replication.preemption": 0,
    "replication.ranks": 0,
    "replication.shapes": 0.5,
    "replication.memory": 0.6,
    "replication.attention": 3,
    "replication.kernels": 3.5,
    "replication.mirror": 3,
    "replication.state": 4.5,
    "replication.provenance": 0,
    "replication.stats": 0,
    "replication.runs": 1,
    "replication.results": 2,
    "replication.optim": 3,
    "replication.health": 3,
    "replication.models": 2,
    "replication.data": 2,
    "replication.pocket": 3,
    "replication.methods": 2.9,
    "replication.evals": 3,
    "replication.tasks": 4,
    "replication.engine": 5,
    "replication.costs": 3,
    "replication.gradients": 5.2,
    "replication.checkpoints": 5,
    "replication.train": 6,
    "replication.evaluate": 6,
    "replication.gates": 5.5,
    "replication.rescore": 6,
    "replication.doctor": 6.5,
    "replication.benchmark": 7,
    "experiments": 7,
    "analysis": 8,
    "paper_figures": 9,
}
# Files that may be imported without torch: what plans, collects and draws must start at once on any machine.
TORCH_FREE = (
    "replication.fields",
    "replication.method",
    "replication.config",
    "replication.specs",
    "replication.encoding",
    "replication.profiles",
    "replication.suite",
    "replication.scale",
    "replication.seeding",
    "replication.ranks",
    "replication.preemption",
    "replication.provenance",
    "replication.pocket.recordings",
    "replication.pocket.tweet_files",
    "replication.shapes",
    "replication.memory",
    "replication.runs",
    "replication.results",
    "replication.stats",
)
PACKAGES = ("replication", "experiments", "analysis", "paper_figures")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(module: str) -> tuple[str, float]:
    """The longest known prefix of a module and its floor."""
    fits = [name for name in FLOORS if module == name or module.startswith((name + ".", name + "_"))]
    assert fits, f"{module} stands on no floor; add it to FLOORS"
    room = max(fits, key=len)
    return room, FLOORS[room]


def imports_of(path: Path, *, top_level: bool = False) -> list[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def test_there_are_files_to_check() -> None:
    assert len(FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path: Path) -> None:
    module = module_of(path)
    # An entry point stands above everything that its package may reach; nothing may import it.
    if module in PACKAGES or module.endswith("__main__"):
        return
    room, floor = floor_of(module)
    for name in imports_of(path):
        if name.split(".")[0] in PACKAGES and name not in PACKAGES:
            other, below = floor_of(name) if name.split(".")[0] != name else (name, 99)
            assert other == room or below < floor or (below == floor == 5), (
                f"{module} (F{floor}) imports {name} (F{below})"
            )


@pytest.mark.parametrize(
    "path", [p for p in FILES if module_of(p).startswith(("experiments", "paper_figures"))], ids=module_of
)
def test_planning_and_drawing_import_no_torch(path: Path) -> None:
    for name in imports_of(path, top_level=True):
        head = name.split(".")[0]
        assert head not in ("torch", "transformers", "peft", "deepspeed", "datasets"), f"{path.name} imports {name}"
        if head == "replication":
            assert name.startswith(TORCH_FREE), f"{path.name} imports {name}, which loads torch"


@pytest.mark.parametrize("path", [p for p in FILES if "paper_figures" in p.parts], ids=module_of)
def test_drawing_does_no_statistics(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.startswith(("scipy", "replication.stats"))]


def test_no_script_shadows_a_library() -> None:
    # `python analysis/x.py` puts analysis/ first on the path.
    taken = set(sys.stdlib_module_names) | {
        "datasets",
        "evaluate",
        "torch",
        "numpy",
        "scipy",
        "peft",
        "vllm",
        "accelerate",
    }
    assert not [path for path in (ROOT / "analysis").glob("*.py") if path.stem in taken]


def test_nothing_imports_an_entry_point() -> None:
    assert not [(path, name) for path in FILES for name in imports_of(path) if "__main__" in name]


def test_no_room_is_a_drawer_of_leftovers() -> None:
    assert not [path for path in FILES if path.stem in ("utils", "common", "helpers", "misc")]
