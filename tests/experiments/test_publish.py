"""A published folder against what it was made from: its weights load again, its card says what the manifest says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments import __main__ as command
from experiments import card, options, publish, studies
from experiments.scales import POCKET
from replication.config import IFT, Run, Source, encode
from replication.methods import attach
from replication.models import load_model, load_tokenizer
from replication.runs import RunDir, folder_of, open_run, write_json

BASE = POCKET.model
TO = "someone/something"
QUESTION = torch.arange(3, 40)[None]
FULL = next(r for r in studies.runs("ift_code", POCKET, seeds=1) if r.method.label() == "full")
ADAPTER = next(r for r in studies.runs("ift_code", POCKET, seeds=1) if r.method.label().startswith("lora-r4"))


def trained(run: Run, root: Path, *, model: str = BASE, dtype: torch.dtype = torch.float32) -> RunDir:
    """A complete run as `train` leaves it, with weights that no training made: every trainable one is moved."""
    folder = open_run(run, root)
    folder.update(
        status="complete", dirty=False, code="0123456789ab", git_sha="0123456789ab" + 28 * "0", seconds=12.25,
        trainable=4321, sequences=77, steps=10, data_digest="da7a00000000", model_digest="ba5e00000000",
    )  # fmt: skip
    for step in (5, 10):
        attached = attach(load_model(model, dtype=dtype), run.method, seed=step)
        with torch.no_grad():
            for p in attached.trainable.values():
                p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
        attached.model.save_pretrained(str(folder.checkpoint(step)))  # type: ignore[operator]
        meta = {"step": step, "tokens": 20_480, "real_tokens": 18_001, "supervised_tokens": 9_002, "loss": 1.5}
        write_json(folder.checkpoint(step) / "meta.json", meta | {"seconds": 12.25})
    score(folder, 10, "library", 0.25)
    return folder


def score(folder: RunDir, step: int, name: str, value: float, *, code: str = "0123456789ab") -> None:
    path = folder.path / "evals" / f"step_{step:06d}" / f"{name}@1"
    path.mkdir(parents=True)
    metrics = [{"name": "pass@1", "value": value, "n": 164, "stderr": 0.0338}]
    content = {"spec": {"name": name, "version": "1"}, "metrics": metrics, "items": [], "step": step, "code": code}
    write_json(path / "scores.json", content)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for run in (FULL, ADAPTER):
        trained(run, root)
    base = RunDir(root / "pocket" / "base")
    base.path.mkdir()
    score(base, 0, "library", 0.125)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def written(run: Run, root: Path, *more: object) -> Path:
    """The folder of a dry run."""
    into = root.parent / "out"
    arguments = ["publish", run.name(), "--to", TO, "--runs", root, *more, "--dry-run", into]
    assert command.main([str(a) for a in arguments]) == 0
    return into


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 2) -> str:
    assert command.main(["publish", *map(str, arguments)]) == status
    return capsys.readouterr().err


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(QUESTION % model.config.vocab_size).logits


def front(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text().split("---")[1])


# ---------------------------------------------------------------- weights


def test_an_adapter_loads_with_peft_and_gives_the_checkpoint_s_logits(root: Path) -> None:
    folder = written(ADAPTER, root)
    ours = logits(PeftModel.from_pretrained(load_model(BASE), str(folder)))
    kept = logits(PeftModel.from_pretrained(load_model(BASE), str(folder_of(ADAPTER, root).checkpoint(10))))
    assert torch.equal(ours, kept)
    assert not torch.allclose(ours, logits(load_model(BASE)), atol=1e-2)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == BASE


def test_a_whole_model_loads_with_its_tokenizer_and_gives_the_checkpoint_s_logits(root: Path) -> None:
    folder = written(FULL, root, "--step", 5)
    ours = AutoModelForCausalLM.from_pretrained(folder)
    assert ours.dtype == torch.float32
    assert torch.equal(logits(ours), logits(load_model(folder_of(FULL, root).checkpoint(5))))
    words = "def double(x): return 2 * x"
    assert AutoTokenizer.from_pretrained(folder)(words).input_ids == load_tokenizer(BASE)(words).input_ids


def test_bf16_is_one_cast_of_the_stored_fp32(root: Path) -> None:
    for run in (FULL, ADAPTER):
        folder = written(run, root, "--dtype", "bf16")
        stored = dict(tensors(folder_of(run, root).checkpoint(10)))
        published = dict(tensors(folder))
        assert len(published) == len(stored) > 20
        assert all(torch.equal(published[name], stored[name].to(torch.bfloat16)) for name in stored)
        shutil.rmtree(folder)


def tensors(folder: Path) -> list[tuple[str, torch.Tensor]]:
    from safetensors.torch import load_file

    return [pair for file in folder.glob("*.safetensors") for pair in load_file(file).items()]


def test_large_weights_come_in_shards_with_an_index(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_SHARD", "1MB")
    folder = written(FULL, root)
    assert len(list(folder.glob("model-0000*-of-0000*.safetensors"))) >= 3
    assert torch.equal(
        logits(AutoModelForCausalLM.from_pretrained(folder)), logits(load_model(folder_of(FULL, root).checkpoint(10)))
    )


def test_fp32_is_not_made_of_bf16(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(FULL, tmp_path, dtype=torch.bfloat16)
    said = refused(capsys, FULL.name(), "--to", TO, "--runs", tmp_path, "--dtype", "fp32", "--dry-run")
    assert "torch.bfloat16" in said
    assert not (folder_of(FULL, tmp_path).path / "publish" / "step_000010").exists()


def test_only_safetensors_json_the_card_and_the_tokenizer_are_written(root: Path) -> None:
    names = {path.name for path in written(FULL, root).iterdir()}
    expected = {"README.md", "manifest.json", "config.json", "generation_config.json", "model.safetensors"}
    assert names == expected | {"tokenizer.json", "tokenizer_config.json"}


# ---------------------------------------------------------------- names


def test_no_path_of_this_machine_is_published(tiny_model: Path, tmp_path: Path) -> None:
    task = IFT(Source(str(tmp_path / "private" / "rows.jsonl")), "Q: {prompt} A: ")
    for run in (FULL, ADAPTER):
        local = replace(run, model=str(tiny_model), task=task, tokenizer=str(tiny_model))
        trained(local, tmp_path / "runs", model=str(tiny_model))
        folder = written(local, tmp_path / "runs", "--base", "someone/base")
        texts = {p.name: p.read_text() for p in folder.iterdir() if p.suffix != ".safetensors"}
        for name, text in texts.items():
            assert str(tmp_path) not in text and str(tiny_model.parent) not in text, name
        assert "rows.jsonl" in texts["README.md"] and "rows.jsonl" in texts["manifest.json"]
        assert front(folder)["base_model"] == "someone/base"
        assert "datasets" not in front(folder)
        shutil.rmtree(folder)


def test_an_adapter_names_the_base_that_others_have(tiny_model: Path, tmp_path: Path) -> None:
    local = replace(ADAPTER, model=str(tiny_model))
    trained(local, tmp_path / "runs", model=str(tiny_model))
    folder = written(local, tmp_path / "runs", "--base", "someone/base")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "someone/base"
    assert 'from_pretrained("someone/base")' in (folder / "README.md").read_text()


def test_an_adapter_on_a_folder_of_this_machine_asks_for_the_base_s_name(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = replace(ADAPTER, model=str(tiny_model))
    trained(local, tmp_path, model=str(tiny_model))
    assert "--base OWNER/NAME" in refused(capsys, local.name(), "--to", TO, "--runs", tmp_path, "--dry-run")


# ---------------------------------------------------------------- the card


def test_the_card_says_what_the_manifest_says(root: Path) -> None:
    folder = written(ADAPTER, root)
    text, manifest = (folder / "README.md").read_text(), folder_of(ADAPTER, root).manifest
    known = [manifest[key] for key in ("git_sha", "digest", "data_digest", "model_digest", "started")]
    known += [f"{name} {version}" for name, version in manifest["packages"].items()]
    known += [manifest["hardware"]["cpu"], "4,321", "20,480", "18,001", "9,002", "12.2", "77", "1.5000"]
    assert [value for value in known if value not in text] == []
    assert "| library@1 | pass@1 | 0.25 | 0.0338 | 164 | 0123456789ab | 0.125 |" in text
    assert json.loads((folder / "manifest.json").read_text())["run"] == manifest["run"]


def test_every_field_of_the_run_is_in_the_card(root: Path) -> None:
    text = (written(FULL, root) / "README.md").read_text()

    def leaves(value: dict[str, Any], prefix: str = "") -> list[str]:
        inner = [leaves(v, f"{prefix}{k}.") if isinstance(v, dict) else [prefix + k] for k, v in value.items()]
        return [name for names in inner for name in names if not name.endswith("kind")]

    names = leaves(encode(FULL))
    assert len(names) > 30
    assert [name for name in names if f"\n| {name} |" not in text] == []
    assert "\n| optim.lr | `0.0006` |" in text
    assert "\n| method | `Full` |" in text


def test_the_front_matter_is_what_the_hub_reads(root: Path) -> None:
    full = front(written(FULL, root))
    shutil.rmtree(root.parent / "out")
    folder = written(ADAPTER, root, "--base", "someone/pocket-base", "--license", "apache-2.0")
    adapter = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert full["library_name"] == "transformers" and "full-fine-tuning" in full["tags"] and "license" not in full
    # The base is a folder of the code's repository: the hub must not take it for an id of its own.
    assert "base_model" not in full
    assert adapter.library_name == "peft" and adapter.base_model == "someone/pocket-base"
    assert adapter.license == "apache-2.0" and "lora" in adapter.tags


def test_data_sets_of_the_hub_are_named_to_it(root: Path) -> None:
    folder = folder_of(ADAPTER, root)
    run = replace(ADAPTER, task=IFT(Source("meta-math/MetaMathQA", revision="aa4f34d"), "{prompt}"))
    folder.update(run=encode(run))
    published = written(ADAPTER, root)
    assert front(published)["datasets"] == ["meta-math/MetaMathQA"]
    assert "`revision=aa4f34d`" in (published / "README.md").read_text()


def test_the_command_of_the_card_trains_this_run_alone(root: Path) -> None:
    text = (written(ADAPTER, root) / "README.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("python -m experiments run"))
    asked = options.parser(command.MODULES).parse_args(line.split()[3:])
    assert [run.digest() for run in command._chosen(asked, POCKET)] == [ADAPTER.digest()]


def test_a_card_of_what_no_study_names_points_to_the_manifest(root: Path) -> None:
    other = replace(ADAPTER, study="elsewhere")
    trained(other, root)
    assert "No study of the scale names this run" in (written(other, root) / "README.md").read_text()


def test_a_dirty_run_is_refused_or_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_of(FULL, root).update(dirty=True, code="0123456789ab+dirty")
    assert "--allow-dirty" in refused(capsys, FULL.name(), "--to", TO, "--runs", root, "--dry-run")
    text = (written(FULL, root, "--allow-dirty") / "README.md").read_text()
    assert "differed from the commit" in text.split("## Load")[0]


def test_a_dirty_score_is_refused_too(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(folder_of(FULL, root), 10, "facts", 0.5, code="0123456789ab+dirty")
    assert "--allow-dirty" in refused(capsys, FULL.name(), "--to", TO, "--runs", root, "--dry-run")


def test_a_cell_with_a_bar_or_a_backtick_stays_one_cell() -> None:
    assert card._table(("a",), [(card._code("x | `y`\n"),)]).splitlines()[2] == '| `` "x \\| `y`\\n" `` |'


# ---------------------------------------------------------------- wrong turns


def test_wrong_turns_say_what_to_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ("--to", TO, "--runs", root, "--dry-run")
    assert FULL.name() in refused(capsys, FULL.name().replace("full", "ful"), *rest)
    assert "5, 10" in refused(capsys, FULL.name(), "--step", 7, *rest)
    assert "OWNER/NAME" in refused(capsys, FULL.name(), "--to", "nobody", "--runs", root, "--dry-run")
    assert "nothing is trained" in refused(capsys, "a/b", "--to", TO, "--runs", root / "none", "--dry-run")
    folder_of(FULL, root).update(status="preempted")
    assert "preempted, not complete" in refused(capsys, FULL.name(), *rest)


def test_a_folder_with_files_of_the_user_is_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root.parent / "mine").mkdir()
    (root.parent / "mine" / "thesis.tex").write_text("years")
    said = refused(capsys, FULL.name(), "--to", TO, "--runs", root, "--dry-run", root.parent / "mine")
    assert "name a new folder" in said
    assert (root.parent / "mine" / "thesis.tex").read_text() == "years"


# ---------------------------------------------------------------- the hub

Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The hub's functions, which record what they are asked."""
    calls: Calls = []

    def recorder(name: str) -> Callable[..., str]:
        def record(*arguments: Any, **named: Any) -> str:
            listed = {p.name for p in Path(named["folder_path"]).iterdir()} if "folder_path" in named else set()
            calls.append((name, arguments, named | {"files": listed}))
            return f"https://hub/{name}"

        return record

    for name in ("create_repo", "create_branch", "upload_folder"):
        monkeypatch.setattr(huggingface_hub, name, recorder(name))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return calls


