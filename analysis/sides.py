"""The side studies: every arm's scores and costs as rows, and the comparisons that their claims refer to.

    <out>/side_whisper.jsonl            a row per arm (and the base), seed, eval and metric; costs are of the eval "run"
    <out>/side_whisper_effects.jsonl    an estimate per question of the study (`experiments/whisper.py`)

A side study is a scale of its own, whose tables lie in `<results>/whisper/`; its rows join those of the scale that it
belongs to ("pocket"), and so do its verdicts. Differences are taken item by item and seed by seed, as everywhere. Of
costs a seed has one number, so their intervals are over seeds alone, and there are none with a single seed. Between
arms of which none clearly moved from the base nothing is concluded: the comparison is missing, and says so.

As a script it ends with the verdicts of the side studies that have rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analysis import command, effects, grid, learned_ranks, macro_f1, rows, verdict_table, verdicts
from analysis.side_tables import BASE, MAJORITY, RUN, Side, costs, load, of_arms
from experiments import sides
from experiments.comparisons import Question
from replication.stats import Estimate, combine, contrast


def estimate(side: Side, question: Question) -> Estimate | None:
    """The answer to one question; None where an arm, an eval or a second seed of a cost is missing, or none moved.

    Raises:
        ValueError: what was asked of one run was not asked of the other, or a share saved of what is no cost.
    """
    seeds = _seeds(side, question)
    if not seeds:
        return None
    if question.eval == RUN:
        return _of_costs(side, question, seeds)
    if question.kind == "saved":
        raise ValueError(f"{question.quantity}: only a cost of the run is saved, not {question.metric!r}")
    found = [_answers(side, arm, question, seeds) for arm in _arms(question)]
    known = [row for row in found if row is not None]
    if len(known) < len(found) or (question.kind == "difference" and not _moved(side, question, seeds)):
        return None
    if len({row.ids for row in known}) > 1:
        raise ValueError(f"{side.study}: {question.left} and {question.right} were asked other items")
    return _of_items(side, question, seeds, [row.values for row in known])


def _of_items(side: Side, question: Question, seeds: Sequence[int], values: Sequence[np.ndarray]) -> Estimate:
    """Macro-F1 is no mean over items, so what is paired are the predicted classes behind it."""
    if question.metric == "macro_f1":
        labels = _answers(side, question.left, replace(question, metric="label"), seeds)
        assert labels is not None  # stored with the predictions
        return macro_f1.difference(values[0], values[1], labels.values[0])
    difference = values[0] if question.kind == "value" else values[0] - values[1]
    return contrast([difference], pseudo=[_imaginary(question)])


def _imaginary(question: Question) -> float:
    """What one item can change: a whole answer of a classifier or a test; nothing where there is no range."""
    return 1.0 if question.metric == "accuracy" else grid.imaginary(question.metric)


def _arms(question: Question) -> list[str]:
    return [question.left] if question.kind == "value" else [question.left, question.right]


def _seeds(side: Side, question: Question) -> list[int]:
    """Seeds that every arm of a question has; the base has none and stands in for each."""
    return sorted(set.intersection(*(set(side.seeds(arm)) for arm in _trained(question))))


def _trained(question: Question) -> list[str]:
    return [arm for arm in _arms(question) if arm not in (BASE, MAJORITY)]


@dataclass(frozen=True)
class Answers:
    """Per-item values of an arm, shape (seeds, items), and the items' ids."""

    ids: tuple[str, ...]
    values: np.ndarray


def _answers(side: Side, arm: str, question: Question, seeds: Sequence[int]) -> Answers | None:
    """What an arm answered; of macro-F1 the predicted classes. None where it was not asked.

    Raises:
        ValueError: its seeds were asked different items.
    """
    names = [BASE if arm in (BASE, MAJORITY) else side.runs[arm, seed].run for seed in seeds]
    metric = "predicted" if question.metric == "macro_f1" else question.metric
    metric = f"{MAJORITY}_{metric}" if arm == MAJORITY and metric != "label" else metric
    found = [side.items.get((name, question.eval, metric)) for name in names]
    whole = [row for row in found if row is not None]
    if len(whole) < len(found):
        return None
    if len({row.ids for row in whole}) > 1:
        raise ValueError(f"{side.study}: the runs of {arm} were asked different items of {question.eval!r}")
    return Answers(whole[0].ids, np.array([row.values for row in whole]))


