"""Spectra rows of checkpoints written to disk: whole models, shards, adapters, and the study's own folders."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis import pair, ranks, rows, singular, spectra, weights
from analysis.command import Places

SHAPES = {
    "self_attn.q_proj": (48, 48), "self_attn.k_proj": (48, 48), "self_attn.v_proj": (48, 48),
    "self_attn.o_proj": (48, 48),    "mlp.gate_proj": (96, 48), "mlp.up_proj": (96, 48), "mlp.down_proj": (48, 96),
}  # fmt: skip
LAYERS = 4


def _base(generator: torch.Generator) -> dict[str, torch.Tensor]:
    made = {"model.embed_tokens.weight": torch.randn(20, 48), "model.layers.0.input_layernorm.weight": torch.ones(48)}
    for layer in range(LAYERS):
        for name, shape in SHAPES.items():
            made[f"model.layers.{layer}.{name}.weight"] = 0.02 * torch.randn(*shape, generator=generator)
    return made


def _low_rank(weights: dict[str, torch.Tensor], rank: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """A change of known rank for every linear."""
    return {
        name: torch.randn(w.shape[0], rank, generator=generator) @ torch.randn(rank, w.shape[1], generator=generator)
        for name, w in weights.items()
        if "_proj" in name
    }


def _model(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / "model.safetensors")
    return path


def _adapter(path: Path, rank: int, generator: torch.Generator, *, scale: float = 1.0, **settings: object) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer in range(LAYERS):
        for name, (out, into) in SHAPES.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, into, generator=generator)
            tensors[f"{prefix}.lora_B.weight"] = scale * torch.randn(out, rank, generator=generator)
    save_file(tensors, path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank} | settings
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def base(tmp_path: Path, generator: torch.Generator) -> Path:
    return _model(tmp_path / "base", _base(generator))


def test_a_low_rank_change_of_a_whole_model_is_found(base: Path, tmp_path: Path, generator: torch.Generator) -> None:
    before = weights_of(base)
    change = _low_rank(before, 3, generator)
    tuned = _model(tmp_path / "tuned", {k: v + 0.01 * change[k] if k in change else v for k, v in before.items()})
    found = list(pair.stream(pair.of_change(base, tuned)))
    assert len(found) == LAYERS * 7
    for spectrum in found:
        made = pair.row(spectrum, {})
        assert made["rank90"] <= 3 and made["rank90_noise"] > 20
        assert made["share_moved"] > 0.99
        assert 0 < made["floor_ratio"] < 1e-5
    first = next(s for s in found if s.matrix == (2, "down_proj"))
    exact = torch.linalg.svdvals(0.01 * change["model.layers.2.mlp.down_proj.weight"]).numpy()
    assert first.found.values[:3] == pytest.approx(exact[:3], rel=1e-4)


def _by_matrix(works: list[pair.Work]) -> dict[weights.Matrix, pair.Solved]:
    return {spectrum.matrix: spectrum.found for spectrum in pair.stream(works)}


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path / "model.safetensors")


def test_a_bf16_copy_shows_the_rank_of_its_rounding_and_says_so(base: Path, tmp_path: Path) -> None:
    before = weights_of(base)
    change = _low_rank(before, 1, torch.Generator().manual_seed(5))
    stored = {k: v.bfloat16() for k, v in before.items()}
    # A rank-1 change of .2 % of the weights' norm: most of what bf16 stores is rounding.
    tuned = {k: (v.float() + 4e-5 * change[k] if k in change else v.float()).bfloat16() for k, v in stored.items()}
    left, right = _model(tmp_path / "stored", stored), _model(tmp_path / "tuned", tuned)
    made = [pair.row(s, {}) for s in pair.stream(pair.of_change(left, right))]
    assert min(r["floor_ratio"] for r in made) > ranks.FLOOR and all(r["rounding"] for r in made)
    assert np.mean([r["rank90"] for r in made]) > 5
    assert max(r["share_moved"] for r in made) < 0.5
    assert "rounding's" in spectra.table(made)


def test_an_adapter_is_analysed_from_its_factors(base: Path, tmp_path: Path, generator: torch.Generator) -> None:
    tuned = _adapter(tmp_path / "adapter", 4, generator)
    found = _by_matrix(pair.of_change(base, tuned))
    assert len(found) == LAYERS * 7
    factors = weights.adapter(tuned)
    for matrix in ((0, "q_proj"), (3, "down_proj")):
        product = weights.read(factors.b[matrix]).double() @ weights.read(factors.a[matrix]).double()
        dense = singular.of_dense(2.0 * product)  # alpha / r = 2
        assert found[matrix].values == pytest.approx(dense[:4], rel=1e-5)
        assert found[matrix].shape == tuple(product.shape)
        rounded = weights.read(factors.b[matrix]).bfloat16(), weights.read(factors.a[matrix]).bfloat16()
        happened = torch.linalg.vector_norm(rounded[0].double() @ rounded[1].double() - product) / product.norm()
        floor_ratio = (found[matrix].floor or 0.0) / np.linalg.norm(found[matrix].values)
        assert floor_ratio == pytest.approx(float(happened) * 2.0**-16, rel=0.25)


def test_an_adapter_merged_equals_the_merged_model(base: Path, tmp_path: Path, generator: torch.Generator) -> None:
    tuned = _adapter(tmp_path / "adapter", 2, generator, scale=0.01, use_rslora=True)
    factors, before = weights.adapter(tuned), weights_of(base)
    assert factors.scaling == pytest.approx(4 / math.sqrt(2))
    key = "model.layers.1.mlp.up_proj.weight"
    dense = before[key] + factors.scaling * weights.read(factors.b[1, "up_proj"]) @ weights.read(
        factors.a[1, "up_proj"]
    )
    found = _by_matrix(pair.of_merged(base, tuned))[1, "up_proj"]
    assert found.values == pytest.approx(torch.linalg.svdvals(dense).numpy(), rel=1e-4)
    works = pair.of_pair(base, tuned)
    assert [work.which for work in works] == ["base", "tuned", "change"] * (LAYERS * 7)


def test_an_adapter_saved_by_peft_has_the_change_that_peft_merges(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(weights.MODULES), init_lora_weights=False)
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
    wrapped.save_pretrained(tmp_path / "adapter")
    wrapped.merge_and_unload().save_pretrained(tmp_path / "merged")
    by_factors = _by_matrix(pair.of_change(tiny_model, tmp_path / "adapter"))
    by_difference = _by_matrix(pair.of_change(tiny_model, tmp_path / "merged"))
    assert set(by_factors) == set(by_difference) and len(by_factors) == 2 * 7
    for matrix, spectrum in by_factors.items():
        assert spectrum.values == pytest.approx(by_difference[matrix].values[:4], rel=1e-4)
        assert spectrum.shape == by_difference[matrix].shape


def test_shards_are_read_like_one_file(base: Path, tmp_path: Path) -> None:
    tensors = weights_of(base)
    names = sorted(tensors)
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    for index, part in enumerate((names[:9], names[9:])):
        save_file({k: tensors[k] for k in part}, sharded / f"model-0000{index}-of-00002.safetensors")
    one, two = (_by_matrix(pair.of_model(path, "base")) for path in (base, sharded))
    assert set(one) == set(two) and len(one) == LAYERS * 7
    assert all(np.array_equal(one[k].values, two[k].values) for k in one)
    index = {"weight_map": {"a": "model-00000-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match="lacks 1 of the 2 shards"):
        weights.model(sharded)


def test_what_cannot_be_compared_is_refused(base: Path, tmp_path: Path, generator: torch.Generator) -> None:
    same, zero = _model(tmp_path / "same", weights_of(base)), _adapter(tmp_path / "zero", 2, generator, scale=0.0)
    for tuned in (same, zero):
        made = [pair.row(s, {"tuned": str(tuned)}) for s in pair.stream(pair.of_change(base, tuned))]
        with pytest.raises(ValueError, match="changes no layer matrix .* untrained adapter"):
            spectra.refuse_unchanged(made)
    with pytest.raises(ValueError, match="use_dora"):
        weights.adapter(_adapter(tmp_path / "dora", 2, generator, use_dora=True))
    fewer = {k: v for k, v in weights_of(base).items() if "layers.3" not in k}
    with pytest.raises(ValueError, match="differ in matrices"):
        pair.of_change(base, _model(tmp_path / "fewer", fewer))
    with pytest.raises(ValueError, match=r"adapts 7 matrices that .*fewer lacks: \[\(3, 'down_proj'\)"):
        pair.of_merged(tmp_path / "fewer", _adapter(tmp_path / "more", 2, generator))
    name = "model.layers.1.mlp.up_proj.weight"
    narrow = _model(tmp_path / "narrow", weights_of(base) | {name: torch.zeros(64, 48)})
    for tuned in (narrow, _adapter(tmp_path / "wide", 2, generator)):
        with pytest.raises(ValueError, match=r"\(1, 'up_proj'\) is \(\d+, 48\) in .* and \(\d+, 48\) in"):
            pair.of_change(narrow if tuned != narrow else base, tuned)
    for wrong in (math.nan, math.inf):
        broken = _model(tmp_path / str(wrong), weights_of(base) | {name: torch.full((96, 48), wrong)})
        with pytest.raises(ValueError, match=f"{name} in .*model.safetensors has NaN or infinite"):
            list(pair.stream(pair.of_change(base, broken)))
    with pytest.raises(FileNotFoundError, match="no \\*.safetensors"):
        weights.model(tmp_path)
    with pytest.raises(FileNotFoundError, match="no local folder and no name of a model"):
        weights.folder("no/such folder")
    with pytest.raises(FileNotFoundError, match="not in the hub's cache.*hf download no/such"):
        weights.folder("no/such")


def _train(tables: Any, base: Path, runs: Path, *, digest: str = "d0") -> None:
    """Checkpoints of every run of one seed's CPT code setting, as training leaves them."""
    generator = torch.Generator().manual_seed(3)
    for run in tables.runs:
        if run.study != "cpt_code" or run.seed != 0:
            continue
        folder = runs / run.scale / run.run
        path = folder / "checkpoints" / f"step_{run.step:06d}"
        if run.rank is None:
            tensors = {k: v + 0.01 * torch.randn(v.shape, generator=generator) for k, v in weights_of(base).items()}
            _model(path, tensors)
        else:
            _adapter(path, run.rank, generator)
        for_resume = {"step": run.step, "tokens": run.tokens}
        (path / "meta.json").write_text(json.dumps(for_resume))
        (folder / "manifest.json").write_text(json.dumps({"digest": digest}))


