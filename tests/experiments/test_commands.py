"""The commands as a user types them, on a scale of the user's own: the whole way, twice, and every wrong turn."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.__main__ import main

ROOT = Path(__file__).resolve().parent.parent.parent
SCALE = """
from replication.config import CPT, IFT, Cosine, Source, Trapezoid
from replication.specs import Choice, HeldOut, Maths
from replication.scale import Scale, Setting

SCALE = Scale(
    name="mine", model={model!r}, ranks=(2,), workers=2, threads=1,
    settings=(
        ("texts", Setting("cpt", "text", "Sums as text", CPT(Source({corpus!r}, part="train")), (512, 1024),
            (("full", 1e-3), ("r2", 4e-3)), Trapezoid(1), 4, 4, 32, "sums", "texts_loss")),
        ("answers", Setting("ift", "sums", "Sums as answers", IFT(Source({rows!r}), "Q: {{prompt}} A: "), (1, 2),
            (("full", 1e-3), ("r2", 4e-3)), Cosine(), 4, 4, 32, "sums", "answers_loss")),
    ),
    evals=(
        HeldOut("texts_loss", Source({corpus!r}, part="heldout"), seq_len=32),
        HeldOut("answers_loss", Source({rows!r}, limit=9), seq_len=32, template="Q: {{prompt}} A: "),
        HeldOut("source_loss", Source({corpus!r}, limit=5), seq_len=32),
        Maths("sums", Source({sums!r}), max_tokens=4, template="{{question}}"),
        Choice("pick", Source({choices!r})),
    ),
    forgetting=("pick",), source_loss="source_loss",
    sweep_rates=(("ift/full", (1e-3, 2e-3)),),
)
"""


@pytest.fixture(scope="module")
def scale(
    tiny_model: Path, tiny_corpus: Path, tiny_instructions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    sums = [{"question": f"{i}+1=", "answer": f"#### {i + 1}"} for i in range(5)]
    picks = [{"id": str(i), "query": f"{i} plus", "choices": [" 1", " x"], "gold": 0} for i in range(6)]
    for name, rows in (("sums", sums), ("choices", picks)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = SCALE.format(
        model=str(tiny_model), corpus=str(tiny_corpus), rows=str(tiny_instructions),
        sums=str(folder / "sums.jsonl"), choices=str(folder / "choices.jsonl"),
    )  # fmt: skip
    (folder / "mine.py").write_text(content)
    return folder / "mine.py"


Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def call(forked: SimpleNamespace) -> Call:
    """A command to its end, in a process that does not import the training stack anew."""

    def of(*arguments: object, module: str = "experiments") -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = forked.call("-m", module, *arguments)
        return done

    return of


@pytest.fixture(scope="module")
def studied(scale: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run as a user runs it: by an interpreter of its own, which spawns its workers."""
    root = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "experiments", "run", "study", "--scale", str(scale), "--runs", str(root)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    return root


def stamps(root: Path) -> dict[str, int]:
    kept = [p for pattern in ("manifest.json", "scores.json", "*.safetensors") for p in root.rglob(pattern)]
    return {str(path): path.stat().st_mtime_ns for path in kept}


def test_running_a_study_again_trains_and_scores_nothing_twice(scale: Path, studied: Path, call: Call) -> None:
    before = stamps(studied)
    assert len([name for name in before if name.endswith("manifest.json")]) == 11  # 2 trunks, 4 + 4 runs, the base
    again = call("run", "study", "--scale", scale, "--runs", studied)
    assert again.returncode == 0, again.stderr
    assert stamps(studied) == before


def scores_of(root: Path) -> dict[str, object]:
    files = {str(file.relative_to(root)): json.loads(file.read_text()) for file in root.rglob("scores.json")}
    return {name: (content["metrics"], content["items"]) for name, content in files.items()}


def test_a_study_killed_while_branches_train_and_runs_are_scored_ends_the_same(
    scale: Path, studied: Path, tmp_path: Path, forked: SimpleNamespace
) -> None:
    command = ("run", "study", "--scale", scale, "--runs", tmp_path)
    for pattern in ("texts/*-tok*/evals/*/*/scores.json", "answers/*/evals/*/*/scores.json"):
        process = forked.start(["-m", "experiments", *command], tmp_path / "said")
        while not list(tmp_path.glob(f"mine/{pattern}")) and process.exitcode is None:
            time.sleep(0.02)
        assert process.exitcode is None, "the study ended before it could be killed"
        process.kill()
        process.join()
        time.sleep(0.5)  # the workers die with their parent
    assert forked.call("-m", "experiments", *command).returncode == 0
    assert scores_of(tmp_path) == scores_of(studied)
    for whole in studied.rglob("*.safetensors"):
        assert (tmp_path / whole.relative_to(studied)).read_bytes() == whole.read_bytes(), whole
    for metrics in studied.rglob("metrics.jsonl"):
        again = (tmp_path / metrics.relative_to(studied)).read_text().splitlines()
        assert [json.loads(line)["step"] for line in again] == [
            json.loads(line)["step"] for line in metrics.read_text().splitlines()
        ]