def _moved(side: Side, question: Question, seeds: Sequence[int]) -> bool:
    """Whether a trained arm clearly differs from the base, in accuracy for macro-F1; True where the base was not asked.

    Between arms that did nothing neither a difference nor its absence is a finding.
    """
    asked = replace(question, metric="accuracy") if question.metric == "macro_f1" else question
    base = _answers(side, BASE, asked, seeds)
    if base is None:
        return True
    for arm in _trained(question):
        own = _answers(side, arm, asked, seeds)
        if own is not None and own.ids == base.ids:
            change = contrast([own.values - base.values], pseudo=[_imaginary(asked)])
            if change.low > 0 or change.high < 0:
                return True
    return False


def _of_costs(side: Side, question: Question, seeds: Sequence[int]) -> Estimate | None:
    """Costs have no items: one number a seed, and an interval over two seeds or more."""
    known = [[costs(side.runs[arm, seed]).get(question.metric) for seed in seeds] for arm in _arms(question)]
    if len(seeds) < 2 or any(value is None for arm in known for value in arm):
        return None
    left, *right = np.array(known, dtype=np.float64)
    by_seed = left if not right else left - right[0] if question.kind == "difference" else 1 - left / right[0]
    return combine(by_seed, item_variance=0.0, items=1)


# ---------------------------------------------------------------- tables


def write(tables: grid.Tables, where: command.Places) -> list[grid.Missing]:
    """Write rows and estimates of every side study that this scale has tables of; returns the comparisons missing."""
    missing = []
    for study, scale in sides.beside(tables.scale).items():
        side = load(scale, where.results)
        if side is None:
            continue
        rows.write(where.out / f"side_{study}.jsonl", of_arms(side))
        print(f"{study}: {len(side.runs)} runs, seeds {sorted({seed for _, seed in side.runs})}, data {side.data}")
        found = {question: estimate(side, question) for question in sides.questions(study)}
        rows.write(where.out / f"side_{study}_effects.jsonl", [_row(q, e) for q, e in found.items() if e is not None])
        missing += [_gap(side, q, tables.scale.name) for q, e in found.items() if e is None]
    return missing


def _row(question: Question, found: Estimate) -> rows.Row:
    what = f"{question.metric} ({question.eval})"
    words = {
        "difference": f"{what} of {question.left} less {question.right}",
        "saved": f"share of {what} that {question.left} saves against {question.right}",
        "value": f"{what} of {question.left}",
    }[question.kind]
    return effects.row(question.quantity, effects.ALL, words, found)


def _gap(side: Side, question: Question, size: str) -> grid.Missing:
    """Why there is no estimate: all arms were asked and none clearly moved, or something was not run."""
    seeds = _seeds(side, question)
    asked = question.eval != RUN and seeds and all(_answers(side, arm, question, seeds) for arm in _arms(question))
    still = "neither is clearly away from the base, so nothing is concluded"
    why = still if asked else f"`python -m experiments run {side.study} --scale {size} --seeds 3`"
    what = f"{question.metric} ({question.eval}) of {question.left} and {question.right}: {why}"
    return grid.Missing(side.study, question.left, 0.0, None, what)


def judged(tables: grid.Tables, out: Path) -> list[rows.Row]:
    """The verdicts of the side studies that have estimates in `out`."""
    known = [study for study in sides.STUDIES if (out / f"side_{study}_effects.jsonl").is_file()]
    claims = [claim for study in known for claim in sides.STUDIES[study].CLAIMS]
    return verdicts.verdicts(grid.with_effects(tables, out), [], claims)[0]


def main() -> None:
    """Write the rows and estimates of all side studies, print their verdicts, and say what is missing."""
    here = command.places(__doc__)
    # Who runs a side study alone has no tables of the main one.
    alone = bool(here.scale.side) or not (here.results / here.scale.name).is_dir()
    tables = grid.Tables(here.scale, (), {}, {}) if alone else grid.load(here.scale, here.results)
    missing = write(tables, here)
    if ranks := learned_ranks.write(tables, here):
        print(ranks)
    made = judged(tables, here.out)
    if not made:
        raise FileNotFoundError(
            f"no collected side study under {here.results}; run one (`python -m experiments run whisper`) and collect "
            "it (`python -m experiments collect --scale whisper`)"
        )
    print(verdict_table.table(made))
    for gap in missing:
        print(f"missing: {gap.study}: {gap.what}")


if __name__ == "__main__":
    command.run(main)
