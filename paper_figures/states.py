"""What a reader sees of an answer: three answers of the rows, and "not asked" where there was nothing to answer with.

A row says "undecided" of a question whose data cannot tell and of one on which there are no data at all. Those are two
things to a reader, so they are shown apart; the rows stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from paper_figures.rows import Row

NOT_ASKED = "not asked"
SIGNS = {"supported": "✓", "not supported": "✗", "undecided": "?", NOT_ASKED: "–"}
STATES = tuple(SIGNS)


def state(row: Row) -> str:
    """The answer of a verdict row, or "not asked": a claim of which no part could be asked, a part without an effect.

    >>> state({"part": "overall", "answer": "undecided", "p_against": None})
    'not asked'
    >>> state({"part": "gap grows", "answer": "undecided", "effect": 0.1})
    'undecided'
    """
    asked = row["p_against"] if row["part"] == "overall" else row["effect"]
    return NOT_ASKED if asked is None else str(row["answer"])


def present(rows: Sequence[Row]) -> list[str]:
    """The states that some rows have, in the order in which they are always named."""
    found = {state(row) for row in rows}
    return [name for name in STATES if name in found]