def test_the_whole_way_from_runs_to_report(scale: Path, studied: Path, tmp_path: Path, call: Call) -> None:
    places = ("--scale", scale, "--results", tmp_path / "rows")
    assert (
        call("collect", "--scale", scale, "--runs", studied, "--into", tmp_path / "rows", "--allow-dirty").returncode
        == 0
    )
    analysed = call(*places, "--runs", studied, "--out", tmp_path / "numbers", module="analysis")
    assert analysed.returncode == 0, analysed.stderr
    assert "C1" in analysed.stdout and "undecided" in analysed.stdout
    drawn = call(*places, "--analysis", tmp_path / "numbers", "--out", tmp_path / "out", module="paper_figures")
    assert drawn.returncode == 0, drawn.stderr
    assert "report.html" in drawn.stdout
    page = next((tmp_path / "out").rglob("report.html")).read_text()
    assert "Sums as text" in page and "data:image/png;base64," in page
    for stem in ("fig1_learning", "fig2_forgetting", "fig3_tradeoff", "fig6_spectra"):
        assert list((tmp_path / "out").rglob(f"{stem}.png")), stem


def test_collected_rows_know_their_run_and_code(scale: Path, studied: Path, tmp_path: Path, call: Call) -> None:
    call("collect", "--scale", scale, "--runs", studied, "--into", tmp_path, "--allow-dirty")
    rows = [json.loads(line) for line in (tmp_path / "mine" / "texts.jsonl").read_text().splitlines()]
    runs = [json.loads(line) for line in (tmp_path / "mine" / "runs.jsonl").read_text().splitlines()]
    assert {row["run"] for row in rows} == {run["run"] for run in runs if run["study"] == "texts" and not run["trunk"]}
    assert {row["git_sha"] for row in rows} != {""}
    assert {row["eval"] for row in rows} == {"sums", "texts_loss", "pick", "source_loss"}


def test_status_and_show_and_plan_name_every_run(scale: Path, studied: Path, call: Call) -> None:
    names = [
        line.split()[-1] for line in call("show", "study", "--scale", scale, "--runs", studied).stdout.splitlines()
    ]
    assert len(names) == 10
    status = call("status", "--scale", scale, "--runs", studied).stdout
    planned = json.loads(call("plan", "study", "--scale", scale, "--json").stdout)["runs"]
    assert all(name in status for name in names)
    assert [row["run"] for row in planned] == names


def test_overridden_runs_are_scratch_and_never_collected(scale: Path, tmp_path: Path, call: Call) -> None:
    done = call(
        "run", "answers", "--scale", scale, "--runs", tmp_path, "--only", "full", "--set", "optim.lr=2e-3", "--no-eval"
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "_scratch" / "mine" / "answers").glob("full-lr2e-3-ep*"))
    refused = call("collect", "--scale", scale, "--runs", tmp_path, "--into", tmp_path / "rows")
    assert refused.returncode == 2 and "no complete run" in refused.stderr


