"""Published checkpoints: their branches are found in every layout of the hub, and load to exactly their weights."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from experiments import paper, published
from experiments.published import PUBLISHED, branches, length_of, locate
from replication.methods.merge import load_merged

ROOT = Path(__file__).resolve().parent.parent.parent
ADAPTER = published.named("magicoder-lora-rank-16-alpha-32")
FULL = published.named("magicoder-full-finetuning-lr-5e-05")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# What PEFT of 2024 wrote; the keys of later versions are not in the released files.
OLD_KEYS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save",
    "peft_type", "r", "rank_pattern", "revision", "target_modules", "task_type",
}  # fmt: skip


def save_adapter(base: Path, folder: Path, seed: int) -> Path:
    """An adapter of rank 4 and alpha 8 with random A and B in bf16, as the released ones are stored."""
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=TARGETS, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    draw = torch.Generator().manual_seed(seed)
    names = load_file(folder / "adapter_model.safetensors")
    drawn = {name: torch.randn(t.shape, generator=draw).bfloat16() for name, t in names.items()}
    save_file(drawn, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    written = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": published.BASE}
    (folder / "adapter_config.json").write_text(json.dumps({k: v for k, v in written.items() if k in OLD_KEYS}))
    return folder


def save_full(base: Path, folder: Path, seed: int) -> Path:
    """A full model in bf16, cut into shards."""
    model = AutoModelForCausalLM.from_pretrained(base)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=draw))
    model.bfloat16().save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) >= 2
    return folder


def by_hand(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """Base weights plus alpha / rank x B A, in fp32."""
    weights = AutoModelForCausalLM.from_pretrained(base).state_dict()
    drawn = {name: t.float() for name, t in load_file(adapter / "adapter_model.safetensors").items()}
    changed = [name for name in drawn if "lora_B" in name]
    assert len(changed) == 2 * len(TARGETS)
    for name in changed:
        target = name.removeprefix("base_model.model.").replace("lora_B.", "")
        weights[target] = weights[target] + 8 / 4 * drawn[name] @ drawn[name.replace("lora_B", "lora_A")]
    return weights


def saved(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of every shard, in fp32."""
    shards = sorted(folder.glob("*.safetensors"))
    return {name: tensor.float() for shard in shards for name, tensor in load_file(shard).items()}


def as_cache(repository: Path, refs: dict[str, Path]) -> Path:
    """The hub's cache layout: blobs, snapshots of links to them, and refs that name snapshots."""
    for number, (branch, source) in enumerate(refs.items()):
        commit = f"{number:040x}"
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (repository / "blobs").mkdir(exist_ok=True)
        for file in source.iterdir():
            blob = repository / "blobs" / f"{number}-{file.name}"
            shutil.copy(file, blob)
            (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
        ref = repository / "refs" / branch
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
    return repository


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {name: save_adapter(tiny_model, folder / name, seed) for seed, name in enumerate(("main", "ep4"))}


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: save_full(tiny_model, folder / name, seed) for seed, name in enumerate(("main", "ep4"))}


def test_every_checkpoint_in_the_paper_has_the_papers_scores_at_every_length() -> None:
    listed = [item for item in PUBLISHED if item.in_paper]
    assert (len(listed), len(PUBLISHED)) == (16, 17)
    for item in listed:
        learning: paper.Quantity = "humaneval" if item.setting.endswith("code") else "gsm8k"
        for length in paper.lengths(item.setting):
            assert paper.reported(item.setting, item.method, length, learning), item
            assert paper.reported(item.setting, item.method, length, "forgetting"), item


def test_a_repositorys_name_agrees_with_its_method_and_setting() -> None:
    corpora = {"starcoder": "cpt_code", "openwebmath": "cpt_math", "magicoder": "ift_code", "metamath": "ift_math"}
    for item in PUBLISHED:
        assert item.setting == corpora[item.name.split("-")[0]]
        assert ("-full-finetuning-" in item.name) == (item.kind == "full") == (item.method == "full")
        assert item.kind == "full" or f"-rank-{item.method[1:]}-" in item.name
        assert item.where == f"LoRA-TMLR-2024/{item.name}"
    assert len({item.where for item in PUBLISHED}) == len(PUBLISHED)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    assert published.named("LoRA-TMLR-2024/metamath-lora-rank-16-alpha-32").method == "r16"
    with pytest.raises(ValueError, match="'metamath-r16'; there are .*metamath-lora-rank-16-alpha-32"):
        published.named("metamath-r16")


