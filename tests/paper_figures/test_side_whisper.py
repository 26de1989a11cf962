"""The figure of the Whisper study shows every seed of every arm, merged and unmerged apart, and the untuned model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from paper_figures import side_whisper as figure
from paper_figures import style

Row = dict[str, Any]
WER = {"full": 0.1, "lora-qv": 0.2, "lora-all": 0.15}


def _row(arm: str, seed: int | None, name: str, metric: str, value: float) -> Row:
    return {"arm": arm, "seed": seed, "eval": name, "metric": metric, "value": value, "stderr": None, "n": 9}


@pytest.fixture
def scores() -> list[Row]:
    rows = [_row("base", None, "wer", "wer", 0.6), _row("base", None, "validation", "wer", 0.9)]
    for arm, wer in WER.items():
        for seed in range(3):
            rows += [
                _row(arm, seed, "wer", "wer", wer + 0.01 * seed), _row(arm, seed, "speed", "merged_over_base", 1.0),
                _row(arm, seed, "run", "step_seconds", 0.07), _row(arm, seed, "run", "stored_bytes", 5e4),
                _row(arm, seed, "run", "trainable", 10_240),
            ]  # fmt: skip
            if arm != "full":
                rows.append(_row(arm, seed, "speed", "unmerged_over_base", 0.8))
    return rows


@pytest.fixture
def fit() -> list[Row]:
    own = {"memory_gb": 2.0, "batches": [10, 50], "peaks_gb": [1.1, 1.5], "fixed_gb": 1.0, "per_item_gb": 0.01}
    arms = {"lora-r8-all": 90, "full": 100, "lora-r8-q_proj+v_proj": 110}
    return [own | {"arm": arm, "largest_batch": size, "hardware": "a machine"} for arm, size in arms.items()]


def _inputs(rows: list[Row], fit: list[Row] | None = None) -> Any:
    return SimpleNamespace(tables={"side_whisper": rows, "whisper_fit": fit or []})


def _marks(axes: Axes, arm: str) -> list[Any]:
    return [line for line in axes.lines if to_hex(line.get_color()) == to_hex(figure.ARMS[arm].colour)]


def test_every_seed_is_a_mark_left_of_the_mean(scores: list[Row]) -> None:
    axes = figure.pictures(_inputs(scores))[figure.STEM].draw().axes[0]
    for arm, wer in WER.items():
        seeds, mean = _marks(axes, arm)
        assert list(seeds.get_ydata()) == pytest.approx([wer, wer + 0.01, wer + 0.02])
        assert list(mean.get_ydata()) == pytest.approx([wer + 0.01])
        assert seeds.get_xdata()[0] < mean.get_xdata()[0]


def test_the_lines_are_the_untuned_model(scores: list[Row]) -> None:
    errors, speed, *_ = figure.draw(scores).axes
    for axes, value in ((errors, 0.6), (speed, 1.0)):
        (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert (line.get_color(), list(line.get_ydata())) == (style.MUTED, [value, value])


def test_unmerged_adapters_are_hollow(scores: list[Row]) -> None:
    axes = figure.draw(scores).axes[1]
    for arm in ("lora-qv", "lora-all"):
        hollow = [line for line in _marks(axes, arm) if to_hex(line.get_markerfacecolor()) == "#ffffff"]
        assert [list(line.get_ydata()) for line in hollow] == [[0.8] * 3, [pytest.approx(0.8)]]
    assert not [line for line in _marks(axes, "full") if to_hex(line.get_markerfacecolor()) == "#ffffff"]


def test_steps_are_in_milliseconds_and_checkpoints_in_megabytes_with_what_is_trained(scores: list[Row]) -> None:
    *_, steps, stored = figure.draw(scores).axes
    assert list(_marks(steps, "full")[1].get_ydata()) == pytest.approx([70.0])
    assert list(_marks(stored, "full")[1].get_ydata()) == pytest.approx([0.05])
    assert [label.get_text() for label in stored.get_xticklabels()][1] == "LoRA q, v\n10.24k trained"


def test_an_arm_without_a_score_is_named(scores: list[Row]) -> None:
    assert figure.missing(_inputs(scores)) == []
    left = [row for row in scores if row["arm"] != "lora-all"]
    assert figure.missing(_inputs(left)) == ["arm lora-all"]
    assert figure.pictures(_inputs([])) == {}


def test_memory_is_named_by_the_arm_it_was_measured_of_whichever_others_there_are(
    scores: list[Row], fit: list[Row]
) -> None:
    some = [row for row in fit if row["arm"] != "full"]
    some.append(some[-1] | {"arm": "lora-r8-q_proj+v_proj int8", "largest_batch": 200})
    texts = figure.pictures(_inputs(scores, some))["side_whisper_fit"].draw().legends[0].get_texts()
    assert [text.get_text() for text in texts][:3] == [
        "LoRA on queries and values: 110 clips", "LoRA on all linears: 90 clips",
        "LoRA on queries and values, base in 8 bits: 200 clips",
    ]  # fmt: skip


def test_memory_against_batch_has_a_line_of_every_arm_up_to_the_limit(scores: list[Row], fit: list[Row]) -> None:
    drawn = figure.pictures(_inputs(scores, fit))["side_whisper_fit"].draw()
    (axes,) = drawn.axes
    for arm, largest in (("full", 100), ("lora-qv", 110), ("lora-all", 90)):
        line, marks = _marks(axes, arm)
        assert list(line.get_xdata()) == [0, largest]
        assert line.get_ydata()[-1] == pytest.approx(1.0 + 0.01 * largest)
        assert list(marks.get_ydata()) == [1.1, 1.5]
    texts = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert texts[:3] == [
        "full fine-tuning: 100 clips", "LoRA on queries and values: 110 clips", "LoRA on all linears: 90 clips"
    ]  # fmt: skip