def test_a_push_makes_the_repository_and_the_branch_and_uploads_the_folder(
    root: Path, hub: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["publish", ADAPTER.name(), "--to", TO, "--runs", str(root), "--private", "--branch", "step-5", "--step"]
    assert command.main([*asked, "5"]) == 0
    (repo, where, options), (branch, _, branched), (upload, _, sent) = hub
    assert (repo, branch, upload) == ("create_repo", "create_branch", "upload_folder")
    assert where == (TO,) and options["private"] is True and options["exist_ok"] is True
    assert branched["branch"] == "step-5" and branched["exist_ok"] is True
    assert sent["repo_id"] == TO and sent["revision"] == "step-5"
    assert sent["files"] == {"README.md", "manifest.json", "adapter_config.json", "adapter_model.safetensors"}
    assert "*.safetensors" in sent["delete_patterns"]
    assert "https://hub/upload_folder" in capsys.readouterr().out
    assert not Path(sent["folder_path"]).exists()


def test_a_dry_run_asks_nothing_of_the_hub_and_says_where_it_wrote(
    root: Path, hub: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert command.main(["publish", FULL.name(), "--to", TO, "--runs", str(root), "--dry-run"]) == 0
        where = Path(capsys.readouterr().out.split("written, not pushed: ")[1].strip())
        assert (where / "README.md").is_file()
    assert hub == []


def test_a_hub_that_refuses_leaves_the_folder_and_the_way_to_push_it(
    root: Path, hub: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise HTTPError("401 Unauthorized")

    monkeypatch.setattr(huggingface_hub, "upload_folder", refuse)
    said = refused(capsys, FULL.name(), "--to", TO, "--runs", root, status=1)
    assert "hf auth login" in said and "401" in said
    assert (Path(said.split(f"hf upload {TO} ")[1].strip()) / "model.safetensors").is_file()


def test_without_a_token_or_a_network_nothing_is_written(
    root: Path, hub: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "hf auth login" in refused(capsys, FULL.name(), "--to", TO, "--runs", root, status=1)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused(capsys, FULL.name(), "--to", TO, "--runs", root, status=1)
    assert hub == [] and not (folder_of(FULL, root).path / "publish").exists()
