"""Which worked examples stand before each question, drawn as lm-evaluation-harness 0.4.13 draws them.

One `random.Random(seed)` serves all questions in their order. Where rows have a `subject` (MMLU), every subject is a
benchmark of its own there: examples are of the question's subject, and each subject draws with its own numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from replication.data.sources import documents
from replication.specs import Shots

_Row = dict[str, Any]


def examples(shots: Shots, rows: Sequence[Mapping[str, Any]], *, spare: bool = False) -> list[list[_Row]]:
    """Rows of the pool, as they are there, for each question.

    Args:
        rows: the questions; with a seed, whose they are depends on how many came before.
        spare: draw one more, leave out what equals the question, keep the first `count`: what lm-eval does for tasks
            without test split (HellaSwag, WinoGrande), wherever their examples come from.

    Raises:
        ValueError: the pool has too few rows, in all or of a subject.
    """
    pools = _pools(shots, rows)
    needed = shots.count + (spare and shots.seed is not None)
    for subject, pool in pools.items():
        if len(pool) < needed:
            of = "" if subject is None else f" of subject {subject!r}"
            raise ValueError(f"{shots.source.where!r} has {len(pool)} rows{of} for examples; {needed} are needed")
    if shots.seed is None:
        return [pools[_subject(row, pools)][: shots.count] for row in rows]
    random = {subject: Random(shots.seed) for subject in pools}
    return [_drawn(random[s], pools[s], shots.count, row, spare=spare) for row in rows for s in [_subject(row, pools)]]


def _pools(shots: Shots, rows: Sequence[Mapping[str, Any]]) -> dict[str | None, list[_Row]]:
    """The pool by subject, for every subject that is asked about; one of all rows where there are no subjects."""
    pool = list(documents(shots.source))
    if not all("subject" in row for row in [*pool, *rows]):
        return {None: pool}
    pools: dict[str | None, list[_Row]] = {row["subject"]: [] for row in rows}
    for row in pool:
        if row["subject"] in pools:
            pools[row["subject"]].append(row)
    return pools


def _subject(row: Mapping[str, Any], pools: Mapping[str | None, object]) -> str | None:
    return None if None in pools else row["subject"]


def _drawn(random: Random, pool: list[_Row], count: int, row: Mapping[str, Any], *, spare: bool) -> list[_Row]:
    if not spare:
        return random.sample(pool, count)
    drawn = [example for example in random.sample(pool, count + 1) if example != row][:count]
    return drawn if len(drawn) == count else random.sample([example for example in pool if example != row], count)
