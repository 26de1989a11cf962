"""From the roles of a claim's terms to runs: which arm, variant, rate and length of which setting, at which seeds.

A setting's own runs are its cells; runs of its ablations stand beside them by arm, variant, rate and length. Roles
that depend on what was trained are resolved here: the stronger of two weight decays, the best of several rates, the
longest length that all compared runs share. A rate is chosen by the held-out loss on the target, as the sweep's is; by
the target's score only where a scale has no such loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import grid
from experiments.comparisons import Contrast, Term
from replication.config import number
from replication.scale import Scale

MATCHED = ".matched"
NUMBER = r"[\d.]+(e-?\d+)?"
Spot = tuple[str, str, float, float]  # arm, variant, rate, length


@dataclass(frozen=True)
class Filled:
    """A term with its roles filled in; the base has length 0 and no rate."""

    weight: float
    study: str
    arm: str
    length: float
    variant: str = ""
    lr: float | None = None


def arms_of(scale: Scale, role: str) -> list[str]:
    """The arm labels that a role stands for; several are averaged.

    >>> arms_of(pocket, "middle")  # ranks 1, 4, 16
    ['r4']
    """
    lora = [arm for arm in grid.arms(scale) if arm != "full"]
    roles = {
        "low": lora[:1], "middle": lora[len(lora) // 2 :][:1], "high": lora[-1:], "ranks": lora,
        "arms": ["full", *lora], "full": ["full"], "base": [grid.BASE],
    }  # fmt: skip
    return roles.get(role, [role])


def fill(
    tables: grid.Tables, item: Contrast, studies: Sequence[Sequence[str]]
) -> tuple[list[Filled], list[grid.Missing]]:
    """A contrast's terms with runs in place of roles; a role that stands for several is their mean.

    Args:
        studies: per term, the settings that it is taken from; several are averaged.
    """
    named = [
        (term, [(s, a) for s in names for a in arms_of(tables.scale, term.arm)])
        for term, names in zip(item.terms, studies, strict=True)
    ]
    shared = _shared(tables, named)
    weights: dict[tuple[str, str, float, str, float | None], float] = {}
    missing: list[grid.Missing] = []
    for term, places in named:
        for study, arm in places:
            found = _place(tables, study, arm, term, shared)
            if isinstance(found, grid.Missing):
                missing.append(found)
                continue
            key = (found.study, found.arm, found.length, found.variant, found.lr)
            weights[key] = weights.get(key, 0.0) + term.weight / len(places)
    filled = [Filled(weight, *key) for key, weight in weights.items()]
    missing += [gap(term, "run") for term in filled if not points(tables, term)]
    return filled, missing


def points(tables: grid.Tables, term: Filled) -> dict[int, grid.Point]:
    """The points of a term by seed; the base is the same point at every seed."""
    if term.arm == grid.BASE:
        return {seed: grid.base_point() for seed in grid.seeds(tables)}
    if not term.variant and term.lr == dict(grid.settings(tables.scale)[term.study].rates).get(term.arm):
        found = grid.cells(tables, term.study)
        return {s: grid.point(r) for (a, n, s), r in found.items() if (a, n) == (term.arm, term.length)}
    runs = spots(tables, term.study, term.arm).get((term.arm, term.variant, term.lr or 0.0, term.length), {})
    return {seed: grid.point(row) for seed, row in runs.items()}


def gap(term: Filled, what: str, seed: int | None = None) -> grid.Missing:
    """Something that a filled term lacks."""
    return grid.Missing(term.study, " ".join(filter(None, (term.arm, term.variant))), term.length, seed, what)


def spots(tables: grid.Tables, study: str, arm: str) -> dict[Spot, dict[int, grid.Run]]:
    """Runs of a setting and of its ablations by arm, variant, rate and length, then seed.

    Arms of the study of equal numbers of weights ("matched r12") stand by themselves, the linears "all" as a variant.
    """
    matched = arm.startswith("matched")
    setting = grid.settings(tables.scale)[study]
    found: dict[Spot, dict[int, grid.Run]] = {}
    if not matched:
        for (name, length, seed), row in grid.cells(tables, study).items():
            found.setdefault((name, "", row.lr, length), {})[seed] = row
    for name, variant, row in grid.variants(tables, study):
        at = grid.length_of(row, setting)
        if row.study == study or row.study.endswith(MATCHED) != matched or at is None:
            continue
        key = (f"matched {name}", variant or "all") if matched else (name, variant)
        # Two ablations may train the same run: the first counts.
        found.setdefault((*key, row.lr, at), {}).setdefault(row.seed, row)
    return found


def best_length(tables: grid.Tables, study: str, arm: str) -> float | None:
    """The length at which an arm learnt most, by the mean over seeds; every arm chooses among the same lengths."""
    setting = grid.settings(tables.scale)[study]
    asked = grid.questions(tables.scale, setting, "learning")
    found = grid.cells(tables, study)
    means: dict[float, float] = {}
    for length in setting.lengths:
        mean = _mean(tables, (r for (a, n, _), r in sorted(found.items()) if (a, n) == (arm, length)), asked)
        if mean is not None:
            means[length] = mean
    return max(means, key=lambda n: means[n]) if means else None


def words(tables: grid.Tables, axis: str, filled: Sequence[Filled]) -> str:
    """The compared scores in words: `learning: full at 600k tokens 0.812 - r16 at 600k tokens 0.540`."""
    named = axis.replace("_", " ")
    if len(filled) > 4:
        return f"{named}, means over {len(filled)} scores"
    pieces = [(term.weight, _piece(tables, axis, term)) for term in filled]
    signed = " ".join(f"{'+' if weight > 0 else '-'} {text}" for weight, text in pieces)
    return f"{named}: {signed.removeprefix('+ ')}"


def _piece(tables: grid.Tables, axis: str, term: Filled) -> str:
    setting = grid.settings(tables.scale)[term.study]
    asked = grid.questions(tables.scale, setting, axis)
    scores = [grid.score(tables, p, asked) for p in points(tables, term).values()]
    known = [s for s in scores if s is not None]
    value = f"{np.mean(known):.3f}" if known else "(no score)"
    if term.arm == grid.BASE:
        return f"{term.arm} {value}"
    unit = "tokens" if setting.regime == "cpt" else "epochs"
    own = term.lr == dict(setting.rates).get(term.arm)
    rate = "" if own or term.lr is None else f" (rate {number(term.lr)})"
    name = " ".join(filter(None, (term.arm, term.variant)))
    return f"{name} at {number(term.length)} {unit}{rate} {value}"


def _place(tables: grid.Tables, study: str, arm: str, term: Term, shared: dict[str, float]) -> Filled | grid.Missing:
    """One term in one setting with every role filled in."""
    setting = grid.settings(tables.scale)[study]
    if arm == grid.BASE:
        return Filled(term.weight, study, arm, 0.0)
    arm, variant = _named(tables, study, arm, term.variant)
    if not arm:
        return grid.Missing(study, f"{term.arm} {term.variant}", 0.0, None, "run")
    middle = sorted(setting.lengths)[len(setting.lengths) // 2]
    fixed = {"short": min(setting.lengths), "middle": middle, "long": max(setting.lengths)}
    length = {**fixed, **({"shared": shared[study]} if study in shared else {})}.get(term.at)
    if term.at == "best":
        length = best_length(tables, study, arm)
    if length is None:
        what = "learning at any length" if term.at == "best" else "run at a length that all compared arms have"
        return grid.Missing(study, " ".join(filter(None, (arm, variant))), 0.0, None, what)
    lr = _rate(tables, study, arm, variant, length, term)
    if lr is None:
        return grid.Missing(study, " ".join(filter(None, (arm, variant))), length, None, "run at any rate")
    return Filled(term.weight, study, arm, length, variant, lr)


def _named(tables: grid.Tables, study: str, arm: str, variant: str) -> tuple[str, str]:
    """Arm and variant by the names that runs have; an empty arm where no run has them."""
    if arm == "matched":
        ranks = {a for a, v, _, _ in spots(tables, study, arm) if v == variant}
        return (min(ranks), variant) if ranks else ("", variant)
    rank = grid.rank_of(arm)
    if variant.startswith("alpha=") and rank is not None:
        alpha = rank if variant == "alpha=r" else tables.scale.fixed_alpha
        return arm, "" if alpha == 2 * rank else f"a{number(alpha)}"
    if variant in ("wd-low", "wd-high", "ad-low", "ad-high"):
        kind, _, which = variant.partition("-")
        strengths = sorted(_strengths(kind, {v for a, v, _ in grid.variants(tables, study) if a == arm}))
        if not strengths:
            return "", variant
        return arm, strengths[0 if which == "low" else -1][1]
    return arm, variant


def _strengths(kind: str, variants: Iterable[str]) -> list[tuple[float, str]]:
    """How strong each of a kind is, with its name: (4.2e-4, "wd4.2e-4"). What varies something else too is left out."""
    return [(float(name.removeprefix(kind)), name) for name in variants if re.fullmatch(kind + NUMBER, name)]


def _rate(tables: grid.Tables, study: str, arm: str, variant: str, length: float, term: Term) -> float | None:
    """The rate that a term means: a given one, the arm's own, or the best of those trained."""
    if isinstance(term.rate, float):
        return term.rate
    if term.rate == "own":
        return dict(grid.settings(tables.scale)[study].rates).get(arm)
    return _best_rate(tables, study, arm, variant, length)


