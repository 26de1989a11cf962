"""Each claim: supported, not supported or undecided, with the effect, its interval and how sure the answer is.

The claims and the rule are data (`experiments/claims.py`); the effects come from per-item values
(`analysis/evidence.py`), from spectra rows (`analysis/ranks.py`) and from other analyses (`*_effects.jsonl`). Every
part is asked once per setting, and every claim has one row with part "overall".

Many comparisons. Intervals are 95 % for each effect by itself, so a true null passes one side in 2.5 %.

    a part is supported       if all its effects are: no correction, for all must pass at once (intersection-union);
                              `p` is the largest of their p values and of what the part presupposes
    a part is refuted         if one effect is, at .025 over the number of effects
    a claim is supported      if all its parts are: no correction, for the same reason
    a claim is not supported  if a part is refuted that Holm's correction at .05 over the claim's own parts keeps: a
                              claim that is true is called so by chance in at most 5 %
    one seed                  in a study of several decides no part about training; a study of one seed is about its
                              runs, and says so
    `holm`                    whether a part's answer survives Holm's correction at .05 over all parts of the matrix,
                              the side studies apart

`p` is one-sided for what supports the rule (for "equal" the larger of the two one-sided tests), `p_against` for what
refutes it. A row shows its weakest effect. Its `mde` says what such a design can find in 80 % of studies: for
"greater" the smallest true effect that it calls supported; for "equal" and "not less" the smallest margin at which it
calls a true effect of 0 supported. The errors behind it are this study's own. Where the seeds' spread is most of them,
three seeds tell the mde to a factor of two only, and an effect of that size is found in 63 to 65 % of studies on
average; elsewhere in 74 to 86 % (tests/replication/test_stats.py).

Run as a script, or by `python -m analysis`, it ends with a table for the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis import command, evidence, grid, ranks, rows
from analysis.answers import SIGNS, Answer, answer, detects, is_asked, p_against, p_support, together
from analysis.verdict_table import table
from experiments import sides
from experiments.claims import CLAIMS
from experiments.comparisons import Claim, Measured, Part, Rule, Spectra
from replication.config import number
from replication.stats import Estimate, holm

__all__ = ["answer", "table", "together", "verdicts", "write"]
SIDE = "side study"
SEED = 20240515  # of the paired bootstrap; any fixed number gives the same rows on every machine


def verdicts(
    tables: grid.Tables, spectra: Sequence[rows.Row], claims: Sequence[Claim] = CLAIMS
) -> tuple[list[rows.Row], list[grid.Missing]]:
    """One row per claim, part and setting, then one per claim with part "overall"; and what was missing."""
    made: list[rows.Row] = []
    missing: list[grid.Missing] = []
    for claim in claims:
        own: list[rows.Row] = []
        for part in claim.parts:
            for scope in evidence.scopes(tables.scale, part, tables.effects):
                found = _effects(tables, spectra, part, scope)
                ground = evidence.premises(tables, part, scope)
                missing += [m for effect in [*found, *(p.effect for p in ground)] for m in effect.missing]
                own.append(_row(claim, part, scope, found, ground, lone=_lone(tables, part, found)))
        made += [*own, _overall(claim, own, evidence.unasked(tables.scale, claim, tables.effects))]
    return _corrected(made), missing


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
    *,
    lone: bool = False,
) -> rows.Row:
    """The row of one part: its weakest effect stands for all of them. `ground` is what the part presupposes.

    A `lone` seed among several decides nothing.
    """
    known = [(e.estimate, e.words) for e in found if e.estimate is not None]
    unmet = [p.otherwise for p in ground if not _holds(p)]
    against = _refuted(part, [e for e, _ in known])
    verdict = _verdict(part, [e for e, _ in known], against, complete=len(known) == len(found), grounded=not unmet)
    verdict = "undecided" if lone else verdict
    named: rows.Row = {
        "claim": claim.id, "part": part.id, "setting": scope.label, "statement": part.statement, "source": claim.source,
        "family": claim.family, "answer": verdict, "unit": part.unit, "rule": part.rule,
        "smallest_effect": part.smallest, "counts": part.counts, "holm": False,
    }  # fmt: skip
    gaps = [m for effect in found for m in effect.missing]
    if not known:
        absent = "; ".join(dict.fromkeys(f"{m.study} {m.arm} at {number(m.length)}: {m.what}" for m in gaps))
        empty = {"effect": None, "low": None, "high": None, "n_items": 0, "seeds": 0, "mde": None, "covers": None,
                 "p": None, "p_against": None}  # fmt: skip
        change = "The missing runs or scores."
        return named | empty | {"missing": len(gaps), "evidence": f"Missing: {absent}.", "would_change": change}
    weakest = min(range(len(known)), key=lambda k: _strength(known[k][0], part.rule))
    est = known[weakest][0]
    numbers = {
        "effect": est.value, "low": est.low, "high": est.high, "n_items": est.items, "seeds": est.seeds,
        "mde": detects(est, part.rule, part.smallest), "covers": est.covers, "missing": len(gaps),
        "p": _p(part, found, ground), "p_against": 1.0 if lone or (unmet and part.rule != "equal") else against,
    }  # fmt: skip
    words = "; ".join(f"{text}: {e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for e, text in known)
    tail = f" Over {est.items} items and {est.seeds} seed{'s' if est.seeds > 1 else ''}."
    absent = f" {len(found) - len(known)} of {len(found)} comparisons are missing." if gaps else ""
    change = _would_change(part, verdict, est)
    if unmet:
        absent += " " + " ".join(unmet)
        change = "A study in which that is not so." if verdict == "undecided" else change
    if lone:
        absent += " One seed where the study has several: about these runs, not about the method."
        change = "More seeds."
    return named | numbers | {"evidence": words[:1].upper() + words[1:] + "." + tail + absent, "would_change": change}


def _lone(tables: grid.Tables, part: Part, found: Sequence[evidence.Effect]) -> bool:
    """Whether a part about training rests on one seed in a study of several: no answer about the method."""
    trained = not isinstance(part.measure, Measured) or part.measure.trained
    alone = any(e.estimate is not None and e.estimate.covers == "items" for e in found)
    return trained and alone and _seeds(tables, part) > 1


def _seeds(tables: grid.Tables, part: Part) -> int:
    """Seeds of the study that a part is about: the main one, or the side study of its quantity."""
    if not isinstance(part.measure, Measured) or not part.measure.beside:
        return len(grid.seeds(tables))
    asked = next((q for q in map(sides.quantities, sides.STUDIES) if part.measure.quantity in q), frozenset())
    return max((row["seeds"] for row in tables.effects if row["quantity"] in asked), default=0)


def _verdict(part: Part, known: Sequence[Estimate], against: float, *, complete: bool, grounded: bool) -> Answer:
    """What is missing cannot support, but what is there can refute; without its premise only an equality can."""
    answers = [answer(est, part.rule, part.smallest) for est in known]
    refuted = against <= 0.025 and "not supported" in answers
    if refuted and (grounded or part.rule == "equal"):
        return "not supported"
    whole = complete and grounded and bool(answers)
    return "supported" if whole and all(a == "supported" for a in answers) else "undecided"


def _refuted(part: Part, known: Sequence[Estimate]) -> float:
    """The p value against a part: that of its worst effect, times the number of effects."""
    return min(1.0, len(known) * min((p_against(e, part.rule, part.smallest) for e in known), default=1.0))


def _p(part: Part, found: Sequence[evidence.Effect], ground: Sequence[evidence.Premise]) -> float | None:
    """The p value of a part as a whole and of what it presupposes; None while something is missing."""
    known = [e.estimate for e in found if e.estimate is not None]
    first = [p.effect.estimate for p in ground if p.effect.estimate is not None]
    ps = [p_support(e, part.rule, part.smallest) for e in known] + [p_support(e, "greater", 0.0) for e in first]
    return max(ps) if len(known) == len(found) and len(first) == len(ground) else None


def _corrected(made: Sequence[rows.Row]) -> list[rows.Row]:
    """The rows with `holm`: supports and refutations are corrected separately, each over all parts asked."""
    asked = [r for r in made if r["part"] != "overall" and is_asked(r)]
    beside = [r for r in asked if r["family"] == SIDE]
    kept: dict[int, bool] = {}
    for group in ([r for r in asked if r["family"] != SIDE], beside):
        for said, key in (("supported", "p"), ("not supported", "p_against")):
            survives = holm([1.0 if r[key] is None else r[key] for r in group])
            kept |= {id(r): s for r, s in zip(group, survives, strict=True) if r["answer"] == said}
    return [row | {"holm": kept.get(id(row), row["holm"])} for row in made]


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
    finds = detects(est, part.rule, part.smallest)
    if part.rule == "greater" and est.mde <= part.smallest or finds <= part.smallest:
        return f"The design finds effects of {finds:.3g}; this one lies at the edge. More seeds decide."
    factor = (est.mde / part.smallest if part.rule == "greater" else finds / part.smallest) ** 2
    more = math.ceil(factor) if factor < 10 else round(factor, -1)
    why = f"this design finds {finds:.3g}, the question is {part.smallest:g}"
    return f"About {more:.0f} times the items and seeds: {why}."


def _overall(claim: Claim, own: Sequence[rows.Row], unasked: str | None) -> rows.Row:
    """The claim's own row; a refuted part refutes it if it survives Holm's correction over the claim's parts."""
    counted = [row for row in own if row["counts"]]
    answers: list[Answer] = [row["answer"] for row in counted]
    said = [a if is_asked(row) else "not asked" for a, row in zip(answers, counted, strict=True)]
    counts = {a: said.count(a) for a in (*SIGNS, "not asked") if a in SIGNS or a in said}
    kept = holm([1.0 if row["p_against"] is None else row["p_against"] for row in counted])
    firm = [row["answer"] == "not supported" and keeps for row, keeps in zip(counted, kept, strict=True)]
    verdict: Answer = "not supported" if any(firm) else together(["undecided" if a == "not supported" else a
                                                                  for a in answers])  # fmt: skip
    words = f"Of {len(answers)} parts: {', '.join(f'{n} {a}' for a, n in counts.items())}."
    if counts["not supported"] and not any(firm):
        words += " No refuted part survives the correction for so many parts."
    known = [row for row in counted if is_asked(row)]
    covers = [row["covers"] for row in known]
    weakest = next((c for c in ("items, unpaired", "items", "items and seeds") if c in covers), None)
    # All parts must pass, so their largest p value is the claim's; the smallest corrected one is that against it.
    ps = [row["p"] for row in counted]
    return {
        "claim": claim.id, "part": "overall", "setting": "all", "statement": claim.statement, "source": claim.source,
        "family": claim.family, "answer": verdict, "unit": "", "rule": "all parts", "smallest_effect": None,
        "counts": True, "holm": False, "effect": None, "low": None, "high": None,
        "n_items": sum(row["n_items"] for row in counted), "seeds": min((r["seeds"] for r in known), default=0),
        "mde": None, "covers": weakest, "missing": sum(row["missing"] for row in counted),
        "p": None if not ps or None in ps else max(ps),
        "p_against": min(1.0, len(counted) * min(r["p_against"] for r in known)) if known else None,
        "evidence": unasked or words, "would_change": _claim_changes(counted, firm),
    }  # fmt: skip


