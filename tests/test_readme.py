"""The README's numbers are those of the tracked rows."""

from __future__ import annotations

from pathlib import Path

from analysis import rows, summary
from experiments import scales

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "analysis" / "results"


def test_the_readme_shows_the_verdicts_of_the_tracked_rows() -> None:
    text = (ROOT / "README.md").read_text()
    shown = text.split("<!-- python analysis/summary.py -->\n")[1].split("\n<!-- end -->")[0]
    made, printed = (rows.read(RESULTS / scale / "verdicts.jsonl") for scale in ("pocket", "reported"))
    ordered = rows.read(RESULTS / "reported" / "orderings.jsonl")
    assert shown == summary.markdown(made, printed, ordered, scales.load("pocket"))
    assert shown.count("**C") >= 12


def test_a_cell_without_a_part_is_empty_and_a_claim_is_tallied_by_its_parts() -> None:
    part = {"claim": "C1", "counts": True, "p_against": 0.5, "setting": "cpt_code", "family": "paper"}
    made = [
        part | {"part": "one", "answer": "supported"},
        part | {"part": "two", "answer": "undecided"},
        part | {"part": "three", "answer": "undecided", "p_against": None},
        part | {"part": "overall", "answer": "undecided", "setting": "all", "statement": "It is so."},
    ]
    line = summary.matrix(made, [], scales.load("pocket")).splitlines()[-1]
    assert line == "| **C1** It is so. | ? |  |  |  |  | ? 1✓ 0✗ of 2 |  |"


def test_a_claim_without_any_row_is_not_asked_rather_than_undecided() -> None:
    row = {"claim": "C1", "counts": True, "p_against": None, "setting": "cpt_code", "family": "paper"}
    row |= {"answer": "undecided", "statement": "It is so."}
    made = [row | {"part": "one"}, row | {"part": "overall", "setting": "all"}]
    assert summary.matrix(made, [], scales.load("pocket")).splitlines()[-1].count("–") == 2
    assert summary.counts(made).startswith(
        "the paper's twelve claims: 0 supported, 0 not supported, 0 undecided, 1 not"
    )
