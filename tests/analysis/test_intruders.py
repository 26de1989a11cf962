"""Intruder rows of checkpoints on disk: planted changes, both controls, the cache, and what is never overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from analysis import intruder_effects, intruders, rows
from analysis.command import Places

SHAPES = {
    "self_attn.q_proj": (48, 48), "self_attn.k_proj": (48, 48), "self_attn.v_proj": (48, 48),
    "self_attn.o_proj": (48, 48), "mlp.gate_proj": (80, 48), "mlp.up_proj": (80, 48), "mlp.down_proj": (48, 80),
}  # fmt: skip
LAYERS = 2
MATRICES = LAYERS * len(SHAPES)


def _names() -> dict[str, tuple[int, int]]:
    return {f"model.layers.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in SHAPES.items()}


def _model(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / "model.safetensors")
    return path


def _adapter(path: Path, rank: int, size: float, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (out, into) in _names().items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, into, generator=generator) / into**0.5
        tensors[f"{prefix}.lora_B.weight"] = size * torch.randn(out, rank, generator=generator) / out**0.5
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank}))
    return path


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(*s, generator=generator) / s[0] ** 0.5 for n, s in _names().items()}


@pytest.fixture
def base(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    return _model(tmp_path / "base", tensors)


def test_a_planted_direction_is_counted_once_in_every_matrix_of_an_adapter(
    base: Path, tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    """A large change along (x_1 + ... + x_16) / 4, whose largest cosine is .25: the first direction of the tuned."""
    planted = {}
    for name, weight in tensors.items():
        left, _, right = torch.linalg.svd(weight, full_matrices=False)
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        planted[f"{prefix}.lora_B.weight"] = -1000 * left[:, :16].sum(dim=1, keepdim=True) / 4
        planted[f"{prefix}.lora_A.weight"] = right[:1].contiguous()
    adapter = _adapter(tmp_path / "adapter", 1, 1.0, 1)
    save_file(planted, adapter / "adapter_model.safetensors")
    found = list(intruders.measure(base, adapter, keep=10))
    assert [f.tuned[0] for f in found] == pytest.approx([0.25] * MATRICES, abs=0.002)
    for epsilon, each in ((0.2, 0), (0.3, 1), (0.5, 1), (0.9, 1)):
        row = intruders.counts(found, epsilon, 1)
        assert (row["count"], row["per_matrix"], row["matrices"]) == (each * MATRICES, each, MATRICES)
    row = intruders.counts(found, 0.5, 10)
    assert row["random"] > 9 and row["random_count"] == pytest.approx(row["random"] * MATRICES)
    assert row["matched"] == row["matched_count"] / MATRICES > 5


def test_a_whole_model_and_the_adapter_it_was_merged_from_count_alike(
    base: Path, tmp_path: Path, tensors: dict[str, torch.Tensor]
) -> None:
    adapter = _adapter(tmp_path / "adapter", 3, 3.0, 2)
    merged = {f"model.layers.{m[0]}.": after for m, _, after in intruders.pairs(base, adapter)}
    assert len(merged) == LAYERS
    whole = dict(tensors)
    for (layer, module), _, after in intruders.pairs(base, adapter):
        (name,) = [n for n in whole if f"layers.{layer}." in n and module in n]
        whole[name] = torch.from_numpy(after)
    one = list(intruders.measure(base, adapter, keep=10))
    two = list(intruders.measure(base, _model(tmp_path / "merged", whole), keep=10))
    for left, right in zip(one, two, strict=True):
        assert left.matrix == right.matrix and left.tuned == pytest.approx(right.tuned, abs=1e-6)
        assert left.matched == pytest.approx(right.matched, abs=1e-6)
    fewer = {n: t for n, t in tensors.items() if "layers.1" not in n}
    with pytest.raises(ValueError, match="differ in matrices"):
        list(intruders.pairs(base, _model(tmp_path / "fewer", fewer)))


def test_the_base_itself_has_no_intruders_and_no_matched_ones(base: Path) -> None:
    found = list(intruders.measure(base, base))
    row = intruders.counts(found, 0.9, 10)
    assert (row["count"], row["matched_count"]) == (0, 0)
    assert {f.relative for f in found} == {0.0}


def _train(tables: Any, tensors: dict[str, torch.Tensor], runs: Path) -> None:
    """Checkpoints of the CPT code setting: LoRA writes large directions that grow with length, full a small change."""
    for place, run in enumerate(r for r in tables.runs if r.study == "cpt_code"):
        folder = runs / run.scale / run.run
        path = folder / "checkpoints" / f"step_{run.step:06d}"
        if run.rank is None:
            generator = torch.Generator().manual_seed(place)
            _model(path, {n: t + 0.002 * torch.randn(t.shape, generator=generator) for n, t in tensors.items()})
        else:
            _adapter(path, run.rank, 4.0 * run.length / 256e3 * run.rank**0.5, place)
        (folder / "manifest.json").write_text(json.dumps({"digest": "d0"}))


def test_the_study_s_rows_effects_and_cache(
    make_study: Callable[..., Any], base: Path, tensors: dict[str, torch.Tensor], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tables = make_study(items=20, seeds=(0, 1), only=("cpt_code",))
    tables = replace(tables, scale=replace(tables.scale, model=str(base)))
    where = Places(tables.scale, tmp_path, tmp_path / "runs", tmp_path / "out")
    _train(tables, tensors, where.runs)
    assert "effects" in intruders.write(tables, where)
    made = rows.read(where.out / "intruders.jsonl")
    assert len(made) == 4 * 3 * 2 * (len(intruders.EPSILONS) + len(intruders.KS) - 1)
    assert all({"random", "matched", "random_count", "matched_count"} <= set(row) for row in made)
    at = {(r["arm"], r["length"], r["seed"]): r for r in made if (r["epsilon"], r["k"]) == (0.5, 10)}
    assert at["full", 256e3, 0]["count"] == 0
    assert 0.5 < at["r1", 256e3, 0]["per_matrix"] <= 1 < at["r4", 256e3, 1]["per_matrix"]
    assert at["r4", 256e3, 0]["forgetting"] < at["r4", 64e3, 0]["forgetting"]
    cosines = rows.read(where.out / "max_cosines.jsonl")
    assert {(r["arm"], r["kind"]) for r in cosines} == {
        (a, k) for a in ("full", "r1", "r4", "r16") for k in ("tuned", "random", "matched")
    }
    assert {(r["seed"], r["length"]) for r in cosines} == {(0, 256e3)}
    found = {(r["quantity"], r["setting"]): r for r in rows.read(where.out / "intruder_effects.jsonl")}
    assert {q for q, _ in found} == set(intruder_effects.COUNTED)
    above = found["intruders_lora_above_full", "cpt_code"]
    assert above["low"] > 0 and above["seeds"] == 2 and above["items"] == MATRICES
    assert found["intruders_full_above_matched", "cpt_code"]["value"] == 0
    together = found["intruders_vs_forgetting", "cpt_code"]
    assert (together["items"], together["seeds"]) == (9, 2)
    assert together["value"] > 0.5 and together["low"] < 0  # three ranks decide nothing

    before = (where.out / "intruders.jsonl").read_bytes()
    monkeypatch.setattr(intruders, "measure", lambda *_, **__: pytest.fail("measured again"))
    intruders.write(tables, where)
    assert (where.out / "intruders.jsonl").read_bytes() == before
    # Without the checkpoints of a run that has rows, none is lost.
    gone = where.runs / tables.scale.name / next(r.run for r in tables.runs) / "checkpoints"
    gone.rename(tmp_path / "elsewhere")
    assert "tracked rows kept" in intruders.write(tables, where)
    assert (where.out / "intruders.jsonl").read_bytes() == before
    assert "longest" not in intruders.by_arm(made) and "r16" in intruders.by_arm(made)


def test_a_study_without_checkpoints_keeps_what_is_tracked(make_study: Callable[..., Any], tmp_path: Path) -> None:
    tables = make_study(items=10, seeds=(0,), only=("cpt_code",))
    where = Places(tables.scale, tmp_path, tmp_path / "runs", tmp_path / "out")
    assert "make study" in intruders.write(tables, where)
    assert not where.out.exists()


def test_effects_of_other_quantities_stay(tmp_path: Path) -> None:
    first = [{"quantity": q, "setting": "s", "value": 1.0} for q in ("scaling_target", "change_vs_forgetting")]
    intruder_effects.replace(tmp_path, first, ())
    intruder_effects.replace(tmp_path, [first[1] | {"value": 2.0}], intruder_effects.COUNTED)
    kept = rows.read(tmp_path / "intruder_effects.jsonl")
    assert [(r["quantity"], r["value"]) for r in kept] == [("scaling_target", 1.0), ("change_vs_forgetting", 2.0)]


def test_the_table_of_a_pair_has_both_controls(base: Path, tmp_path: Path) -> None:
    found = list(intruders.measure(base, _adapter(tmp_path / "adapter", 1, 6.0, 3), keep=10))
    text = intruders.pair_table(found)
    assert "matched control" in text and "random" in text and "down_proj" in text
