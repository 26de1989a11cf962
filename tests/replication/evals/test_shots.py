"""Which worked examples are drawn: the same for the same seed, never the question itself, of its own subject."""

from __future__ import annotations

import random
from typing import Any

import pytest

from replication.config import Source
from replication.evals import shots
from replication.specs import Shots

POOL = [{"q": i} for i in range(30)]
ROWS = [{"q": i} for i in (3, 7, 11)]


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(rows: list[dict[str, Any]]) -> None:
        monkeypatch.setattr("replication.evals.shots.documents", lambda _: iter(rows))

    use(POOL)
    return use


def drawn(count: int, seed: int | None = 1234, *, rows: list[dict[str, Any]] = ROWS, spare: bool = False) -> Any:
    return shots.examples(Shots(Source("pool"), count, seed), rows, spare=spare)


def test_one_stream_of_random_numbers_serves_all_questions(pool: Any) -> None:
    stream = random.Random(1234)
    assert drawn(5) == [stream.sample(POOL, 5) for _ in ROWS]
    assert drawn(5) != drawn(5, seed=1)


def test_without_a_seed_all_questions_have_the_first_rows(pool: Any) -> None:
    assert drawn(4, seed=None) == [POOL[:4]] * 3


def test_with_a_spare_the_question_is_never_its_own_example(pool: Any) -> None:
    rows = POOL * 20
    found = drawn(20, rows=rows, spare=True)
    assert all(len(examples) == 20 and row not in examples for row, examples in zip(rows, found, strict=True))
    stream = random.Random(1234)
    first = [row for row in stream.sample(POOL, 21) if row != rows[0]][:20]
    assert found[0] == first


def test_copies_of_the_question_in_the_pool_are_drawn_around(pool: Any) -> None:
    pool([{"q": 1}] * 5 + [{"q": 2}, {"q": 3}])
    (examples,) = drawn(2, rows=[{"q": 1}], spare=True)
    assert {row["q"] for row in examples} == {2, 3}


def test_a_subject_has_examples_and_random_numbers_of_its_own(pool: Any) -> None:
    both = [{"q": i, "subject": s} for i in range(10) for s in ("law", "logic")]
    pool(both)
    rows = [{"q": 50, "subject": "logic"}, {"q": 51, "subject": "law"}, {"q": 52, "subject": "logic"}]
    logic, law = ([row for row in both if row["subject"] == s] for s in ("logic", "law"))
    assert drawn(3, seed=None, rows=rows) == [logic[:3], law[:3], logic[:3]]
    one, two = random.Random(1234), random.Random(1234)
    assert drawn(3, rows=rows) == [one.sample(logic, 3), two.sample(law, 3), one.sample(logic, 3)]
    with pytest.raises(ValueError, match="0 rows of subject 'art'"):
        drawn(3, rows=[{"q": 1, "subject": "art"}])


def test_a_pool_that_is_too_small_is_refused(pool: Any) -> None:
    with pytest.raises(ValueError, match="has 30 rows for examples; 31 are needed"):
        drawn(30, spare=True)
    assert len(drawn(30)[0]) == 30
