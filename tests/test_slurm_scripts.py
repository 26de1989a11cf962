"""What the scripts of slurm/ promise, checked without a cluster: short, clean, for any site, and the paper's grid."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from experiments import grid, scales, sides, studies
from experiments.__main__ import MODULES
from experiments.options import parser
from replication.engine import micro_batch

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "slurm"
SCRIPTS = {name: FOLDER / f"{name}.sh" for name in
           ("cpt_lora", "cpt_full", "ift_lora", "ift_full", "eval", "spectra", "study")}  # fmt: skip
TRAINING = ("cpt_lora", "cpt_full", "ift_lora", "ift_full")
PAPER = scales.load("paper")


def options(name: str) -> dict[str, str]:
    """The #SBATCH options of a script."""
    lines = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", SCRIPTS[name].read_text(), re.M)
    return dict(lines)


def commands(name: str) -> list[list[str]]:
    """What a script calls of `python -m experiments`, with its variables at their defaults and point 0."""
    text = SCRIPTS[name].read_text().replace("\\\n", " ")
    text = re.sub(r"\$\{(\w+):\+(.*?)\} ", "", text)
    text = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", text)
    defaults = {"SCALE": "paper", "SEEDS": "1", "RUNS": "runs", "SLURM_ARRAY_TASK_ID": "0", "side": "study"}
    for variable, value in defaults.items():
        text = text.replace(f"${variable}", value)
    return [shlex.split(found) for found in re.findall(r"python -m experiments (.*)", text)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_holds_nothing_of_a_site(name: str) -> None:
    text = SCRIPTS[name].read_text()
    assert len(text.splitlines()) <= 25
    assert "yaml" not in text.lower() and "yml" not in text.lower()
    site = {"partition", "account", "qos", "constraint", "time", "gres", "gpus", "gpus-per-node", "reservation"}
    assert not site & set(options(name))
    assert "module load" not in text


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck (apt-get install shellcheck)")
    files = [str(file.relative_to(ROOT)) for file in sorted(FOLDER.glob("*.sh"))]
    assert len(files) == len(SCRIPTS) + 2
    done = subprocess.run(["shellcheck", "-x", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", TRAINING)
def test_the_array_is_the_papers_grid_of_every_setting_of_its_regime(name: str) -> None:
    regime, method = name.split("_")
    for setting, found in PAPER.settings:
        if found.regime == regime and found.separate:
            points = grid.points(studies.runs(setting, PAPER, seeds=1), method)  # type: ignore[arg-type]
            assert options(name)["array"] == f"0-{len(points) - 1}", setting


def test_the_script_of_side_studies_runs_each_of_them() -> None:
    run = next(words for words in commands("study") if words[0] == "run")
    for study in sides.STUDIES:
        asked = parser(MODULES).parse_args([study if word == "study" else word for word in run])
        assert studies.runs(asked.study, sides.STUDIES[study].SCALES["desk"], seeds=asked.seeds)


def test_evaluation_has_the_grid_of_its_default_setting() -> None:
    points = grid.points(studies.runs("cpt_code", PAPER, seeds=1), None)
    assert options("eval")["array"] == f"0-{len(points) - 1}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_of_a_script_is_one_and_names_runs_that_exist(name: str) -> None:
    found = commands(name)
    assert found
    for words in found:
        asked = parser(MODULES).parse_args(words)
        if asked.command in ("run", "evaluate") and name != "study":  # that takes a side study's name
            runs = studies.runs(asked.study, PAPER, seeds=asked.seeds)
            last = int(options(name)["array"].split("-")[1])
            points = [grid.point(runs, asked.method, index) for index in range(last + 1)]
            assert all(len(point) > 0 for point in points)


@pytest.mark.parametrize("name", TRAINING)
def test_training_is_preemptible_and_meets_across_nodes(name: str) -> None:
    has = options(name)
    assert int(has["nodes"]) >= 2
    assert "requeue" in has and has["open-mode"] == "append"
    assert has["signal"] == "USR1@120"  # no B: before it, so that the tasks get the signal


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_folder_of_the_output_is_there_in_every_checkout(name: str) -> None:
    folder = ROOT / Path(options(name)["output"]).parent
    assert (folder / ".gitignore").read_text() == "*\n!.gitignore\n"  # git keeps no empty folder


@pytest.mark.parametrize("scale", ["pocket", "desk", "paper"])
@pytest.mark.parametrize("world", [1, 2, 4, 8, 16])
def test_every_run_of_a_study_trains_on_any_usual_number_of_ranks(scale: str, world: int) -> None:
    for run in studies.runs(studies.MAIN, scales.load(scale), seeds=1):
        assert run.global_batch % (micro_batch(run, world) * world) == 0
