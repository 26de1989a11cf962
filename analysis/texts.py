"""How varied the programs that a model writes are, at matched pass@1 too (beyond Figure 5).

`strings.py` has the measures, `samples.py` the texts. They are measured per problem, over its correct samples, its
incorrect ones and all of them, and averaged over the problems that have any (self-BLEU and edit distance: two or more).

An arm that solves more has more correct samples, and over other problems; every measure but the edit distance moves
with the number of samples alone. So each LoRA arm is also matched to full fine-tuning of the same length and seed: of
each problem, both give as many correct samples as the one that has fewer, and as many incorrect ones, drawn without
replacement (the mean of DRAWS draws). Then pass@1 is equal, problem by problem, and so is the number of strings.
Problems with fewer than two samples of the outcome left say nothing about variety and are left out. `matched` names
the other arm; it is null in rows of an arm by itself. What matching cannot mend: where one arm errs in 2 of 50 samples
and the other in 40, the two are rare ones, and the draw from the 40 mostly common ones.

Effects, in `texts_effects.jsonl`, at the longest training, LoRA (mean of the ranks) minus full, matched:

    <measure>_matched_lora_minus_full             correct and incorrect samples together
    <measure>_<outcome>_matched_lora_minus_full   correct or incorrect ones alone
    <measure>_matched_r16_minus_full              one rank
    ..._at_t0.8                                   of another sampling than the study's own

Their intervals hold two imaginary problems, one each way, in which a single sample deviates: a comparison in which no
problem ever showed a difference is not one that is known without error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis import command, diversity, grid, rows, strings
from analysis.pass_at_k import suffix
from analysis.samples import Loaded, Problem, Samples, load
from replication import seeding
from replication.specs import Code
from replication.stats import Estimate, contrast

TABLE, EFFECTS = "texts", "texts_effects"
OUTCOMES = ("correct", "incorrect", "all")
DRAWS = 4


@dataclass(frozen=True)
class Measured:
    """Every measure of one checkpoint's texts, per problem: values[outcome][measure], and its pass@1."""

    values: dict[str, dict[str, grid.Column]]
    pass_1: float


Pair = tuple[Measured, Measured]


def measured(samples: Samples, rng: np.random.Generator) -> Measured:
    """All measures of a checkpoint's samples."""
    found = {
        name: {outcome: strings.measure(_bag(problem, outcome), rng) for outcome in OUTCOMES}
        for name, problem in samples.items()
    }
    shares = [p.correct.total() / (p.correct.total() + p.incorrect.total()) for p in samples.values()]
    return Measured(_columns(found), float(np.mean(shares)))


def matched(left: Samples, right: Samples, rng: np.random.Generator) -> Pair | None:
    """All measures of two checkpoints on equal numbers of correct and of incorrect samples, problem by problem.

    None where no problem has two samples that can be matched.
    """
    sides: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    shares = []
    for name in (n for n in left if n in right):
        pair = (left[name], right[name])
        sizes = [min(p.correct.total() for p in pair), min(p.incorrect.total() for p in pair)]
        if sum(sizes) < 2:
            continue
        shares.append(sizes[0] / sum(sizes))
        for found, problem in zip(sides, pair, strict=True):
            found[name] = _drawn(problem, sizes, rng)
    if not shares:
        return None
    pass_1 = float(np.mean(shares))
    return Measured(_columns(sides[0]), pass_1), Measured(_columns(sides[1]), pass_1)


