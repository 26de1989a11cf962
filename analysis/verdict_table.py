"""The verdicts as text for a terminal: claims, parts with intervals, a matrix of signs; within 120 columns."""

from __future__ import annotations

from collections.abc import Sequence

from analysis import answers
from analysis.answers import SIGNS
from analysis.rows import Row

WIDTH = 120


def table(made: Sequence[Row]) -> str:
    """The claims, their parts with effect, interval, p value, items and seeds, the matrix and notes."""
    parts = [row for row in made if row["part"] != "overall"]
    head = f"{'':<3} {'part':<45} {'setting':<9} {'':<2}{'effect [95 % interval]':<25} {'p':<8}{'finds':<7}    n S"
    legend = (
        "    p: of the part's support; finds: the smallest effect that four of five such studies find; n items, S seeds"
    )
    return "\n".join(
        [*_claims(made), "", head, *(_line(row) for row in parts), legend, *_notes(parts), "", *matrix(made)]
    )


def brief(made: Sequence[Row]) -> str:
    """The claims, the matrix and notes, without the parts."""
    parts = [row for row in made if row["part"] != "overall"]
    return "\n".join([*_claims(made), "", *matrix(made), "", *_notes(parts)])


def _claims(made: Sequence[Row]) -> list[str]:
    lines = []
    for row in (row for row in made if row["part"] == "overall"):
        said = row["answer"] if answers.is_asked(row) else "not asked"
        words = f"{row['claim']:<3} {said.upper():<14} {row['statement']}"
        lines.append(words if len(words) <= WIDTH else words[: WIDTH - 3] + "...")
    return lines


def matrix(made: Sequence[Row]) -> list[str]:
    """Claims by settings, one sign each: every counted part of that setting together, and over all settings."""
    parts = [row for row in made if row["part"] != "overall" and row["counts"]]
    settings = list(dict.fromkeys(row["setting"] for row in parts))
    width = max([len(s) for s in settings], default=0) + 1
    if width * len(settings) > WIDTH - 12:
        width = max((WIDTH - 12) // len(settings), 2)
    lines = [f"{'':<4} {'all':<5}" + "".join(f"{s[: width - 1]:<{width}}" for s in settings)]
    for row in [row for row in made if row["part"] == "overall"]:
        here = [[r for r in parts if (r["claim"], r["setting"]) == (row["claim"], s)] for s in settings]
        signs = "".join(f"{answers.sign(own) or '.':<{width}}" for own in here)
        lines.append(
            f"{row['claim']:<4} {SIGNS[row['answer']] if answers.is_asked(row) else answers.NOT_ASKED:<5}{signs}"
        )
    return [line.rstrip() for line in lines]


def _line(row: Row) -> str:
    effect = "missing" if row["effect"] is None else f"{row['effect']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    part = row["part"] + ("" if row["counts"] else " *")
    p = "" if row["p"] is None else f"{row['p']:.2g}" if row["p"] >= 1e-4 else "<.0001"
    finds = "" if row["mde"] is None else f"{row['mde']:.3g}"
    sign = answers.sign([row]) + ("" if row["holm"] or row["answer"] == "undecided" else "~")
    return (
        f"{row['claim']:<3} {part:<45} {row['setting']:<9} {sign:<2}{effect:<25} {p:<8}{finds:<7}"
        f"{row['n_items']:>5} {row['seeds']}"
    )


def _notes(parts: Sequence[Row]) -> list[str]:
    asked = [row for row in parts if answers.is_asked(row)]
    passed = [row for row in asked if row["answer"] == "supported"]
    refuted = [row for row in asked if row["answer"] == "not supported"]
    firm = [sum(row["holm"] for row in group) for group in (passed, refuted)]
    chance = 0.025 * len(asked)
    lines = [
        "    ✓ supported, ✗ not supported, ? undecided, – not asked: no rows (missing.jsonl has each and why)",
        f"    Of {len(parts)} parts {len(asked)} could be asked; were none true, chance would support {chance:.1f}.",
        f"    {len(passed)} are supported, {len(refuted)} refuted; Holm's correction over all leaves "
        f"{firm[0]} and {firm[1]} (~ falls).",
    ]
    if any(not row["counts"] for row in parts):
        lines.append("*   beside the claim; does not enter its overall answer")
    if any(row["covers"] == "items" for row in parts):
        lines.append("    One seed: intervals are over items alone: they are about these runs, not about the method.")
    if any(row["covers"] == "items, unpaired" for row in parts):
        lines.append("    Unpaired: published scores with binomial errors, without what the items have in common.")
    return lines
