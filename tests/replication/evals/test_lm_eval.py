"""The same answers as lm-evaluation-harness 0.4.13, from the same local data and the same model.

Every 160th item of the three benchmarks by default, and the longest question of ARC, which does not fit into the
model's 512 positions. The whole sets (12,481 items, half an hour on one core):

    CHOICE_EVERY=1 pytest tests/replication/evals/test_lm_eval.py --timeout 7200
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from replication import benchmark_choice
from replication.benchmark_choice import TASKS, agreement, choice_speed, data_file, in_process, table
from replication.config import Source
from replication.evals import forms
from replication.evals.choice import option_texts
from replication.specs import Choice, Form, Shots

EVERY = int(os.environ.get("CHOICE_EVERY", "160"))

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed")


def test_the_version_is_the_one_that_scores_are_compared_with() -> None:
    assert metadata.version("lm_eval") == "0.4.13"


@pytest.mark.slow
def test_log_likelihoods_and_accuracies_are_those_of_lm_eval(
    shared_data: Path, tmp_path: Path, forked: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_choice.subprocess, "run", forked.run)
    for task, split in TASKS.items():
        rows = read(shared_data, task, split)
        kept = rows[::EVERY] + [row for i, row in enumerate(rows) if i % EVERY and longest_option(row) > 800]
        write(tmp_path / task / f"{split}.jsonl", kept)
    model = shared_data / "models" / "stories260K"
    ours, theirs = (in_process(side, tmp_path, model)["tasks"] for side in ("ours", "lm_eval"))
    found = agreement(ours, theirs)
    assert sum(found["items"].values()) >= 12_481 // EVERY
    assert ours["arc_challenge"]["truncated"] > 0
    for task, difference in found["largest_difference"].items():
        assert difference < 1e-3, task
        for metric, scores in found["scores"][task].items():
            assert scores["ours"] == scores["lm_eval"], (task, metric)
    assert {task: sorted(scores) for task, scores in found["scores"].items()} == {
        "hellaswag": ["acc", "acc_norm"],
        "arc_challenge": ["acc", "acc_norm"],
        "winogrande": ["acc"],
    }


def longest_option(row: dict[str, Any]) -> int:
    """Characters of an ARC question and its longest answer."""
    return len(row["question"]) + max(map(len, row["choices"]["text"])) if "question" in row else 0


def read(data: Path, task: str, split: str) -> list[dict[str, Any]]:
    file = data_file(data / "benchmarks", task, split)
    assert file is not None
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


# In a process of its own: importing lm-eval warns, and changes logging.
PROMPTS = """
import json, sys
from lm_eval.tasks import TaskManager
manager, found = TaskManager(include_defaults=False), {}
for name, file, shots in json.load(sys.stdin):
    task = manager.load([file])["tasks"][name]
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    found[name] = [list(i.args) for i in sorted(task.instances, key=lambda i: (i.doc_id, i.idx))]
print(json.dumps(found))
"""


def test_prompts_with_worked_examples_are_those_of_lm_eval(shared_data: Path, tmp_path: Path) -> None:
    """Five examples; HellaSwag's and WinoGrande's pools hold the questions themselves, which must not be drawn."""
    hellaswag, winogrande = (read(shared_data, task, "validation") for task in ("hellaswag", "winogrande"))
    arc = {split: read(shared_data, "arc_challenge", split) for split in ("train", "test")}
    mmlu = mmlu_rows(arc["train"])
    plans: list[tuple[str, Form, str, list[dict[str, Any]], list[dict[str, Any]]]] = [
        ("hellaswag", "hellaswag", "hellaswag/hellaswag.yaml", hellaswag[:30], hellaswag[:45]),
        ("arc_challenge", "arc", "arc/arc_challenge.yaml", arc["test"][:30], arc["train"]),
        ("winogrande", "winogrande", "winogrande/default.yaml", winogrande[:30], winogrande[:25]),
        ("mmlu_anatomy", "letters", "mmlu/default/mmlu_anatomy.yaml", mmlu[:12], mmlu[12:]),
        ("mmlu_world_religions", "letters", "mmlu/default/mmlu_world_religions.yaml", mmlu[:12], mmlu[12:]),
    ]
    asked = [(name, write_task(tmp_path, name, file, rows, pool), 5) for name, _, file, rows, pool in plans]
    theirs = lm_eval_prompts(asked)
    for name, form, _, rows, pool in plans:
        subject = name.removeprefix("mmlu_") if form == "letters" else None
        source = Source(write(tmp_path / "ours" / name / "pool.jsonl", pool))
        spec = Choice(name, Source("rows"), form=form, shots=Shots(source, 5, None if subject else 1234))
        questions = [forms.question(form, row, f"row {i}") for i, row in enumerate(rows)]
        found = zip(rows, option_texts(spec, rows, questions), strict=True)
        ours = [list(option) for row, texts in found for option in texts if row.get("subject") == subject]
        assert len(ours) >= 24
        assert ours == theirs[name], name


def mmlu_rows(arc: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """ARC's questions as two of MMLU's subjects, in turns."""
    four = [row for row in arc if row["choices"]["label"] == ["A", "B", "C", "D"]][:30]
    return [
        {"question": row["question"], "choices": row["choices"]["text"], "answer": "ABCD".index(row["answerKey"]),
         "subject": ("anatomy", "world_religions")[i % 2]}
        for i, row in enumerate(four)
    ]  # fmt: skip


def write_task(folder: Path, name: str, file: str, rows: list[dict[str, Any]], pool: list[dict[str, Any]]) -> str:
    """lm-eval's own task with our rows; of its splits only those that it has."""
    subject = name.removeprefix("mmlu_") if name.startswith("mmlu") else None
    asked, shown = ([r for r in some if r.get("subject") == subject] for some in (rows, pool))
    split = {"hellaswag": "validation", "winogrande": "validation"}.get(name, "test")
    files = {
        split: write(folder / name / "asked.jsonl", asked),
        "dev" if subject else "train": write(folder / name / "shown.jsonl", shown),
    }
    own = importlib.util.find_spec("lm_eval")
    assert own is not None and own.origin is not None
    config: dict[str, Any] = {"include": str(Path(own.origin).parent / "tasks" / file), "dataset_path": "json"}
    config |= {"dataset_name": None, "dataset_kwargs": {"data_files": files}}
    if name == "arc_challenge":
        config["validation_split"] = None
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config))
    return str(path)


def lm_eval_prompts(asked: list[tuple[str, str, int]]) -> dict[str, list[list[str]]]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", PROMPTS]
    done = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 0
    found: dict[str, list[list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_comparison_reports_both_sides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def canned(side: str, *_: object, **__: object) -> dict[str, Any]:
        tasks = {task: {"acc": 0.5, "loglikelihoods": [[-1.0, -2.0 - (side == "ours") / 1024]]} for task in TASKS}
        seconds = 1.0 if side == "ours" else 3.5
        return {"tasks": tasks, "seconds": seconds, "cpu_seconds": seconds, "peak_mib": seconds}

    monkeypatch.setattr("replication.benchmark_choice.in_process", canned)
    found = choice_speed(tmp_path, tmp_path)
    assert found["times_faster"] == 3.5
    assert found["memory_ratio"] == 1 / 3.5
    assert found["largest_difference"] == dict.fromkeys(TASKS, 1 / 1024)
    assert "3.50 times as fast" in table(found)
