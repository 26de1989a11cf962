"""Effects behind the verdicts: a claim's roles filled in for a scale, and its contrasts estimated from items.

Contrasts are taken item by item on the items that every score in them has, and seed by seed on the seeds that every
arm in them has; the base has no seed and stands in for each. The effect is therefore the mean over shared items,
which for strings of one outcome means: over problems where all compared models had such samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import curves, grid, tradeoff
from experiments.claims import LEARNING
from experiments.comparisons import Arm, Contrast, Front, Part, Scores, Term
from replication.config import number
from replication.scale import Scale, Setting
from replication.stats import Estimate, contrast


@dataclass(frozen=True)
class Scope:
    """What one verdict row is about: a label and the settings that its terms may be taken from."""

    label: str
    regime: str | None = None
    domain: str | None = None
    study: str | None = None


@dataclass(frozen=True)
class Effect:
    """One estimated effect: what was compared in words, or what was missing for it."""

    words: str
    estimate: Estimate | None
    missing: tuple[grid.Missing, ...] = ()


@dataclass(frozen=True)
class _Weighted:
    """A term with its roles filled in."""

    weight: float
    study: str
    arm: str
    length: float


def scopes(scale: Scale, part: Part) -> list[Scope]:
    """The rows that a part is asked in; none where the scale lacks the settings it compares."""
    # The paper's mix is one run scored on its way, about claims of its own (C5).
    settings = [(n, s) for n, s in scale.settings if s.separate]
    found = [(n, s) for n, s in settings if part.regime in (None, s.regime) and part.domain in (None, s.domain)]
    if part.each == "setting":
        return [Scope(n, s.regime, s.domain, n) for n, s in found if _askable(scale, part, n)]
    labels = dict.fromkeys(s.domain if part.each == "domain" else s.regime for _, s in found)
    made = [Scope(label, domain=label) if part.each == "domain" else Scope(label, regime=label) for label in labels]
    return [scope for scope in made if _complete(scale, part, scope)]


def effects(tables: grid.Tables, part: Part, scope: Scope, rng: np.random.Generator) -> list[Effect]:
    """The effects of a part in one scope; all of them must hold."""
    if isinstance(part.measure, Front):
        return [_front_effect(tables, part.measure, scope, rng)]
    assert isinstance(part.measure, Scores)
    return [
        _score_effect(tables, single, scope) for item in part.measure.contrasts for single in expand(item, tables.scale)
    ]


@dataclass(frozen=True)
class Premise:
    """What must be so before a part says anything: an effect of at least `smallest`; `otherwise` says why not."""

    effect: Effect
    smallest: float
    otherwise: str


def premises(tables: grid.Tables, part: Part, scope: Scope) -> list[Premise]:
    """What a part presupposes.

    An equality between models that did nothing is no finding: full fine-tuning must have moved from the base. Fronts
    can only be told apart where both arms learnt. And who writes one string per problem cannot lose any.
    """
    if isinstance(part.measure, Front):
        return [_learnt(tables, role, scope) for role in (part.measure.left, part.measure.right)]
    if not isinstance(part.measure, Scores):
        return []
    item = part.measure.contrasts[0]
    at = item.terms[0].at
    if item.axis in ("unique_correct", "unique_incorrect"):
        found = _score_effect(tables, replace(item, terms=(Term(1, "base", at),)), scope)
        above_one = found.estimate and replace(
            found.estimate, value=found.estimate.value - 1, low=found.estimate.low - 1, high=found.estimate.high - 1
        )
        why = "The base itself writes hardly more than one string per problem, so there is none to lose."
        return [Premise(replace(found, estimate=above_one), part.smallest, why)]
    if part.rule != "equal":
        return []
    sign = 1 if item.axis == "learning" else -1
    terms = (Term(sign, "full", at), Term(-sign, "base", at))
    why = "Full fine-tuning itself did not clearly move from the base, so equality says nothing."
    return [Premise(_score_effect(tables, replace(item, terms=terms), scope), part.smallest, why)]


def _learnt(tables: grid.Tables, role: Arm, scope: Scope) -> Premise:
    contrast_to_base = Contrast("learning", (Term(1, role, "best"), Term(-1, "base", "best")))
    (arm,) = arms_of(tables.scale, role)
    why = f"{arm} did not clearly learn beyond the base, so there is no learning to compare at."
    return Premise(_score_effect(tables, contrast_to_base, scope), LEARNING, why)


def expand(item: Contrast, scale: Scale) -> list[Contrast]:
    """A contrast against "each" rank as one contrast per rank."""
    if not any(term.arm == "each" for term in item.terms):
        return [item]
    return [_with_arm(item, arm) for arm in grid.arms(scale) if arm != "full"]


def _with_arm(item: Contrast, arm: str) -> Contrast:
    # A concrete label such as "r4" is no role; `arms_of` passes it through.
    terms = [replace(t, arm=arm) if t.arm == "each" else t for t in item.terms]  # type: ignore[arg-type]
    return replace(item, terms=tuple(terms))


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


def _askable(scale: Scale, part: Part, study: str) -> bool:
    """Whether a setting has what a part asks: the axis, enough ranks to tell the roles apart, and enough lengths."""
    if not isinstance(part.measure, Scores):
        return True
    setting = grid.settings(scale)[study]
    asked = all(grid.questions(scale, setting, c.axis) for c in part.measure.contrasts)
    middle = any(t.arm == "middle" for c in part.measure.contrasts for t in c.terms)
    cancels = any(_cancels(scale, setting, c) for c in part.measure.contrasts)
    return asked and not cancels and (len(scale.ranks) >= 3 or not middle)


def _cancels(scale: Scale, setting: Setting, item: Contrast) -> bool:
    """Whether both sides are the same runs: low and high of a single rank, short and long of a single length."""
    only = len(setting.lengths) == 1
    sums: dict[tuple[object, ...], float] = {}
    for term in item.terms:
        key = (tuple(arms_of(scale, term.arm)), "" if only else term.at, term.regime, term.domain)
        sums[key] = sums.get(key, 0.0) + term.weight
    return not any(sums.values())


def _complete(scale: Scale, part: Part, scope: Scope) -> bool:
    assert isinstance(part.measure, Scores)
    return all(_studies(scale, t, scope) for c in part.measure.contrasts for t in c.terms)


def _studies(scale: Scale, term: Term, scope: Scope) -> list[str]:
    """Settings that a term is taken from; several are averaged."""
    if scope.study is not None and term.regime is None and term.domain is None:
        return [scope.study]
    regime, domain = term.regime or scope.regime, term.domain or scope.domain
    settings = [(n, s) for n, s in scale.settings if s.separate]
    return [n for n, s in settings if regime in (None, s.regime) and domain in (None, s.domain)]


def _score_effect(tables: grid.Tables, item: Contrast, scope: Scope) -> Effect:
    terms, missing = _filled(tables, item, scope)
    words = _words(tables, item, terms)
    if missing:
        return Effect(words, None, tuple(missing))
    runs = {t: _by_seed(tables, t) for t in terms}
    seeded = [set(found) for t, found in runs.items() if t.arm != grid.BASE]
    # The base alone has no seeds to share.
    shared = sorted(set.intersection(*seeded)) if seeded else grid.seeds(tables)[:1]
    if not shared:
        gaps = tuple(grid.Missing(t.study, t.arm, t.length, None, "a seed that all compared runs have") for t in terms)
        return Effect(words, None, gaps)
    groups, sizes = [], []
    for name, metric, share in _asked(tables.scale, item, terms[0].study):
        stacked, absent = _stacked(tables, terms, runs, shared, name, metric)
        if absent:
            return Effect(words, None, tuple(absent))
        if stacked.shape[-1] < 2:
            gap = grid.Missing(terms[0].study, terms[0].arm, terms[0].length, None, f"two shared items with {metric}")
            return Effect(words, None, (gap,))
        weights = np.array([t.weight for t in terms])
        groups.append(share * np.einsum("t,tsi->si", weights, stacked))
        sizes.append(share * float(np.abs(weights).max()) * grid.bounded(metric))
    return Effect(words, contrast(groups, pseudo=sizes))


def _asked(scale: Scale, item: Contrast, study: str) -> list[grid.Question]:
    return grid.questions(scale, grid.settings(scale)[study], item.axis)


def _filled(tables: grid.Tables, item: Contrast, scope: Scope) -> tuple[list[_Weighted], list[grid.Missing]]:
    """Terms with arms, settings and lengths in place of roles; a role that stands for several is their mean."""
    made: dict[tuple[str, str, float], float] = {}
    missing: list[grid.Missing] = []
    for term in item.terms:
        named = [(s, a) for s in _studies(tables.scale, term, scope) for a in arms_of(tables.scale, term.arm)]
        for study, arm in named:
            length = _length(tables, study, arm, term.at)
            if length is None:
                missing.append(grid.Missing(study, arm, 0.0, None, f"{item.axis} at any length"))
                continue
            key = (study, arm, length)
            made[key] = made.get(key, 0.0) + term.weight / len(named)
    terms = [_Weighted(weight, *key) for key, weight in made.items()]
    missing += [
        grid.Missing(t.study, t.arm, t.length, None, "run")
        for t in terms
        if t.arm != grid.BASE and not _by_seed(tables, t)
    ]
    return terms, missing


def _length(tables: grid.Tables, study: str, arm: str, at: str) -> float | None:
    """The training length that a role stands for; the base has length 0."""
    lengths = grid.settings(tables.scale)[study].lengths
    if arm == grid.BASE:
        return 0.0
    return {"short": min(lengths), "long": max(lengths)}.get(at) or _best(tables, study, arm)


def _best(tables: grid.Tables, study: str, arm: str) -> float | None:
    """The length at which an arm learnt most, by the mean over seeds; every arm chooses among the same lengths."""
    setting = grid.settings(tables.scale)[study]
    asked = grid.questions(tables.scale, setting, "learning")
    found = grid.cells(tables, study)
    means: dict[float, float] = {}
    for length in setting.lengths:
        points = [grid.point(r) for (a, n, _), r in sorted(found.items()) if (a, n) == (arm, length)]
        result = curves.estimate(tables, points, asked)
        if result is not None:
            means[length] = result[0]
    return max(means, key=lambda n: means[n]) if means else None


def _by_seed(tables: grid.Tables, term: _Weighted) -> dict[int, grid.Point]:
    """The points of a term by seed; the base is the same point at every seed."""
    if term.arm == grid.BASE:
        return {seed: grid.base_point() for seed in grid.seeds(tables)}
    found = grid.cells(tables, term.study)
    return {s: grid.point(r) for (a, n, s), r in found.items() if (a, n) == (term.arm, term.length)}


def _stacked(
    tables: grid.Tables,
    terms: Sequence[_Weighted],
    runs: dict[_Weighted, dict[int, grid.Point]],
    shared: Sequence[int],
    name: str,
    metric: str,
) -> tuple[np.ndarray, list[grid.Missing]]:
    """Values of every term at every seed on the items they share, shape (terms, seeds, items)."""
    columns, gaps = [], []
    for term in terms:
        for seed in shared:
            values = grid.item_values(tables, runs[term][seed], name, metric)
            if values is None:
                gaps.append(grid.Missing(term.study, term.arm, term.length, seed, f"{name} {metric}"))
            else:
                columns.append(values)
    if gaps:
        return np.empty((0, 0, 0)), gaps
    stacked = grid.aligned(columns)
    return stacked.reshape(len(terms), len(shared), -1), []


def _front_effect(tables: grid.Tables, measure: Front, scope: Scope, rng: np.random.Generator) -> Effect:
    assert scope.study is not None
    (left,), (right,) = arms_of(tables.scale, measure.left), arms_of(tables.scale, measure.right)
    words = f"front of {left} above front of {right}"
    found = tradeoff.gap(tables, scope.study, left, right, rng=rng)
    if found is None:
        what = "points of both arms that learnt beyond the base"
        return Effect(words, None, (grid.Missing(scope.study, f"{left} and {right}", 0.0, None, what),))
    return Effect(f"{words} ({found[1]})", found[0])


def _words(tables: grid.Tables, item: Contrast, terms: Sequence[_Weighted]) -> str:
    """The compared scores in words: `learning: full at 600k tokens 0.812 - r16 at 600k tokens 0.540`."""
    pieces, axis = [], item.axis.replace("_", " ")
    for term in terms:
        setting = grid.settings(tables.scale)[term.study]
        points = list(_by_seed(tables, term).values())
        scores = [grid.score(tables, p, grid.questions(tables.scale, setting, item.axis)) for p in points]
        known = [s for s in scores if s is not None]
        value = f" {np.mean(known):.3f}" if known else " (no score)"
        unit = "tokens" if setting.regime == "cpt" else "epochs"
        at = "" if term.arm == grid.BASE else f" at {number(term.length)} {unit}"
        pieces.append((term.weight, f"{term.arm}{at}{value}"))
    if len(pieces) > 4:
        return f"{axis}, means over {len(pieces)} scores"
    signed = " ".join(f"{'+' if weight > 0 else '-'} {text}" for weight, text in pieces)
    return f"{axis}: {signed.removeprefix('+ ')}"
