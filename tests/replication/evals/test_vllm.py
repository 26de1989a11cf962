"""The vLLM engine against the transformers engine, and against itself started anew. Needs vLLM and real models."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from replication.config import LoRA, Source
from replication.data.sources import documents
from replication.evals.choice import encode_pairs
from replication.evals.generate import Sampling, TransformersGenerator
from replication.evals.vllm_engine import _same_architecture, adapter_rank, rank_limit
from replication.methods import attach
from replication.methods.merge import load_merged
from replication.models import load_model, load_tokenizer

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]
ITEMS = 200
PROMPTS = 100
NEW_TOKENS = 32
# Models other than the base are asked every eighth pair and the first of the prompts.
EIGHTH, FEW = 8, 20

Pair = tuple[list[int], list[int]]


@pytest.fixture(scope="module")
def models(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """The base and three made of it: two adapters of different rank, and one with every weight and its end changed."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed; `make vllm` installs it")
    base, root = str(shared_data / "models" / "stories260K_head32"), tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for rank in (4, 16):
        wrapped = attach(load_model(base), LoRA(rank, 2 * rank), seed=0).model
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
        wrapped.save_pretrained(root / f"r{rank}")
    full = load_model(base)
    for weight in full.parameters():
        weight.data *= 1 + 0.03 * torch.randn_like(weight)
    # A tuned model may end its texts otherwise than its base does.
    full.generation_config.eos_token_id = [1, 2]
    full.save_pretrained(root / "full")
    load_tokenizer(base).save_pretrained(root / "full")
    return {"base": base} | {name: str(root / name) for name in ("r4", "r16", "full")}


@pytest.fixture(scope="module")
def questions(shared_data: Path, models: dict[str, str]) -> dict[str, list[Pair]]:
    """The first 200 items of each choice benchmark as (prefix, option) pairs that fit into the model's context."""
    folder, tokenizer = shared_data / "benchmarks", load_tokenizer(models["base"])
    files = {
        "hellaswag": "hellaswag/hellaswag_val_10042.jsonl.gz",
        "arc_challenge": "arc_challenge/arc_challenge_test_1172.jsonl",
        "winogrande": "winogrande/winogrande_xl_val_1267.jsonl",
    }
    found = {}
    for name, file in files.items():
        rows = documents(Source(str(folder / file), limit=ITEMS))
        pairs = [pair for row in rows for pair in encode_pairs(texts_of(row), tokenizer)]
        found[name] = [(prefix[-(513 - len(option)) :], option) for prefix, option in pairs]
    return found


def texts_of(row: dict[str, Any]) -> list[tuple[str, str]]:
    if "context_options" in row:
        return [(context, " " + row["continuation"]) for context in row["context_options"]]
    query = row["query"] if "query" in row else f"Question: {row['question']}\nAnswer:"
    return [(query, " " + choice) for choice in row["choices"]]


@pytest.fixture(scope="module")
def prompts(shared_data: Path, models: dict[str, str]) -> list[list[int]]:
    tokenizer = load_tokenizer(models["base"])
    rows = documents(Source(str(shared_data / "benchmarks/gsm8k/test.jsonl"), limit=PROMPTS))
    return [tokenizer(f"Question: {row['question']}\nAnswer:")["input_ids"][-(512 - NEW_TOKENS) :] for row in rows]


@pytest.fixture(scope="module")
def pairs(questions: dict[str, list[Pair]]) -> list[Pair]:
    return [pair for listed in questions.values() for pair in listed]


