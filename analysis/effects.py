"""Named estimates that claims refer to: rows of the tables whose names end in `_effects`.

A row is {quantity, setting, words} and all fields of `replication.stats.Estimate`; `setting` is a study, or "all".
An estimate that could not be made has no row: the claim that asks for it is undecided, and the gap is in the table
of what is missing.
"""

from __future__ import annotations

from dataclasses import asdict

from analysis import rows
from replication.stats import Estimate

ALL = "all"


def row(quantity: str, setting: str, words: str, estimate: Estimate) -> rows.Row:
    """One estimate as a row; `words` say what was compared, over what, and what the interval covers."""
    return {"quantity": quantity, "setting": setting, "words": words, **asdict(estimate)}