def _drawn(problem: Problem, sizes: Sequence[int], rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Mean measures, by outcome, of draws of that many correct and incorrect samples."""
    draws = []
    for _ in range(DRAWS if _leaves_choice(problem, sizes) else 1):
        drawn = Problem(_draw(problem.correct, sizes[0], rng), _draw(problem.incorrect, sizes[1], rng))
        bags = {outcome: _bag(drawn, outcome) for outcome in OUTCOMES}
        draws.append({o: strings.measure(bag, rng) for o, bag in bags.items() if sum(bag.values()) > 1})
    # Which measures exist may depend on the draw (a text without any bigram): those that every draw has.
    return {
        outcome: {
            name: float(np.mean([d[outcome][name] for d in draws]))
            for name in values if all(name in d[outcome] for d in draws)
        }
        for outcome, values in draws[0].items()
    }  # fmt: skip


def _leaves_choice(problem: Problem, sizes: Sequence[int]) -> bool:
    """Whether draws can differ: fewer than all are drawn, from more than one text."""
    bags = zip((problem.correct, problem.incorrect), sizes, strict=True)
    return any(0 < size < bag.total() and len(bag) > 1 for bag, size in bags)


def _draw(bag: Counter[str], size: int, rng: np.random.Generator) -> Counter[str]:
    if size == bag.total():
        return bag
    counts = rng.multivariate_hypergeometric(list(bag.values()), size)
    return Counter({text: int(count) for text, count in zip(bag, counts, strict=True) if count})


def _bag(problem: Problem, outcome: str) -> Counter[str]:
    if outcome == "all":
        return problem.correct + problem.incorrect
    return problem.correct if outcome == "correct" else problem.incorrect


def _columns(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, grid.Column]]:
    """From values by problem, outcome and measure to a column per outcome and measure."""
    return {outcome: {name: _column(found, outcome, name) for name in strings.MEASURES} for outcome in OUTCOMES}


def _column(found: dict[str, dict[str, dict[str, float]]], outcome: str, name: str) -> grid.Column:
    having = {key: v[outcome][name] for key, v in found.items() if name in v.get(outcome, {})}
    return grid.Column(tuple(having), np.array(list(having.values())))


def texts(tables: grid.Tables, loaded: dict[str, Loaded]) -> tuple[list[rows.Row], list[rows.Row]]:
    """Rows of every arm and length, alone and matched, and the effects at the longest training."""
    made: list[rows.Row] = []
    effects: list[rows.Row] = []
    for study, setting, target in diversity.code_settings(tables.scale):
        for spec in diversity.samplings(tables.scale, target):
            cells = loaded.get(study, {}).get(spec.name, {})
            pairs = _pairs(cells, study, spec)
            for (arm, n), found in cells.items():
                alone = [measured(found[s], _stream(s, spec, study, arm, n)) for s in sorted(found)]
                made += _rows(alone, spec, study, (arm, n), None)
            for (arm, n), seeds in pairs.items():
                made += _rows([pair[0] for pair in seeds.values()], spec, study, (arm, n), "full")
                made += _rows([pair[1] for pair in seeds.values()], spec, study, ("full", n), arm)
            longest = {arm: found for (arm, n), found in pairs.items() if n == max(setting.lengths)}
            effects += _effects(longest, study, spec, suffix(spec, target))
    return made, effects


def _stream(seed: int, spec: Code, *purpose: object) -> np.random.Generator:
    return seeding.generator(seed, "texts", spec.name, *purpose)


def _pairs(
    cells: dict[diversity.Cell, dict[int, Samples]], study: str, spec: Code
) -> dict[diversity.Cell, dict[int, Pair]]:
    """Every LoRA arm matched with full fine-tuning of the same length and seed; pairs without a problem left out."""
    made: dict[diversity.Cell, dict[int, Pair]] = {}
    for (arm, length), found in cells.items():
        full = cells.get(("full", length), {})
        if grid.rank_of(arm) is None:
            continue
        for seed in sorted(set(found) & set(full)):
            rng = _stream(seed, spec, study, arm, length, "matched")
            if pair := matched(found[seed], full[seed], rng):
                made.setdefault((arm, length), {})[seed] = pair
    return made


def _rows(
    seeds: Sequence[Measured], spec: Code, study: str, cell: diversity.Cell, other: str | None
) -> Iterator[rows.Row]:
    """A row per outcome of one group of seeds; none where hardly any problem had a sample of it."""
    for outcome in OUTCOMES:
        columns = [m.values[outcome]["unique"] for m in seeds]
        made: rows.Row = {"study": study, "eval": spec.name, "arm": cell[0], "length": cell[1], "outcome": outcome}
        for name in strings.MEASURES:
            made |= _interval([m.values[outcome][name] for m in seeds], name)
        if made["unique"] is None:
            continue
        yield made | {
            "problems": float(np.mean([len(c.ids) for c in columns])), "samples": spec.samples,
            "temperature": spec.temperature, "seeds": len(seeds), "pass_1": float(np.mean([m.pass_1 for m in seeds])),
            "matched": other,
        }  # fmt: skip


def _interval(columns: Sequence[grid.Column], name: str) -> rows.Row:
    """Mean over seeds of the mean over problems; the interval of the problems that all seeds have, moved to it."""
    present = [c for c in columns if c.ids]
    shared = grid.aligned(present) if present else np.zeros((0, 0))
    if len(present) < len(columns) or shared.shape[1] < 2:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    est, value = contrast([shared]), float(np.mean([c.values.mean() for c in present]))
    low, high = value - (est.value - est.low), value + (est.high - est.value)
    floor, top = (1.0, np.inf) if name == "unique" else (0.0, 1.0)
    return {name: value, f"{name}_low": max(low, floor), f"{name}_high": min(high, top)}


def _effects(pairs: dict[str, dict[int, Pair]], study: str, spec: Code, end: str) -> list[rows.Row]:
    """LoRA minus full, matched: the mean of the ranks for every outcome, single ranks for all samples together."""
    asked = [("lora", list(pairs), outcome) for outcome in OUTCOMES] + [(arm, [arm], "all") for arm in pairs]
    made = []
    for name, ranks, outcome in asked:
        for measure in strings.MEASURES:
            est = _effect([pairs[arm] for arm in ranks], outcome, measure, spec.samples)
            if est is None:
                continue
            part = "" if outcome == "all" else f"_{outcome}"
            kind = "all" if outcome == "all" else f"only {outcome}"
            words = (
                f"{measure.replace('_', ' ')} per problem of {spec.name} (T = {spec.temperature:g}), mean of "
                f"{', '.join(ranks)} minus full at the longest training, {kind} samples, as many correct and incorrect "
                "ones of each"
            )
            quantity = f"{measure}{part}_matched_{name}_minus_full{end}"
            made.append({"quantity": quantity, "setting": study, "words": words} | asdict(est))
    return made


def _effect(arms: Sequence[dict[int, Pair]], outcome: str, measure: str, samples: int) -> Estimate | None:
    """Mean difference over arms on the problems that all arms and seeds have; None below two of them."""
    seeds = sorted(set.intersection(*(set(arm) for arm in arms))) if arms else []
    gaps = [
        grid.Column(left.ids, left.values - right.values)
        for seed in seeds for arm in arms
        for left, right in [[m.values[outcome][measure] for m in arm[seed]]]
    ]  # fmt: skip
    if not gaps or (shared := grid.aligned(gaps)).shape[1] < 2:
        return None
    by_seed = shared.reshape(len(seeds), len(arms), -1).mean(axis=1)
    # One sample that deviates is one string more, and changes a mean over pairs by two in n at most.
    return contrast([by_seed], pseudo=[1.0 if measure == "unique" else 2 / samples])


def write(tables: grid.Tables, where: command.Places) -> str:
    """Write `texts.jsonl` and `texts_effects.jsonl` where samples are there; returns what was done."""
    loaded, absent = load(tables, where.runs)
    if not any(cells for samplings in loaded.values() for cells in samplings.values()):
        reason = absent[0] if absent else "no code scores"
        return (
            f"texts: skipped, tracked rows kept ({len(absent)} sets of samples are not there; {reason}; make them with "
            f"`python -m experiments run study --scale {tables.scale.name}`)"
        )
    made, effects = texts(tables, loaded)
    rows.write(where.out / f"{TABLE}.jsonl", made)
    rows.write(where.out / f"{EFFECTS}.jsonl", effects)
    left = f"; {len(absent)} sets of samples left out, the first: {absent[0]}" if absent else ""
    return f"texts: {len(made)} rows{left}"


def table(effects: Sequence[rows.Row]) -> str:
    """The effects, as text."""
    return "\n".join(
        f"{r['setting']:<10}{r['quantity']:<56}{r['value']:>+8.3f} [{r['low']:+.3f}, {r['high']:+.3f}]  "
        f"{r['items']} problems, {r['seeds']} seeds" for r in effects
    )  # fmt: skip


def main() -> None:
    """Write the rows and print the effects."""
    here = command.places(__doc__)
    print(write(grid.load(here.scale, here.results), here))
    print(table(rows.read(here.out / f"{EFFECTS}.jsonl")))


if __name__ == "__main__":
    command.run(main)
