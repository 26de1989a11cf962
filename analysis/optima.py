"""The best learning rate of each arm, from the sweep: how many times full fine-tuning's is LoRA's?

The best rate is not the best of those tried but the vertex of a parabola through the held-out target loss at the
best rate and its two neighbours, in log rate:

    x* = x1 - 1/2 ((x1 - x0)^2 (y1 - y2) - (x1 - x2)^2 (y1 - y0)) / ((x1 - x0) (y1 - y2) - (x1 - x2) (y1 - y0))

Where the best rate is the lowest or the highest tried there is no vertex: what can be said is one-sided, and said in
the table of what is missing. The documents of the held-out set are resampled jointly over all arms and rates and the
optimum recomputed in each draw. A sweep at one seed has an interval over documents alone (`covers`).

    lr_ratio_<arm>     log10 of the LoRA optimum over that of full fine-tuning; `lr_ratio_high` is the highest rank's,
                       `lr_ratio_mean` the mean over ranks ("LoRA Without Regret": about 1 at every rank)
    lr_rank_spread     log2 of the optimum of the lowest rank from 4 on over the highest rank's. There below 1, with the
                       same alpha and so a scale alpha / r that falls with rank; here alpha = 2 r: 2 at every rank
    lr_sensitivity     rise of the target loss at half the best rate, mean over LoRA arms minus full
    lora_monotone      target score at the highest rate that trained minus that at the rate before, mean over LoRA arms
                       (the paper: it rises up to divergence); a rate trained if the target loss is below the base's
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import effects as named
from analysis import grid
from analysis.rows import Row
from replication.config import number
from replication.scale import Setting
from replication.stats import Estimate, bootstrap_variance, combine, contrast

DRAWS = 400  # relative error of the variance .07
SEED = 20260501
LOWEST = 4  # the rank from which "LoRA Without Regret" finds the best rate to be the same
Terms = tuple[tuple[float, str], ...]  # weights and arms
Weighed = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sweep:
    """The target losses of one arm: log10 rates (rates,), losses (seeds, rates, documents), and the arm's name."""

    arm: str
    rates: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class Swept:
    """All arms of a setting's sweep on the same documents at the same seeds; `tokens` (documents,) weigh the loss."""

    study: str
    arms: dict[str, Sweep]
    tokens: np.ndarray
    seeds: tuple[int, ...]


def vertex(x: np.ndarray, y: np.ndarray) -> float:
    """Where the parabola through three points with the lowest in the middle has its minimum. Both of shape (3,).

    Raises:
        ValueError: the middle is not the lowest.
    """
    if not (y[1] <= y[0] and y[1] <= y[2]):
        raise ValueError(f"no minimum inside {x.tolist()}: the values are {y.tolist()}")
    left, right = (x[1] - x[0]) * (y[1] - y[2]), (x[1] - x[2]) * (y[1] - y[0])
    if left == right:
        return float(x[1])  # all three equal
    return float(x[1] - 0.5 * ((x[1] - x[0]) * left - (x[1] - x[2]) * right) / (left - right))


def optimum(x: np.ndarray, y: np.ndarray) -> float:
    """Log rate of the lowest loss; at an edge of the grid, the edge. Both of shape (rates,)."""
    best = int(np.argmin(y))
    if best in (0, len(x) - 1):
        return float(x[best])
    return vertex(x[best - 1 : best + 2], y[best - 1 : best + 2])


def edge(x: np.ndarray, y: np.ndarray) -> str | None:
    """Which edge of the grid the lowest loss lies on: "lowest", "highest" or None."""
    best = int(np.argmin(y))
    return "lowest" if best == 0 else "highest" if best == len(x) - 1 else None


def rise(x: np.ndarray, y: np.ndarray) -> float:
    """Loss at half the best rate minus that at the best, straight between the rates; NaN below the grid."""
    best = int(np.argmin(y))
    at = x[best] - math.log10(2)
    if at < x[0] - 1e-9:
        return math.nan
    return float(np.interp(at, x, y) - y[best])


