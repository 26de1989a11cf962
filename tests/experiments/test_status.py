"""Where runs stand, from their folders alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from experiments import status
from replication.runs import RunDir, locked


def folder(path: Path, **manifest: object) -> RunDir:
    path.mkdir(parents=True, exist_ok=True)
    (path / "manifest.json").write_text(json.dumps({"name": f"study/{path.name}", "error": None} | manifest))
    return RunDir(path)


def test_a_running_run_whose_process_is_gone_is_stopped(tmp_path: Path) -> None:
    run = folder(tmp_path / "a", status="running")
    with locked(run):
        assert status.state(run) == "running"
    assert status.state(run) == "stopped"


def test_looking_leaves_the_lock_free(tmp_path: Path) -> None:
    run = folder(tmp_path / "a", status="running")
    with locked(run):
        pass
    assert status.state(run) == "stopped"
    with locked(run):
        pass


def test_a_failed_run_shows_its_error_and_another_the_last_line_of_its_newest_log(tmp_path: Path) -> None:
    failed = folder(tmp_path / "a", status="failed", error="TrainingFailed: the loss\nis nan")
    assert status.words(failed) == "TrainingFailed: the loss is nan"
    stopped = folder(tmp_path / "b", status="running")
    logs = tmp_path / "b" / "logs"
    logs.mkdir()
    for age, (name, text) in enumerate({"9-rank0": "now\n\n", "10-rank0": "", "8-rank0": "before\n"}.items()):
        (logs / f"{name}.log").write_text(text)
        os.utime(logs / f"{name}.log", (1e9 - age, 1e9 - age))
    assert status.words(stopped) == "now"


def test_a_line_has_state_step_age_and_name(tmp_path: Path) -> None:
    run = folder(tmp_path / "a", status="preempted", steps=40)
    (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 10}\n{"step": 20}\n{"ste')
    os.utime(tmp_path / "a" / "metrics.jsonl", (time.time() - 7 * 60,) * 2)
    assert status.table([run]).split() == ["preempted", "20/40", "7m", "study/a"]


def test_a_run_without_metrics_has_no_age(tmp_path: Path) -> None:
    assert status.table([folder(tmp_path / "a", status="failed", error="why")]).split() == [
        "failed", "0/?", "-", "study/a", "why",
    ]  # fmt: skip
