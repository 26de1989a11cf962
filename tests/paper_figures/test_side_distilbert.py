"""The figure of the DistilBERT study shows every seed of every arm, and both controls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.colors import to_hex

from paper_figures import side_distilbert as figure
from paper_figures import style

Row = dict[str, Any]
LEVEL = {"head": 0.5, "lora": 0.6, "full": 0.7}


def _row(arm: str, seed: int | None, metric: str, value: float, name: str = figure.EVAL) -> Row:
    return {"arm": arm, "seed": seed, "eval": name, "metric": metric, "value": value, "stderr": None, "n": 9}


@pytest.fixture
def scores() -> list[Row]:
    rows = [_row("base", None, metric, 0.1) for metric, _ in figure.PANELS]
    rows += [_row("base", None, f"majority_{metric}", 0.25) for metric, _ in figure.PANELS]
    for metric, _ in figure.PANELS:
        rows += [
            _row(f"{arm}@{epochs}", seed, metric, LEVEL[arm] + 0.02 * epochs + 0.01 * seed)
            for arm in figure.ARMS
            for epochs in figure.EPOCHS
            for seed in range(3)
        ]
    return [*rows, _row("lora@1", 0, "accuracy", 0.99, "tweets_validation")]


def _inputs(rows: list[Row]) -> Any:
    return SimpleNamespace(tables={"side_distilbert": rows})


def test_every_seed_is_a_mark_beside_the_line_of_means(scores: list[Row]) -> None:
    drawn = figure.pictures(_inputs(scores))[figure.STEM].draw()
    assert len(drawn.axes) == 2
    for axes in drawn.axes:
        for arm, look in figure.ARMS.items():
            own = [line for line in axes.lines if to_hex(line.get_color()) == to_hex(look.colour)]
            *seeds, means = own
            assert [list(line.get_ydata()) for line in seeds] == [
                pytest.approx([LEVEL[arm] + 0.02 * epochs + 0.01 * seed for seed in range(3)])
                for epochs in figure.EPOCHS
            ]
            assert list(means.get_ydata()) == pytest.approx([LEVEL[arm] + 0.02 * e + 0.01 for e in figure.EPOCHS])
            assert all(line.get_xdata()[0] < x for line, x in zip(seeds, means.get_xdata(), strict=True))


def test_both_controls_are_lines_of_their_own(scores: list[Row]) -> None:
    for axes in figure.draw(scores).axes:
        flat = {line.get_linestyle(): line.get_ydata()[0] for line in axes.lines if line.get_color() == style.MUTED}
        assert flat == {"--": 0.25, ":": 0.1}


def test_an_arm_without_a_score_is_named(scores: list[Row]) -> None:
    assert figure.missing(_inputs(scores)) == []
    assert figure.missing(_inputs([row for row in scores if row["arm"] != "head@5"])) == ["arm head@5"]
    assert figure.pictures(_inputs([])) == {}