def swept(tables: grid.Tables, study: str) -> tuple[Swept | None, list[grid.Missing]]:
    """The sweep of a setting at the seeds that every arm has at every rate of its own; None without full and LoRA."""
    setting = grid.settings(tables.scale)[study]
    if not setting.target_loss or not grid.swept(tables, study):
        return None, [grid.Missing(study, "every arm", 0.0, None, "learning-rate sweep")] if tables.items else []
    asked = grid.questions(tables.scale, setting, "target_loss")[0][:2]
    found: dict[str, dict[float, dict[int, grid.Run]]] = {}
    for arm, row in grid.swept(tables, study):
        if grid.item_values(tables, grid.point(row), *asked) is not None:
            found.setdefault(arm, {}).setdefault(row.lr, {})[row.seed] = row
    gaps = [grid.Missing(study, a, 0.0, None, "learning-rate sweep") for a in grid.arms(tables.scale) if a not in found]
    found = {arm: rates for arm, rates in found.items() if len(rates) > 2}
    if "full" not in found or len(found) < 2:
        return None, gaps
    seeds = sorted(set.intersection(*[set(runs) for rates in found.values() for runs in rates.values()]))
    if not seeds:
        return None, [*gaps, grid.Missing(study, "every arm", 0.0, None, "a seed with every rate of the sweep")]
    return _stacked(tables, study, found, seeds, asked), gaps


def _stacked(
    tables: grid.Tables,
    study: str,
    found: dict[str, dict[float, dict[int, grid.Run]]],
    seeds: Sequence[int],
    asked: tuple[str, str],
) -> Swept | None:
    keys = [(arm, lr, seed) for arm, rates in found.items() for lr in sorted(rates) for seed in seeds]
    points = [grid.point(found[arm][lr][seed]) for arm, lr, seed in keys]
    columns = [c for p in points if (c := grid.item_values(tables, p, *asked)) is not None]
    weights = grid.item_values(tables, points[0], asked[0], "scored_tokens")
    # The score of a held-out set is its loss per token, not per document.
    columns.append(weights or grid.Column(columns[0].ids, np.ones(len(columns[0].ids))))
    values = grid.aligned(columns)
    if values.shape[1] < 2:
        return None  # one document: nothing to resample
    arms = {}
    for arm, rates in found.items():
        mine = values[[i for i, key in enumerate(keys) if key[0] == arm]]
        losses = mine.reshape(len(rates), len(seeds), -1).transpose(1, 0, 2)
        arms[arm] = Sweep(arm, np.log10(sorted(rates)), losses)
    return Swept(study, arms, values[-1], tuple(seeds))


def curve(found: Swept, arm: str, weights: np.ndarray) -> np.ndarray:
    """Loss per token at every rate under document weights, shape (seeds, rates)."""
    each = weights * found.tokens
    return found.arms[arm].losses @ (each / each.sum())


def effects(tables: grid.Tables) -> tuple[list[Row], list[grid.Missing]]:
    """All quantities of every setting with a sweep, their mean over settings, and what could not be said."""
    made: list[Row] = []
    missing: list[grid.Missing] = []
    for study, setting in tables.scale.settings:
        found, gaps = swept(tables, study)
        missing += gaps
        if found is not None:
            rows, more = _of_setting(tables, setting, found)
            made += rows
            missing += more
    return [*made, *_over_settings(made)], missing


