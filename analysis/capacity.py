"""Can a LoRA hold the data? Bits its parameters can store against bits there are to learn.

    capacity      trainable parameters x 2 bits ("LoRA Without Regret", after Allen-Zhu and Li), beside it 1 bit
    dataset       supervised tokens of one pass x the base's loss per token on held-out data of the target, in bits

The loss of one pass through the data bounds what can be learnt from it from above. "LoRA Without Regret" sums the
loss over the first epoch of training, which is not kept here; the base's held-out loss, before anything is learnt, is
larger than that and easy to check. An instruction set has one pass at every number of epochs; continued pretraining
sees new tokens up to its length.

    load              dataset bits / capacity bits: above 1 there is more to learn than fits
    capacity_predicts Spearman's correlation of the load with the gap to full fine-tuning in the target score, over
                      arms and lengths of a setting, and over all settings ("all"); 1 where more load always means a
                      wider gap
    capacity_predicts_loss   the same with the gap in held-out target loss
    ..._long                 over all settings at their longest training alone: before it, nothing need be full
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import command, correlation, curves, effects, grid, rows
from replication.results import RunRow
from replication.scale import Setting
from replication.stats import Estimate, contrast

BITS = (1, 2)  # per parameter, low and as the heuristic has it
SEED = 20260503
GAPS = (("learning", "capacity_predicts"), ("target_loss", "capacity_predicts_loss"))


@dataclass(frozen=True)
class Cell:
    """One LoRA at one length beside full fine-tuning, at the seeds that both have."""

    study: str
    arm: str
    length: float
    lora: tuple[RunRow, ...]
    full: tuple[RunRow, ...]
    tokens: float
    bits: float  # of the data

    @property
    def load(self) -> float:
        """Bits to learn per bit of capacity."""
        return self.bits / (BITS[1] * self.lora[0].trainable)


@dataclass(frozen=True)
class Block:
    """A setting's cells: loads (cells,), gaps to full (cells, seeds, items), which are of its longest training."""

    loads: np.ndarray
    gaps: np.ndarray
    longest: np.ndarray
    ranks: int


def dataset_tokens(found: Sequence[RunRow], length: float) -> float:
    """Supervised tokens of one pass: those of the runs at a length; in epochs, the share of the longest run's.

    The same for every number of epochs, although the rows of a step do not divide a pass evenly.
    """
    epochs = found[0].length_unit == "epochs"
    at = max(row.length for row in found) if epochs else length
    tokens = np.mean([row.supervised_tokens for row in found if row.length == at])
    return float(tokens) / (at if epochs else 1.0)


def dataset_bits(tokens: float, nats_per_token: float) -> float:
    """Upper bound on what a pass through the data can teach, in bits."""
    return tokens * nats_per_token / math.log(2)


def cells(tables: grid.Tables, study: str) -> tuple[list[Cell], list[grid.Missing]]:
    """Every LoRA cell of a setting that has full fine-tuning beside it, and what is missing."""
    setting = grid.settings(tables.scale)[study]
    loss = grid.score(tables, grid.base_point(), grid.questions(tables.scale, setting, "target_loss"))
    if loss is None:
        return [], [grid.Missing(study, grid.BASE, 0.0, None, "target_loss: capacity cannot be judged")]
    found = {key: row for key, row in grid.cells(tables, study).items() if isinstance(row, RunRow)}
    made = []
    for arm in grid.arms(tables.scale)[1:]:
        mine = [row for (a, _, _), row in found.items() if a == arm]
        for length in setting.lengths:
            seeds = [s for a, n, s in sorted(found) if (a, n) == (arm, length) and ("full", length, s) in found]
            if seeds:
                lora = tuple(found[arm, length, s] for s in seeds)
                tokens = dataset_tokens(mine, lora[0].length)
                full = tuple(found["full", length, s] for s in seeds)
                made.append(Cell(study, arm, length, lora, full, tokens, dataset_bits(tokens, loss)))
    return made, []


def gap(tables: grid.Tables, setting: Setting, cell: Cell, axis: str) -> Estimate | None:
    """How far LoRA stays behind full fine-tuning on an axis, paired over items; above 0 where it is worse."""
    values = _difference(tables, setting, cell, axis)
    if values is None or values.shape[1] < 2:
        return None
    bounded = grid.bounded(grid.questions(tables.scale, setting, axis)[0][1])
    return contrast([values], pseudo=[float(bounded)])


def _difference(tables: grid.Tables, setting: Setting, cell: Cell, axis: str) -> np.ndarray | None:
    """Per seed and item, shape (seeds, items): full minus LoRA, or LoRA minus full where less is better."""
    (name, metric, weight), *_ = grid.questions(tables.scale, setting, axis)
    points = [grid.point(row) for row in (*cell.full, *cell.lora)]
    columns = [c for p in points if (c := grid.item_values(tables, p, name, metric)) is not None]
    if len(columns) < len(points):
        return None
    sign = -1.0 if axis == "target_loss" else weight
    full, lora = grid.aligned(columns).reshape(2, len(cell.full), -1)
    return sign * (full - lora)


