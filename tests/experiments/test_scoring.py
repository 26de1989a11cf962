"""Published checkpoints by the commands: scored once, resumed, collected, laid over the paper's numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from experiments.__main__ import main
from replication.results import read_scores
from replication.runs import read_json

ADAPTER, FULL = "magicoder-lora-rank-16-alpha-32", "magicoder-full-finetuning-lr-5e-05"
SCALE = """
from replication.config import Source
from replication.scale import Scale
from replication.specs import Choice, Maths

SCALE = Scale(
    name="shelf", model={model!r}, ranks=(2,), settings=(), forgetting=("pick",), source_loss="",
    evals=(Maths("gsm8k", Source({sums!r}), max_tokens=4, template="{{question}}"), Choice("pick", Source({picks!r}))),
)
"""


@pytest.fixture(scope="module")
def scale(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    sums = [{"question": f"{i}+1=", "answer": f"#### {i + 1}"} for i in range(5)]
    picks = [{"id": str(i), "query": f"{i} plus", "choices": [" 1", " x"], "gold": 0} for i in range(6)]
    for name, rows in (("sums", sums), ("picks", picks)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = SCALE.format(
        model=str(tiny_model), sums=str(folder / "sums.jsonl"), picks=str(folder / "picks.jsonl")
    )  # fmt: skip
    (folder / "shelf.py").write_text(content)
    return folder / "shelf.py"


@pytest.fixture(scope="module")
def copies(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter and a sharded full model, each at two branches, in folders named as the hub names them."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    root = tmp_path_factory.mktemp("copies")
    for seed, branch in enumerate(("main", "ep4")):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        wrapped = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
        wrapped.save_pretrained(root / ADAPTER / branch)
        full = AutoModelForCausalLM.from_pretrained(tiny_model)
        for weight in full.parameters():
            weight.data += 0.05 * torch.randn_like(weight)
        full.save_pretrained(root / FULL / branch, max_shard_size="20KB")
    return root


@pytest.fixture(scope="module")
def scored(scale: Path, copies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert call("run", scale, copies, root, "--branch", "all") == 0
    return root


def call(command: str, scale: Path, copies: Path, root: Path, *more: str) -> int:
    places = ("--scale", str(scale), "--runs", str(root), "--copies", str(copies))
    return main([command, "published", *places, *more])


def models(root: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted((root / "shelf" / "published").iterdir())}


def test_every_checkpoint_branch_and_the_base_have_a_row_per_benchmark(scored: Path) -> None:
    assert set(models(scored)) == {
        "base",
        *(f"{name}@{branch}" for name in (ADAPTER, FULL) for branch in ("main", "ep4")),
    }
    for path in models(scored).values():
        assert {p.parent.name for p in path.glob("evals/*/*/scores.json")} == {"gsm8k@1", "pick@1"}


def test_branches_and_kinds_are_scored_by_their_own_weights(scored: Path) -> None:
    answers = {
        name: json.dumps(read_json(path / "evals/step_000000/pick@1/scores.json")["engine"], sort_keys=True)
        for name, path in models(scored).items()
    }
    assert len(set(answers.values())) == 5
    assert len(list((scored / "answers").iterdir())) == 5


def test_running_it_again_asks_no_model_anything(scored: Path, scale: Path, copies: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in scored.rglob("*") if p.is_file() and p.name != ".lock"}
    assert call("run", scale, copies, scored, "--branch", "all") == 0
    assert {p: p.stat().st_mtime_ns for p in scored.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_other_data_or_another_tokenizer_is_another_question(
    scored: Path, scale: Path, copies: Path, tiny_model: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    shutil.copytree(scored, root)
    base = root / "shelf/published/base/evals/step_000000"
    before = read_json(base / "gsm8k@1/scores.json")
    questions = scale.parent / "sums.jsonl"
    whole = questions.read_text()
    try:
        questions.write_text(whole.replace("1+1=", "7+1=").replace("#### 2", "#### 8"))
        assert call("run", scale, copies, root) == 0
        again = read_json(base / "gsm8k@1/scores.json")
        assert again["data"] != before["data"] and again["engine"] == before["engine"]
    finally:
        questions.write_text(whole)
    known = read_json(base / "pick@1/scores.json")
    (base / "pick@1/scores.json").write_text(json.dumps(known | {"engine": known["engine"] | {"tokenizer": "other"}}))
    assert call("run", scale, copies, root) == 0
    assert read_json(base / "pick@1/scores.json")["engine"] == known["engine"]


def test_a_checkpoint_that_cannot_be_scored_does_not_keep_the_others(
    scale: Path, copies: Path, tmp_path: Path, capsys
) -> None:
    broken = tmp_path / "copies"
    shutil.copytree(copies, broken)
    weights = broken / ADAPTER / "main" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert call("run", scale, broken, tmp_path / "runs") == 1
    assert f"FAILED published/{ADAPTER}@main: " in capsys.readouterr().err
    assert {name for name, path in models(tmp_path / "runs").items() if list(path.glob("evals/*/*/scores.json"))} == {
        "base", f"{FULL}@main",
    }  # fmt: skip


def test_a_wrong_column_is_found_before_anything_is_asked(scale: Path, copies: Path, tmp_path: Path, capsys) -> None:
    picks = scale.parent / "picks.jsonl"
    whole = picks.read_text()
    try:
        picks.write_text(whole.replace('"choices"', '"answers"'))
        assert call("run", scale, copies, tmp_path) == 1
    finally:
        picks.write_text(whole)
    assert "answers" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.jsonl")) and not list(tmp_path.rglob("scores.json"))


def test_an_adapter_of_too_high_a_rank_for_vllm_is_served_merged(
    tiny_model: Path, copies: Path, tmp_path: Path
) -> None:
    from replication import evaluate
    from replication.evals import vllm_engine
    from replication.methods.merge import load_merged
    from replication.models import Weights
    from replication.runs import RunDir

    adapter = copies / ADAPTER / "main"
    weights = Weights(str(tiny_model), adapter)
    candidate = evaluate.Candidate(RunDir(tmp_path / "model"), "m", 0, weights, str(tiny_model), ())
    with evaluate._loadable(candidate) as served:
        assert served == weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_engine, "RANKS", (1,))
        with evaluate._loadable(candidate) as served:
            assert served.tuned not in (None, adapter)
            state = load_merged(tiny_model, served.tuned or adapter).state_dict()
    for name, tensor in load_merged(tiny_model, adapter).state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert not list((tmp_path / "model").iterdir())


def test_a_removed_score_is_made_again_from_the_kept_answers(scored: Path, scale: Path, copies: Path) -> None:
    kept = models(scored)["base"] / "evals/step_000000/pick@1/scores.json"
    before = read_json(kept)
    journals = {p: p.stat().st_size for p in (scored / "answers").rglob("*.jsonl")}
    kept.unlink()
    assert call("evaluate", scale, copies, scored, "--only", "nothing-of-it") == 2
    assert call("evaluate", scale, copies, scored) == 0
    assert {p: p.stat().st_size for p in (scored / "answers").rglob("*.jsonl")} == journals
    assert {k: v for k, v in read_json(kept).items() if k != "seconds"} == {
        k: v for k, v in before.items() if k != "seconds"
    }


def test_scores_are_collected_without_a_run(scored: Path, scale: Path, tmp_path: Path) -> None:
    into = ["--into", str(tmp_path), "--allow-dirty"]
    assert main(["collect", "--scale", str(scale), "--runs", str(scored), *into]) == 0
    rows = read_scores(tmp_path / "shelf" / "published.jsonl")
    assert {(row.run, row.eval) for row in rows} == {
        (f"published/{name}", spec) for name in models(scored) for spec in ("gsm8k", "pick")
    }


def test_another_base_is_refused_and_named(scored: Path, scale: Path, copies: Path, tmp_path: Path, capsys) -> None:
    assert call("run", scale, copies, scored, "--base", str(copies / FULL / "ep4")) == 2
    assert "holds scores of other weights" in capsys.readouterr().err
    assert call("run", scale, tmp_path, scored) == 2
    assert "holds no published checkpoint" in capsys.readouterr().err


def test_an_adapter_that_changes_nothing_writes_no_row(scale: Path, tiny_model: Path, tmp_path: Path, capsys) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "copies" / ADAPTER)
    assert call("run", scale, tmp_path / "copies", tmp_path / "runs") == 1
    assert "adapter canary" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob(f"*/*/{ADAPTER}*/evals/*/*/scores.json"))