@pytest.mark.parametrize(
    ("setting", "branch", "length"),
    [
        ("cpt_code", "0.25B-tokens", 0.25e9),
        ("cpt_code", "4B-tokens", 4e9),
        ("cpt_code", "16b", 16e9),
        ("cpt_math", "500M-tok", 0.5e9),
        ("cpt_math", "checkpoint_tokens-2B", 2e9),
        ("cpt_code", "ep0-ba318", 0.25e9),  # 318 x 786,432 = 250,085,376: within 1 %
        ("cpt_code", "ba25431", 20e9),
        ("cpt_code", "ba1000", 786_432_000),  # near no length of the paper's
        ("ift_code", "ep4", 4),
        ("ift_code", "epoch-16", 16),
        ("ift_code", "8-epochs", 8),
        ("ift_code", "rank-16-epoch-4", 4),
        ("ift_code", "ba772", 4),
        ("ift_code", "ep4-ba772", 4),
        ("ift_code", "step-193", 1),
        ("ift_math", "ba1029", 2),
        ("ift_math", "ba8229", 16),
        ("cpt_code", "main", 20e9),
        ("ift_code", "main", None),
        ("ift_code", "ep4-ba386", None),  # states both 4 and 2
        ("ift_code", "lr-5e-05-batch-192", None),  # the batch's size, not a number of batches
        ("ift_code", "4B-tokens", None),  # instruction tuning is counted in epochs
        ("cpt_code", "llama-2-7b", None),  # the model's size, not tokens
        ("cpt_code", "4", None),
        ("cpt_math", "ep4", None),
        ("ift_math", "ep0", None),
    ],
)
def test_a_branch_has_the_length_that_its_name_states(
    setting: paper.Setting, branch: str, length: float | None
) -> None:
    assert length_of(branch, setting) == length


def test_the_inference_about_main_is_labelled() -> None:
    assert published.how_known("main", "cpt_code").startswith("inferred")
    assert published.how_known("main", "ift_code") == "which length this branch is, is not known"
    assert published.how_known("ep4", "ift_code") == "read from the branch's name"


def test_files_directly_in_a_folder_are_main(adapters: dict[str, Path]) -> None:
    here = replace(ADAPTER, where=str(adapters["ep4"]))
    assert (branches(here.where), locate(here)) == (["main"], adapters["ep4"])