def capacity(tables: grid.Tables) -> tuple[list[rows.Row], list[grid.Missing]]:
    """One row per LoRA cell of every setting, and what is missing."""
    made: list[rows.Row] = []
    missing: list[grid.Missing] = []
    for study, setting in tables.scale.settings:
        found, gaps = cells(tables, study)
        missing += gaps
        for cell in found:
            est = gap(tables, setting, cell, "learning")
            if est is None:
                missing.append(grid.Missing(study, cell.arm, cell.length, None, "gap to full: items of both"))
            else:
                made.append(_row(tables, setting, cell, est))
    return made, missing


def _row(tables: grid.Tables, setting: Setting, cell: Cell, est: Estimate) -> rows.Row:
    asked = grid.questions(tables.scale, setting, "learning")
    score = curves.estimate(tables, [grid.point(row) for row in cell.lora], asked)
    trainable = cell.lora[0].trainable
    return {
        "study": cell.study, "arm": cell.arm, "rank": grid.rank_of(cell.arm), "length": cell.length,
        "length_unit": cell.lora[0].length_unit, "trainable": trainable, "bits_low": BITS[0] * trainable,
        "bits": BITS[1] * trainable, "dataset_tokens": cell.tokens, "dataset_bits": cell.bits, "ratio": cell.load,
        "learning": score[0] if score else None, "gap_to_full": est.value, "low": est.low, "high": est.high,
        "seeds": est.seeds, "n": est.items,
    }  # fmt: skip


def named_effects(tables: grid.Tables) -> list[rows.Row]:
    """Whether the load predicts the gap: a rank correlation per setting and over all, for score and for loss."""
    made = []
    for axis, quantity in GAPS:
        found = {study: _block(tables, study, axis) for study, _ in tables.scale.settings}
        blocks = {study: block for study, block in found.items() if block is not None and len(block.loads) > 2}
        made += [_correlated(quantity, study, [block]) for study, block in blocks.items()]
        if len(blocks) > 1 and len({block.gaps.shape[1] for block in blocks.values()}) == 1:
            ends = [(b, b.longest) for b in blocks.values()]
            longest = [Block(b.loads[end], b.gaps[end], b.longest[end], b.ranks) for b, end in ends]
            made.append(_correlated(quantity, effects.ALL, list(blocks.values())))
            made.append(_correlated(f"{quantity}_long", effects.ALL, longest))
    return made


def _block(tables: grid.Tables, study: str, axis: str) -> Block | None:
    """A setting's loads and gaps; None where cells differ in seeds or items, or have one item."""
    setting = grid.settings(tables.scale)[study]
    if axis not in curves.axes(tables.scale, setting):
        return None
    found = [(c, _difference(tables, setting, c, axis)) for c in cells(tables, study)[0]]
    whole = [(c, v) for c, v in found if v is not None and v.shape[1] > 1]
    if not whole or len({v.shape for _, v in whole}) > 1:
        return None
    longest = np.array([c.length == max(setting.lengths) for c, _ in whole])
    loads, gaps = np.array([c.load for c, _ in whole]), np.array([v for _, v in whole])
    return Block(loads, gaps, longest, len({c.arm for c, _ in whole}))


def _correlated(quantity: str, setting: str, blocks: Sequence[Block]) -> rows.Row:
    loads = np.concatenate([block.loads for block in blocks])

    def statistic(weights: Sequence[np.ndarray]) -> float:
        gaps = [block.gaps.mean(axis=1) @ w for block, w in zip(blocks, weights, strict=True)]
        return correlation.spearman(loads, np.concatenate(gaps))

    by_seed = [
        correlation.spearman(loads, np.concatenate([block.gaps[:, s].mean(axis=1) for block in blocks]))
        for s in range(blocks[0].gaps.shape[1])
    ]
    counts = [block.gaps.shape[2] for block in blocks]
    found = correlation.estimate(statistic, counts, by_seed, rng=np.random.default_rng(SEED))
    made = _over_ranks(found, sum(block.ranks for block in blocks))
    words = f"rank correlation of the load (dataset bits / 2 bits a parameter) with the gap to full, {len(loads)} cells"
    return effects.row(quantity, setting, words, made)


def _over_ranks(est: Estimate, ranks: int) -> Estimate:
    """The estimate with what other ranks might have given: (1 - rho^2)^2 / (ranks - 1) more variance.

    `ranks` counts those of every setting; the lengths of one have too much in common to be points of their own.
    """
    more = (1 - est.value**2) ** 2 / (ranks - 1)
    half = math.sqrt((est.high - est.low) ** 2 / 4 + 1.96**2 * more)
    stderr = math.sqrt(est.stderr**2 + more)
    low, high = max(est.value - half, -1.0), min(est.value + half, 1.0)
    return replace(est, low=low, high=high, stderr=stderr, mde=half + 0.84 * stderr, item_error=0.0, seed_error=0.0)


def write(tables: grid.Tables, where: command.Places) -> list[grid.Missing]:
    """Write `capacity.jsonl` and `capacity_effects.jsonl`; returns what is missing."""
    made, missing = capacity(tables)
    rows.write(where.out / "capacity.jsonl", made)
    rows.write(where.out / "capacity_effects.jsonl", named_effects(tables))
    return missing


def main() -> None:
    """Write the capacities and say what is missing."""
    here = command.places(__doc__)
    missing = write(grid.load(here.scale, here.results), here)
    print(f"rows in {here.out / 'capacity.jsonl'} and {here.out / 'capacity_effects.jsonl'}")
    if missing:
        print(curves.spoken(here.scale, missing))


if __name__ == "__main__":
    command.run(main)
