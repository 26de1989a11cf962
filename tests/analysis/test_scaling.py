"""The scaling experiment: which directions are chosen, what is written, what is scored, and that it is scored once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import grid, rows, scaled, scaling
from analysis.command import Places
from replication.config import CPT, Source, Trapezoid
from replication.evaluate import of_model, score_all
from replication.models import Weights, load_model
from replication.results import RunRow, Score
from replication.runs import RunDir, read_json
from replication.scale import Scale, Setting
from replication.specs import HeldOut


def _pair(fresh: tuple[int, ...], size: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A tall base, and a tuned matrix whose left vectors at the places in `fresh` the base does not have."""
    rng = np.random.default_rng(0)
    left, right = (
        np.linalg.qr(rng.standard_normal((3 * size, 3 * size)))[0],
        np.linalg.qr(rng.standard_normal((size, size)))[0],
    )
    mine = left[:, :size].copy()
    for place in fresh:
        mine[:, place] = left[:, size + place]
    sigma = np.arange(size, 0, -1.0)
    return (left[:, :size] * sigma) @ right.T, (mine * sigma) @ right.T, mine * sigma, right.T


@pytest.mark.parametrize(
    ("fresh", "intruder", "neighbour"), [((1,), 1, 2), ((0, 1, 4), 0, 2), ((6, 7), 6, 5), ((3, 4, 5, 6, 7), 3, 2)]
)  # fmt: skip
def test_the_first_intruder_and_the_next_direction_of_the_base_are_chosen(
    fresh: tuple[int, ...], intruder: int, neighbour: int
) -> None:
    before, after, left, right = _pair(fresh)
    found = scaling.choose(before, after)
    assert found is not None
    assert found.intruder == pytest.approx(np.outer(left[:, intruder], right[intruder]), abs=1e-10)
    assert found.neighbour == pytest.approx(np.outer(left[:, neighbour], right[neighbour]), abs=1e-10)


def test_without_an_intruder_among_the_top_or_without_a_neighbour_nothing_is_chosen() -> None:
    before, after, _, _ = _pair((5,))
    assert scaling.choose(before, after, k=5) is None
    assert scaling.choose(before, after, k=6) is not None
    assert scaling.choose(before, before) is None
    assert scaling.choose(*_pair(tuple(range(8)))[:2]) is None