def _best_rate(tables: grid.Tables, study: str, arm: str, variant: str, length: float) -> float | None:
    setting = grid.settings(tables.scale)[study]
    loss = grid.questions(tables.scale, setting, "target_loss")
    asked, sign = (loss, -1) if loss else (grid.questions(tables.scale, setting, "learning"), 1)
    means: dict[float, float] = {}
    for (name, kind, lr, at), runs in spots(tables, study, arm).items():
        if (name, kind, at) == (arm, variant, length):
            mean = _mean(tables, runs.values(), asked)
            if mean is not None:
                means[lr] = sign * mean
    return max(means, key=lambda lr: means[lr]) if means else None


def _mean(tables: grid.Tables, runs: Iterable[grid.Run], asked: Sequence[grid.Question]) -> float | None:
    """Mean score of several seeds; None if one is missing or there are none."""
    scores = [grid.score(tables, grid.point(row), asked) for row in runs]
    known = [s for s in scores if s is not None]
    return float(np.mean(known)) if known and len(known) == len(scores) else None


def _shared(tables: grid.Tables, named: Sequence[tuple[Term, list[tuple[str, str]]]]) -> dict[str, float]:
    """Per setting the longest length at which every term that asks for it has runs."""
    common: dict[str, set[float]] = {}
    for term, places in named:
        for study, role in places if term.at == "shared" else []:
            arm, variant = _named(tables, study, role, term.variant)
            have = {at for (a, v, _, at) in spots(tables, study, arm) if (a, v) == (arm, variant)}
            common[study] = common.get(study, have) & have
    return {study: max(lengths) for study, lengths in common.items() if lengths}
