"""The verdicts as Markdown tables, as the README shows them: claims by settings, and the two differences that matter.

    python analysis/summary.py          print them, from the tracked rows or, where there are, one's own

tests/test_readme.py holds the README against what this prints, so no number in it is typed by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis import answers, command, grid, rows, verdicts
from analysis.answers import SIGNS
from analysis.rows import Row
from experiments import reported, sides
from replication.scale import Scale

# Where the difference between full fine-tuning and the highest rank stands, and whether to turn its sign:
# CPT at its longest; IFT each at its best epoch; what was kept, at the longest of both.
LEARNT = {"cpt": ("full above every rank", 1), "ift": ("high rank matches", -1)}
KEPT = {"code": ("high rank forgets less on code", 1), "math": ("high rank equals full on maths", 1)}


def matrix(made: Sequence[Row], printed: Sequence[Row], scale: Scale) -> str:
    """One row per claim: its answer in every setting and over all parts, beside the answer of the printed numbers."""
    settings = [name for name, _ in scale.settings]
    titles = [setting.title for _, setting in scale.settings]
    theirs = {row["claim"]: _tally(row, printed) for row in printed if row["part"] == "overall"}
    lines = [
        _line(["claim", *titles, "across", f"**{scale.name}**: all parts", "as reported: all parts"]),
        _line(["---"] + [":-:"] * (len(titles) + 3)),
    ]
    for row in (r for r in made if r["part"] == "overall" and r["family"] != verdicts.SIDE):
        own = _parts(row, made)
        here = [answers.sign([r for r in own if r["setting"] == name]) for name in settings]
        across = answers.sign([r for r in own if r["setting"] not in settings])
        said = f"**{row['claim']}** {row['statement']}"
        cells = [said, *here, across, _tally(row, made), theirs.get(row["claim"], "")]
        lines.append(_line(cells))
    return "\n".join(lines)


def differences(made: Sequence[Row], scale: Scale) -> str:
    """Per setting, how much more full fine-tuning learnt than the highest rank, and how much less it kept."""
    top = f"LoRA r={max(scale.ranks)}"
    lines = [
        _line(["", f"full fine-tuning learnt more than {top} by", f"{top} kept more of the source by"]),
        _line(["---"] * 3),
    ]
    for name, setting in scale.settings:
        found = [_effect(made, name, *LEARNT[setting.regime]), _effect(made, name, *KEPT[setting.domain])]
        lines.append(_line([setting.title, *found]))
    return "\n".join(lines)


def of_sides(made: Sequence[Row]) -> str:
    """One row per side study: what its original said, each with its answer and the effects of the parts that count.

    That two arms are the same, as claimed, is told without its rounding error.
    """
    lines = [_line(["side study", "headline of the original, and its answer here"]), _line(["---"] * 2)]
    for study, module in sides.STUDIES.items():
        claims = [claim.id for claim in module.CLAIMS]
        whole = [r for r in made if r["part"] == "overall" and r["claim"] in claims]
        if whole:
            lines.append(_line([f"`{study}`", "<br>".join(_headline(row, made) for row in whole)]))
    return "\n".join(lines) if len(lines) > 2 else ""


def _headline(whole: Row, made: Sequence[Row]) -> str:
    parts = [r for r in _parts(whole, made) if r["effect"] is not None]
    told = [r for r in parts if not (r["rule"] == "equal" and r["answer"] == "supported")] or parts
    units = {r["unit"] for r in told}
    effects = [f"{r['part']} {r['effect']:+.3g} [{r['low']:+.3g}, {r['high']:+.3g}]" for r in told]
    if len(units) > 1:
        effects = [f"{effect} {r['unit']}" for effect, r in zip(effects, told, strict=True)]
    found = "; ".join(effects) + (f"; {units.pop()}" if len(units) == 1 else "")
    sign = SIGNS[whole["answer"]] if parts else answers.NOT_ASKED
    return f"{sign} **{whole['claim']}** {whole['statement']} ({found})" if parts else f"{sign} {whole['statement']}"


def counts(made: Sequence[Row]) -> str:
    """How many claims of the paper, and how many follow-ups, have which answer."""
    said = []
    for family, words in (("paper", "the paper's twelve claims"), ("follow-up", "the follow-ups")):
        whole = [r for r in made if r["part"] == "overall" and r["family"] == family]
        found = [r["answer"] if answers.is_asked(r) else "not asked" for r in whole]
        tally = ", ".join(f"{found.count(a)} {a}" for a in (*SIGNS, "not asked") if a in SIGNS or a in found)
        said.append(f"{words}: {tally}")
    return "; ".join(said)


def _parts(whole: Row, made: Sequence[Row]) -> list[Row]:
    """The parts that a claim's answer is made of."""
    return [r for r in made if r["claim"] == whole["claim"] and r["part"] != "overall" and r["counts"]]


def _tally(whole: Row, made: Sequence[Row]) -> str:
    """The answer over all parts, with how many of those that could be asked hold and fail: `? 3✓ 1✗ of 6`."""
    found = [r["answer"] for r in _parts(whole, made) if answers.is_asked(r)]
    if not found:
        return f"{answers.NOT_ASKED} not asked" if whole["family"] == "paper" else ""
    held, failed = (found.count(a) for a in ("supported", "not supported"))
    return f"{SIGNS[whole['answer']]} {held}✓ {failed}✗ of {len(found)}"


def _effect(made: Sequence[Row], setting: str, part: str, sign: int) -> str:
    (row,) = [r for r in made if (r["part"], r["setting"]) == (part, setting)]
    if row["effect"] is None:
        return "missing"
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return f"{sign * row['effect']:+.3f} [{low:+.3f}, {high:+.3f}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def decided(ordered: Sequence[Row]) -> str:
    """How many orderings of two arms in the paper's tables its own item counts decide."""
    arms = [r for r in ordered if grid.BASE not in (r["left"], r["right"]) and r["within_noise"] is not None]
    firm = sum(not r["within_noise"] for r in arms)
    return (
        f"Of {len(arms)} orderings of two arms in the paper's tables S1 to S13 their own item counts decide {firm}; "
        f"the other {len(arms) - firm} are within noise (`python -m analysis --scale reported` names them)."
    )


def markdown(made: Sequence[Row], printed: Sequence[Row], ordered: Sequence[Row], scale: Scale) -> str:
    """Both tables and the counts, as they stand in the README."""
    parts = [differences(made, scale), f"Of {counts(made)}.", matrix(made, printed, scale)]
    return "\n\n".join([*parts, *filter(None, (of_sides(made), decided(ordered) if ordered else ""))])


def main() -> None:
    """Print the tables."""
    here = command.places(__doc__)
    theirs = here.out.parent / reported.SCALE.name
    printed, ordered = (_rows(theirs / name) for name in ("verdicts.jsonl", "orderings.jsonl"))
    print(markdown(rows.read(here.out / "verdicts.jsonl"), printed, ordered, here.scale))


def _rows(file: Path) -> list[Row]:
    return rows.read(file) if file.is_file() else []


if __name__ == "__main__":
    command.run(main)