def _on_the_way(tables: Any, base: Path, runs: Path) -> None:
    """One more rung of one full run's ladder, and one that holds only what a resume needs."""
    run = next(r for r in tables.runs if r.study == "cpt_code" and r.seed == 0 and r.rank is None)
    folder = runs / run.scale / run.run / "checkpoints"
    _model(folder / "step_000007", {k: v + 0.01 for k, v in weights_of(base).items()})
    (folder / "step_000007" / "meta.json").write_text(json.dumps({"step": 7, "tokens": 70}))
    (folder / "step_000003" / "resume").mkdir(parents=True)


def test_the_study_is_analysed_where_its_checkpoints_are(
    make_study: Callable[..., Any], base: Path, tmp_path: Path
) -> None:
    tables = make_study(items=10, seeds=(0, 1))
    tables = replace(tables, scale=replace(tables.scale, model=str(base)))
    where = Places(tables.scale, tmp_path, tmp_path / "runs", tmp_path / "out")
    said = spectra.write(tables, where)
    assert "skipped, tracked rows kept" in said and "make study SCALE=toy" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out" / "spectra.jsonl").exists()
    _train(tables, base, where.runs)
    _on_the_way(tables, base, where.runs)
    assert "runs left out" in spectra.write(tables, where)
    made = rows.read(tmp_path / "out" / "spectra.jsonl")
    matrices = LAYERS * 7
    # The base, the change of 4 arms x 3 lengths, and the tuned weights of full fine-tuning.
    assert len(made) == matrices * (1 + 12 + 3)
    lora = [r for r in made if r["arm"] == "r4"]
    assert {r["which"] for r in lora} == {"change"} and max(r["rank90"] for r in lora) <= 4
    full = [r["rank90"] / r["rank90_noise"] for r in made if r["arm"] == "full" and r["which"] == "change"]
    assert np.mean(full) == pytest.approx(1, abs=0.05)
    lines = rows.read(tmp_path / "out" / "spectrum_lines.jsonl")
    assert {(r["arm"], r["which"]) for r in lines} == {
        ("base", "base"),
        ("full", "change"),
        ("full", "tuned"),
        ("r16", "change"),
    }
    assert {(r["layer"], r["module"]) for r in lines} == {(3, "q_proj")}
    assert all(r["cumulative"][-1] == 1 and r["cumulative"] == sorted(r["cumulative"]) for r in lines)
    energies = np.square(lines[0]["singular"])
    assert lines[0]["cumulative"][9] == pytest.approx(energies[:10].sum() / energies.sum(), rel=1e-4)
    steps = rows.read(tmp_path / "out" / "spectra_steps.jsonl")
    assert len(steps) == matrices and {(r["step"], r["tokens"], r["arm"]) for r in steps} == {(7, 70, "full")}
    assert set(steps[0]) == set(made[0]) and steps[0]["share_moved"] > 0.9
    assert all(np.linalg.norm(r["noise"]) == pytest.approx(np.linalg.norm(r["singular"]), rel=1e-4) for r in lines)


