import importlib.util
import io
import json
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replication import benchmark
from replication.benchmark import Child, Ratio, Speed, table
from replication.benchmark_loops import PROMPT, READY, RESPONSE, Baton, Plan, instructions, run_of
from replication.pocket import pretrain

PLAN = Plan("ours", "nowhere", "cpt", threads=1, seed=0, warm=2, segment=3, rounds=2, batch=2, seq_len=64)


def test_a_segment_counts_its_own_steps_and_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr("time.process_time", lambda: 0.5)
    monkeypatch.setattr("sys.stdin", io.StringIO("go\ngo\n"))
    baton = Baton(PLAN)
    for tokens in (1000, 1000, 1, 2, 3, 10, 20, 30):
        baton.step(tokens)
    ready, *reports = capsys.readouterr().out.splitlines()
    assert ready == READY
    # The clock ticks once per look at it: once when a segment begins, once when it ends.
    assert [json.loads(line) for line in reports] == [
        {"tokens": 6, "seconds": 1.0, "cpu_seconds": 0.0},
        {"tokens": 60, "seconds": 1.0, "cpu_seconds": 0.0},
    ]


def test_a_child_stops_when_its_parent_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    baton = Baton(PLAN)
    baton.step(1)
    with pytest.raises(SystemExit):
        baton.step(1)


def test_the_rows_are_as_ragged_as_codealpaca() -> None:
    for column, (mean, spread) in (("prompt", PROMPT), ("response", RESPONSE)):
        logs = np.log([len(row[column].split()) for row in instructions()])
        assert abs(logs.mean() - mean) < 0.05
        assert abs(logs.std() - spread) < 0.05


def test_both_sides_of_a_ratio_train_the_same_run() -> None:
    ours, theirs = run_of(PLAN), run_of(replace(PLAN, loop="bare"))
    assert replace(theirs, study=ours.study) == ours
    assert ours.budget.amount == 2 + 3 * 2


def test_no_two_children_of_one_session_share_a_run_folder() -> None:
    plans = [replace(PLAN, data="ift"), *(replace(PLAN, seed=seed) for seed in range(4)), replace(PLAN, loop="bare")]
    assert len({run_of(plan).name() for plan in plans}) == len(plans)


def test_the_ratio_is_the_median_over_turns_not_the_ratio_of_medians() -> None:
    speeds = {"a": [Speed(10, 1), Speed(40, 1), Speed(90, 1)], "b": [Speed(10, 2), Speed(10, 2), Speed(30, 2)]}
    ratio = benchmark._ratio("x", "a / b", speeds, "a", "b", 3.5)
    assert (ratio.low, ratio.value, ratio.high) == (1, 3, 4)
    assert statistics.median((10, 40, 90)) / statistics.median((10, 10, 30)) == 4
    assert ratio.detail["ratio by processor time"] == 0.5
    assert ratio.verdict == "MISSED"


def test_the_table_shows_unit_target_and_verdict() -> None:
    shown = table([Ratio("loop", "ours / bare", 0.97, 0.9, 1.1, 0.95, {"ours, tokens/s": 8123.4})])
    assert "0.97  (0.90 to 1.10)  >= 0.95  reached" in shown
    assert "ours, tokens/s" in shown
    assert "8,123" in shown


def test_a_comparison_of_unlike_things_reaches_no_target() -> None:
    assert "INVALID" in table([Ratio("sandbox", "ours / theirs", 9.0, None, None, 5.0, {}, valid=False)])


def test_a_loop_that_dies_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = "import sys; print('chatter'); sys.exit('no memory left')"
    with log.open("w") as stderr:
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=stderr, text=True)
    child = Child(PLAN, process, log)
    with pytest.raises(RuntimeError, match="'ours' ended early: no memory left"):
        child.ready()
    child.close()


@pytest.mark.slow
def test_loops_take_their_turns(tmp_path: Path) -> None:
    peer = "trl_packing" if importlib.util.find_spec("trl") else "trainer_padding"
    pretrain.save_untrained(tmp_path / "model")
    plan = replace(PLAN, folder=str(tmp_path), data="ift", warm=1, segment=1)
    speeds = benchmark._measure({loop: [replace(plan, loop=loop)] for loop in ("ours", peer)})
    assert {loop: len(each) for loop, each in speeds.items()} == {"ours": 2, peer: 2}
    assert all(speed.wall > 0 and speed.processor > 0 for each in speeds.values() for speed in each)
