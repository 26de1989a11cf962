"""Ranks by optimiser: what the sign does to a rank, interpolation at equal loss, and rows of runs on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from analysis import artefact, rows, singular
from analysis.command import Places
from replication.results import Score

NAMES = [f"model.layers.{i}.{name}.weight" for i in range(2) for name in ("self_attn.q_proj", "self_attn.v_proj")]
WIDTH = 64


def test_the_sign_of_a_rank_16_matrix_has_an_energy_rank_of_three_tenths_of_its_width() -> None:
    width = 512
    noise = singular.measures(singular.noise(width, width), width, width)["rank90_noise"]
    assert artefact.sign_share((width, width)) * noise / width == pytest.approx(0.30, abs=0.015)
    rng = np.random.default_rng(0)
    product = rng.standard_normal((width, 16)) @ rng.standard_normal((16, width))
    assert singular.rank_at_share(np.linalg.svd(product, compute_uv=False), 0.9) <= 16


def test_shares_are_read_off_at_equal_loss() -> None:
    losses = [2.0, 1.0, 1.5]
    shares = np.array([[0.2, 0.0], [0.6, 0.8], [0.3, 0.4]])
    read = artefact.at_losses(losses, shares, np.array([1.0, 1.25, 2.0]))
    assert read == pytest.approx(np.array([[0.6, 0.8], [0.45, 0.6], [0.2, 0.0]]))
    assert artefact.overlap([2.0, 1.0], [1.8, 1.4, 3.0]) == (1.4, 2.0)
    assert artefact.overlap([2.0, 1.0], [3.0, 2.5]) is None
    assert artefact.overlap([2.0], [1.0, 3.0]) is None


def _checkpoint(path: Path, base: dict[str, torch.Tensor], rank: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    change = {
        n: torch.randn(WIDTH, rank, generator=generator) @ torch.randn(rank, WIDTH, generator=generator) for n in base
    }
    path.mkdir(parents=True)
    save_file({n: w + 0.01 * change[n] for n, w in base.items()}, path / "model.safetensors")


@pytest.fixture
def trained(make_study: Callable[..., Any], tmp_path: Path) -> tuple[Any, Places]:
    """Full fine-tuning by three optimisers at three lengths, two seeds: rank 40 under LionW, 20 AdamW, 4 SGD."""
    tables = make_study(items=10, seeds=(0, 1), only=("cpt_code",), leave_out=lambda run: run.rank is not None)
    base = {n: torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(i)) for i, n in enumerate(NAMES)}
    (tmp_path / "base").mkdir()
    save_file(base, tmp_path / "base" / "model.safetensors")
    runs, scores = [], dict(tables.scores)
    for optimiser, rank in (("", 40), ("adamw", 20), ("sgd", 4)):
        for run in tables.runs:
            if optimiser:
                name = run.run.replace("cpt_code/", f"cpt_code.artefact/{optimiser}-")
                run = replace(run, study="cpt_code.artefact", run=name, variant=optimiser)
            loss = {64e3: 2.0, 128e3: 1.5, 256e3: 1.0}[run.length] + 0.1 * (optimiser == "sgd")
            key = (run.run, run.step, "cpt_code_loss", "nats_per_token")
            what = ("cpt_code_loss", 1, "nats_per_token", loss, 10, None, "g")
            scores[key] = Score("toy", run.study, run.run, "d0", run.seed, run.step, run.tokens, *what)
            folder = tmp_path / "runs" / "toy" / run.run
            longer = {64e3: 0, 128e3: 1, 256e3: 2}[run.length]
            _checkpoint(folder / "checkpoints" / f"step_{run.step:06d}", base, rank + longer, run.seed)
            (folder / "manifest.json").write_text(json.dumps({"digest": "d0"}))
            runs.append(run)
    scale = replace(tables.scale, model=str(tmp_path / "base"), ablations=("cpt_code.artefact",))
    made = replace(tables, scale=scale, runs=tuple(runs), scores=scores)
    return made, Places(scale, tmp_path, tmp_path / "runs", tmp_path / "out")


def test_optimisers_are_compared_at_the_losses_that_both_reach(trained: tuple[Any, Places]) -> None:
    tables, where = trained
    assert "2 effects" in artefact.write(tables, where)
    listed = rows.read(where.out / "artefact.jsonl")
    assert len(listed) == 3 * 3 * 2
    shares = {o: np.mean([r["rank90_share"] for r in listed if r["optimiser"] == o]) for o in artefact.OPTIMISERS}
    assert shares["lionw"] > shares["adamw"] > shares["sgd"]
    assert all(0.4 < r["sign_share"] < 0.9 and r["study"] == "cpt_code" for r in listed)
    found = {r["quantity"]: r for r in rows.read(where.out / "artefact_effects.jsonl")}
    # The ranges of loss are 1 to 2 and 1.1 to 2.1; ranks of 4 to 6 against 40 to 42 of which 90 % is some 28.
    assert "(1.100 to 2.000)" in found["artefact_sign"]["words"]
    assert found["artefact_sign"]["low"] > found["artefact_adam"]["value"] > 0.1
    assert found["artefact_sign"]["seeds"] == 2 and found["artefact_sign"]["items"] == len(NAMES)
    assert "sgd" in artefact.table(listed)


def test_nothing_is_lost_where_the_runs_are_gone(trained: tuple[Any, Places], tmp_path: Path) -> None:
    tables, where = trained
    artefact.write(tables, where)
    before = (where.out / "artefact.jsonl").read_bytes()
    assert "tracked rows kept" in artefact.write(tables, replace(where, runs=tmp_path / "nowhere"))
    assert (where.out / "artefact.jsonl").read_bytes() == before
    without = replace(tables, runs=tuple(r for r in tables.runs if not r.variant))
    assert "no runs by AdamW or SGD" in artefact.write(without, replace(where, out=tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_optimisers_that_reach_no_common_loss_have_no_effect(trained: tuple[Any, Places]) -> None:
    tables, where = trained
    apart = {
        key: replace(score, value=score.value + 9) if "sgd" in key[0] else score for key, score in tables.scores.items()
    }
    assert "no losses that both optimisers reach for artefact_sign" in artefact.write(
        replace(tables, scores=apart), where
    )
    assert [r["quantity"] for r in rows.read(where.out / "artefact_effects.jsonl")] == ["artefact_adam"]
