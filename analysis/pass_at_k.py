"""pass@k curves: how much a model gains from more tries (Figure S9).

Of n samples of a problem c were right; k of them, drawn without replacement, hold a right one with probability

    pass@k = 1 - C(n - c, k) / C(n, k)

which is unbiased for every k <= n (Chen et al. 2021). c comes back from the tracked per-problem pass@1 = c / n, so
that the whole curve, k = 1, 2, 4, ... n, needs no samples. The intervals are over problems and seeds.

What a curve can show depends on the temperature, so each row names it. The study samples 50 at .2, nearly greedily:
further samples are mostly the first one again. Figure S9 has 256 at .8. A second sampling of the same problems is one
more Code eval of the scale with the same source; the checkpoints are there, so nothing is trained:

    python -m experiments evaluate ift_code --ask compose_hot --only ep4

Effects, in `pass_at_k_effects.jsonl`, at the longest training (LoRA: the mean of the ranks, and each rank):

    pass_at_n_lora_minus_full    pass@n of LoRA minus that of full fine-tuning
    pass_gain_lora_minus_full    the same for pass@n - pass@1, what sampling adds
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np

from analysis import command, diversity, grid, rows
from replication.specs import Code
from replication.stats import contrast

TABLE, EFFECTS = "pass_at_k", "pass_at_k_effects"
# c / n is kept as a float: what a division and a rounding to seven digits can leave.
NEAR = 1e-4


def budgets(n: int) -> tuple[int, ...]:
    """The k of a curve: powers of two up to n, and n.

    >>> budgets(50)
    (1, 2, 4, 8, 16, 32, 50)
    """
    return (*(2**i for i in range(n.bit_length()) if 2**i < n), n)


def chance(n: int, right: int, k: int) -> float:
    """pass@k of a problem with `right` right ones among n samples."""
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def right_ones(column: grid.Column, target: Code) -> np.ndarray:
    """How many samples of each problem were right, shape (problems,), from pass@1.

    Raises:
        ValueError: a pass@1 is not a share of the eval's samples.
    """
    counts = column.values * target.samples
    whole = np.rint(counts)
    if len(counts) and float(np.max(np.abs(counts - whole))) > NEAR:
        worst = int(np.argmax(np.abs(counts - whole)))
        raise ValueError(
            f"{target.name} {column.ids[worst]}: pass@1 {column.values[worst]:g} is no share of {target.samples} "
            "samples; the scale asks for another number than was scored, raise the eval's version"
        )
    return whole.astype(int)


def curve(column: grid.Column, target: Code, k: int) -> grid.Column:
    """pass@k of every problem."""
    known = [chance(target.samples, right, k) for right in range(target.samples + 1)]
    return grid.Column(column.ids, np.array(known)[right_ones(column, target)])


def pass_at_k(tables: grid.Tables) -> list[rows.Row]:
    """One row per (setting with a code target, sampling, arm, length, k), the base at length 0."""
    made = []
    for study, _, target in diversity.code_settings(tables.scale):
        for sampling in diversity.samplings(tables.scale, target):
            for (arm, length), found in diversity.points(tables, study).items():
                named = {"study": study, "eval": sampling.name, "arm": arm, "length": length}
                made += [named | row for row in _rows(_columns(tables, found, sampling), sampling)]
    return made


def _columns(tables: grid.Tables, found: Sequence[grid.Point], sampling: Code) -> list[grid.Column]:
    return [c for p in found if (c := grid.item_values(tables, p, sampling.name, "pass@1")) is not None]


def _rows(columns: Sequence[grid.Column], sampling: Code) -> Iterator[rows.Row]:
    """The curve of one group of seeds; nothing where there are no scores, or those of one problem."""
    if not columns or len(columns[0].ids) < 2:
        return
    for k in budgets(sampling.samples):
        est = contrast([grid.aligned([curve(c, sampling, k) for c in columns])], pseudo=[1.0])
        yield {
            "k": k, "value": est.value, "low": max(est.low, 0.0), "high": min(est.high, 1.0),
            "samples": sampling.samples, "temperature": sampling.temperature, "seeds": est.seeds, "n": est.items,
        }  # fmt: skip


def effects(tables: grid.Tables) -> list[rows.Row]:
    """LoRA minus full at the longest training: pass@n, and what it adds to pass@1."""
    made = []
    for study, setting, target in diversity.code_settings(tables.scale):
        for sampling in diversity.samplings(tables.scale, target):
            made += _effects(tables, study, max(setting.lengths), sampling, suffix=suffix(sampling, target))
    return made


def suffix(sampling: Code, target: Code) -> str:
    """What a quantity's name ends in: nothing for the setting's own sampling, else the temperature of the other."""
    return "" if sampling.name == target.name else f"_at_t{sampling.temperature:g}"


def _effects(tables: grid.Tables, study: str, length: float, sampling: Code, *, suffix: str) -> list[rows.Row]:
    scored = _scored(tables, study, length, sampling)
    ranks = [arm for arm in grid.arms(tables.scale) if arm in scored and arm != "full"]
    compared = [("lora", ranks), *((arm, [arm]) for arm in ranks)] if "full" in scored and ranks else []
    made = []
    for name, arms in compared:
        seeds = [s for s in sorted(scored["full"]) if all(s in scored[arm] for arm in arms)]
        if not seeds:
            continue
        for kind, words, base in (
            ("pass_at_n", f"pass@{sampling.samples}", None),
            ("pass_gain", f"pass@{sampling.samples} - pass@1", 1),
        ):
            gaps = [_gap([scored[arm][s] for arm in arms], scored["full"][s], sampling, base) for s in seeds]
            what = f"{words} of {sampling.name} (T = {sampling.temperature:g}) at the longest training"
            named = {
                "quantity": f"{kind}_{name}_minus_full{suffix}",
                "setting": study,
                "words": f"{what}, mean of {', '.join(arms)} minus full",
            }
            made.append(named | asdict(contrast([grid.aligned(gaps)], pseudo=[1.0])))
    return made


def _scored(tables: grid.Tables, study: str, length: float, sampling: Code) -> dict[str, dict[int, grid.Column]]:
    """pass@1 per problem of the runs of one length, by arm and seed."""
    made: dict[str, dict[int, grid.Column]] = {}
    for (arm, own, seed), row in sorted(grid.cells(tables, study).items()):
        column = grid.item_values(tables, grid.point(row), sampling.name, "pass@1")
        if own == length and column is not None and len(column.ids) > 1:
            made.setdefault(arm, {})[seed] = column
    return made


def _gap(left: Sequence[grid.Column], right: grid.Column, sampling: Code, base: int | None) -> grid.Column:
    """Mean of the left arms minus the right, of pass@n or of its gain over pass@base, per problem."""
    columns = [*left, right]
    values = grid.aligned([curve(c, sampling, sampling.samples) for c in columns])
    if base is not None:
        values = values - grid.aligned([curve(c, sampling, base) for c in columns])
    return grid.Column(grid.shared_ids(columns), values[:-1].mean(axis=0) - values[-1])


def missing(tables: grid.Tables, made: Sequence[rows.Row]) -> list[str]:
    """Samplings of a scale that no trained checkpoint was asked, with the command that asks."""
    asked = {(row["study"], row["eval"]) for row in made if row["arm"] != grid.BASE}
    return [
        f"{study}: no run was asked {sampling.name}; "
        f"`python -m experiments evaluate {study} --ask {sampling.name} --scale {tables.scale.name}`, then collect"
        for study, _, target in diversity.code_settings(tables.scale)
        for sampling in diversity.samplings(tables.scale, target)
        if sampling.name != target.name and (study, sampling.name) not in asked
    ]


def write(tables: grid.Tables, where: command.Places) -> str:
    """Write `pass_at_k.jsonl` and `pass_at_k_effects.jsonl`; returns what was done and what is missing."""
    made = pass_at_k(tables)
    rows.write(where.out / f"{TABLE}.jsonl", made)
    rows.write(where.out / f"{EFFECTS}.jsonl", effects(tables))
    return "\n".join([f"pass@k: {len(made)} rows", *missing(tables, made)])


def table(made: Sequence[rows.Row]) -> str:
    """The curves of the longest training and of the base, as text."""
    last = {row["study"]: max(r["length"] for r in made if r["study"] == row["study"]) for row in made}
    lines = []
    for key in dict.fromkeys((r["study"], r["eval"], r["arm"]) for r in made):
        own = [r for r in made if (r["study"], r["eval"], r["arm"]) == key]
        own = [r for r in own if r["arm"] == grid.BASE or r["length"] == last[key[0]]]
        numbers = "".join(f"  {r['k']}: {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for r in own)
        if own:
            lines.append(f"{key[0]:<10}{key[1]:<14}T={own[0]['temperature']:<5g}{key[2]:<6}{numbers}")
    return "\n".join(lines)


def main() -> None:
    """Write the curves and print those of the longest training."""
    here = command.places(__doc__)
    print(write(grid.load(here.scale, here.results), here))
    print(table(rows.read(here.out / f"{TABLE}.jsonl")))


if __name__ == "__main__":
    command.run(main)
