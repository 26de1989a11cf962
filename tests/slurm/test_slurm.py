"""The scripts on a real Slurm of two nodes on this machine: through DeepSpeed, through preemption, to rows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from experiments import grid, scales, studies
from replication.runs import RunDir, folder_of
from tests.replication import speech_models

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(600)]

SCALE = "tests/scales/slurm_tiny.py"
TINY = scales.load(SCALE)
# The first point of the grid: a trunk of 40 steps with rungs at 16 and 40, and its two branches.
FIRST = grid.point(studies.runs("cpt_code", TINY, seeds=1), "lora", 0)


@pytest.fixture(scope="module")
def undisturbed(slurm: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the grid's first point, trained on two nodes without a disturbance."""
    root = tmp_path_factory.mktemp("undisturbed")
    slurm.wait(train(slurm, root))
    return root


@pytest.mark.parametrize("name", ["cpt_lora", "cpt_full", "ift_lora", "ift_full", "eval", "spectra", "study"])
def test_sbatch_takes_every_script_as_it_is(slurm: Any, name: str) -> None:
    slurm.ask("sbatch", "--test-only", f"slurm/{name}.sh")


@pytest.mark.parametrize(("partition", "ranks"), [("usual", 1), ("cards", 2)])
def test_one_process_starts_for_each_gpu_and_all_know_where_to_meet(
    slurm: Any, tmp_path: Path, partition: str, ranks: int
) -> None:
    script = tmp_path / "show.sh"
    show = "$SLURM_NODEID $SLURM_PROCID $SLURM_LOCALID $SLURM_STEP_NUM_TASKS $MASTER_ADDR $MASTER_PORT"
    script.write_text(
        "#!/bin/bash\n#SBATCH --nodes=2 --exclusive\n. slurm/launch.sh\n"
        f"everywhere bash -c 'echo {show} >> {tmp_path}/task-$SLURM_PROCID'\n"
    )
    number = slurm.submit(str(script), SBATCH_PARTITION=partition)
    slurm.wait(number)
    tasks = 2 * ranks
    told = [(tmp_path / f"task-{rank}").read_text().split() for rank in range(tasks)]
    assert [(int(node), int(local)) for node, _, local, *_ in told] == [divmod(r, ranks) for r in range(tasks)]
    assert {tuple(words[3:]) for words in told} == {(str(tasks), "127.0.0.1", str(20000 + number % 30000))}


def test_cpt_lora_completes_through_two_node_deepspeed(slurm: Any, undisturbed: Path) -> None:
    for run in FIRST:
        folder = folder_of(run, undisturbed)
        assert folder.status == "complete", slurm.words()
        logs = sorted((folder.path / "logs").glob("*-rank*.log"))
        assert [re.sub(r".*-", "", log.name) for log in logs] == ["rank0.log", "rank1.log"]
        assert f"step {folder.manifest['steps']}/{folder.manifest['steps']}" in logs[0].read_text()


def test_an_array_of_four_grid_points_completes(slurm: Any, tmp_path: Path) -> None:
    slurm.wait(train(slurm, tmp_path, "ift_lora", "--nodes=1", "--array=0-3"))
    points = grid.points(studies.runs("ift_code", TINY, seeds=1), "lora")
    assert len(points) == 4
    assert [folder_of(run, tmp_path).status for (run,) in points] == ["complete"] * 4


def test_a_job_told_to_leave_is_requeued_and_ends_bit_identical(slurm: Any, undisturbed: Path, tmp_path: Path) -> None:
    """USR1 to the tasks, as `--signal=USR1@120` sends it before the time limit."""
    number = train(slurm, tmp_path)
    until_step(slurm, tmp_path, number, 10)
    told = time.monotonic()
    slurm.ask("scancel", "--signal=USR1", str(number))
    slurm.wait(number, ["PENDING"], seconds=120)
    print(f"{time.monotonic() - told:.1f} s from USR1 to the queue")
    trunk = folder_of(FIRST[0], tmp_path)
    assert trunk.status == "preempted"
    assert 10 <= int(trunk.checkpoints()[-1].name[5:]) < trunk.manifest["steps"]
    release(slurm, number)
    slurm.wait(number)
    assert slurm.job(number)["Restarts"] == "1"
    equal(undisturbed, tmp_path)


