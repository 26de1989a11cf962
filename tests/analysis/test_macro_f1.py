"""Differences in macro-F1: a value by hand, coverage by simulation, and answers that are refused."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import macro_f1, sides
from experiments.comparisons import Question
from replication import f1
from replication.results import Items, RunRow

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])


def test_the_difference_by_hand() -> None:
    left = np.array([[0, 0, 2, 1, 2, 2, 2, 2, 2, 0], [0, 0, 0, 1, 1, 2, 2, 2, 2, 2]])
    right = np.full((2, 10), 2)
    found = macro_f1.difference(left, right, LABELS)
    constant = (0 + 0 + 10 / 15) / 3
    first, second = (4 / 6 + 2 / 3 + 8 / 11) / 3 - constant, 1 - constant
    assert found.value == pytest.approx((first + second) / 2)
    assert (found.items, found.seeds, found.covers) == (10, 2, "items and seeds")
    assert found.low < found.value < found.high


def test_swapping_the_sides_turns_the_interval_over() -> None:
    rng = np.random.default_rng(0)
    left, right, labels = answers(rng, seeds=3, texts=120)
    one, other = macro_f1.difference(left, right, labels), macro_f1.difference(right, left, labels)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_floats_of_the_item_rows_are_classes_too() -> None:
    rng = np.random.default_rng(0)
    left, right, labels = answers(rng, seeds=2, texts=60)
    as_rows = macro_f1.difference(left.astype(float), right.astype(float), labels.astype(float))
    assert as_rows == macro_f1.difference(left, right, labels)


def test_equal_answers_differ_by_nothing_but_not_without_a_width() -> None:
    same = np.tile(LABELS, (3, 20))
    found = macro_f1.difference(same, same, np.tile(LABELS, 20))
    assert found.value == 0
    assert 0 < found.high < 0.05


@pytest.mark.parametrize("spread", [0.0, 0.06], ids=["seeds alike", "seeds apart"])
def test_the_interval_covers_what_it_says(spread: float) -> None:
    """The truth is the difference on very many texts at very many seeds; 300 texts, 45 of the rarest class, 3 seeds."""
    rng = np.random.default_rng(1)
    truth = np.mean([pair_score(rng, texts=20_000, spread=spread) for _ in range(60)])
    found = [macro_f1.difference(*answers(rng, seeds=3, texts=300, spread=spread)) for _ in range(250)]
    covered = np.mean([e.low <= truth <= e.high for e in found])
    assert 0.92 <= covered <= 0.985, covered


@pytest.mark.parametrize(
    ("left", "right", "labels", "told"),
    [
        (np.zeros((2, 3)), np.zeros((1, 3)), np.zeros(3), "need shapes"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(4), "need shapes"),
        (np.full((1, 3), 0.5), np.zeros((1, 3)), np.zeros(3), "0.5.* is no class"),
        (np.array([[0, 1, -1]]), np.zeros((1, 3)), np.zeros(3), "-1.* is no class"),
        (np.array([[0, 1, 2]]), np.zeros((1, 3)), np.array([0, 1, 1]), "no text is of class 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(left: np.ndarray, right: np.ndarray, labels: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        macro_f1.difference(left, right, labels)


def test_a_study_compares_with_the_majority_class_by_its_items_beside_the_base() -> None:
    side = _study()
    for metric, expected in (("macro_f1", (4 / 6 + 2 / 3 + 8 / 11) / 3 - 10 / 15 / 3), ("accuracy", 7 / 10 - 5 / 10)):
        found = sides.estimate(side, Question("q", "lora", "majority", "tweets", metric))
        assert found is not None
        assert found.value == pytest.approx(expected)
        assert (found.seeds, found.items) == (2, 100)


def _study() -> sides.Side:
    """An arm that answers alike at two seeds, and a base that answers 0 throughout."""
    given, labels = np.tile([0, 0, 2, 1, 2, 2, 2, 2, 2, 0], 10), np.tile(LABELS, 10)
    always = {"majority_predicted": np.full(100, 2), "majority_accuracy": labels == 2, "label": labels}
    runs, items = {}, {}
    for name, seed, predicted in (("base", 0, np.zeros(100)), ("d/lora-s0", 0, given), ("d/lora-s1", 1, given)):
        columns = always | {"predicted": predicted, "accuracy": predicted == labels}
        for metric, values in columns.items():
            items[name, "tweets", metric] = Items(
                "d",
                "d",
                name,
                "x",
                seed,
                1,
                "tweets",
                1,
                metric,
                tuple(map(str, range(100))),
                tuple(map(float, values)),
            )
        if name != "base":
            runs["lora", seed] = RunRow(
                scale="d", study="d", run=name, digest=name, seed=seed, regime="ift", method="lora", rank=4, lr=1e-3,
                length=1, length_unit="epochs", trunk=False, step=1, tokens=1, supervised_tokens=1, trainable=1,
                final_loss=1.0, seconds=1.0, git_sha="x", started="now", hardware="cpu",
            )  # fmt: skip
    return sides.Side("d", "made", runs, {}, items)


# ---------------------------------------------------------------- a world of two classifiers

SHARES = (0.15, 0.2, 0.65)
RIGHT = (0.80, 0.74)  # of left and right, before what a seed and the class do


def answers(
    rng: np.random.Generator, *, seeds: int, texts: int, spread: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classifiers that share the difficulty of a text: (seeds, texts) twice and labels."""
    labels = rng.choice(3, texts, p=SHARES)
    hard = rng.random(texts)
    sides = []
    for right in RIGHT:
        skill = right + rng.normal(0, spread, size=(seeds, 1)) + np.where(labels == 2, 0.08, -0.1)
        # Half of what decides an answer is the text, the same for both sides and all seeds.
        draw = np.where(rng.random((seeds, texts)) < 0.5, hard, rng.random((seeds, texts)))
        wrong = (labels + rng.integers(1, 3, size=(seeds, texts))) % 3
        sides.append(np.where(draw < skill, labels, wrong))
    return sides[0], sides[1], labels


def pair_score(rng: np.random.Generator, *, texts: int, spread: float) -> float:
    left, right, labels = answers(rng, seeds=1, texts=texts, spread=spread)
    return f1.macro(labels, left[0], 3) - f1.macro(labels, right[0], 3)
