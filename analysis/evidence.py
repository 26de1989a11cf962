"""Effects behind the verdicts: a claim's parts asked of a scale, and its contrasts estimated.

Contrasts are taken item by item on the items that every score in them has, and seed by seed on the seeds that every
arm in them has; the base has no seed and stands in for each. The effect is therefore the mean over shared items,
which for strings of one outcome means: over problems where all compared models had such samples. Where there are no
per-item values at all but scores with standard errors, as in the paper's tables, the errors add as if each model had
been asked items of its own (`covers` = "items, unpaired"): wider than the truth, since the items were the same.

Nothing is concluded from models that did nothing (`premises`): base against base is undecided everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import grid, measured, terms, tradeoff
from analysis.rows import Row
from analysis.terms import Filled, arms_of
from experiments import sweeps
from experiments.claim_sizes import FORGETTING, LEARNING, NATS
from experiments.comparisons import Arm, Axis, Claim, Contrast, Front, Measured, Part, Scores, Spectra, Term
from replication.scale import Scale, Setting
from replication.stats import Estimate, contrast, unpaired


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
class Premise:
    """What must be so before a part says anything: an effect of at least `smallest`; `otherwise` says why not."""

    effect: Effect
    smallest: float
    otherwise: str


# ---------------------------------------------------------------- where a part is asked


def scopes(scale: Scale, part: Part, effects: Sequence[Row] = ()) -> list[Scope]:
    """The rows that a part is asked in; none where the scale lacks the settings it compares.

    `effects` are the named estimates there are: one row for each setting that has its own, else one for all.
    """
    if isinstance(part.measure, Measured):
        known = dict(scale.settings)
        labels = measured.labels(effects, part, _settings(scale, part))
        return [Scope(n, known[n].regime, known[n].domain, n) if n in known else Scope(n) for n in labels]
    settings = _settings(scale, part)
    found = [(n, s) for n, s in settings if part.regime in (None, s.regime) and part.domain in (None, s.domain)]
    if part.each == "setting":
        return [Scope(n, s.regime, s.domain, n) for n, s in found if _askable(scale, part, n)]
    labels = list(dict.fromkeys(s.domain if part.each == "domain" else s.regime for _, s in found))
    made = [Scope(label, domain=label) if part.each == "domain" else Scope(label, regime=label) for label in labels]
    return [scope for scope in made if _complete(scale, part, scope)]


def unasked(scale: Scale, claim: Claim, effects: Sequence[Row] = ()) -> str | None:
    """Why no part of a claim can be asked of a scale, as a sentence; None where one can."""
    if any(scopes(scale, part, effects) for part in claim.parts):
        return None
    return f"This scale has no {claim.lacking}."


def _settings(scale: Scale, part: Part) -> list[tuple[str, Setting]]:
    """Settings of the kind that a part is about: with a run for each length, or one run scored on its way."""
    kind = [(n, s) for n, s in scale.settings if s.separate != part.on_the_way]
    return [(n, s) for n, s in kind if not part.ablation or f"{n}.{part.ablation}" in scale.ablations]


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
        at = "" if only else term.at
        key = (tuple(arms_of(scale, term.arm)), at, term.regime, term.domain, term.variant, term.rate)
        sums[key] = sums.get(key, 0.0) + term.weight
    return not any(sums.values())


def _complete(scale: Scale, part: Part, scope: Scope) -> bool:
    assert isinstance(part.measure, Scores)
    wanted = [t for c in part.measure.contrasts for t in c.terms]
    axes = [grid.questions(scale, s, c.axis) for c in part.measure.contrasts for _, s in scale.settings]
    return all(axes) and all(_studies(scale, t, scope) for t in wanted)


def _studies(scale: Scale, term: Term, scope: Scope) -> list[str]:
    """Settings that a term is taken from; several are averaged."""
    if scope.study is not None and term.regime is None and term.domain is None:
        return [scope.study]
    regime, domain = term.regime or scope.regime, term.domain or scope.domain
    settings = [(n, s) for n, s in scale.settings if s.separate]
    return [n for n, s in settings if regime in (None, s.regime) and domain in (None, s.domain)]


# ---------------------------------------------------------------- effects


def effects(tables: grid.Tables, part: Part, scope: Scope, rng: np.random.Generator) -> list[Effect]:
    """The effects of a part in one scope; all of them must hold."""
    if isinstance(part.measure, Front):
        return [_front_effect(tables, part.measure, scope, rng)]
    if isinstance(part.measure, Measured):
        return _measured(tables, part.measure, scope)
    assert isinstance(part.measure, Scores)
    return [
        score_effect(tables, single, scope)
        for item in part.measure.contrasts
        for single in expand(item, tables.scale, scope)
    ]


def expand(item: Contrast, scale: Scale, scope: Scope) -> list[Contrast]:
    """A contrast against "each" rank, or at "each" rate, as one contrast per rank and rate."""
    ranks = [arm for arm in grid.arms(scale) if arm != "full"] if any(t.arm == "each" for t in item.terms) else [""]
    # A concrete label such as "r4" is no role; `arms_of` passes it through.
    singles = [_with(item, lambda t, arm=arm: replace(t, arm=arm) if t.arm == "each" else t) for arm in ranks]
    return [one for single in singles for one in _at_rates(single, scale, scope)]


def _with(item: Contrast, change: object) -> Contrast:
    return replace(item, terms=tuple(change(t) for t in item.terms))  # type: ignore[operator]


def _at_rates(item: Contrast, scale: Scale, scope: Scope) -> list[Contrast]:
    swept = [t for t in item.terms if t.rate == "each"]
    if not swept or scope.study is None:
        return [item]
    setting = grid.settings(scale)[scope.study]
    (arm,) = arms_of(scale, swept[0].arm)
    rates = sweeps.rates(scale, scope.study, setting, arm) or (setting.rate(arm),)
    return [_with(item, lambda t, lr=lr: replace(t, rate=lr) if t.rate == "each" else t) for lr in rates]


def score_effect(tables: grid.Tables, item: Contrast, scope: Scope) -> Effect:
    """One contrast of scores: from per-item values, else from the scores' standard errors, else what is missing."""
    filled, missing = terms.fill(tables, item, [_studies(tables.scale, t, scope) for t in item.terms])
    words = terms.words(tables, item.axis, filled)
    if missing:
        return Effect(words, None, tuple(missing))
    points = {t: terms.points(tables, t) for t in filled}
    seeded = [set(found) for t, found in points.items() if t.arm != grid.BASE]
    # The base alone has no seeds to share.
    shared = sorted(set.intersection(*seeded)) if seeded else grid.seeds(tables)[:1]
    if not shared:
        return Effect(words, None, tuple(terms.gap(t, "a seed that all compared runs have") for t in filled))
    asked = grid.questions(tables.scale, grid.settings(tables.scale)[filled[0].study], item.axis)
    if not _has_items(tables, points, shared, asked):
        return _printed(tables, words, points, shared, asked)
    groups, sizes = [], []
    for name, metric, share in asked:
        stacked, absent = _stacked(tables, points, shared, name, metric)
        if not absent and stacked.shape[-1] < 2:
            absent = [terms.gap(filled[0], f"two shared items with {metric}")]
        if absent:
            return Effect(words, None, tuple(absent))
        weights = np.array([t.weight for t in filled])
        groups.append(share * np.einsum("t,tsi->si", weights, stacked))
        sizes.append(abs(share) * float(np.abs(weights).max()) * grid.imaginary(metric))
    return Effect(words, contrast(groups, pseudo=sizes))


