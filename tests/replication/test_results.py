"""Rows refuse what is not a number, not known or not unique, and come back as they went."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from replication.results import Items, Score, read_items, read_scores, write_rows

SCORE = Score("s", "cpt", "cpt/r", "abc", 0, 5, 640, "library", 1, "pass@1", 0.25, 100, 0.04, "sha")
ITEMS = Items("s", "cpt", "cpt/r", "abc", 0, 5, "library", 1, "pass@1", ("a", "b"), (0.0, 1.0))


def test_rows_come_back_as_they_went(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [SCORE])
    write_rows(tmp_path / "a.items.jsonl.gz", [ITEMS])
    assert read_scores(tmp_path / "a.jsonl") == [SCORE]
    assert read_items(tmp_path / "a.items.jsonl.gz") == [ITEMS]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_rows(tmp_path / name, [ITEMS])
    assert (tmp_path / "a.gz").read_bytes()[10:] == (tmp_path / "b.gz").read_bytes()[10:]


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="value is not finite"):
        write_rows(tmp_path / "a.jsonl", [replace(SCORE, value=float("nan"))])
    with pytest.raises(ValueError, match="values is not finite"):
        write_rows(tmp_path / "a.jsonl", [replace(ITEMS, values=(0.0, float("inf")))])


def test_a_row_twice_is_refused_and_the_old_table_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_rows(path, [SCORE])
    with pytest.raises(ValueError, match="occurs twice"):
        write_rows(path, [SCORE, replace(SCORE, value=0.5)])
    assert read_scores(path) == [SCORE]


def test_an_unknown_field_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_rows(path, [SCORE])
    path.write_text(path.read_text().replace('"stderr"', '"std"'))
    with pytest.raises(ValueError, match=r"\['std', 'stderr'\]"):
        read_scores(path)


def test_a_missing_table_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="experiments collect"):
        read_scores(tmp_path / "none.jsonl")
