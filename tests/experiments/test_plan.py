"""The plan's numbers against hand-computed ones and the paper's, without a connection and without torch."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments import estimate, plan, plan_flags, scales, studies
from experiments.estimate import CARDS, Data, Offer
from replication.config import CPT, IFT, AdamW, Budget, Full, LionW, LoRA, Run, Source, Speed, Trapezoid
from replication.scale import DataSize
from replication.shapes import KNOWN, Shape

ROOT = Path(__file__).resolve().parent.parent.parent
LLAMA = KNOWN["meta-llama/Llama-2-7b-hf"]
# 32 x (4 x 4096^2 + 3 x 4096 x 11008) + 32000 x 4096: no embedding, no norms.
MULTIPLIED = 6_607_077_376
RUN = Run(
    scale="t", study="s", task=CPT(Source("corpus")), model="meta-llama/Llama-2-7b-hf", method=Full(),
    optim=LionW(1e-5), schedule=Trapezoid(1), budget=Budget(10, "steps"), global_batch=192, seq_len=4096, micro_batch=6,
    precision="bf16", zero_stage=3,
)  # fmt: skip


def made(study: str, scale: str = "paper", **offer: Any) -> dict[str, Any]:
    loaded = scales.load(scale)
    return plan.make(studies.runs(study, loaded, seeds=1), loaded, Offer(**({"gpus": 32} | offer)))


def told(study: str, scale: str, tmp_path: Path, *words: str) -> str:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    plan.arguments(parser)
    options = parser.parse_args(words)
    options.runs = tmp_path
    loaded = scales.load(scale)
    return plan.report(studies.runs(study, loaded, seeds=1), loaded, options)


# ---------------------------------------------------------------- the paper's numbers


def test_code_cpt_has_the_papers_steps_and_lengths() -> None:
    study = made("cpt_code")["studies"][0]
    assert study["tokens_per_step"] == 786_432
    lengths = [(row["amount"], row["steps"], row["cooldown"]) for row in study["lengths"]]
    # tokens / 786,432, and a fifth of it, rounded
    assert lengths == [
        (0.25e9, 318, 64), (0.5e9, 636, 127), (1e9, 1272, 254), (2e9, 2543, 509),
        (4e9, 5086, 1017), (8e9, 10_173, 2035), (16e9, 20_345, 4069), (20e9, 25_431, 5086),
    ]  # fmt: skip


def test_code_cpt_trains_the_papers_parameters() -> None:
    assert made("cpt_code")["studies"][0]["trainable"] == {
        "full": 6_738_415_616, "lora-r16-all": 39_976_960, "lora-r64-all": 159_907_840, "lora-r256-all": 639_631_360,
    }  # fmt: skip


def test_branches_are_counted_from_where_they_start() -> None:
    content = made("cpt_code")
    # A trunk of 25,431 - 5,086 steps and the eight cooldowns, for four arms.
    cooldowns = 64 + 127 + 254 + 509 + 1017 + 2035 + 4069 + 5086
    assert content["totals"]["steps"] == 4 * (20_345 + cooldowns) == 134_024
    assert content["totals"]["tokens"] == 134_024 * 786_432
    whole = 318 + 636 + 1272 + 2543 + 5086 + 10_173 + 20_345 + 25_431
    assert content["totals"]["scored_tokens"] == 4 * whole * 786_432
    longest = next(row for row in content["runs"] if row["end_step"] == 25_431)
    assert (longest["from_step"], longest["steps"]) == (20_345, 5086)


def test_code_ift_has_193_batches_an_epoch_as_in_the_readme() -> None:
    study = made("ift_code")["studies"][0]
    assert study["sequences_per_epoch"] == 111_183 // 3 == 37_061
    assert study["batches_per_epoch"] == pytest.approx(37_061 / 192) and round(37_061 / 192) == 193
    assert [row["steps"] for row in study["lengths"]] == [193, 386, 772, 1544, 3088]
    # 72.97M tokens / 4,096 / 192, were every sequence full.
    assert study["best_fit_batches"] == pytest.approx(92.79, abs=0.01)


def test_the_papers_memory_table_stands_beside_ours() -> None:
    content = made("cpt_code")["paper_memory"]
    assert content["table"] == "Table S14" and content["gpus"] == [1, 8, 16, 32, 64]
    for row in content["compared"]:
        assert row["formula"] == pytest.approx(row["printed"], rel=0.02), row["label"]
    full, *lora = content["ours"]
    assert full["formula"][0] == pytest.approx(12 * 6.738415616)
    assert full["engine"][0] == pytest.approx(14 * 6.738415616)
    # Frozen base 2 bytes, adapters 12 by the paper's count; r16 trains 0.59 %.
    assert lora[0]["formula"][0] == pytest.approx(2 * 6.738415616 + 12 * 0.03997696)


def test_the_two_lengths_inside_the_warm_up_are_flagged() -> None:
    flags = [flag for flag in made("cpt_code")["flags"] if flag["kind"] == "in_warmup"]
    assert [(flag["steps"], flag["reached"], len(flag["runs"])) for flag in flags] == [(318, 0.317, 4), (636, 0.635, 4)]
    assert not [flag for flag in made("ift_code")["flags"] if flag["kind"] == "in_warmup"]


def test_one_rate_for_full_and_lora_is_flagged_in_code_cpt_alone() -> None:
    flags = {flag["study"]: flag["runs"] for flag in made("study")["flags"] if flag["kind"] == "one_rate"}
    assert flags == {"cpt_code": ["lora-r16-all", "lora-r64-all", "lora-r256-all"]}


# ---------------------------------------------------------------- formulas


def test_flops_of_a_token_are_counted_by_hand() -> None:
    attention = 4 * 32 * 4096 * 4096
    assert estimate.flops_per_token(LLAMA, RUN) == 6 * MULTIPLIED + 3 * attention
    lora = replace(RUN, method=LoRA(16, 32))
    assert estimate.flops_per_token(LLAMA, lora) == 4 * MULTIPLIED + 6 * 39_976_960 + 3 * attention
    again = replace(RUN, speed=Speed(recompute=True))
    assert estimate.flops_per_token(LLAMA, again) == 8 * MULTIPLIED + 4 * attention
    tied = Shape(8, 1, 2, 2, 16, 10, tied=True, qkv_bias=False)
    # 4 x 64 + 3 x 128 in the block and 80 in the output, which is the embedding.
    assert estimate.flops_per_token(tied, replace(RUN, seq_len=2)) == 6 * (256 + 384 + 80) + 12 * 8 * 2


def test_gpu_hours_and_cost_follow_from_the_offer() -> None:
    scale = scales.load("paper")
    run = replace(RUN, budget=Budget(1000, "steps"))
    row = plan.make([run], scale, Offer("a100", 32, 0.5, 3.0))["runs"][0]
    flops = 1000 * 786_432 * (6 * MULTIPLIED + 12 * 32 * 4096 * 4096)
    hours = flops / (0.5 * 312e12) / 3600
    assert row["flops"] == flops
    assert row["gpu_hours"] == pytest.approx(hours) and row["cost"] == pytest.approx(3 * hours)
    assert row["hours"] == pytest.approx(hours / 32)


def test_disk_holds_weights_of_every_rung_and_of_a_trunks_rungs_the_state_alone() -> None:
    scale = scales.load("paper")
    run = replace(RUN, method=LoRA(16, 32), ladder=(4, 8), budget=Budget(8, "steps"))
    p = 39_976_960
    assert plan.make([run], scale, Offer())["runs"][0]["checkpoint_bytes"] == 2 * 4 * p
    trunk = replace(run, schedule=Trapezoid(2, cooldown=0.0))
    assert plan.make([trunk], scale, Offer())["runs"][0]["checkpoint_bytes"] == 4 * p + 2 * 8 * p
    adam = replace(run, ladder=(), optim=AdamW(1e-4))
    row = plan.make([adam], scale, Offer())["runs"][0]
    assert (row["checkpoint_bytes"], row["state_bytes"]) == (4 * p, 12 * p)


def test_shards_take_two_bytes_a_token_or_four_above_65536_ids() -> None:
    data = Data(100, 10_000.0, "")
    assert estimate.shard_bytes(CPT(Source("x")), data, LLAMA) == 20_000 + 800
    assert estimate.shard_bytes(IFT(Source("x"), "{prompt}"), data, KNOWN["Qwen/Qwen2.5-0.5B"]) == 40_000 + 1600
    # The 20B tokens: 40 GB.
    assert made("cpt_code")["studies"][0]["shard_bytes"] == pytest.approx(40e9, rel=0.01)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (IFT(Source("x"), "{prompt}", per_sequence=3), 4),
        (IFT(Source("x"), "{prompt}", per_sequence=1), 10),
        (IFT(Source("x"), "{prompt}"), 3),
        (CPT(Source("x")), 2),
    ],
)
def test_sequences_of_an_epoch_by_kind_of_packing(task: CPT | IFT, expected: int) -> None:
    assert estimate.sequences(task, Data(10, 80.0, ""), seq_len=32) == expected


# ---------------------------------------------------------------- what is known of data and model


def test_sizes_come_from_prepared_shards_where_there_are_any(tmp_path: Path) -> None:
    task, setting = CPT(Source("corpus")), dict(scales.load("paper").settings)["cpt_code"]
    setting = replace(setting, size=DataSize(7, 700, "said"))
    assert estimate.data_of(task, None, cache=tmp_path) == estimate.UNKNOWN
    assert estimate.data_of(task, setting, cache=tmp_path).tokens == 700
    for name, content in {
        "a": {"where": "corpus", "documents": 3, "tokens": 90, "files": {}},
        "older": {"where": "corpus", "files": {}},
        "other": {"where": "elsewhere", "documents": 4, "tokens": 80, "files": {}},
        "rows": {"where": "corpus", "documents": 5, "tokens": 70, "files": {"prompt_lengths.npy": [1, 2]}},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.json").write_text(json.dumps(content))
    assert estimate.data_of(task, setting, cache=tmp_path) == Data(3, 90, "prepared as a")
    assert estimate.data_of(IFT(Source("corpus"), "{prompt}"), setting, cache=tmp_path).tokens == 70


def test_epochs_of_unknown_data_are_said_to_be_unknown(tmp_path: Path) -> None:
    content = made("ift_code", "pocket")
    assert all(row["steps"] is None and row["flops"] is None for row in content["runs"])
    assert content["totals"]["counted"] == 0
    assert "not known before `prepare`" in told("ift_code", "pocket", tmp_path)


def test_a_model_of_unknown_sizes_still_has_a_plan() -> None:
    run = replace(RUN, model="someone/new-model")
    content = plan.make([run], scales.load("pocket"), Offer())
    assert content["runs"][0]["tokens"] == 10 * 786_432 and content["runs"][0]["memory"] is None
    assert [flag["kind"] for flag in content["flags"]] == ["unknown_model"]
    assert "someone/new-model" in plan.plan_text.text(content)


# ---------------------------------------------------------------- flags


def test_a_batch_that_does_not_divide_over_the_gpus_is_flagged() -> None:
    assert plan_flags.undivided([RUN], gpus=32) == []
    (flag,) = plan_flags.undivided([RUN], gpus=24)
    assert "take 16" in flag["text"]  # 192 = 16 x 12 = 6 x 32; of 1 to 24 ranks the most is 16


def test_memory_above_the_cards_is_flagged_with_a_mend() -> None:
    # 156.8 GB of activations alone: 24,576 tokens x (32 blocks x 186,368 + 416,768 bytes).
    content = plan.make([RUN], scales.load("paper"), Offer(gpus=32))
    (flag,) = [flag for flag in content["flags"] if flag["kind"] == "memory"]
    assert "more than the 80.0 of h100" in flag["text"] and "recomputation" in flag["text"]
    assert not [flag for flag in made("study")["flags"] if flag["kind"] == "memory"]


def test_the_rate_that_a_flagged_length_reaches_is_the_schedules() -> None:
    from replication.optim import factor

    for steps in (10, 90, 100, 105, 120, 124, 125, 130):
        run = replace(RUN, schedule=Trapezoid(100), budget=Budget(steps, "steps"))
        found = plan_flags.in_warmup([run])
        peak = max(factor(run.schedule, step, steps) for step in range(steps))
        assert bool(found) == (steps < 125)
        if found:
            assert found[0]["reached"] == pytest.approx(peak), steps
            assert ("no cooldown" in found[0]["text"]) == (steps <= 100)


# ---------------------------------------------------------------- text and JSON


@pytest.mark.parametrize("scale", ["pocket", "desk", "paper", "paper_v1"])
def test_every_study_is_told_in_120_columns(scale: str, tmp_path: Path) -> None:
    for study in studies.names(scales.load(scale)):
        text = told(study, scale, tmp_path)
        assert max(map(len, text.splitlines())) <= 120, study
        assert f"{len(studies.runs(study, scales.load(scale), seeds=1))} runs" in text


def test_the_screen_shows_the_papers_numbers(tmp_path: Path) -> None:
    text = told("cpt_code", "paper", tmp_path)
    for number in ("786,432 tokens", "25,431 (5,086 cooldown)", "39,976,960", "159,907,840", "639,631,360", "S14"):
        assert number in text
    assert text.count("lies inside the warm-up of 1,000 steps") == 2
    assert "193.03 batches = 111,183 examples / 3 a sequence / 192, 193 steps" in told("ift_code", "paper", tmp_path)


def test_json_is_one_object_with_every_run(tmp_path: Path) -> None:
    content = json.loads(told("ift_math", "paper", tmp_path, "--json", "--gpu", "a100", "--gpus", "8", "--price", "1"))
    runs = studies.runs("ift_math", scales.load("paper"), seeds=1)
    assert [row["run"] for row in content["runs"]] == [run.name() for run in runs]
    assert content["offer"]["gpu"] == "a100" and content["offer"]["gpus"] == 8
    assert content["totals"]["cost"] == pytest.approx(content["totals"]["gpu_hours"])
    assert content["offer"]["peak"] == CARDS["a100"].peak
    assert {row["stage"] for row in content["memory"]} == {1, 2, 3}


@pytest.mark.parametrize(
    ("change", "said"),
    [({"gpu": "tpu"}, "tpu"), ({"gpus": 0}, "--gpus 0"), ({"utilisation": 1.5}, "1.5"), ({"price": -1.0}, "--price")],
)
def test_an_impossible_offer_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Offer(**change)


def test_no_gpus_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--gpus 0"):
        told("cpt_code", "paper", tmp_path, "--gpus", "0")


def test_planning_opens_no_connection_and_loads_the_standard_library_alone() -> None:
    code = """
import socket, sys
def refuse(*arguments, **named): raise AssertionError("a connection")
socket.socket = socket.create_connection = refuse
from experiments import plan, scales, studies
from experiments.estimate import Offer
for name in ("paper", "pocket"):
    scale = scales.load(name)
    plan.plan_text.text(plan.make(studies.runs("study", scale, seeds=1), scale, Offer(gpus=32)))
sys.exit(", ".join({"torch", "numpy", "transformers", "deepspeed", "huggingface_hub"} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
