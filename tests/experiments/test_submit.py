"""The chain of jobs that one command submits, against a stand-in for sbatch that writes down what it was asked."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from experiments import grid, scales, studies
from experiments.__main__ import main

SBATCH = """#!/bin/bash
echo "$SBATCH_PARTITION|$*" >> asked
number=$((100 + $(wc -l < asked)))
[[ "$number" = "$REFUSE" ]] && { echo "Invalid account" >&2; exit 1; }
echo "$number;cluster"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's root with settings of a site, and an sbatch on the path."""
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "env.sh").write_text('export SBATCH_PARTITION="${SBATCH_PARTITION:-gpu}"\n')
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(SBATCH)
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_chain_trains_evaluates_and_collects_in_this_order(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "cpt_code", "--scale", "paper"]) == 0
    asked = [line.split("|")[1].split() for line in (site / "asked").read_text().splitlines()]
    scripts = [words[-1].removeprefix("slurm/").removesuffix(".sh") for words in asked]
    assert scripts == ["cpt_lora", "cpt_full", "eval", "eval", "spectra", "study"]
    waits = [next((w.split("=")[1] for w in words if w.startswith("--dependency")), None) for words in asked]
    assert waits == [None, None, "afterok:101", "afterok:102", "afterok:103:104", "afterok:105"]
    arrays = [next((w.split("=")[1] for w in words if w.startswith("--array")), None) for words in asked]
    assert arrays == ["0-2", "0-0", "0-2", "0-0", None, None]
    assert "--export=ALL,SCALE=paper,SEEDS=1,RUNS=runs,SETTING=cpt_code,METHOD=lora" in asked[0]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["101", "102", "103", "104", "105", "106"]
    assert all(line.split()[2:] == words for line, words in zip(printed, asked, strict=True))


def test_the_sites_settings_reach_sbatch_and_the_users_own_come_first(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["submit", "ift_code"]) == 0
    monkeypatch.setenv("SBATCH_PARTITION", "mine")
    assert main(["submit", "ift_code"]) == 0
    partitions = [line.split("|")[0] for line in (site / "asked").read_text().splitlines()]
    assert partitions == ["gpu"] * 6 + ["mine"] * 6


def test_a_whole_study_submits_every_point_of_every_setting_once(site: Path) -> None:
    assert main(["submit", "study", "--scale", "paper", "--seeds", "2", "--nodes", "4"]) == 0
    lines = [line for line in (site / "asked").read_text().splitlines() if "/cpt_" in line or "/ift_" in line]
    tasks = sum(int(line.split("--array=0-")[1].split()[0]) + 1 for line in lines)
    assert tasks == len(grid.points(studies.runs("study", scales.load("paper"), seeds=2), None))
    assert all("--nodes=4" in line for line in lines)


def test_a_dry_run_is_a_shell_script_that_submits_the_same(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "study", "--dry-run", "--runs", "my runs/$(touch pwned)"]) == 0
    script = capsys.readouterr().out
    assert not (site / "asked").exists()
    # `sbatch --parsable` names the cluster too where there are several; a plain one prints the number alone.
    (site / "bin" / "sbatch").write_text(SBATCH.replace(";cluster", ""))
    subprocess.run(["bash", "-c", script], check=True, cwd=site)
    spoken = (site / "asked").read_text()
    (site / "asked").unlink()
    assert main(["submit", "study", "--runs", "my runs/$(touch pwned)"]) == 0
    assert (site / "asked").read_text() == spoken
    assert not (site / "pwned").exists()


def test_a_refused_job_tells_how_to_take_back_the_others(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFUSE", "103")
    assert main(["submit", "cpt_code"]) == 1
    assert "Invalid account; take back the others with: scancel 101 102" in capsys.readouterr().err


def test_without_sbatch_or_settings_nothing_is_tried(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "slurm" / "env.sh").unlink()
    assert main(["submit", "cpt_code"]) == 2
    assert "from the root of the repository" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(site))
    assert main(["submit", "cpt_code"]) == 2
    assert "sbatch is not here" in capsys.readouterr().err


def test_a_value_with_a_comma_is_refused(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "cpt_code", "--runs", "a,b"]) == 2
    assert "RUNS='a,b'" in capsys.readouterr().err