def _of_setting(tables: grid.Tables, setting: Setting, found: Swept) -> tuple[list[Row], list[grid.Missing]]:
    loras = sorted((a for a in found.arms if a != "full"), key=lambda a: grid.rank_of(a) or 0)
    absent = [arm for arm in grid.arms(tables.scale) if arm not in found.arms]
    if absent:
        return [], [grid.Missing(found.study, arm, 0.0, None, "a sweep over its rates") for arm in absent]
    # "LoRA Without Regret" leaves rank 1 out: its best rate is lower.
    low, high = next((a for a in loras if (grid.rank_of(a) or 0) >= LOWEST), loras[-1]), loras[-1]
    wanted: dict[str, Terms] = {f"lr_ratio_{arm}": ((1, arm), (-1, "full")) for arm in loras}
    wanted["lr_ratio_high"] = wanted[f"lr_ratio_{high}"]
    wanted["lr_ratio_mean"] = (*((1 / len(loras), arm) for arm in loras), (-1, "full"))
    if low != high:
        # In doublings, as the grid steps.
        wanted["lr_rank_spread"] = ((1 / math.log10(2), low), (-1 / math.log10(2), high))
    made, gaps, edges = [], [], _edges(found)
    for quantity, terms in wanted.items():
        stuck = [arm for _, arm in terms if arm in edges]
        if stuck:
            gaps.append(grid.Missing(found.study, stuck[0], 0.0, None, f"{quantity}: {_bound(found, terms, edges)}"))
        else:
            made.append(_optima_row(found, quantity, terms))
    sensitivity = _sensitivity(found, loras)
    if sensitivity is None:
        gaps.append(grid.Missing(found.study, "every arm", 0.0, None, "lr_sensitivity: half the best rate"))
    made += [r for r in (sensitivity, _monotone(tables, setting, found, loras)) if r is not None]
    return made, gaps


def _edges(found: Swept) -> dict[str, str]:
    """The arms whose best rate, by the mean over seeds, is the lowest or the highest tried."""
    even = np.full(len(found.tokens), 1 / len(found.tokens))
    seen = {arm: edge(sweep.rates, curve(found, arm, even).mean(axis=0)) for arm, sweep in found.arms.items()}
    return {arm: side for arm, side in seen.items() if side is not None}


def _bound(found: Swept, terms: Terms, edges: dict[str, str]) -> str:
    """What can be said where a best rate lies on the edge of the grid."""
    # An optimum at or below the lowest rate makes a positive term at most what the edge gives.
    sides = {(weight > 0) == (edges[arm] == "lowest") for weight, arm in terms if arm in edges}
    where = ", ".join(f"{arm}'s best rate is the {edges[arm]} tried" for _, arm in terms if arm in edges)
    value = _combined(found, terms, optimum)(np.full(len(found.tokens), 1 / len(found.tokens))).mean()
    return f"{where}: {'at most' if sides == {True} else 'at least'} {value:.2f}" if len(sides) == 1 else where


def _combined(found: Swept, terms: Terms, of: Callable[[np.ndarray, np.ndarray], float]) -> Weighed:
    """From document weights to a weighted sum over arms of `of(rates, losses)` at each seed, shape (seeds,)."""

    def at(weights: np.ndarray) -> np.ndarray:
        parts = [
            weight * np.array([of(found.arms[arm].rates, losses) for losses in curve(found, arm, weights)])
            for weight, arm in terms
        ]
        return np.sum(parts, axis=0)

    return at


def _estimate(found: Swept, at: Weighed) -> Estimate:
    """An estimate over documents (bootstrap) and seeds of what `at` gives; `at` is taken anew in every draw."""
    documents = len(found.tokens)
    variance = bootstrap_variance(
        lambda w: float(at(w[0]).mean()), [documents], draws=DRAWS, rng=np.random.default_rng(SEED)
    )
    return combine(at(np.full(documents, 1 / documents)), item_variance=variance, items=documents)


def _optima_row(found: Swept, quantity: str, terms: Terms) -> Row:
    made = _estimate(found, _combined(found, terms, optimum))
    best = {arm: optimum_of(found, arm) for arm in found.arms}
    named_rates = ", ".join(f"{arm} {10 ** best[arm]:.2g}" for arm in dict.fromkeys(arm for _, arm in terms))
    words = f"best rates by held-out target loss: {named_rates}; {_seeds(found)}"
    return named.row(quantity, found.study, words, made)