def test_a_corrupt_checkpoint_is_named_and_the_rest_kept(scale: Path, tmp_path: Path, call: Call) -> None:
    assert call("run", "answers", "--scale", scale, "--runs", tmp_path, "--only", "full", "--no-eval").returncode == 0
    weights = next(tmp_path.rglob("full-*ep1-*/checkpoints/*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    done = call("evaluate", "answers", "--scale", scale, "--runs", tmp_path, "--only", "full")
    assert done.returncode == 1
    line = next(line for line in done.stderr.splitlines() if line.startswith("FAILED"))
    assert str(weights.parent) in line and f"remove the run's folder {weights.parent.parent.parent}" in line
    assert list(tmp_path.rglob("full-*ep2-*/evals/*/*/scores.json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nope"], "no study 'nope' at scale 'pocket'; there are study"),
        (["run", "study", "--scale", "galactic"], "no scale 'galactic'"),
        (["run", "study", "--scale", "absent.py"], "no scale file at 'absent.py'"),
        (["run", "study", "--set", "optim.rate=1"], "LionW has no field 'rate'"),
        (["run", "study", "--set", "optim.lr=-1"], "LionW.lr=-1"),
        (["run", "study", "--set", "seq_len=long"], "expected a value like 128"),
        (["run", "study", "--set", "seed"], "expected key=value"),
        (["run", "study", "--set", "optim.lr=True"], "expected a value like"),
        (["run", "study", "--set", "tokenizer=5"], "Run.tokenizer=5"),
        (["run", "study", "--only", "lora", "--set", "method.targets=mlps"], "one of all, attention, mlp"),
        (["run", "study", "--set", "task.source.part=held"], "all, train or heldout"),
        (["plan", "cpt_code", "--set", "budget.amount=2048"], "more than the branch's"),
        (["run", "study", "--only", "dora"], "fits no run"),
        (["run", "study", "--seeds", "0"], "not a positive number"),
        (["show", "ift_code/none"], "no study or run"),
        (["evaluate", "study", "--runs", "nowhere"], "not trained yet"),
        (["collect", "--runs", "nowhere"], "no complete run under nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_request_is_one_clear_line_and_exit_2(arguments: list[str], said: str) -> None:
    captured = io.StringIO()
    with contextlib.redirect_stderr(captured):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
    assert code == 2
    assert said in captured.getvalue()
    assert len([line for line in captured.getvalue().splitlines() if line.startswith("experiments:")]) <= 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("documents.jsonl", "gone.jsonl", "gone.jsonl"),
        ("tiny0", "gone0", "no model at"),
        ("Q: {prompt} A: ", "Q: {question} A: ", "question"),
    ],
)
def test_wrong_data_or_model_is_found_before_training(
    scale: Path, tmp_path: Path, old: str, new: str, said: str, call: Call
) -> None:
    text = scale.read_text()
    assert old in text
    (tmp_path / "wrong.py").write_text(text.replace(old, new))
    done = call("run", "study", "--scale", tmp_path / "wrong.py", "--runs", tmp_path)
    assert done.returncode in (1, 2)
    told = [line for line in done.stderr.splitlines() if line.startswith(("experiments:", "FAILED"))]
    assert told and all(said in line for line in told)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("checkpoints"))


def test_empty_data_is_refused_by_name(scale: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    text = scale.read_text()
    start = text.index("CPT(Source('") + len("CPT(Source('")
    path = text[start : text.index("'", start)]
    (tmp_path / "wrong.py").write_text(text.replace(path, str(tmp_path / "empty.jsonl")))
    done = call("run", "texts", "--scale", tmp_path / "wrong.py", "--runs", tmp_path)
    assert done.returncode in (1, 2) and "empty.jsonl" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [("SCALE = Scale(nam='x')", "NameError"), ("from replication.scale import Scale\nSCALE = Scale(nam='x')", "nam"),
     ("SCALE = (", "SyntaxError"), ("import nowhere_at_all", "nowhere_at_all")],
)  # fmt: skip
def test_a_scale_file_that_cannot_be_read_is_one_line(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert main(["list", "--scale", str(tmp_path / "mine.py")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and said in told[0] and "mine.py" in told[0]


def test_values_set_for_all_lengths_make_each_run_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "ift_code", "--set", "budget.amount=1", "--json"]) == 0
    names = [row["run"] for row in json.loads(capsys.readouterr().out)["runs"]]
    assert len(names) == len(set(names)) == 4


def test_scores_of_uncommitted_code_are_not_collected(scale: Path, studied: Path, tmp_path: Path, call: Call) -> None:
    shutil.copytree(studied, tmp_path / "runs")
    for manifest in (tmp_path / "runs").rglob("manifest.json"):
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"dirty": False}))
    files = sorted((tmp_path / "runs").rglob("scores.json"))
    for file in files:
        sha = "0123456789ab" + "+dirty" * (file == files[-1])
        file.write_text(json.dumps(json.loads(file.read_text()) | {"code": sha}))
    refused = call("collect", "--scale", scale, "--runs", tmp_path / "runs", "--into", tmp_path / "rows")
    assert refused.returncode == 2 and str(files[-1].parent) in refused.stderr
    shutil.rmtree(files[-1].parent)
    kept = call("collect", "--scale", scale, "--runs", tmp_path / "runs", "--into", tmp_path / "rows")
    assert kept.returncode == 0, kept.stderr


def test_planning_loads_no_torch() -> None:
    code = "import sys, experiments.__main__ as m; m.main(['plan', 'study']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "64 runs" in done.stdout
