"""What may happen to a run's files and inputs between two commands, and that the advice given then works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from experiments import jobs
from replication import evaluate
from replication.config import CPT, Branch, Budget, Cosine, Full, LionW, LoRA, Run, Source, Trapezoid, encode
from replication.health import TrainingFailed
from replication.preemption import Preempted
from replication.runs import RunDir
from replication.specs import HeldOut
from replication.train import train

ROOT = Path(__file__).resolve().parents[2]
SAVE_ALWAYS = 0.0


@pytest.fixture
def inputs(tiny_model: Path, tiny_corpus: Path, tmp_path: Path) -> Path:
    """A model and a corpus that a test may change."""
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copy(tiny_corpus, tmp_path / "documents.jsonl")
    return tmp_path


@pytest.fixture
def run(inputs: Path) -> Run:
    return small(inputs / "model", inputs / "documents.jsonl")


def small(model: Path, corpus: Path) -> Run:
    return Run(
        scale="test", study="damage", task=CPT(Source(str(corpus))), model=str(model),
        method=LoRA(2, 4, dropout=0.0), optim=LionW(1e-3), schedule=Trapezoid(2), budget=Budget(8, "steps"),
        global_batch=4, micro_batch=4, seq_len=32,
    )  # fmt: skip


class Stop(Exception):
    """The user's Ctrl-C, at a known step."""


def stopped(run: Run, root: Path, *, at: int) -> RunDir:
    def watch(progress: object) -> None:
        if progress.step == at:  # type: ignore[attr-defined]
            raise Stop

    with pytest.raises(Stop):
        train(run, root, watch=watch, save_seconds=SAVE_ALWAYS)
    return RunDir(root / "test" / run.name())


def change_corpus(inputs: Path) -> None:
    with (inputs / "documents.jsonl").open("a") as file:
        file.write(json.dumps({"text": "another document"}) + "\n")


def change_model(inputs: Path) -> None:
    weights = load_file(inputs / "model" / "model.safetensors")
    save_file({k: v + 1e-3 for k, v in weights.items()}, inputs / "model" / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(("change", "named"), [(change_corpus, "data"), (change_model, "model")])
def test_a_run_does_not_go_on_with_other_data_or_another_base(run: Run, inputs: Path, change, named: str) -> None:
    folder = stopped(run, inputs / "runs", at=5)
    change(inputs)
    with pytest.raises(ValueError, match=f"the {named} of .* changed since it began"):
        train(run, inputs / "runs")
    assert folder.checkpoints()


def test_a_branch_does_not_start_from_a_trunk_of_other_data(run: Run, inputs: Path) -> None:
    per_step = run.global_batch * run.seq_len
    flat = replace(run, schedule=Trapezoid(2, cooldown=0.0), budget=Budget(8 * per_step, "tokens"))
    trunk = replace(flat, ladder=(4 * per_step,))
    train(trunk, inputs / "runs")
    change_corpus(inputs)
    with pytest.raises(ValueError, match="the data of .* changed since it began"):
        train(replace(flat, study="branch", branch=Branch(trunk.name(), 4 * per_step)), inputs / "runs")


def test_an_adapter_is_not_scored_on_another_base(run: Run, inputs: Path) -> None:
    folder = train(run, inputs / "runs")
    change_model(inputs)
    with pytest.raises(ValueError, match="was trained from another"):
        evaluate.of_run(run, folder, [HeldOut("loss", Source(str(inputs / "documents.jsonl")), seq_len=32)])


@pytest.mark.parametrize("damage", ["cut", "emptied", "gone"])
def test_damaged_training_state_is_named_and_the_advice_works(run: Run, inputs: Path, damage: str) -> None:
    folder = stopped(run, inputs / "runs", at=5)
    state = next(folder.path.rglob("rank_00000-of-00001.safetensors"))
    if damage == "gone":
        state.unlink()
    else:
        state.write_bytes(state.read_bytes()[: 500 if damage == "cut" else 0])
    with pytest.raises(RuntimeError, match="is damaged") as raised:
        train(run, inputs / "runs")
    advised = Path(str(raised.value).split("; remove ")[1].removesuffix(" and run again"))
    shutil.rmtree(advised)
    assert train(run, inputs / "runs").status == "complete"


def test_a_damaged_checkpoint_is_named_and_the_advice_works(run: Run, inputs: Path) -> None:
    folder = train(run, inputs / "runs")
    weights = folder.checkpoint(8) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    evals = (HeldOut("loss", Source(str(inputs / "documents.jsonl"), limit=5), seq_len=32),)
    done = jobs.score(run, evals, inputs / "runs")
    assert done.error is not None and f"remove the run's folder {folder.path} and run it again" in done.error
    shutil.rmtree(folder.path)
    train(run, inputs / "runs")
    assert jobs.score(run, evals, inputs / "runs").error is None


def test_a_damaged_base_does_not_ask_to_remove_it(run: Run, inputs: Path) -> None:
    weights = inputs / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RuntimeError, match=r"are damaged .* restore"):
        train(run, inputs / "runs")