@pytest.fixture
def tuned(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a large direction of its own in two matrices, as the checkpoint of a run."""
    model = load_model(tiny_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "mlp.up_proj" in name:
                left, right = (torch.randn(n, generator=generator) for n in weight.shape)
                weight += 3 * torch.outer(left / left.norm(), right / right.norm())
    path = tmp_path / "runs" / "mini" / "cpt_mini" / "lora-r1-all-s0" / "checkpoints" / "step_000008"
    model.save_pretrained(path)
    (path.parent.parent / "manifest.json").write_text(json.dumps({"digest": "d0"}))
    return path


def test_a_scaled_model_differs_by_the_scaled_direction_alone(tiny_model: Path, tuned: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    before, after = (dict(load_model(p).named_parameters())[name].detach().numpy() for p in (tiny_model, tuned))
    chosen = scaling.choose(before, after)
    assert chosen is not None
    made = dict(scaling.scaled_model(str(tiny_model), tuned, {name: chosen}, "intruder", 0.3).named_parameters())
    assert made[name].detach().numpy() == pytest.approx(after - 0.7 * chosen.intruder, abs=1e-6)
    # The direction keeps its place in the decomposition, at .3 of its size.
    value = np.linalg.norm(chosen.intruder)
    assert np.min(np.abs(np.linalg.svd(made[name].detach().numpy())[1] - 0.3 * value)) < 1e-5
    whole = dict(load_model(tuned).named_parameters())
    assert all(torch.equal(made[n], w) for n, w in whole.items() if n != name)


def _study(tiny_model: Path, corpus: Path, tuned: Path, runs: Path) -> grid.Tables:
    """One LoRA run of one setting, scored as `evaluate` does; both evals are held-out losses."""
    source = Source(str(corpus))
    evals = (HeldOut("source_loss", source, 32), HeldOut("target_loss", source, 64))
    setting = Setting(
        regime="cpt", domain="mini", title="mini", task=CPT(source), lengths=(100,), rates=(("r1", 1e-3),),
        schedule=Trapezoid(1), global_batch=1, micro_batch=1, seq_len=32, target="target_loss",
        target_loss="target_loss",
    )  # fmt: skip
    scale = Scale("mini", str(tiny_model), (("cpt_mini", setting),), evals, (), "source_loss", (1,))
    run = RunRow(
        scale="mini", study="cpt_mini", run="cpt_mini/lora-r1-all-s0", digest="d0", seed=0, regime="cpt",
        method="lora-r1-all", rank=1, lr=1e-3, length=100, length_unit="tokens", trunk=False, step=8, tokens=100,
        supervised_tokens=100, trainable=1, final_loss=1.0, seconds=1.0, git_sha="g", started="now", hardware="cpu",
    )  # fmt: skip
    folder = RunDir(runs / "own")
    candidate = of_model(Weights(str(tiny_model), tuned), folder, evals, name="own", tokenizer=str(tiny_model))
    assert [outcome for _, outcome in score_all([candidate], runs, engine="transformers")] == [2]
    scores, items = {}, {}
    for spec in evals:
        found = read_json(scaled.score_folder(folder, spec) / "scores.json")
        for m in found["metrics"]:
            what = (m["name"], m["value"], m["n"], m["stderr"], "g")
            key = (run.run, 8, spec.name, m["name"])
            scores[key] = Score("mini", run.study, run.run, "d0", 0, 8, 100, spec.name, 1, *what)
        for i in found["items"]:
            items[run.run, 8, spec.name, i["metric"]] = grid.Column(tuple(i["ids"]), np.array(i["values"]))
    return grid.Tables(scale, (run,), scores, items)


def _changed_by_hand(tiny_model: Path, tuned: Path, tables: grid.Tables, folder: Path) -> dict[str, float]:
    """Mean change per document of both losses where the first intruder of every matrix that has one is halved."""
    model, before = load_model(tuned), dict(load_model(tiny_model).named_parameters())
    with torch.no_grad():
        for name, weight in ((n, w) for n, w in model.named_parameters() if "_proj" in n):
            found = scaling.choose(before[name].detach().numpy(), weight.detach().numpy())
            if found is not None:
                weight -= torch.from_numpy(0.5 * found.intruder).float()
    model.save_pretrained(folder / "model")
    made = RunDir(folder / "scores")
    evals = tables.scale.evals
    candidate = of_model(Weights(str(tiny_model), folder / "model"), made, evals, name="h", tokenizer=str(tiny_model))
    assert [outcome for _, outcome in score_all([candidate], folder, engine="transformers")] == [2]
    changes = {}
    for spec in evals:
        (after,) = [i for i in read_json(scaled.score_folder(made, spec) / "scores.json")["items"]
                    if i["metric"] == "nats_per_token"]  # fmt: skip
        own = tables.items[tables.runs[0].run, 8, spec.name, "nats_per_token"]
        assert tuple(after["ids"]) == own.ids
        changes[spec.name] = float(np.mean(after["values"] - own.values))
    return changes


def test_scaled_models_are_scored_once_and_compared_item_by_item(
    tiny_model: Path, tiny_corpus: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    tables = _study(tiny_model, tiny_corpus, tuned, runs)
    where = Places(tables.scale, tmp_path, runs, tmp_path / "out")
    assert "analysis/scaling.py" in scaling.write(tables, where)
    assert scaling.score(tables, runs, scaled.cells(tables), (0.5, 1.0)) == (2, [])
    assert not list(runs.rglob("weights-*")), "scaled weights were left behind"
    assert "6 effects" in scaling.write(tables, where)
    made = rows.read(where.out / "intruder_scaling.jsonl")
    assert {(r["direction"], r["factor"]) for r in made} == {(d, f) for d in scaled.DIRECTIONS for f in (0.5, 1.0)}
    own = {r["axis"]: r for r in made if (r["direction"], r["factor"]) == ("intruder", 1.0)}
    half = {r["axis"]: r for r in made if (r["direction"], r["factor"]) == ("intruder", 0.5)}
    assert own["source_loss"]["change"] == 0
    # A random model is no worse for a random direction, so the truth is the score of a model scaled by hand.
    truth = _changed_by_hand(tiny_model, tuned, tables, tmp_path / "hand")
    assert {axis: half[axis]["change"] for axis in truth} == pytest.approx(truth, abs=1e-5)
    assert half["source_loss"]["low"] < half["source_loss"]["change"] < half["source_loss"]["high"]
    assert abs(half["source_loss"]["change"]) > 1e-3
    assert half["source_loss"]["value"] == pytest.approx(own["source_loss"]["value"] + half["source_loss"]["change"])
    assert half["learning"]["change"] == pytest.approx(-half["target_loss"]["change"])
    # Where a scale names no forgetting evals the axis is the source loss with its sign turned.
    assert half["forgetting"]["change"] == pytest.approx(-half["source_loss"]["change"])
    found = {r["quantity"]: r for r in rows.read(where.out / "intruder_effects.jsonl")}
    assert found["scaling_source_loss_alone"]["value"] == pytest.approx(-half["source_loss"]["change"], abs=1e-6)
    assert "r1" in scaled.table(made)

    monkeypatch.setattr(scaling, "_score_one", lambda *_: pytest.fail("scored again"))
    assert scaling.score(tables, runs, scaled.cells(tables), (0.5, 1.0)) == (0, [])
    other = replace(tables, runs=(replace(tables.runs[0], digest="d1"),))
    assert scaling.score(other, runs, scaled.cells(other), (0.5,))[0] == 0  # its checkpoint is of another configuration
    assert scaled.table_rows(other, runs) == []
    before = (where.out / "intruder_scaling.jsonl").read_bytes()
    assert "tracked rows kept" in scaling.write(tables, replace(where, runs=tmp_path / "nowhere"))
    assert (where.out / "intruder_scaling.jsonl").read_bytes() == before


def test_a_run_without_intruders_is_left_out_and_says_so(
    tiny_model: Path, tiny_corpus: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = _study(tiny_model, tiny_corpus, tuned, tmp_path / "runs")
    monkeypatch.setattr(scaling, "choose", lambda *_: None)
    count, absent = scaling.score(tables, tmp_path / "runs", scaled.cells(tables), (0.5,))
    assert count == 0 and len(absent) == 1 and "no intruder" in absent[0]