def test_a_job_preempted_by_an_urgent_one_ends_bit_identical(slurm: Any, undisturbed: Path, tmp_path: Path) -> None:
    number = train(slurm, tmp_path)
    until_step(slurm, tmp_path, number, 10)
    told = time.monotonic()
    urgent = slurm.submit("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=true")
    slurm.wait(urgent, seconds=120)
    print(f"{time.monotonic() - told:.1f} s from the urgent job's arrival to its end")
    trunk = folder_of(FIRST[0], tmp_path)
    assert trunk.status == "preempted"
    assert 10 <= int(trunk.checkpoints()[-1].name[5:]) < trunk.manifest["steps"]
    release(slurm, number)
    slurm.wait(number)
    assert slurm.job(number)["Restarts"] == "1"
    equal(undisturbed, tmp_path)


def test_a_job_that_was_killed_resumes_on_resubmission(slurm: Any, undisturbed: Path, tmp_path: Path) -> None:
    killed = train(slurm, tmp_path)
    until_step(slurm, tmp_path, killed, 20)
    assert kill_ranks(slurm, killed) == 2
    slurm.wait(killed, ["FAILED"], seconds=120)
    trunk = folder_of(FIRST[0], tmp_path)
    assert told_by_status(tmp_path).split()[:2] == ["stopped", "20/40"]
    again = train(slurm, tmp_path)
    slurm.wait(again)
    words = (trunk.path / "logs" / f"{again}-rank0.log").read_text()
    assert "step 20/40" in words and "step 10/40" not in words  # it went on from the rung at 16
    equal(undisturbed, tmp_path)


def test_a_cancelled_job_stays_cancelled(slurm: Any, tmp_path: Path) -> None:
    """SIGTERM comes then too, and the ranks leave with their state saved; nothing may put the job back."""
    number = train(slurm, tmp_path, "cpt_lora", "--nodes=1")
    until_step(slurm, tmp_path, number, 10)
    slurm.ask("scancel", str(number))
    slurm.wait(number, ["CANCELLED"], seconds=120)
    assert folder_of(FIRST[0], tmp_path).status == "preempted"
    assert slurm.job(number)["Restarts"] == "0"


def test_a_failing_run_is_shown_as_failed_with_its_last_line(slurm: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import runpy\nfrom dataclasses import replace\n"
        f"TINY = runpy.run_path({SCALE!r})['SCALE']\n"
        "(name, setting) = TINY.settings[-1]\n"
        "endless = replace(setting.task, template='word ' * 500 + '{prompt}')\n"
        "SCALE = replace(TINY, settings=((name, replace(setting, task=endless)),))\n"
    )
    number = train(slurm, tmp_path, "ift_lora", "--nodes=1", SCALE=str(broken))
    slurm.wait(number, ["FAILED"])
    (line,) = told_by_status(tmp_path).splitlines()
    assert line.startswith("failed") and line.endswith("are prompts longer than seq_len?")


def test_the_chain_of_submit_ends_in_collected_rows(slurm: Any, tmp_path: Path) -> None:
    words = ("submit", "cpt_code", "--scale", SCALE, "--runs", str(tmp_path), "--nodes", "1")
    logs = {"SBATCH_OUTPUT": f"{slurm.at}/logs/%x-%A_%a.out"}
    done = experiments(*words, environment={**slurm.environment, **logs})
    assert done.returncode == 0, done.stderr
    numbers = [int(line.split()[0]) for line in done.stdout.splitlines()]
    assert len(numbers) == 6
    slurm.wait(numbers[-1], seconds=500)
    rows = [json.loads(line) for line in (tmp_path / "results/slurm_tiny/cpt_code.jsonl").read_text().splitlines()]
    runs = studies.runs("cpt_code", TINY, seeds=1)
    assert {row["run"] for row in rows} == {run.name() for run in runs if run.evals}
    assert (tmp_path / "analysis/slurm_tiny/spectra.jsonl").is_file()