def test_one_checkpoint_to_resume_from_is_kept_and_no_torn_one(run: Run, inputs: Path) -> None:
    folder = stopped(run, inputs / "runs", at=6)
    assert [path.name for path in folder.checkpoints()] == ["step_000005"]
    (folder.path / "checkpoints" / "step_000009.partial").mkdir()
    train(run, inputs / "runs")
    assert [path.name for path in (folder.path / "checkpoints").iterdir()] == ["step_000008"]


def test_a_run_killed_before_its_seal_is_not_trained_again(run: Run, inputs: Path) -> None:
    folder = train(run, inputs / "runs")
    folder.update(status="running")
    seen: list[object] = []
    train(run, inputs / "runs", watch=seen.append)
    assert folder.status == "complete" and not seen


def test_a_machine_wanted_back_during_set_up_is_left_before_the_model_is_loaded(
    run: Run, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.preemption._noted", True)
    monkeypatch.setattr("replication.train.load_model", None)
    with pytest.raises(Preempted, match="leaves before its next step"):
        train(run, inputs / "runs")
    assert RunDir(inputs / "runs" / "test" / run.name()).status == "preempted"


def test_the_end_of_a_cooldown_may_be_too_small_to_move_a_large_weight(run: Run, inputs: Path) -> None:
    run = replace(run, method=Full(), optim=LionW(3e-7), schedule=Trapezoid(0, cooldown=1.0))
    stopped(run, inputs / "runs", at=7)
    assert train(run, inputs / "runs").status == "complete"


def test_training_time_counts_the_steps_before_a_stop(run: Run, inputs: Path) -> None:
    before = stopped(run, inputs / "runs", at=6).manifest["seconds"]
    assert 0 < before < train(run, inputs / "runs").manifest["seconds"]


@pytest.mark.parametrize("schedule", [Cosine(), Trapezoid(2)])
@pytest.mark.parametrize("method", [Full(), LoRA(2, 4)])
def test_a_run_whose_only_step_has_rate_0_fails(run: Run, inputs: Path, schedule, method) -> None:
    run = replace(run, budget=Budget(1, "steps"), schedule=schedule, method=method)
    with pytest.raises(TrainingFailed, match="training did not move"):
        train(run, inputs / "runs")


# Mounts a small disk for each request, in a namespace of its own, and trains on it until it is full.
FILL = """
import pathlib, runpy, subprocess, sys, traceback
train = runpy.run_path(sys.argv[1])["main"]
for request in map(pathlib.Path, sys.argv[2:]):
    size, disk = request.stem, request.with_suffix("")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=True)
    try:
        train(request)
    except OSError:
        request.with_suffix(".error").write_text(traceback.format_exc())
"""
SIZES = ("150k", "300k")


@pytest.fixture(scope="module")
def filled(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run on a full disk ended with, as files SIZE.error; one process for all sizes."""
    folder = tmp_path_factory.mktemp("filled")
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*command, "sh", "-c", "mount -t tmpfs none /mnt"]).returncode:
        pytest.skip("this system lets no test mount a small disk")
    run = replace(small(tiny_model, tiny_corpus), method=Full())
    for size in SIZES:
        (folder / size).mkdir()
        (folder / f"{size}.json").write_text(json.dumps({"root": str(folder / size), "runs": {"": encode(run)}}))
    program = [sys.executable, "-c", FILL, str(Path(__file__).with_name("ranks.py"))]
    requests = [str(folder / f"{size}.json") for size in SIZES]
    environment = os.environ | {"SAVE_SECONDS": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *program, *requests], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk_is_named_as_such(filled: Path, size: str) -> None:
    said = (filled / size).with_suffix(".error").read_text()
    assert "OSError: [Errno 28] No space left on device" in said


def test_the_line_on_a_full_disk_says_what_to_do() -> None:
    line = jobs.one_line(OSError(28, "No space left on device", "somewhere"))
    assert "disk is full" in line and "somewhere" in line and "continues where it stood" in line