Points = dict[Filled, dict[int, grid.Point]]


def _has_items(tables: grid.Tables, points: Points, seeds: Sequence[int], asked: Sequence[grid.Question]) -> bool:
    """Whether any of the scores has per-item values; one that lacks them among others is missing, not printed."""
    found = (grid.item_values(tables, at[s], n, m) for at in points.values() for s in seeds for n, m, _ in asked)
    return any(column is not None for column in found)


def _printed(
    tables: grid.Tables, words: str, points: Points, seeds: Sequence[int], asked: Sequence[grid.Question]
) -> Effect:
    """An effect from scores and their standard errors alone."""
    parts, absent, items = [], [], 0
    for term, at in points.items():
        for seed in seeds:
            value, error = grid.score(tables, at[seed], asked), grid.stderr(tables, at[seed], asked)
            if value is None or error is None:
                what = "score" if value is None else "standard error or per-item values"
                absent.append(terms.gap(term, f"{what} of {', '.join(f'{n} {m}' for n, m, _ in asked)}", seed))
                continue
            parts.append((term.weight / len(seeds), value, error))
            items = max(items, sum(tables.scores[at[seed].run, at[seed].step, n, m].n for n, m, _ in asked))
    return Effect(words, None, tuple(absent)) if absent else Effect(words, unpaired(parts, items=items))


