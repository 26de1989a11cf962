"""The benchmark over batch sizes: what it runs, what it writes, and one configuration trained for real."""

from __future__ import annotations

import io
import json
import resource
from pathlib import Path

import pytest

from replication import benchmark_batch
from replication.benchmark import Speed
from replication.benchmark_batch import Config, configs, peak_memory, progress, row_of, table
from replication.benchmark_loops import READY
from replication.config import Full, LoRA


def grid_of(folder: Path, model: str = "nowhere") -> list[list[Config]]:
    return configs(model, (1, 16), (1, 64), str(folder), seq_len=64, rounds=2, threads=1)


def test_every_batch_size_has_every_arm_and_a_run_of_its_own(tmp_path: Path) -> None:
    groups = grid_of(tmp_path)
    assert [[c.arm for c in group] for group in groups] == [["full", "r1", "r16"]] * 2
    runs = [c.run() for group in groups for c in group]
    assert len({run.name() for run in runs}) == 6 and len({c.memory for g in groups for c in g}) == 6
    assert [run.method for run in runs[:3]] == [Full(), LoRA(1, 2, dropout=0.0), LoRA(16, 32, dropout=0.0)]
    assert {run.micro_batch for run in runs[3:]} == {64}
    # A turn trains at least sixteen sequences.
    assert [group[0].plan.segment for group in groups] == [16, 1]


def test_a_row_has_the_fastest_turn_and_the_memory_that_was_left(tmp_path: Path) -> None:
    config = grid_of(tmp_path)[0][1]
    config.memory.write_text(json.dumps({"floor": 3e8, "peak": 7e8}))
    row = row_of(config, [Speed(100, 50), Speed(300, 40)], "cpu")
    assert (row.tokens_per_s, row.low, row.high, row.tokens_per_cpu_s, row.repeats) == (300, 100, 300, 50, 2)
    assert (row.arm, row.rank, row.batch, row.seq_len) == ("r1", 1, 1, 64)
    assert (row.floor_memory_gb, row.peak_memory_gb) == pytest.approx((0.3, 0.7))
    assert "(100 to 300)" in table([row])


def test_the_bar_says_how_long_it_takes_still() -> None:
    assert progress(50, 100, 30.0) == "[##########..........]  50%  30 s left"


def test_the_peak_lies_between_what_is_held_and_what_the_kernel_counts() -> None:
    held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    # The kernel's own count survives exec, so it may be that of whoever started this process.
    assert held <= peak_memory() <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 1e7


def test_a_configuration_trains_in_turns_and_leaves_its_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configs(str(tiny_model), (2,), (8,), str(tmp_path), seq_len=32, rounds=2, threads=1)[0][1]
    monkeypatch.setattr("sys.stdin", io.StringIO("go\n" * 3))
    benchmark_batch.child(config)
    lines = capsys.readouterr().out.splitlines()
    reports = [json.loads(line) for line in lines if line.startswith('{"tokens"')]
    assert READY in lines and [r["tokens"] for r in reports] == [2 * 8 * 32] * 2
    left = json.loads(config.memory.read_text())
    assert 0 < left["floor"] <= left["peak"]
