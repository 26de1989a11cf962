"""Each claim of the paper: supported, not supported or undecided, with the effect and its interval.

The claims and the rule are data (`experiments/claims.py`); the effects come from per-item values
(`analysis/evidence.py`) and from spectra rows (`analysis/ranks.py`). Every part is asked once per setting, and every
claim has one row with part "overall". Intervals are 95 % for each part by itself: with some forty parts one or two
would fall on the wrong side by chance, which is why a claim needs all of its parts.

Run as a script, or by `python -m analysis`, it ends with a table for the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from analysis import command, evidence, grid, ranks, rows
from experiments.claims import CLAIMS
from experiments.comparisons import Claim, Part, Rule, Spectra
from replication.config import number
from replication.stats import Estimate

Answer = Literal["supported", "not supported", "undecided"]
SEED = 20240515  # of the paired bootstrap; any fixed number gives the same rows on every machine


def answer(est: Estimate, rule: Rule, smallest: float) -> Answer:
    """The verdict rule of `experiments/claims.py` for one effect."""
    inside = -smallest < est.low and est.high < smallest
    outside = est.low > smallest or est.high < -smallest
    if rule == "equal":
        return "supported" if inside else "not supported" if outside else "undecided"
    if rule == "not less":
        return "supported" if est.low > -smallest else "not supported" if est.high < -smallest else "undecided"
    if est.low > 0 and est.value >= smallest:
        return "supported"
    return "not supported" if est.high < 0 or inside else "undecided"


def together(answers: Sequence[Answer]) -> Answer:
    """Supported if all are, not supported if any is not, else undecided."""
    if "not supported" in answers:
        return "not supported"
    return "supported" if answers and all(a == "supported" for a in answers) else "undecided"


def verdicts(
    tables: grid.Tables, spectra: Sequence[rows.Row], claims: Sequence[Claim] = CLAIMS
) -> tuple[list[rows.Row], list[grid.Missing]]:
    """One row per claim, part and setting, then one per claim with part "overall"; and what was missing."""
    made: list[rows.Row] = []
    missing: list[grid.Missing] = []
    for claim in claims:
        own: list[rows.Row] = []
        for part in claim.parts:
            for scope in evidence.scopes(tables.scale, part):
                found = _effects(tables, spectra, part, scope)
                ground = evidence.premises(tables, part, scope)
                missing += [m for effect in [*found, *(p.effect for p in ground)] for m in effect.missing]
                own.append(_row(claim, part, scope, found, ground))
        made += [*own, _overall(claim, own)]
    return made, missing


def table(made: Sequence[rows.Row]) -> str:
    """The verdicts as text: claim, part, setting, answer, effect with interval, items and seeds."""
    lines = []
    for row in made:
        if row["part"] == "overall":
            lines.append(f"{row['claim']:<3} {row['answer'].upper():<14} {row['statement']}")
    lines += ["", f"{'':<3} {'part':<37} {'setting':<10} {'answer':<14} {'effect [95 % interval]':<26} {'n':>5} seeds"]
    for row in made:
        if row["part"] == "overall":
            continue
        effect = "missing" if row["effect"] is None else f"{row['effect']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        aside = "" if row["counts"] else " *"
        lines.append(
            f"{row['claim']:<3} {row['part'] + aside:<37} {row['setting']:<10} {row['answer']:<14} {effect:<26} "
            f"{row['n_items']:>5} {row['seeds']:>5}"
        )
    if any(not row["counts"] for row in made):
        lines.append("*   beside the claim; does not enter its overall answer")
    if any(row["covers"] == "items" for row in made):
        lines.append(
            "    One seed: intervals are over items alone, so they are about these runs, not about the method."
        )
    return "\n".join(lines)


def _effects(
    tables: grid.Tables, spectra: Sequence[rows.Row], part: Part, scope: evidence.Scope
) -> list[evidence.Effect]:
    if isinstance(part.measure, Spectra):
        return [ranks.effect(tables, spectra, part.measure.quantity, scope)]
    return evidence.effects(tables, part, scope, np.random.default_rng(SEED))


def _row(
    claim: Claim,
    part: Part,
    scope: evidence.Scope,
    found: Sequence[evidence.Effect],
    ground: Sequence[evidence.Premise] = (),
) -> rows.Row:
    """The row of one part: its weakest effect stands for all of them. `ground` is what the part presupposes."""
    known = [(e.estimate, e.words) for e in found if e.estimate is not None]
    answers = [answer(est, part.rule, part.smallest) for est, _ in known]
    complete = len(known) == len(found)
    unmet = [p.otherwise for p in ground if not _holds(p)]
    # Something missing cannot support, but what is there can refute; without its premise only an equality can.
    said = answers if not unmet or part.rule == "equal" else []
    doubt: list[Answer] = [] if complete and not unmet else ["undecided"]
    verdict = together([*said, *doubt])
    named: rows.Row = {
        "claim": claim.id, "part": part.id, "setting": scope.label, "statement": part.statement, "source": claim.source,
        "answer": verdict, "unit": part.unit, "rule": part.rule, "smallest_effect": part.smallest,
        "counts": part.counts,
    }  # fmt: skip
    gaps = [m for effect in found for m in effect.missing]
    if not known:
        absent = "; ".join(dict.fromkeys(f"{m.study} {m.arm} at {number(m.length)}: {m.what}" for m in gaps))
        empty = {"effect": None, "low": None, "high": None, "n_items": 0, "seeds": 0, "mde": None, "covers": None}
        change = "The missing runs or scores."
        return named | empty | {"missing": len(gaps), "evidence": f"Missing: {absent}.", "would_change": change}
    weakest = min(range(len(known)), key=lambda k: _strength(known[k][0], part.rule))
    est = known[weakest][0]
    numbers = {
        "effect": est.value, "low": est.low, "high": est.high, "n_items": est.items, "seeds": est.seeds, "mde": est.mde,
        "covers": est.covers, "missing": len(gaps),
    }  # fmt: skip
    words = "; ".join(f"{text}: {e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for e, text in known)
    tail = f" Over {est.items} items and {est.seeds} seed{'s' if est.seeds > 1 else ''}."
    absent = f" {len(found) - len(known)} of {len(found)} comparisons are missing." if gaps else ""
    change = _would_change(part, verdict, est)
    if unmet:
        absent += " " + " ".join(unmet)
        change = "A study in which that is not so." if verdict == "undecided" else change
    return named | numbers | {"evidence": words[:1].upper() + words[1:] + "." + tail + absent, "would_change": change}


def _holds(ground: evidence.Premise) -> bool:
    found = ground.effect.estimate
    return found is not None and answer(found, "greater", ground.smallest) == "supported"


def _strength(est: Estimate, rule: Rule) -> float:
    """How clearly an effect supports; the smallest of several decides."""
    return -max(abs(est.low), abs(est.high)) if rule == "equal" else est.low


def _would_change(part: Part, verdict: Answer, est: Estimate) -> str:
    if verdict == "supported":
        return part.refuted_by
    if verdict == "not supported":
        wanted = {"greater": "An interval wholly above 0 with an effect of at least", "equal": "An interval within +-"}
        return f"{wanted.get(part.rule, 'An interval wholly above -')} {part.smallest:g}.".replace("- ", "-")
    factor = (est.mde / part.smallest) ** 2
    if factor <= 1:
        return f"The design finds effects of {est.mde:.3g}; this one lies at the edge. More seeds decide."
    more = math.ceil(factor) if factor < 10 else round(factor, -1)
    finds = f"this design finds {est.mde:.3g}, the question is {part.smallest:g}"
    return f"About {more:.0f} times the items and seeds: {finds}."


def _overall(claim: Claim, own: Sequence[rows.Row]) -> rows.Row:
    counted = [row for row in own if row["counts"]]
    answers: list[Answer] = [row["answer"] for row in counted]
    counts = {a: answers.count(a) for a in ("supported", "not supported", "undecided")}
    words = ", ".join(f"{n} {a}" for a, n in counts.items())
    against = [f"{r['part']} ({r['setting']})" for r in counted if r["answer"] == "not supported"]
    open_ones = [f"{r['part']} ({r['setting']})" for r in counted if r["answer"] == "undecided"]
    change = (
        f"Against it: {'; '.join(against)}."
        if against
        else f"Open: {'; '.join(open_ones)}."
        if open_ones
        else ("Any of its parts failing.")
    )
    seeds = [row["seeds"] for row in counted if row["seeds"]]
    covers = {row["covers"] for row in counted} - {None}
    return {
        "claim": claim.id, "part": "overall", "setting": "all", "statement": claim.statement, "source": claim.source,
        "answer": together(answers), "unit": "", "rule": "all parts", "smallest_effect": None, "counts": True,
        "effect": None, "low": None, "high": None, "n_items": sum(r["n_items"] for r in counted),
        "seeds": min(seeds, default=0), "mde": None,
        "covers": "items" if "items" in covers else next(iter(covers), None),
        "missing": sum(r["missing"] for r in counted), "evidence": f"Of {len(answers)} parts: {words}.",
        "would_change": change,
    }  # fmt: skip


def write(tables: grid.Tables, where: command.Places) -> tuple[list[rows.Row], list[grid.Missing]]:
    """Write `verdicts.jsonl` from the tables and the tracked spectra; returns the rows and what is missing."""
    made, missing = verdicts(tables, _tracked(where.out / "spectra.jsonl"))
    rows.write(where.out / "verdicts.jsonl", made)
    return made, missing


def _tracked(path: Path) -> list[rows.Row]:
    """Spectra rows, or none where the spectra were never computed (their parts then say what is missing)."""
    return rows.read(path) if path.is_file() else []


def main() -> None:
    """Write the verdicts and print them."""
    here = command.places(__doc__)
    print(table(write(grid.load(here.scale, here.results), here)[0]))


if __name__ == "__main__":
    command.run(main)
