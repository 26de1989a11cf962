"""Specs refuse values that no eval knows, where they are written and not after hours of generation."""

from __future__ import annotations

from typing import Any

import pytest

from replication.config import Source, encode
from replication.encoding import decode
from replication.specs import Choice, Code, HeldOut, Maths, Shots

ROWS = Source("rows.jsonl")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Choice, {"form": "hellswag"}),
        (Choice, {"metric": "acc_tok"}),
        (Choice, {"too_long": "Cut"}),
        (Choice, {"name": "a/b"}),
        (Code, {"prompt": "strip"}),
        (Code, {"temperature": 0.0}),
        (Code, {"max_tokens": 0}),
        (Code, {"timeout": 0.0}),
        (Maths, {"metric": "lenient"}),
        (Maths, {"max_tokens": 0}),
    ],
)
def test_a_value_that_no_eval_knows_is_refused_by_name(kind: type, wrong: dict[str, Any]) -> None:
    (field,) = wrong
    with pytest.raises(ValueError, match=f"{kind.__name__}.{field}=.*; expected"):
        kind(**{"name": "x", "source": ROWS} | wrong)


def test_every_spec_comes_back_from_its_encoding() -> None:
    shots = Shots(ROWS, 5, seed=None)
    for spec in (
        Choice("a", ROWS, form="arc", shots=shots, metric="acc_token", too_long="cut", profile="paper"),
        Code("b", ROWS, cut=("\n\n",), prompt="stripped"),
        Maths("c", ROWS, shots=shots, metric="flexible"),
        HeldOut("d", ROWS, seq_len=8),
    ):
        assert decode(encode(spec)) == spec


def test_a_spec_written_before_a_field_was_added_has_its_default() -> None:
    old = {
        k: v for k, v in encode(Maths("c", ROWS)).items() if k not in ("shots", "cut", "metric", "too_long", "profile")
    }
    assert decode(old) == Maths("c", ROWS)
