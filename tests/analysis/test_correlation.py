"""Rank correlations of points in blocks: what shares a rank is not counted as if it did not."""

from __future__ import annotations

import numpy as np
from scipy import stats as scipy_stats

from analysis import correlation
from analysis.answers import answer

RANKS, LENGTHS = 3, 4


def _driven_by_rank(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((RANKS, 1)) + 0.2 * rng.standard_normal((RANKS, LENGTHS))


def test_spearman_is_scipys_ties_included() -> None:
    left, right = np.array([1.0, 2.0, 2.0, 5.0, 4.0]), np.array([3.0, 1.0, 4.0, 4.0, 9.0])
    assert abs(correlation.spearman(left, right) - scipy_stats.spearmanr(left, right).statistic) < 1e-12


def test_ranks_that_have_nothing_to_do_with_each_other_are_rarely_called_correlated() -> None:
    rng = np.random.default_rng(0)
    answers = []
    for _ in range(400):
        groups = [(_driven_by_rank(rng), _driven_by_rank(rng)) for _ in range(4)]
        answers.append(answer(correlation.of_blocks(groups, seeds=3, rng=rng), "greater", 0.3))
    assert answers.count("supported") <= 0.05 * 400
    assert answers.count("not supported") <= 0.05 * 400


def test_length_alone_makes_no_correlation() -> None:
    rng = np.random.default_rng(1)
    grows = np.arange(LENGTHS) * 3.0
    found = []
    for _ in range(100):
        groups = [(grows + _driven_by_rank(rng), grows + _driven_by_rank(rng)) for _ in range(4)]
        found.append(answer(correlation.of_blocks(groups, seeds=3, rng=rng), "greater", 0.3))
    assert found.count("supported") <= 8


def test_three_ranks_of_one_setting_decide_nothing_and_those_of_four_may() -> None:
    rng = np.random.default_rng(2)
    x = np.arange(RANKS * LENGTHS, dtype=float).reshape(RANKS, LENGTHS)
    one, four = (correlation.of_blocks([(x, x)] * n, seeds=3, rng=rng) for n in (1, 4))
    assert one.value == four.value == 1.0 and one.low < 0 < four.low and four.high == 1.0
    assert (four.items, four.seeds, four.covers) == (48, 3, "items and seeds")
    assert correlation.of_blocks([(x, -x)] * 4, seeds=1, rng=rng).high < 0


def test_more_orders_than_can_be_tried_are_drawn() -> None:
    rng = np.random.default_rng(3)
    x = np.arange(12.0).reshape(6, 2)
    assert correlation.of_blocks([(x, x)] * 3, seeds=3, rng=rng).low > 0.3
