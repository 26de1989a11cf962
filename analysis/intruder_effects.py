"""Effects about intruder dimensions that claims refer to: counts against controls, and against forgetting.

    intruders_lora_above_full      per matrix, mean of the LoRA ranks minus full, at the longest training
    intruders_lora_above_matched   LoRA minus a Gaussian change of LoRA's own size
    intruders_full_above_matched   the same of full fine-tuning
    intruders_vs_forgetting        Spearman over LoRA runs: more intruders, more forgetting (benchmarks)
    intruders_vs_source_loss       the same with the held-out loss of what the base was trained on
    change_vs_forgetting           the same runs with the size of the change in place of intruders: the plain rival

Items of the first three are weight matrices: all there are, so the interval says how much the effect varies between
them, and over seeds. The lengths of a rank have much in common, in CPT even their trunk: they are no points of their
own, so the correlations put whole ranks together at random (`correlation.of_blocks`), and three ranks of one setting
decide nothing. "all" is the mean over settings of what holds within each, so differences between data sets cannot make
a correlation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis import correlation, directions, effects, grid, rows
from replication.config import number
from replication.stats import contrast

if TYPE_CHECKING:
    from analysis.intruders import Measured

COUNTED = (
    "intruders_lora_above_full",
    "intruders_lora_above_matched",
    "intruders_full_above_matched",
    "intruders_vs_forgetting",
    "intruders_vs_source_loss",
    "change_vs_forgetting",
)
SEED = 20241028


def replace(out: Path, made: Sequence[rows.Row], quantities: Sequence[str]) -> None:
    """Write rows into `intruder_effects` in place of those of the same quantities; the others stay."""
    file = out / "intruder_effects.jsonl"
    kept = [r for r in rows.read(file) if r["quantity"] not in quantities] if file.is_file() else []
    rows.write(file, [*kept, *made])


def of_counts(
    tables: grid.Tables, made: Sequence[Measured], listed: Sequence[rows.Row], *, epsilon: float, k: int
) -> list[rows.Row]:
    """Every effect that the runs and their intruder rows have an answer to."""
    made_of = []
    for name, setting in tables.scale.settings:
        at_end = [one for one in made if (one.study, one.length) == (name, max(setting.lengths))]
        made_of += _contrasts(name, at_end, epsilon, k)
    chosen = [r for r in listed if (r["epsilon"], r["k"]) == (epsilon, k) and r["rank"] is not None]
    for quantity, left, right, sign in (
        ("intruders_vs_forgetting", "count", "forgetting", -1.0),
        ("intruders_vs_source_loss", "count", "source_loss", 1.0),
        ("change_vs_forgetting", "relative", "forgetting", -1.0),
    ):
        made_of += _correlations(quantity, chosen, left, right, sign)
    return made_of


def _contrasts(name: str, at_end: Sequence[Measured], epsilon: float, k: int) -> list[rows.Row]:
    """Differences of counts per matrix, seed by seed, in one setting."""
    arms = sorted({one.arm for one in at_end} - {"full"})
    by = {(one.arm, one.run.seed): one for one in at_end}
    seeds = sorted({s for _, s in by if all((arm, s) in by for arm in ("full", *arms))})
    if not seeds or not arms or len(at_end[0].found) < 2:
        return []
    own = {a: np.array([[directions.count(f.tuned, epsilon, k) for f in by[a, s].found] for s in seeds])
           for a in ("full", *arms)}  # fmt: skip
    control = {a: np.array([[directions.count(f.matched, epsilon, k) for f in by[a, s].found] for s in seeds])
               for a in ("full", *arms)}  # fmt: skip
    lora, lora_control = (np.mean([values[a] for a in arms], axis=0) for values in (own, control))
    at = f"per matrix at {number(at_end[0].length)}, epsilon {epsilon:g}, top {k}"
    ranks = ", ".join(f"{a} {own[a].mean():.2f}" for a in sorted(arms, key=lambda arm: grid.rank_of(arm) or 0))
    sides = {
        "intruders_lora_above_full": (lora, own["full"], f"intruders {at}: {ranks}; full {own['full'].mean():.2f}"),
        "intruders_lora_above_matched": (lora, lora_control, f"intruders {at}: LoRA {lora.mean():.2f}; a Gaussian "
                                         f"change of equal size {lora_control.mean():.2f}"),
        "intruders_full_above_matched": (own["full"], control["full"], f"intruders {at}: full "
                                         f"{own['full'].mean():.2f}; a Gaussian change of equal size "
                                         f"{control['full'].mean():.2f}"),
    }  # fmt: skip
    return [
        effects.row(quantity, name, words, contrast([left - right])) for quantity, (left, right, words) in sides.items()
    ]


def _correlations(quantity: str, listed: Sequence[rows.Row], left: str, right: str, sign: float) -> list[rows.Row]:
    """Spearman within each setting, and their mean under "all"."""
    groups: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    seeds: dict[str, int] = {}
    for name in dict.fromkeys(r["study"] for r in listed):
        # Seeds of one arm and length are no runs of their own: their mean is.
        cells: dict[tuple[str, float], list[rows.Row]] = {}
        for r in listed:
            if r["study"] == name and r[right] is not None:
                cells.setdefault((r["arm"], r["length"]), []).append(r)
        x, y = (_blocks(cells, side) for side in (left, right))
        if x.size >= 4 and np.ptp(x) > 0 and np.ptp(y) > 0:
            groups[name], seeds[name] = (x, sign * y), min(len(cell) for cell in cells.values())
    made = []
    what = {"count": "intruders", "relative": "size of the change"}[left]
    for setting in [*groups, *(["all"] if len(groups) > 1 else [])]:
        chosen = list(groups.values()) if setting == "all" else [groups[setting]]
        least = min(seeds.values()) if setting == "all" else seeds[setting]
        estimate = correlation.of_blocks(chosen, seeds=least, rng=np.random.default_rng(SEED))
        total = sum(x.size for x, _ in chosen)
        words = f"Spearman of {what} with {right.replace('_', ' ')} over {total} ranks and lengths of LoRA"
        if setting == "all":
            words += f", mean of {len(chosen)} settings"
        made.append(effects.row(quantity, setting, words, estimate))
    return made


def _blocks(cells: Mapping[tuple[str, float], Sequence[rows.Row]], side: str) -> np.ndarray:
    """Means over seeds, shape (ranks, lengths), of the lengths that every rank has."""
    arms = list(dict.fromkeys(arm for arm, _ in cells))
    lengths = sorted({length for _, length in cells if all((arm, length) in cells for arm in arms)})
    means = [[np.mean([float(r[side]) for r in cells[arm, length]]) for length in lengths] for arm in arms]
    return np.array(means).reshape(len(arms), len(lengths))
