"""Tables and rows: cells stand where they belong, and what is absent is a dash."""

from __future__ import annotations

import pytest

from paper_figures import rows as table
from paper_figures import tables


def test_a_table_holds_each_value_under_its_length(study):
    first = tables.score_tables(study.inputs)[0]
    assert first.columns == ("arm", "50k tokens", "100k tokens", "200k tokens", "400k tokens")
    assert [row[0] for row in first.rows] == ["LoRA r=1", "LoRA r=4", "LoRA r=16", "full fine-tuning"]
    wanted = {"study": "cpt_code", "arm": "r4", "axis": "learning", "length": 200_000.0}
    (row,) = table.select(study.inputs.tables["curves"], **wanted)
    assert first.rows[1][3] == f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def test_a_cell_without_a_row_is_a_dash(study):
    study.inputs.tables["curves"][:] = [row for row in study.inputs.tables["curves"] if row["arm"] != "r16"]
    assert set(tables.score_tables(study.inputs)[0].rows[2][1:]) == {tables.ABSENT}


def test_markdown_has_one_bar_row_per_arm(study):
    text = tables.markdown(tables.score_tables(study.inputs)[:1])
    assert text.count("\n| ") == 2 + 4
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {6}


def test_an_absent_table_is_reported_and_the_others_are_read(study):
    (study.analysis / "toy" / "diversity.jsonl").unlink()
    inputs = table.load(study.scale, analysis=study.analysis, results=study.results)
    assert inputs.tables["diversity"] == []
    assert len(inputs.tables["curves"]) == len(study.inputs.tables["curves"])
    assert any(line.startswith("diversity.jsonl") for line in inputs.absent)


def test_no_rows_at_all_names_the_command_that_makes_them(study, tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m analysis --scale toy"):
        table.load(study.scale, analysis=tmp_path / "nowhere", results=study.results)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "curves.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(ValueError, match="line 2"):
        table.read(path)