def test_a_side_study_on_ones_own_model_goes_from_training_to_its_figure_in_one_job(slurm: Any, tmp_path: Path) -> None:
    speech_models.english(tmp_path / "model")
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom experiments import whisper\nfrom replication.config import Source\n"
        "train, test = (Source(f'python:tests.replication.speech_models:{part}') for part in ('train', 'test'))\n"
        f"own = whisper.desk('mine', model={str(tmp_path / 'model')!r}, language=None, train=train, validation=train,\n"
        "                   test=test)\n"
        "short = {'wer': {'max_tokens': 8}, 'validation': {'max_tokens': 8},\n"
        "         'speed': {'tokens': 3, 'batch': 2, 'turns': 2}}\n"
        "((name, setting),) = own.settings\n"
        "SCALE = replace(own, settings=((name, replace(setting, seq_len=16)),),\n"
        "                evals=tuple(replace(spec, **short[spec.name]) for spec in own.evals))\n"
    )
    number = slurm.submit(
        "slurm/study.sh", "whisper", SCALE=str(tmp_path / "mine.py"), RUNS=str(tmp_path / "runs"), SEEDS="2"
    )
    slurm.wait(number, seconds=400)
    rows = [json.loads(line) for line in (tmp_path / "runs/results/mine/runs.jsonl").read_text().splitlines()]
    assert sorted(row["seed"] for row in rows) == [0] * 4 + [1] * 4  # full, LoRA on some linears, on all, over 8 bits
    assert (tmp_path / "runs/analysis/mine/side_whisper_effects.jsonl").is_file()
    assert (tmp_path / "runs/figures/mine/side_whisper.png").stat().st_size > 10_000


# ---------------------------------------------------------------- what the tests say in a line


def train(slurm: Any, root: Path, script: str = "cpt_lora", *options: str, **variables: str) -> int:
    """Submit a training script; the first grid point alone unless an --array is given."""
    array = () if any(option.startswith("--array") for option in options) else ("--array=0",)
    return slurm.submit(*array, *options, f"slurm/{script}.sh", **{"SCALE": SCALE, "RUNS": str(root), **variables})


def until_step(slurm: Any, root: Path, number: int, step: int) -> None:
    """Wait until the trunk has logged that step."""
    file = folder_of(FIRST[0], root).path / "metrics.jsonl"
    until = time.monotonic() + 200
    while not (file.is_file() and f'"step": {step},' in file.read_text()):
        assert slurm.job(number)["JobState"] in ("PENDING", "RUNNING") and time.monotonic() < until, slurm.words()
        time.sleep(0.05)


def kill_ranks(slurm: Any, number: int) -> int:
    """SIGKILL to every rank of a job, as a kernel out of memory sends it; how many there were."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words, variables = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            wanted = {f"SLURM_CONF={slurm.at}/slurm.conf".encode(), f"SLURM_JOB_ID={number}".encode()}
            if Path(os.fsdecode(words[0])).name.startswith("python") and wanted <= set(variables):
                os.kill(int(process.name), signal.SIGKILL)
                count += 1
    return count


def release(slurm: Any, number: int) -> None:
    """Slurm lets a requeued job wait for two minutes; the tests for two seconds.

    Within the same second a node takes the job's new credential for the one that was revoked.
    """
    time.sleep(2)
    slurm.ask("scontrol", "update", f"JobId={number}", "StartTime=now")


def equal(one: Path, other: Path) -> None:
    """All checkpoints of the first grid point hold the same bits, and the same losses were logged."""
    for run in FIRST:
        left, right = folder_of(run, one), folder_of(run, other)
        assert right.status == "complete"
        kept = [path.name for path in left.checkpoints()]
        assert kept == [path.name for path in right.checkpoints()] and kept
        for name in kept:
            assert_same_bits(left.path / "checkpoints" / name, right.path / "checkpoints" / name)
        assert losses(left) == losses(right)


def assert_same_bits(left: Path, right: Path) -> None:
    files = sorted(file.relative_to(left) for file in left.rglob("*.safetensors"))
    assert files
    for file in files:
        ours, theirs = load_file(left / file), load_file(right / file)
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours), file


def losses(folder: RunDir) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def told_by_status(root: Path) -> str:
    return experiments("status", "--scale", SCALE, "--runs", str(root)).stdout


def experiments(*words: str, environment: Any = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments", *words]
    return subprocess.run(command, env=dict(environment or os.environ), capture_output=True, text=True, timeout=100)
