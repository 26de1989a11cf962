"""The figures of Sparsely Shared LoRA show every seed of every arm, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from paper_figures import side_s2lora as figure

WEIGHTS = {arm: 1000.0 * (i + 1) for i, arm in enumerate(figure.ARMS)}
Row = dict[str, Any]


def _row(arm: str, seed: int | None, name: str, metric: str, value: float) -> Row:
    return {"arm": arm, "seed": seed, "eval": name, "metric": metric, "value": value, "stderr": None, "n": 9}


@pytest.fixture
def scores() -> list[Row]:
    rows = [_row("base", None, group, "wer", 0.5) for group, _ in figure.PANELS]
    for place, arm in enumerate(figure.ARMS):
        for seed in range(3):
            rows.append(_row(arm, seed, "run", "trainable", WEIGHTS[arm]))
            rows += [_row(arm, seed, g, "wer", 0.02 * place + 0.01 * seed) for g, _ in figure.PANELS]
    return rows


@pytest.fixture
def ranks() -> list[Row]:
    modules = [f"encoder.layers.{layer}.self_attn.{p}_proj" for layer in range(2) for p in "qk"] + ["decoder.fc1"]
    return [
        {"arm": arm, "seed": seed, "module": module, "rank": (i + seed) % 5, "of": 4}
        for arm in ("s2lora", "adalora")
        for seed in range(2)
        for i, module in enumerate(modules)
    ]


def _inputs(**tables: list[Row]) -> Any:
    return SimpleNamespace(tables={"side_s2lora": [], "s2lora_ranks": [], **tables})


def _data(line: Line2D, axis: int) -> list[float]:
    return np.asarray(line.get_xydata())[:, axis].tolist()


def test_every_seed_is_a_point_and_the_mean_a_larger_one(scores: list[Row]) -> None:
    drawn = figure.pictures(_inputs(side_s2lora=scores))["side_s2lora"].draw()
    assert len(drawn.axes) == 3
    for axes in drawn.axes:
        for place, arm in enumerate(figure.ARMS):
            look = figure.ARMS[arm]
            own = [
                line for line in axes.lines
                if line.get_marker() == look.marker and to_hex(line.get_color()) == to_hex(look.colour)
            ]  # fmt: skip
            seeds, mean = sorted(own, key=lambda line: line.get_markersize())
            assert _data(seeds, 1) == [0.02 * place + 0.01 * seed for seed in range(3)]
            assert _data(mean, 1) == pytest.approx([0.02 * place + 0.01])
            assert set(_data(seeds, 0)) == {WEIGHTS[arm] * look.beside}
        assert [_data(line, 1)[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.5]


def test_an_arm_without_scores_is_named(scores: list[Row]) -> None:
    kept = [row for row in scores if row["arm"] != "vera"]
    assert figure.missing(_inputs(side_s2lora=kept)) == ["arm vera"]
    assert figure.pictures(_inputs()) == {}


def test_ranks_stand_in_the_row_of_their_kind_of_matrix(ranks: list[Row]) -> None:
    made = figure.pictures(_inputs(s2lora_ranks=ranks))["side_s2lora_ranks"]
    (axes,) = made.draw().axes
    kinds = [tick.get_text() for tick in axes.get_yticklabels()]
    assert kinds == ["encoder self_attn q_proj", "encoder self_attn k_proj", "decoder fc1"]
    points = sum(len(_data(line, 0)) for line in axes.lines if line.get_markersize() < 3)
    assert points == len(ranks)


def test_ranks_of_one_method_alone_make_no_figure(ranks: list[Row]) -> None:
    assert figure.pictures(_inputs(s2lora_ranks=[row for row in ranks if row["arm"] == "adalora"])) == {}
