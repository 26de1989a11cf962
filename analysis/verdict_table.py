"""The verdicts as text for a terminal: claims, parts with intervals, a matrix of signs; within 120 columns."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rows import Row

SIGNS = {"supported": "✓", "not supported": "✗", "undecided": "?"}
FAMILIES = {"paper": "the paper", "follow-up": "follow-ups"}
WIDTH = 120


def table(made: Sequence[Row]) -> str:
    """The claims, their parts with effect, interval, p value, items and seeds, the matrix and notes."""
    claims = [row for row in made if row["part"] == "overall"]
    parts = [row for row in made if row["part"] != "overall"]
    lines = []
    for row in claims:
        words = f"{row['claim']:<3} {row['answer'].upper():<14} {row['statement']}"
        lines.append(words if len(words) <= WIDTH else words[: WIDTH - 3] + "...")
    lines += [
        "",
        f"{'':<3} {'part':<45} {'setting':<9} {'':<2}{'effect [95 % interval]':<25} {'p':<8}{'finds':<7}    n S",
    ]
    lines += [_line(row) for row in parts]
    return "\n".join([*lines, *_notes(parts), "", *matrix(made)])


def matrix(made: Sequence[Row]) -> list[str]:
    """Claims by settings, one sign each: every counted part of that setting together, and over all settings."""
    parts = [row for row in made if row["part"] != "overall" and row["counts"]]
    settings = list(dict.fromkeys(row["setting"] for row in parts))
    width = max([len(s) for s in settings], default=0) + 1
    if width * len(settings) > WIDTH - 12:
        width = max((WIDTH - 12) // len(settings), 2)
    lines = [f"{'':<4} {'all':<5}" + "".join(f"{s[: width - 1]:<{width}}" for s in settings)]
    for row in [row for row in made if row["part"] == "overall"]:
        here = [[r["answer"] for r in parts if (r["claim"], r["setting"]) == (row["claim"], s)] for s in settings]
        signs = "".join(f"{_sign(answers):<{width}}" for answers in here)
        lines.append(f"{row['claim']:<4} {SIGNS[row['answer']]:<5}{signs}")
    return [line.rstrip() for line in lines]


def _sign(answers: Sequence[str]) -> str:
    if not answers:
        return "."
    if "not supported" in answers:
        return SIGNS["not supported"]
    return SIGNS["supported" if all(a == "supported" for a in answers) else "undecided"]


def _line(row: Row) -> str:
    effect = "missing" if row["effect"] is None else f"{row['effect']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    part = row["part"] + ("" if row["counts"] else " *")
    p = "" if row["p"] is None else f"{row['p']:.2g}" if row["p"] >= 1e-4 else "<.0001"
    finds = "" if row["mde"] is None else f"{row['mde']:.3g}"
    sign = SIGNS[row["answer"]] + ("" if row["holm"] or row["answer"] == "undecided" else "~")
    return (
        f"{row['claim']:<3} {part:<45} {row['setting']:<9} {sign:<2}{effect:<25} {p:<8}{finds:<7}"
        f"{row['n_items']:>5} {row['seeds']}"
    )


def _notes(parts: Sequence[Row]) -> list[str]:
    asked = [row for row in parts if row["p_against"] is not None]
    passed = [row for row in asked if row["answer"] == "supported"]
    refuted = [row for row in asked if row["answer"] == "not supported"]
    firm = [sum(row["holm"] for row in group) for group in (passed, refuted)]
    chance = 0.025 * len(asked)
    lines = [
        "    ✓ supported, ✗ not supported, ? undecided, . not asked",
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