def _stacked(
    tables: grid.Tables, points: Points, seeds: Sequence[int], name: str, metric: str
) -> tuple[np.ndarray, list[grid.Missing]]:
    """Values of every term at every seed on the items they share, shape (terms, seeds, items)."""
    columns, gaps = [], []
    for term, at in points.items():
        for seed in seeds:
            values = grid.item_values(tables, at[seed], name, metric)
            if values is None:
                gaps.append(terms.gap(term, f"{name} {metric}", seed))
            else:
                columns.append(values)
    if gaps:
        return np.empty((0, 0, 0)), gaps
    return grid.aligned(columns).reshape(len(points), len(seeds), -1), []


def _front_effect(tables: grid.Tables, measure: Front, scope: Scope, rng: np.random.Generator) -> Effect:
    assert scope.study is not None
    (left,), (right,) = arms_of(tables.scale, measure.left), arms_of(tables.scale, measure.right)
    words = f"front of {left} above front of {right}"
    found = tradeoff.gap(tables, scope.study, left, right, rng=rng)
    if found is None:
        what = "points of both arms that learnt beyond the base"
        return Effect(words, None, (grid.Missing(scope.study, f"{left} and {right}", 0.0, None, what),))
    return Effect(f"{words} ({found[1]})", found[0])


def _measured(tables: grid.Tables, measure: Measured, scope: Scope) -> list[Effect]:
    """Named estimates of other analyses; of models that did nothing there is nothing to estimate."""
    found = measured.find(tables, measure, scope.label)
    if not found:
        return [Effect(measure.quantity, None, (measured.absent(tables, measure, scope.label),))]
    if measure.trained and not measure.beside and not _holds(_moved(tables, scope, ())):
        gap = grid.Missing(scope.label, "every arm", 0.0, None, "a model that clearly moved from the base")
        return [Effect(words, None, (gap,)) for words, _ in found]
    return [Effect(words, estimate) for words, estimate in found]


# ---------------------------------------------------------------- premises


def premises(tables: grid.Tables, part: Part, scope: Scope) -> list[Premise]:
    """What a part presupposes.

    Between models that did nothing neither a difference nor its absence is a finding: some compared model, or full
    fine-tuning, must have moved from the base; for an equality full fine-tuning itself, on the axis compared. Fronts
    can only be told apart where both arms learnt. And who writes one string per problem cannot lose any.
    """
    if isinstance(part.measure, Measured):
        return []  # `effects` gives nothing where no model moved
    if isinstance(part.measure, Front):
        return [_learnt(tables, role, scope) for role in (part.measure.left, part.measure.right)]
    if isinstance(part.measure, Spectra):
        return [_moved(tables, scope, ())]
    item = part.measure.contrasts[0]
    if part.rule == "greater":
        moved = _moved(tables, scope, item.terms)
        return [_strings(tables, item, part, scope), moved] if item.axis.startswith("unique_") else [moved]
    # What a judge or a knowledge test says about a mix is presupposed by what was learnt on its target.
    axis: Axis = "learning" if item.axis in grid.ELSEWHERE else item.axis
    sign, at = (1 if axis == "learning" else -1), item.terms[0].at
    change = Contrast(axis, (Term(sign, "full", at), Term(-sign, "base", at)))
    why = "Full fine-tuning itself did not clearly move from the base, so equality says nothing."
    return [Premise(score_effect(tables, change, scope), part.smallest if axis == item.axis else LEARNING, why)]


