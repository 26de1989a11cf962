"""Streaming a pair: kept by content, resumed after a kill, in order, and the threads left as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis import cache, pair

COUNT = 6


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
        tensors = {f"model.layers.{i}.q_proj.weight": torch.randn(24, 40, generator=generator) for i in range(COUNT)}
        save_file(tensors, tmp_path / name / "model.safetensors")
        made.append(tmp_path / name)
    return made[0], made[1]


def _count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a change is really computed; the list grows by one each time."""
    calls: list[int] = []
    solver = pair.SOLVERS["change"]
    monkeypatch.setitem(pair.SOLVERS, "change", lambda *given: (calls.append(1), solver(*given))[1])
    return calls


def test_a_second_run_computes_nothing_and_finds_the_same(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, works = _count(monkeypatch), pair.of_change(*folders)
    first = list(pair.stream(works, tmp_path / "cache"))
    second = list(pair.stream(works, tmp_path / "cache"))
    assert len(calls) == COUNT
    for one, two in zip(first, second, strict=True):
        assert (one.matrix, one.found.shape, one.found.floor, one.found.edge) == (
            two.matrix, two.found.shape, two.found.floor, two.found.edge
        )  # fmt: skip
        assert np.array_equal(one.found.values, two.found.values)
        assert pair.row(one, {}) == pair.row(two, {})


def test_a_run_cut_off_loses_at_most_the_matrices_at_hand(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, works = _count(monkeypatch), pair.of_change(*folders)
    solver, limit = pair.SOLVERS["change"], 4

    def dies(tensors: tuple[torch.Tensor, ...], scaling: float) -> pair.Solved:
        if len(calls) == limit:
            raise KeyboardInterrupt
        return solver(tensors, scaling)

    monkeypatch.setitem(pair.SOLVERS, "change", dies)
    with pytest.raises(KeyboardInterrupt):
        list(pair.stream(works, tmp_path / "cache"))
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == limit
    limit = -1
    assert len(list(pair.stream(works, tmp_path / "cache"))) == COUNT
    assert len(calls) == COUNT
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_results_belong_to_the_bytes_not_to_the_files(folders: tuple[Path, Path], tmp_path: Path) -> None:
    work = pair.of_change(*folders)[0]
    pair.solve(work, tmp_path / "cache")
    known = set((tmp_path / "cache").rglob("*.npz"))
    folders[0].rename(tmp_path / "elsewhere")
    pair.solve(pair.of_change(tmp_path / "elsewhere", folders[1])[0], tmp_path / "cache")
    assert set((tmp_path / "cache").rglob("*.npz")) == known


def test_keys_tell_apart_values_dtypes_shapes_order_and_kinds() -> None:
    a, b = torch.arange(6.0), torch.ones(6)
    keys = [
        cache.key("change", (a, b)), cache.key("change", (b, a)), cache.key("matrix", (a, b)),
        cache.key("change", (a.reshape(2, 3), b)), cache.key("change", (a.view(torch.int32), b)),
        cache.key("change", (a + torch.eye(6)[0] * 1e-6, b)),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert cache.key("change", (a.clone(), b)) == keys[0]


def test_several_threads_keep_the_order_and_are_given_back(folders: tuple[Path, Path]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = [spectrum.matrix for spectrum in pair.stream(pair.of_change(*folders))]
        assert found == [(i, "q_proj") for i in range(COUNT)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_the_cpu_finds() -> None:
    from analysis import singular

    matrix = torch.randn(600, 900, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.svdvals(matrix.double()).numpy()
    assert singular.of_dense(matrix) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_kept_result_that_was_cut_short_is_solved_again(tmp_path: Path, size: int) -> None:
    cache.save(tmp_path, "ab", {"values": np.arange(50.0)})
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:size])
    assert cache.load(tmp_path, "ab") is None