def _claim_changes(counted: Sequence[rows.Row], firm: Sequence[bool]) -> str:
    against = [f"{r['part']} ({r['setting']})" for r, is_firm in zip(counted, firm, strict=True) if is_firm]
    if against:
        return f"Against it: {'; '.join(against)}."
    opened = [f"{r['part']} ({r['setting']})" for r in counted if r["answer"] != "supported"]
    if opened:
        return f"Open: {'; '.join(opened)}."
    return "Any of its parts failing." if counted else "A scale at which it can be asked."


def write(tables: grid.Tables, where: command.Places) -> tuple[list[rows.Row], list[grid.Missing]]:
    """Write `verdicts.jsonl` from the tables, spectra and named effects; returns the rows and what is missing."""
    tables = grid.with_effects(tables, where.out)
    made, missing = verdicts(tables, _tracked(where.out / "spectra.jsonl"), claims(tables))
    rows.write(where.out / "verdicts.jsonl", made)
    return made, missing


def claims(tables: grid.Tables) -> list[Claim]:
    """All claims, less those of side studies that have no estimates here: they were not run."""
    known = {row["quantity"] for row in tables.effects}
    run = [study for study in sides.STUDIES if known & sides.quantities(study)]
    of_run = [claim for study in run for claim in sides.STUDIES[study].CLAIMS]
    return [claim for claim in CLAIMS if claim.family != SIDE or claim in of_run]


def _tracked(path: Path) -> list[rows.Row]:
    """Spectra rows, or none where the spectra were never computed (their parts then say what is missing)."""
    return rows.read(path) if path.is_file() else []


def main() -> None:
    """Write the verdicts and print them."""
    here = command.places(__doc__)
    print(table(write(grid.load(here.scale, here.results), here)[0]))


if __name__ == "__main__":
    command.run(main)
