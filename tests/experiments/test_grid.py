"""Grid points: what one array task trains."""

from __future__ import annotations

import pytest

from experiments import grid, scales, studies

POCKET = scales.load("pocket")


def test_a_trunk_and_its_branches_are_one_point_parents_first() -> None:
    points = grid.points(studies.runs("cpt_code", POCKET, seeds=1), "lora")
    assert len(points) == 3
    for trunk, *branches in points:
        assert trunk.branch is None and len(branches) == 4
        assert {run.branch.parent for run in branches if run.branch} == {trunk.name()}


def test_every_run_is_in_exactly_one_point_of_the_two_methods() -> None:
    runs = studies.runs("study", POCKET, seeds=2)
    named = [run.name() for method in ("full", "lora") for p in grid.points(runs, method) for run in p]  # type: ignore[arg-type]
    assert sorted(named) == sorted(run.name() for run in runs)


def test_the_points_of_one_seed_are_the_first_of_two() -> None:
    one, two = (grid.points(studies.runs("ift_math", POCKET, seeds=n), "lora") for n in (1, 2))
    assert two[: len(one)] == one and len(two) == 2 * len(one)


@pytest.mark.parametrize("index", [-1, 9])
def test_an_index_outside_the_grid_is_told_its_size(index: int) -> None:
    with pytest.raises(ValueError, match="9 points of method lora; pass sbatch --array=0-8"):
        grid.point(studies.runs("ift_code", POCKET, seeds=1), "lora", index)
