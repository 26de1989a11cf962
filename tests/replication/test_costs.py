"""What a run costs: the peak of memory of the run alone, the median step."""

from __future__ import annotations

import sys

import pytest
import torch

from replication import costs
from replication.costs import Costs, forget_peak


@pytest.mark.skipif(sys.platform != "linux" or torch.cuda.is_available(), reason="resident memory of Linux")
def test_the_peak_is_what_was_added_since_and_forgets_what_came_before() -> None:
    earlier = torch.ones(60_000_000)  # 240 MB
    floor = forget_peak()
    assert floor is not None
    assert costs.peak_gb() - floor < 0.05
    del earlier
    floor = forget_peak()
    assert floor is not None
    passing = torch.ones(30_000_000)  # 120 MB
    del passing
    assert costs.peak_gb() - floor == pytest.approx(0.12, abs=0.03)


def test_where_no_peak_can_be_measured_none_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(costs, "_CLEAR", costs.Path("/nowhere/clear_refs"))
    if not torch.cuda.is_available():
        assert forget_peak() is None
    assert "peak_memory_gb" not in Costs(None, [1.0]).record({}, {})


def test_the_first_steps_are_no_part_of_the_median_and_moved_tensors_are_counted() -> None:
    before, after = {"a": (1.0, 1.0), "b": (2.0, 2.0)}, {"a": (1.0, 1.0), "b": (3.0, 3.0)}
    found = Costs(None, [9.0, 9.0, 9.0, 1.0, 3.0, 2.0], {"a": 0.5}).record(before, after)
    assert (found["step_seconds"], found["moved"], found["tensors"]) == (2.0, 1, 2)
    assert found["gradient_norms"] == {"a": 0.5}