def optimum_of(found: Swept, arm: str) -> float:
    """Log10 of an arm's best rate, mean over seeds."""
    even = np.full(len(found.tokens), 1 / len(found.tokens))
    return float(_combined(found, ((1, arm),), optimum)(even).mean())


def _sensitivity(found: Swept, loras: Sequence[str]) -> Row | None:
    terms: Terms = (*((1 / len(loras), arm) for arm in loras), (-1, "full"))
    at = _combined(found, terms, rise)
    if not np.isfinite(at(np.full(len(found.tokens), 1 / len(found.tokens)))).all():
        return None
    # A draw whose best rate is the lowest tried has no rate below it: nothing was lost there.
    made = _estimate(found, lambda w: np.nan_to_num(at(w)))
    words = f"rise of the target loss at half the best rate, mean of {', '.join(loras)} minus full; {_seeds(found)}"
    return named.row("lr_sensitivity", found.study, words, made)


def _monotone(tables: grid.Tables, setting: Setting, found: Swept, loras: Sequence[str]) -> Row | None:
    asked = grid.questions(tables.scale, setting, "learning")
    runs: dict[tuple[str, float, int], grid.Run] = {(a, r.lr, r.seed): r for a, r in grid.swept(tables, found.study)}
    groups = []
    words = []
    for arm in loras:
        rates = _trained(tables, setting, found, arm)
        if len(rates) < 2:
            return None
        points = [[grid.point(runs[arm, lr, seed]) for seed in found.seeds] for lr in (rates[-1], rates[-2])]
        sides = [[grid.item_values(tables, p, *asked[0][:2]) for p in side] for side in points]
        if any(c is None for side in sides for c in side):
            return None
        values = grid.aligned([c for side in sides for c in side if c is not None]).reshape(2, len(found.seeds), -1)
        groups.append(asked[0][2] * (values[0] - values[1]))
        words.append(f"{arm} at {number(rates[-1])} minus {number(rates[-2])}")
    made = contrast([np.mean(groups, axis=0)], pseudo=[float(grid.bounded(asked[0][1]))])
    text = f"target score at the highest rate that trained minus the one before: {', '.join(words)}; {_seeds(found)}"
    return named.row("lora_monotone", found.study, text, made)


def _trained(tables: grid.Tables, setting: Setting, found: Swept, arm: str) -> list[float]:
    """The rates of an arm, rising, up to the last whose target loss is below the base's; all if that is unknown."""
    even = np.full(len(found.tokens), 1 / len(found.tokens))
    known = found.arms[arm].rates
    swept = sorted({row.lr for name, row in grid.swept(tables, found.study) if name == arm})
    rates = [lr for lr in swept if np.isclose(math.log10(lr), known).any()]
    base = grid.score(tables, grid.base_point(), grid.questions(tables.scale, setting, "target_loss"))
    if base is None:
        return rates
    below = [lr for lr, loss in zip(rates, curve(found, arm, even).mean(axis=0), strict=True) if loss < base]
    return [lr for lr in rates if below and lr <= max(below)]


def _seeds(found: Swept) -> str:
    return f"{len(found.seeds)} seeds" if len(found.seeds) > 1 else "one seed, the interval covers documents alone"


def _over_settings(made: Sequence[Row]) -> list[Row]:
    """The mean of every quantity over the settings that have it, each setting's own uncertainty in it."""
    found = []
    for quantity in dict.fromkeys(row["quantity"] for row in made):
        mine = [row for row in made if row["quantity"] == quantity]
        if len(mine) < 2 or quantity in ("lora_monotone", "lr_sensitivity"):
            continue
        variance = sum(row["stderr"] ** 2 for row in mine) / len(mine) ** 2
        mean = np.array([np.mean([row["value"] for row in mine])])
        pooled = combine(mean, item_variance=variance, items=sum(row["items"] for row in mine))
        words = "mean of " + ", ".join(f"{row['setting']} {row['value']:.2f}" for row in mine)
        found.append(named.row(quantity, named.ALL, words, pooled))
    return found
