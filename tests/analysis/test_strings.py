"""Measures of variety against hand-computed values, the textbook table and sacreBLEU."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from analysis import strings
from replication import seeding


def _rng() -> np.random.Generator:
    return seeding.generator(0, "test")


def _textbook(left: list[str], right: list[str]) -> int:
    table = [list(range(len(right) + 1))]
    for i, a in enumerate(left, start=1):
        table.append([i])
        for j, b in enumerate(right, start=1):
            table[i].append(min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a != b)))
    return table[-1][-1]


def _random_texts(count: int, *, longest: int) -> list[str]:
    rng = _rng()
    words = ["x", "y", "+", "(", ")", "return"]
    return [" ".join(rng.choice(words, size=rng.integers(4, longest))) for _ in range(count)]


def test_a_token_is_a_name_a_number_or_one_sign() -> None:
    assert strings.tokens("def f_1(x):\n    return x//20 ") == ("def", "f_1", *"(x):", "return", "x", *"//", "20")
    assert strings.tokens("  \n") == ()


def test_levenshtein_is_that_of_the_textbook_table() -> None:
    assert strings.levenshtein("kitten", "sitting") == 3 and strings.levenshtein("", "abc") == 3
    assert strings.levenshtein("abc", "abc") == 0 and strings.levenshtein("flaw", "lawn") == 2
    # Beyond 64 tokens, where a machine word would end.
    texts = [t.split() for t in _random_texts(40, longest=150)]
    for left, right in zip(texts[::2], texts[1::2], strict=True):
        assert strings.levenshtein(left, right) == _textbook(left, right)


def test_measures_of_a_small_bag_are_those_computed_by_hand() -> None:
    found = strings.measure({"a b": 2, "a c d": 1}, _rng())
    assert found["unique"] == 2
    assert found["distinct_1"] == pytest.approx(4 / 7)  # a b c d among a b a b a c d
    assert found["distinct_2"] == pytest.approx(3 / 4)  # ab ac cd among ab ab ac cd
    # One pair of equals, two pairs at distance 2 (b -> c, + d) of 3 tokens.
    assert found["edit_distance"] == pytest.approx((0 + 2 / 3 + 2 / 3) / 3)
    # "a b" is its own reference twice. "a c d": 1-grams 1/3, then (0+1)/(2+1), (0+1)/(1+1), (0+1)/(0+1), no penalty.
    assert found["self_bleu"] == pytest.approx((2 + (1 / 3 * 1 / 3 * 1 / 2 * 1) ** 0.25) / 3)


def test_equal_strings_are_no_variety_and_few_strings_have_fewer_measures() -> None:
    same = strings.measure({"return x": 5}, _rng())
    assert same == {"unique": 1, "distinct_1": 0.2, "distinct_2": 0.2, "self_bleu": 1, "edit_distance": 0}
    assert set(strings.measure({"return x": 1}, _rng())) == {"unique", "distinct_1", "distinct_2"}
    assert strings.measure({}, _rng()) == {}
    empty = strings.measure({"": 3, " ": 1}, _rng())
    assert empty["unique"] == 2 and "distinct_1" not in empty and empty["edit_distance"] == 0


def test_weighing_equal_strings_is_repeating_them() -> None:
    bag = Counter(_random_texts(12, longest=9) + _random_texts(5, longest=9))
    listed = [text for text, count in bag.items() for _ in range(count)]
    pairs = [_textbook(a.split(), b.split()) / max(len(a.split()), len(b.split())) for a, b in combinations(listed, 2)]
    assert strings.edit_distance(bag, _rng()) == pytest.approx(np.mean(pairs))


def test_self_bleu_is_that_of_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    bleu = sacrebleu.BLEU(smooth_method="add-k", smooth_value=1, tokenize="none", effective_order=False)
    bag = Counter(_random_texts(15, longest=20) + _random_texts(3, longest=20))
    listed = [text for text, count in bag.items() for _ in range(count)]
    scores = [bleu.sentence_score(t, [r for j, r in enumerate(listed) if j != i]) for i, t in enumerate(listed)]
    assert len(bag) == 15 and strings.self_bleu(bag) == pytest.approx(np.mean([s.score for s in scores]) / 100)


def test_many_pairs_are_sampled_without_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    bag = Counter(_random_texts(40, longest=12))
    whole = strings.edit_distance(bag, _rng())
    monkeypatch.setattr(strings, "PAIRS", 300)
    found = strings.edit_distance(bag, _rng())
    # 300 of 780 distances with a spread of about .15: a standard error of .007.
    assert found != whole and found == pytest.approx(whole, abs=0.03)
    assert found == strings.edit_distance(bag, _rng()) and math.isfinite(found)
