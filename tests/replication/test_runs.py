"""The run directory: what a crash, a full disk, a second process or a changed config may do to it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import studies
from experiments.scales import POCKET
from replication import runs
from replication.config import Run
from replication.runs import RunDir, find_runs, locked, open_run, recorded


@pytest.fixture
def run() -> Run:
    return studies.runs("ift_code", POCKET, seeds=1)[0]


def test_the_same_run_is_reopened_and_another_of_its_name_refused(run: Run, tmp_path: Path) -> None:
    folder = open_run(run, tmp_path)
    assert open_run(run, tmp_path) == folder
    assert folder.run == run
    with pytest.raises(ValueError, match=r"grad_clip 1\.0 -> 2\.0"):
        open_run(replace(run, grad_clip=2.0), tmp_path)


def test_an_error_is_recorded_and_raised_again(run: Run, tmp_path: Path) -> None:
    folder = open_run(run, tmp_path)
    with pytest.raises(RuntimeError, match="boom"), recorded(folder):
        raise RuntimeError("boom")
    assert (folder.status, folder.manifest["error"]) == ("failed", "RuntimeError: boom")


def test_running_out_of_memory_has_its_own_status(run: Run, tmp_path: Path) -> None:
    folder = open_run(run, tmp_path)
    with pytest.raises(RuntimeError), recorded(folder):
        raise RuntimeError("CUDA out of memory")
    assert folder.status == "oom"


def test_a_full_disk_leaves_the_old_manifest_whole(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_run(run, tmp_path)
    before = folder.manifest

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runs.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), recorded(folder):
        raise AssertionError("never reached: the first update already fails")
    assert folder.manifest == before


def test_a_second_process_is_told_that_the_run_is_in_use(run: Run, tmp_path: Path) -> None:
    folder = open_run(run, tmp_path)
    code = "import sys, pathlib\nfrom replication.runs import RunDir, locked\n"
    code += "with locked(RunDir(pathlib.Path(sys.argv[1]))): pass"
    with locked(folder):
        other = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True)
    assert other.returncode != 0 and "in use by another process" in other.stderr
    assert subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True).returncode == 0


def test_a_damaged_manifest_is_named(run: Run, tmp_path: Path) -> None:
    folder = open_run(run, tmp_path)
    (folder.path / "manifest.json").write_text('{"status": "run')
    with pytest.raises(ValueError, match=r"manifest\.json is not valid JSON"):
        open_run(run, tmp_path)


def test_metrics_past_the_checkpoint_and_a_torn_line_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s}) + "\n" for s in (1, 10, 20)) + '{"step": 3')
    runs.drop_lines_after(path, 10)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 10]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), runs.atomic_folder(tmp_path / "eval") as partial:
        (partial / "half").write_text("x")
        raise RuntimeError("killed")
    assert not (tmp_path / "eval").exists()
    with runs.atomic_folder(tmp_path / "eval") as partial:
        (partial / "whole").write_text("x")
    assert [p.name for p in (tmp_path / "eval").iterdir()] == ["whole"]


def test_runs_are_found_by_scale_and_study(run: Run, tmp_path: Path) -> None:
    open_run(run, tmp_path)
    other = open_run(replace(run, study="cpt_code"), tmp_path)
    assert len(find_runs(tmp_path, scale="pocket")) == 2
    assert find_runs(tmp_path, scale="pocket", study="cpt_code") == [other]
    assert find_runs(tmp_path, scale="elsewhere") == []
    assert RunDir(tmp_path / "nothing").status == "absent"
