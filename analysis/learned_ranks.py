"""Which matrices get how much rank: Sparsely Shared LoRA's coefficients against AdaLoRA's, matrix by matrix.

    <out>/s2lora_ranks.jsonl            a row per arm, seed and matrix: coefficients that are not zero, of how many
    <out>/s2lora_ranks_effects.jsonl    Spearman's correlation over the matrices

        s2lora_rank_correlation    S2-LoRA with AdaLoRA of the same seed: claim S3
        adalora_rank_repeat        AdaLoRA with AdaLoRA of another seed: as much as any other method could agree with it
        s2lora_rank_repeat         S2-LoRA with itself likewise

Both learn an r-vector of a matrix and set entries to zero, AdaLoRA by importance down to a budget, S2-LoRA by a soft
threshold. The matrices are all there are in the model, not a sample: the interval says how much the correlation hangs
on which of them are looked at, and how it differs between seeds. Where every entry is kept there is no distribution,
and the correlation is 0.

Checkpoints are read without torch.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from analysis import command, correlation, effects, grid, rows
from analysis.side_tables import Side, load
from experiments import sides
from replication.runs import RunDir, read_json
from replication.stats import Estimate

ARMS = ("s2lora", "adalora")
KEPT = re.compile(r"^(?:base_model\.|model\.)*(?P<module>.+)\.(?:coefficients|lora_E)$")
SEED = 20240515  # of the bootstrap over matrices
Ranks = dict[str, int]


def of_checkpoint(folder: Path) -> dict[str, tuple[int, int]]:
    """Coefficients that are not zero, and all, of every matrix (`encoder.layers.0.self_attn.q_proj`) of a checkpoint.

    Raises:
        ValueError: the checkpoint has no rank coefficients.
    """
    found = {
        match["module"]: (int(np.count_nonzero(value)), value.size)
        for name, value in load_file(folder / "adapter_model.safetensors").items()
        if (match := KEPT.match(name))
    }
    if not found:
        raise ValueError(f"{folder} has no rank coefficients; it is neither S2-LoRA nor AdaLoRA")
    return found


def table(side: Side, runs: Path) -> list[rows.Row]:
    """Rows of every run whose checkpoint is on disk and is the one that was collected."""
    made = []
    for (arm, seed), run in side.runs.items():
        folder = RunDir(runs / run.scale / run.run)
        path = folder.checkpoint(run.step)
        if not _learns_ranks(path) or folder.manifest.get("digest") != run.digest:
            continue
        for module, (rank, of) in sorted(of_checkpoint(path).items()):
            made.append({"study": side.study, "arm": arm, "seed": seed, "module": module, "rank": rank, "of": of})
    return made


def _learns_ranks(path: Path) -> bool:
    told = path / "adapter_config.json"
    return told.is_file() and read_json(told)["peft_type"] in ("S2LORA", "ADALORA")


def by_seed(listed: Sequence[rows.Row], arm: str) -> dict[int, Ranks]:
    """Rank of every matrix, by seed."""
    found: dict[int, Ranks] = {}
    for row in listed:
        if row["arm"] == arm:
            found.setdefault(row["seed"], {})[row["module"]] = row["rank"]
    return found


def agreement(pairs: Sequence[tuple[Mapping[str, int], Mapping[str, int]]]) -> Estimate | None:
    """Spearman's correlation over the matrices that both have, mean over pairs; None without pairs.

    The bootstrap reweighs matrices and leaves their ranks as they are.
    """
    if not pairs:
        return None
    modules = sorted(set.intersection(*(set(side) for pair in pairs for side in pair)))
    ranked = [[correlation.ranks_of(np.array([side[m] for m in modules])) for side in pair] for pair in pairs]

    def statistic(weights: Sequence[np.ndarray]) -> float:
        return float(np.mean([_weighted(left, right, weights[0]) for left, right in ranked]))

    each = [_weighted(left, right, np.full(len(modules), 1 / len(modules))) for left, right in ranked]
    return correlation.estimate(statistic, [len(modules)], each, rng=np.random.default_rng(SEED))


def _weighted(left: np.ndarray, right: np.ndarray, weights: np.ndarray) -> float:
    """Pearson's correlation under weights that sum to 1; 0 where one side does not vary."""
    x, y = (side - weights @ side for side in (left, right))
    norm = float(np.sqrt((weights @ x**2) * (weights @ y**2)))
    return float(weights @ (x * y)) / norm if norm else 0.0


def effect_rows(listed: Sequence[rows.Row]) -> list[rows.Row]:
    """The three correlations, as far as there are runs for them."""
    ours, theirs = (by_seed(listed, arm) for arm in ARMS)
    shared = sorted(set(ours) & set(theirs))
    asked: dict[str, tuple[str, list[tuple[Ranks, Ranks]]]] = {
        "s2lora_rank_correlation": ("S2-LoRA with AdaLoRA", [(ours[s], theirs[s]) for s in shared]),
        "adalora_rank_repeat": ("AdaLoRA with itself at another seed", _apart(theirs)),
        "s2lora_rank_repeat": ("S2-LoRA with itself at another seed", _apart(ours)),
    }
    found = {name: (words, agreement(pairs)) for name, (words, pairs) in asked.items()}
    return [
        effects.row(name, effects.ALL, f"rank correlation over matrices, {words}", estimate)
        for name, (words, estimate) in found.items()
        if estimate is not None
    ]


def _apart(found: Mapping[int, Ranks]) -> list[tuple[Ranks, Ranks]]:
    return [(found[a], found[b]) for a, b in itertools.combinations(sorted(found), 2)]


def write(tables: grid.Tables, where: command.Places) -> str:
    """Write both tables where runs of the study are on disk; says what was done, nothing where it was never run."""
    scale = sides.beside(tables.scale).get("s2lora")
    side = None if scale is None else load(scale, where.results)
    if side is None:
        return ""
    listed = table(side, where.runs)
    if {row["arm"] for row in listed}.isdisjoint(ARMS):
        return "learned_ranks: skipped, tracked rows kept (`python -m experiments run s2lora` and `collect` make runs)"
    found = effect_rows(listed)
    rows.write(where.out / "s2lora_ranks.jsonl", listed)
    rows.write(where.out / "s2lora_ranks_effects.jsonl", found)
    return f"learned_ranks: {len(listed)} rows, {len(found)} effects"


def text(listed: Sequence[rows.Row]) -> str:
    """Mean ranks over seeds by matrix, a column for each arm."""
    arms = sorted({row["arm"] for row in listed})
    modules = sorted({row["module"] for row in listed})
    lines = [f"{'matrix':<44}" + "".join(f"{arm:>14}" for arm in arms)]
    lines += [f"{m:<44}" + "".join(f"{_mean(listed, arm, m):>14}" for arm in arms) for m in modules]
    return "\n".join(lines)


def _mean(listed: Sequence[rows.Row], arm: str, module: str) -> str:
    found = [row["rank"] for row in listed if (row["arm"], row["module"]) == (arm, module)]
    return f"{np.mean(found):.1f}" if found else ""


def main() -> None:
    """Write the rows, and print mean ranks by matrix."""
    here = command.places(__doc__)
    print(write(grid.load(here.scale, here.results), here))
    command.show(here.out / "s2lora_ranks.jsonl", text)


if __name__ == "__main__":
    command.run(main)