@pytest.fixture(scope="module")
def answers(
    models: dict[str, Any], pairs: list[Pair], prompts: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What vLLM says in each way: the base to everything, other models to every eighth pair and the first prompts."""
    folder = tmp_path_factory.mktemp("vllm")
    places = {name: None if name == "base" else place for name, place in models.items()}
    some = {"pairs": pairs[::EIGHTH], "prompts": prompts[:FEW]}
    turns = {**places, "again": None}
    everything = {"pairs": pairs, "prompts": prompts}
    ways = {
        "turns": [{"model": place} | (everything if name == "base" else some) for name, place in turns.items()],
        # The first turn's engine is fresh, so the base has been asked.
        "fresh": [{"model": place} | some for place in places.values() if place],
        "broken": [{"model": places[name]} for name in ("base", "full")],
    }
    adapters = [place for name, place in models.items() if name.startswith("r")]
    request = {"base": models["base"], "adapters": adapters, "max_tokens": NEW_TOKENS, "ways": ways}
    (folder / "request.json").write_text(json.dumps(request))
    command = [sys.executable, str(Path(__file__).with_name("ask_vllm.py")), "request.json", "answers.json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((folder / "answers.json").read_text())
    names = {"turns": turns, "fresh": [n for n, place in places.items() if place], "broken": ("base", "full")}
    return {way: dict(zip(names[way], found[way], strict=True)) for way in ways}


def sums(logprobs: list[list[float]]) -> torch.Tensor:
    return torch.tensor([sum(values) for values in logprobs], dtype=torch.float64)


def few(answers: dict[str, Any], *, of_all: bool) -> dict[str, Any]:
    """The answers to every eighth pair and the first prompts, of a model that was asked all or only those."""
    if not of_all:
        return answers
    return {"logprobs": answers["logprobs"][::EIGHTH], "completions": answers["completions"][:FEW]}


@pytest.mark.parametrize("name", ["base", "r4", "r16", "full"])
def test_summed_log_probabilities_are_those_of_transformers_to_a_thousandth(
    name: str, models: dict[str, Any], pairs: list[Pair], answers: dict[str, Any]
) -> None:
    model = load_model(models["base"]) if name == "base" else load_merged(models["base"], Path(models[name]))
    asked = pairs if name == "base" else pairs[::EIGHTH]
    reference = TransformersGenerator(model, load_tokenizer(models["base"])).logprobs(asked)
    difference = (sums(reference) - sums(answers["turns"][name]["logprobs"])).abs()
    assert len(asked) >= 200 and difference.max() < 1e-3


def test_greedy_tokens_are_those_of_transformers_for_99_percent(
    models: dict[str, Any], prompts: list[list[int]], answers: dict[str, Any]
) -> None:
    engine = TransformersGenerator(load_model(models["base"]), load_tokenizer(models["base"]))
    reference = engine.generate(prompts, Sampling(max_tokens=NEW_TOKENS, stop=("Question:",)))
    said = answers["turns"]["base"]["completions"]
    equal = [
        list(a.tokens) == tokens and a.text == text for (a,), (text, tokens, _) in zip(reference, said, strict=True)
    ]
    assert sum(equal) >= 0.99 * len(prompts)


def test_one_engine_says_of_every_model_what_a_fresh_engine_says(
    models: dict[str, Any], answers: dict[str, Any]
) -> None:
    fresh = answers["fresh"]
    assert set(fresh) == set(models) - {"base"}  # that is the first of the turns, and comes again at their end
    turn = {name: few(found, of_all=name == "base") for name, found in answers["turns"].items()}
    for name in fresh:
        assert (sums(fresh[name]["logprobs"]) - sums(turn[name]["logprobs"])).abs().max() < 1e-3, name
        assert fresh[name]["completions"] == turn[name]["completions"], name
    assert turn["again"]["completions"] == turn["base"]["completions"]
    assert (sums(turn["again"]["logprobs"]) - sums(turn["base"]["logprobs"])).abs().max() < 1e-3
    for one, other in (("base", "r4"), ("r4", "r16"), ("base", "full")):
        assert (sums(turn[one]["logprobs"]) - sums(turn[other]["logprobs"])).abs().max() > 0.1


def test_an_engine_that_keeps_an_old_weight_is_refused(answers: dict[str, Any]) -> None:
    assert answers["broken"] == {"base": "pass", "full": "fail"}


def test_a_checkpoint_of_another_architecture_is_refused_by_what_differs(
    models: dict[str, Any], tiny_model: Path
) -> None:
    _same_architecture(models["base"], models["full"])
    with pytest.raises(ValueError, match="is not of .* architecture: .* is .*, not"):
        _same_architecture(models["base"], str(tiny_model))


def test_the_rank_limit_is_the_next_that_vllm_takes(models: dict[str, Any], tmp_path: Path) -> None:
    adapters = [Path(models["r4"]), Path(models["r16"])]
    assert [adapter_rank(adapter) for adapter in adapters] == [4, 16]
    assert (rank_limit([]), rank_limit(adapters[:1]), rank_limit(adapters)) == (None, 8, 16)
    config = json.loads((adapters[0] / "adapter_config.json").read_text())
    for rank, limit in ((65, 128), (256, 256), (300, 320)):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": rank}))
        assert rank_limit([tmp_path]) == limit
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 2048}))
    with pytest.raises(ValueError, match="rank 2048; vLLM serves up to 512"):
        rank_limit([tmp_path])