def test_each_adapter_branch_loads_as_base_plus_scaled_product(adapters: dict[str, Path], tiny_model: Path) -> None:
    here = replace(ADAPTER, where=str(adapters["main"].parent), base=str(tiny_model))
    assert branches(here.where) == ["main", "ep4"]
    loaded = {branch: load_merged(here.base, locate(here, branch)).state_dict() for branch in branches(here.where)}
    for branch, weights in loaded.items():
        wanted = by_hand(tiny_model, adapters[branch])
        assert weights.keys() == wanted.keys()
        for name, weight in weights.items():
            assert weight.dtype == torch.float32
            torch.testing.assert_close(weight, wanted[name], rtol=1e-6, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    name = "model.layers.0.mlp.gate_proj.weight"
    assert not torch.allclose(loaded["main"][name], loaded["ep4"][name], atol=0.1)


def test_each_sharded_branch_of_a_cache_loads_as_its_saved_tensors(
    models: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    repository = as_cache(tmp_path / f"models--LoRA-TMLR-2024--{FULL.name}", models | {"refs/pr/1": models["main"]})
    (here,) = published.copies(tmp_path, base=str(tiny_model))
    assert (here.name, branches(here.where)) == (FULL.name, ["main", "ep4"])
    for number, branch in enumerate(("main", "ep4")):
        folder = locate(here, branch)
        assert folder == repository / "snapshots" / f"{number:040x}"
        assert published.commit(folder) == f"{number:040x}"
        weights, wanted = load_merged(here.base, folder).state_dict(), saved(models[branch])
        # The head is tied to the embedding and saved once.
        assert weights.keys() - wanted.keys() == {"lm_head.weight"}
        for name, tensor in wanted.items():
            assert torch.equal(weights[name], tensor), name


def test_a_hub_id_is_read_from_the_cache_when_the_hub_is_switched_off(
    adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    as_cache(tmp_path / f"models--LoRA-TMLR-2024--{ADAPTER.name}", adapters)
    assert branches(ADAPTER.where) == ["main", "ep4"]
    assert (locate(ADAPTER, "ep4") / "adapter_config.json").is_file()
    with pytest.raises(FileNotFoundError, match="switched off .* has no LoRA-TMLR-2024/magicoder-full.* local copy"):
        locate(FULL)


def test_a_branch_with_a_slash_in_its_name_is_found_in_both_layouts(adapters: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(adapters["ep4"], tmp_path / "plain" / "epochs" / "4")
    as_cache(tmp_path / "cache", {"epochs/4": adapters["ep4"]})
    for layout in ("plain", "cache"):
        assert branches(str(tmp_path / layout)) == ["epochs/4"]
        assert locate(replace(ADAPTER, where=str(tmp_path / layout)), "epochs/4").is_dir()


def test_a_missing_branch_is_named_with_those_there_are(adapters: dict[str, Path]) -> None:
    with pytest.raises(FileNotFoundError, match="no branch 'ep16'; it has main, ep4"):
        locate(replace(ADAPTER, where=str(adapters["main"].parent)), "ep16")


def test_a_missing_folder_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    for where in (str(tmp_path / "gone"), "./gone", "gone"):
        with pytest.raises(FileNotFoundError, match="neither a folder here nor a hub id"):
            branches(where)


def test_a_folder_without_checkpoints_is_refused_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint.*there: notes.txt"):
        branches(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="holds no published checkpoint.*there: notes.txt"):
        published.copies(tmp_path)


@pytest.mark.parametrize(("item", "config"), [(ADAPTER, "adapter_config.json"), (FULL, "config.json")])
def test_pickles_are_refused(item: published.Published, config: str, tmp_path: Path) -> None:
    (tmp_path / config).write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="only as pickles.*convert them to safetensors.*pytorch_model.bin"):
        locate(replace(item, where=str(tmp_path)))


def test_a_missing_shard_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(models["main"], tmp_path / "copy")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {shard.name} of {FULL.name}; there: config.json"):
        locate(replace(FULL, where=str(folder)))


def test_a_checkpoint_of_the_other_kind_is_refused(adapters: dict[str, Path], models: dict[str, Path]) -> None:
    with pytest.raises(FileNotFoundError, match="holds an adapter; .* is a full model"):
        locate(replace(FULL, where=str(adapters["main"])))
    with pytest.raises(FileNotFoundError, match="lacks adapter_config.json, adapter_model.safetensors"):
        locate(replace(ADAPTER, where=str(models["main"])))


def test_a_snapshot_that_was_deleted_is_no_branch(adapters: dict[str, Path], tmp_path: Path) -> None:
    repository = as_cache(tmp_path / "cache", adapters)
    shutil.rmtree(repository / "snapshots" / f"{1:040x}")
    assert branches(str(repository)) == ["main"]


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as its official client asks for."""

    files: dict[str, dict[str, Path]]
    fetched: list[str]

    def do_GET(self) -> None:
        # /api/models/OWNER/NAME/{refs | revision/REV | tree/REV}   or   /OWNER/NAME/resolve/REV/FILE
        parts = unquote(self.path.split("?")[0]).strip("/").split("/")
        commits = {branch: f"{number:040x}" for number, branch in enumerate(self.files)}
        if "gated" in parts:
            self.reply(b"{}", {"X-Error-Code": "GatedRepo"}, status=403)
        elif parts[-1] == "refs":
            rows = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": c} for b, c in commits.items()]
            self.reply_json({"branches": rows, "converts": [], "tags": []})
        elif "resolve" in parts:
            self.reply_file(commits, revision=parts[3], name=parts[4])
        else:
            self.reply_listing(commits, what=parts[4], revision=parts[5], name="/".join(parts[2:4]))

    do_HEAD = do_GET

    def at(self, commits: dict[str, str], revision: str) -> dict[str, Path]:
        return next(files for branch, files in self.files.items() if revision in (branch, commits[branch]))

    def reply_file(self, commits: dict[str, str], *, revision: str, name: str) -> None:
        if self.command == "GET":
            self.fetched.append(name)
        headers = {"X-Repo-Commit": commits.get(revision, revision), "ETag": f'"{revision}-{name}"'}
        self.reply(self.at(commits, revision)[name].read_bytes(), headers)

    def reply_listing(self, commits: dict[str, str], *, what: str, revision: str, name: str) -> None:
        files = self.at(commits, revision)
        if what == "tree":
            sizes = {file: path.stat().st_size for file, path in files.items()}
            self.reply_json(
                [{"type": "file", "path": f, "size": s, "oid": f"{revision}-{f}"} for f, s in sizes.items()]
            )
        else:
            siblings = [{"rfilename": file} for file in files]
            self.reply_json({"id": name, "sha": commits.get(revision, revision), "siblings": siblings})

    def reply_json(self, content: object) -> None:
        self.reply(json.dumps(content).encode(), {})

    def reply(self, content: bytes, headers: dict[str, str], *, status: int = 200) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(adapters: dict[str, Path], tmp_path: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    """A hub with an adapter on two branches, pickles beside it, and one branch of nothing but pickles."""
    pickle = tmp_path / "adapter_model.bin"
    pickle.write_bytes(b"a pickle")
    files = {name: {p.name: p for p in folder.iterdir()} | {pickle.name: pickle} for name, folder in adapters.items()}
    files["pickled"] = {pickle.name: pickle, "adapter_config.json": adapters["main"] / "adapter_config.json"}
    handler = type("Handler", (Hub,), {"files": files, "fetched": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def online(code: str, port: int, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose hub is a port of this machine: the client reads its settings once, at import."""
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache),
        "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", f"from experiments.published import branches, locate, named\n{code}"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=100)


def fetched(hub: http.server.ThreadingHTTPServer) -> list[str]:
    return hub.RequestHandlerClass.fetched  # type: ignore[attr-defined,no-any-return]


def test_a_branch_is_downloaded_from_a_hub_without_its_pickles(
    hub: http.server.ThreadingHTTPServer, adapters: dict[str, Path], tmp_path: Path
) -> None:
    code = f"item = named({ADAPTER.name!r})\nprint(branches(item.where))\nprint(locate(item, 'ep4'))"
    done = online(code, hub.server_port, tmp_path)
    assert done.returncode == 0, done.stderr
    listed, folder = done.stdout.splitlines()
    assert listed == "['main', 'ep4', 'pickled']"
    assert published.commit(Path(folder)) == f"{1:040x}"
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (Path(folder) / name).read_bytes() == (adapters["ep4"] / name).read_bytes()
    assert "adapter_model.safetensors" in fetched(hub) and "adapter_model.bin" not in fetched(hub)


def test_a_branch_of_pickles_is_not_downloaded(hub: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    done = online(f"locate(named({ADAPTER.name!r}), 'pickled')", hub.server_port, tmp_path)
    assert "at pickled has its weights only as pickles" in done.stderr
    assert not fetched(hub)


def test_a_gated_repository_and_a_silent_hub_say_what_to_do(
    hub: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    # Port 9 discards: nothing listens there.
    for port, wanted in ((hub.server_port, "is gated: accept its licence on its page, log in"), (9, ": try again")):
        said = online("branches('LoRA-TMLR-2024/gated')", port, tmp_path).stderr.splitlines()[-1]
        assert "LoRA-TMLR-2024/gated" in said and wanted in said and "local copy" in said
