"""The verdicts on a terminal: every claim within its width, and a matrix of signs against hand-made rows."""

from __future__ import annotations

from typing import Any

import pytest

from analysis import verdict_table
from experiments import scales
from experiments.claims import CLAIMS

Row = dict[str, Any]


def _row(claim: str, part: str, setting: str, answer: str, **other: Any) -> Row:
    return {
        "claim": claim, "part": part, "setting": setting, "statement": "s" * 200, "answer": answer, "counts": True,
        "holm": False, "effect": -0.1, "low": -0.2, "high": 0.1, "n_items": 100, "seeds": 3, "mde": 0.1, "p": 0.5,
        "p_against": 0.5, "covers": "items and seeds",
    } | other  # fmt: skip


def test_the_matrix_has_one_sign_for_each_claim_and_setting() -> None:
    made = [
        _row("C1", "a", "cpt_code", "supported"),
        _row("C1", "b", "cpt_code", "supported"),
        _row("C1", "a", "ift_code", "supported"),
        _row("C1", "b", "ift_code", "undecided"),
        _row("C1", "beside", "ift_code", "not supported", counts=False),
        _row("C1", "overall", "all", "undecided"),
        _row("C2", "a", "ift_code", "undecided"),
        _row("C2", "b", "ift_code", "not supported"),
        _row("C2", "overall", "all", "not supported"),
        _row("T1", "overall", "all", "undecided"),
    ]
    first, *lines = verdict_table.matrix(made)
    assert first.split() == ["all", "cpt_code", "ift_code"]
    # One refuted part outweighs the rest; a dot is what was not asked; what stands beside a claim does not enter.
    assert [line.split() for line in lines] == [["C1", "?", "✓", "?"], ["C2", "✗", ".", "✗"], ["T1", "?", ".", "."]]
    # Every sign stands under the first letter of its setting.
    assert {line[first.index(name)] for line in lines for name in ("cpt_code", "ift_code")} <= set("✓✗?.")


def test_a_matrix_of_many_settings_keeps_to_the_width() -> None:
    settings = [f"a_setting_with_a_long_name_{k}" for k in range(40)]
    made = [_row("C1", "a", s, "supported") for s in settings] + [_row("C1", "overall", "all", "supported")]
    first, line = verdict_table.matrix(made)
    assert line.count("✓") == 41
    assert max(len(first), len(line)) <= verdict_table.WIDTH
    assert len(verdict_table.matrix([])) == 1


@pytest.mark.parametrize("scale", ["pocket", "desk", "paper"])
def test_every_claim_fits_the_width_in_every_setting(scale: str) -> None:
    names = [name for name, _ in scales.load(scale).settings]
    wide = {"effect": -12.3456, "low": -23.4567, "high": 10.1234, "n_items": 54321, "mde": 1.2345e-5, "p": 0.00012345}
    none = {"effect": None, "low": None, "high": None, "n_items": 0, "mde": None, "p": None, "p_against": None}
    made: list[Row] = []
    for claim in CLAIMS:
        for k, part in enumerate(claim.parts):
            made += [_row(claim.id, part.id, s, "undecided", counts=part.counts, **(wide, none)[k % 2]) for s in names]
        made.append(_row(claim.id, "overall", "all", "not supported", statement=claim.statement))
    shown = verdict_table.table(made).splitlines()
    assert max(len(line) for line in shown) <= 120
    # Names are shown whole, so the columns after them stand in line.
    parts = [row for row in made if row["part"] != "overall"]
    lines = shown[len(CLAIMS) + 2 : len(CLAIMS) + 2 + len(parts)]
    head = shown[len(CLAIMS) + 1]
    for row, line in zip(parts, lines, strict=True):
        assert line[: head.index("part")].strip() == row["claim"]
        assert line[head.index("part") : head.index("setting")].strip() == row["part"] + " *" * (not row["counts"])
        assert line[head.index("setting") : head.index("effect") - 3].strip() == row["setting"]


def test_notes_say_what_chance_what_holm_and_what_the_intervals_cover() -> None:
    made = [
        _row("C1", "a", "x", "supported", holm=True, covers="items"),
        _row("C1", "b", "x", "supported", counts=False),
        _row("C1", "c", "x", "not supported", covers="items, unpaired"),
        _row("C1", "d", "x", "undecided", p_against=None),
    ]
    text = verdict_table.table([*made, _row("C1", "overall", "all", "not supported")])
    assert "Of 4 parts 3 could be asked; were none true, chance would support 0.1." in text
    assert "2 are supported, 1 refuted; Holm's correction over all leaves 1 and 0 (~ falls)." in text
    assert "beside the claim" in text and "One seed" in text and "Unpaired" in text
    signs = [line.split("-0.100")[0].split()[-1] for line in text.splitlines() if "-0.100" in line]
    assert signs == ["✓", "✓~", "✗~", "–"]


def test_the_brief_form_has_claims_and_matrix_and_says_what_was_not_asked() -> None:
    none = {"effect": None, "low": None, "high": None, "mde": None, "p": None, "p_against": None}
    made = [_row("C5", "a", "cpt_mix", "undecided", **none), _row("C5", "overall", "all", "undecided", p_against=None)]
    text = verdict_table.brief(made)
    assert "C5  NOT ASKED" in text and "missing" not in text.split("not asked")[0]
    assert text.splitlines()[3].split() == ["C5", "–", "–"]