def _learnt(tables: grid.Tables, role: Arm, scope: Scope) -> Premise:
    change = Contrast("learning", (Term(1, role, "best"), Term(-1, "base", "best")))
    (arm,) = arms_of(tables.scale, role)
    why = f"{arm} did not clearly learn beyond the base, so there is no learning to compare at."
    return Premise(score_effect(tables, change, scope), LEARNING, why)


def _strings(tables: grid.Tables, item: Contrast, part: Part, scope: Scope) -> Premise:
    found = score_effect(tables, replace(item, terms=(Term(1, "base", item.terms[0].at),)), scope)
    above_one = found.estimate and replace(
        found.estimate, value=found.estimate.value - 1, low=found.estimate.low - 1, high=found.estimate.high - 1
    )
    why = "The base itself writes hardly more than one string per problem, so there is none to lose."
    return Premise(replace(found, estimate=above_one), part.smallest, why)


def _moved(tables: grid.Tables, scope: Scope, compared: Sequence[Term]) -> Premise:
    """The first sign that training did something, full fine-tuning's learning first; else the strongest there is."""
    best: Premise | None = None
    for effect, smallest in _changes(tables, scope, compared):
        made = Premise(
            effect, smallest, "No compared model clearly moved from the base, so there is nothing to compare."
        )
        if _holds(made):
            return made
        if best is None or _size(made) > _size(best):
            best = made
    if best is None:
        gap = grid.Missing(scope.label, "every arm", 0.0, None, "run")
        return Premise(Effect("moved from the base", None, (gap,)), LEARNING, "No run to compare.")
    return best


def _changes(tables: grid.Tables, scope: Scope, compared: Sequence[Term]) -> Iterator[tuple[Effect, float]]:
    """What every arm changed against the base after the longest training, by setting and axis."""
    arms = dict.fromkeys(
        ["full", *(a for t in compared for a in arms_of(tables.scale, t.arm) if a in grid.arms(tables.scale))]
    )
    kinds: tuple[tuple[Axis, int, float], ...] = (
        ("learning", 1, LEARNING), ("target_loss", -1, NATS), ("forgetting", -1, FORGETTING)
    )  # fmt: skip
    for study in _involved(tables.scale, scope):
        setting = grid.settings(tables.scale)[study]
        here = Scope(study, setting.regime, setting.domain, study)
        for arm in arms:
            for axis, sign, size in kinds:
                if grid.questions(tables.scale, setting, axis):
                    change = Contrast(axis, (Term(sign, arm, "long"), Term(-sign, "base", "long")))  # type: ignore[arg-type]
                    yield score_effect(tables, change, here), size


def _involved(scale: Scale, scope: Scope) -> list[str]:
    """The settings that a scope is about."""
    if scope.study is not None:
        return [scope.study]
    return [n for n, s in scale.settings if scope.regime in (None, s.regime) and scope.domain in (None, s.domain)]


def _holds(ground: Premise) -> bool:
    found = ground.effect.estimate
    return found is not None and found.low > 0 and found.value >= ground.smallest


def _size(ground: Premise) -> float:
    found = ground.effect.estimate
    return -1.0 if found is None else found.value / ground.smallest