def test_weights_of_another_configuration_are_left_out(
    make_study: Callable[..., Any], base: Path, tmp_path: Path
) -> None:
    tables = make_study(items=10, seeds=(0,))
    _train(tables, base, tmp_path / "runs", digest="other")
    ready, absent = spectra.available(tables, tmp_path / "runs")
    assert ready == []
    assert sum("holds digest other" in reason for reason in absent) == 12


def test_rows_of_runs_whose_checkpoints_are_gone_are_kept(
    make_study: Callable[..., Any], base: Path, tmp_path: Path
) -> None:
    tables = make_study(items=10, seeds=(0,))
    tables = replace(tables, scale=replace(tables.scale, model=str(base)))
    where = Places(tables.scale, tmp_path, tmp_path / "runs", tmp_path / "out")
    _train(tables, base, where.runs)
    spectra.write(tables, where)
    before = {path.name: path.read_bytes() for path in where.out.iterdir()}
    assert "rows" in spectra.write(tables, where)  # all runs of the table are on disk: it is made anew
    folders = sorted((where.runs / "toy" / "cpt_code").iterdir())
    for folder in folders[1:]:
        shutil.rmtree(folder)
    said = spectra.write(tables, where)
    assert "tracked rows kept" in said and "`make study SCALE=toy`" in said and len(said.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in where.out.iterdir()} == before
    other = replace(where, out=tmp_path / "other")
    assert "runs left out" in spectra.write(tables, other)
    assert {row["run"] for row in rows.read(other.out / "spectra.jsonl")} == {"base", f"cpt_code/{folders[0].name}"}
