"""The figure of throughput: every seed against its own reference, and no filled mark without the proof."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from paper_figures import side_throughput as figure
from paper_figures import style

Row = dict[str, Any]
PROOF = {"trainable": 100.0, "moved": 7.0, "tensors": 7.0, "least_gradient_norm": 0.1, "final_loss": 0.5}
FASTER = {"trimmed": 1.5, "packed": 2.0, "compile": 1.2, "fused": 1.1, "loop": 0.9, "cut": 0.8, "plus": 1.0, "all": 3.0}


def rows_of(arm: str, seed: int, speed: float, **other: float) -> list[Row]:
    costs = PROOF | {figure.SPEED: speed} | other
    place = {"study": "throughput", "arm": arm, "seed": seed, "eval": "run"}
    return [place | {"metric": metric, "value": value, "stderr": None, "n": 1} for metric, value in costs.items()]


def study(**other: dict[str, float]) -> list[Row]:
    """Two seeds on machines of different speed; `other` changes the costs of an arm, by its name with "_"."""
    found = []
    for seed, base in ((0, 1000.0), (1, 4000.0)):
        for method in figure.METHODS:
            found += rows_of(method, seed, base)
            words = [word for word in FASTER if (method, word) != ("full", "plus")]
            for word in words:
                changed = other.get(f"{method}_{word}", {}) if seed else {}
                found += rows_of(f"{method}-{word}", seed, base * (FASTER[word] + 0.1 * seed), **changed)
    return found


def of(word: str, rows: list[Row], method: str = "full") -> figure.Arm:
    return next(arm for arm in figure.arms(rows, method, same=1e-4) if arm.word == word)


def test_a_seed_is_compared_with_the_reference_of_the_same_seed() -> None:
    assert of("packed", study()).ratios == pytest.approx((2.0, 2.1))
    assert of("packed", study()).doubt == ""


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ({"moved": 6.0}, "did not train"),
        ({"least_gradient_norm": 0.0}, "did not train"),
        ({"trainable": 72.0}, "other weights"),
        ({"final_loss": 0.52}, "other losses"),
        ({"loss_deviation": 0.3}, "other losses"),
    ],
)
def test_one_seed_without_the_proof_takes_it_from_the_arm(harm: dict[str, float], told: str) -> None:
    rows = study(full_packed=harm)
    assert of("packed", rows).doubt == told
    assert of("compile", rows).doubt == ""


def test_lora_plus_is_known_to_go_another_way_but_must_train() -> None:
    assert of("plus", study(lora_plus={"final_loss": 0.1}), "lora").doubt == "another trajectory"
    assert of("plus", study(lora_plus={"moved": 1.0}), "lora").doubt == "did not train"


def test_every_seed_is_a_mark_and_doubt_shows_in_the_shape_of_the_mean() -> None:
    drawn = figure.draw(study(full_packed={"moved": 0.0}), same=1e-4)
    for axes, method in zip(drawn.axes, figure.METHODS, strict=True):
        own = figure.arms(study(), method, same=1e-4)
        seeds = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "o"]
        assert [list(line.get_xdata()) for line in seeds] == [pytest.approx(arm.ratios) for arm in own]
        means = [line for line in axes.lines if len(line.get_xdata()) == 1]
        assert [line.get_xdata()[0] for line in means] == pytest.approx([sum(arm.ratios) / 2 for arm in own])
        looks = [(line.get_marker(), line.get_markerfacecolor()) for line in means]
        shapes = dict(zip([arm.word for arm in own], looks, strict=True))
        assert shapes["packed"][0] == ("X" if method == "full" else "o")
        assert shapes["compile"] == ("o", figure.METHODS[method][1])
        assert method == "full" or shapes["plus"] == ("o", style.PAPER)


def test_an_arm_without_a_speed_is_named() -> None:
    assert figure.missing(SimpleNamespace(tables={"side_throughput": study()})) == []  # type: ignore[arg-type]
    fewer = [row for row in study() if row["arm"] != "lora-cut"]
    assert figure.missing(SimpleNamespace(tables={"side_throughput": fewer})) == ["arm lora-cut"]  # type: ignore[arg-type]
    assert figure.pictures(SimpleNamespace(tables={"side_throughput": []})) == {}  # type: ignore[arg-type]
