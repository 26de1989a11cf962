"""F1 by hand, against scikit-learn, and its spread over texts against a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics  # of the development tools: lm-eval needs it

from replication import f1
from replication.stats import bootstrap_variance

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])
ANSWERS = np.array([0, 0, 2, 1, 2, 2, 2, 2, 2, 0])


def random_answers(seed: int, *, classes: int, texts: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, texts, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    return labels, np.where(rng.random(texts) < 0.6, labels, rng.integers(classes, size=texts))


def test_f1_by_hand() -> None:
    # Class 0: 2 hits, 3 texts, 3 answers. Class 1: 1, 2, 1. Class 2: 4, 5, 6.
    assert f1.per_class(LABELS, ANSWERS, 3) == pytest.approx([4 / 6, 2 / 3, 8 / 11])
    assert f1.macro(LABELS, ANSWERS, 3) == pytest.approx((4 / 6 + 2 / 3 + 8 / 11) / 3)
    assert f1.weighted(LABELS, ANSWERS, 3) == pytest.approx(0.3 * 4 / 6 + 0.2 * 2 / 3 + 0.5 * 8 / 11)


def test_a_constant_answer_scores_its_class_alone() -> None:
    constant = np.full_like(LABELS, 2)
    assert f1.per_class(LABELS, constant, 3).tolist() == pytest.approx([0, 0, 2 * 5 / 15])
    assert f1.macro(LABELS, constant, 3) < 1 / 3 < f1.weighted(LABELS, constant, 3) + 1e-12


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_both_means_are_scikit_learns(classes: int) -> None:
    labels, answers = random_answers(classes, classes=classes)
    own = {"macro": f1.macro, "weighted": f1.weighted}
    for average, function in own.items():
        theirs = metrics.f1_score(labels, answers, average=average, labels=range(classes), zero_division=0)
        assert function(labels, answers, classes) == pytest.approx(theirs, abs=1e-12)
    theirs = metrics.f1_score(labels, answers, average=None, labels=range(classes), zero_division=0)
    assert f1.per_class(labels, answers, classes) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("whole", "by_text"), [(f1.macro, f1.macro_by_text), (f1.weighted, f1.weighted_by_text)], ids=["macro", "weighted"]
)
def test_the_values_by_text_have_the_score_for_mean_and_its_spread(whole, by_text) -> None:  # type: ignore[no-untyped-def]
    labels, answers = random_answers(1, classes=3, texts=600)
    values = by_text(labels, answers, 3)
    assert values.mean() == pytest.approx(whole(labels, answers, 3), abs=1e-12)
    numbers = np.arange(len(labels))

    def resampled(weights: list[np.ndarray]) -> float:
        drawn = np.repeat(numbers, np.rint(weights[0] * len(labels)).astype(int))
        return whole(labels[drawn], answers[drawn], 3)

    rng = np.random.default_rng(2)
    variance = bootstrap_variance(resampled, [len(labels)], draws=2_000, rng=rng)
    assert values.var(ddof=1) / len(values) == pytest.approx(variance, rel=0.12)  # 2,000 draws know it to 3 %


def test_a_flip_moves_macro_f1_about_as_much_as_accuracy_on_average() -> None:
    """Why one imaginary text counts 1 in `analysis/macro_f1.py`; more where wrong answers name rare classes."""
    labels, _ = random_answers(3, classes=3, texts=400)
    whole = f1.macro(labels, labels, 3)
    rng = np.random.default_rng(4)
    moved = []
    for i in range(len(labels)):
        answers = labels.copy()
        answers[i] = (labels[i] + rng.integers(1, 3)) % 3
        moved.append(len(labels) * (whole - f1.macro(labels, answers, 3)))
    assert 0.9 < np.mean(moved) < 1.3
