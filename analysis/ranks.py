"""Effects about the rank of the change made by full fine-tuning, from spectra rows (claim C8).

The items are weight matrices (or layers, or kinds of matrix). They are all there are in the model, not a sample, so
the interval says how much the effect varies from matrix to matrix, and over seeds where there are several.

Ranks are divided by what pure noise of the same shape has, because an i.i.d. Gaussian matrix already needs 51 % of
its width (square) to 71 % (4096 x 11008) for 90 % of its energy: raw ranks of MLP and attention matrices differ by
their shapes alone (Marchenko-Pastur; `singular.noise`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from analysis import evidence, grid, rows
from experiments.comparisons import Quantity
from replication.stats import contrast

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FLOOR = 0.3  # rounding over change from which a rank is the rounding's (paper's checkpoints are bf16)
Matrix = tuple[int, str]  # layer, module


def effect(
    tables: grid.Tables, spectra: Sequence[rows.Row], quantity: Quantity, scope: evidence.Scope
) -> evidence.Effect:
    """The effect of one part of the claim in one setting."""
    assert scope.study is not None
    lengths = grid.settings(tables.scale)[scope.study].lengths
    early = _by_seed(spectra, scope.study, min(lengths))
    late = _by_seed(spectra, scope.study, max(lengths))
    ends = ((min(lengths), early), (max(lengths), late))
    shared = sorted(set(early) & set(late))
    gap = _unfit(scope.study, {length: [r for s in shared for r in found[s].values()] for length, found in ends})
    if gap:
        return evidence.Effect(quantity, None, (gap,))
    if not shared:
        gaps = [
            grid.Missing(scope.study, "full", length, None, "spectra of the change")
            for length, found in ends
            if not found
        ]
        return evidence.Effect(quantity, None, tuple(gaps))
    top = max(tables.scale.ranks)
    stacked = np.array([_items(quantity, early[s], late[s], top) for s in shared])  # (seeds, items)
    if stacked.shape[1] < 2:
        gap = grid.Missing(scope.study, "full", max(lengths), None, "a model with enough layers")
        return evidence.Effect(quantity, None, (gap,))
    return evidence.Effect(_words(quantity, early, late, tables.scale.ranks), contrast([stacked]))


def _unfit(study: str, found: Mapping[float, Sequence[rows.Row]]) -> grid.Missing | None:
    """Why the ranks of these rows say nothing about the change: they are the rounding's, or nothing moved."""
    for length, group in found.items():
        told = [r for r in group if r.get("rounding") or (r["floor_ratio"] or 0.0) >= FLOOR]
        if told:
            worst = max(r["floor_ratio"] for r in told)
            what = f"changes above rounding: {len(told)} are not, the worst {worst:.2f} of its norm"
            return grid.Missing(study, "full", length, None, what)
        still = sum(not r["rank90"] for r in group)
        if still:
            return grid.Missing(study, "full", length, None, f"a change of every matrix: {still} did not move")
    return None


def _by_seed(spectra: Sequence[rows.Row], study: str, length: float) -> dict[int, dict[Matrix, rows.Row]]:
    """Spectra of the full fine-tuning change at one length, by seed and matrix."""
    found: dict[int, dict[Matrix, rows.Row]] = {}
    for row in spectra:
        if (row["study"], row["arm"], row["which"], row["length"]) == (study, "full", "change", length):
            found.setdefault(row["seed"], {})[row["layer"], row["module"]] = row
    return found


def _share(row: rows.Row) -> float:
    return row["rank90"] / row["rank90_noise"]


def _items(
    quantity: Quantity, early: Mapping[Matrix, rows.Row], late: Mapping[Matrix, rows.Row], top: int
) -> list[float]:
    """The effect on each matrix, layer or kind of matrix, in a fixed order."""
    keys = sorted(set(early) & set(late))
    layers = sorted({layer for layer, _ in keys})
    if quantity == "above_lora_ranks":
        return [float(np.log2(early[k]["rank90"] / top)) for k in keys]
    if quantity == "grows":
        return [_share(late[k]) - _share(early[k]) for k in keys]
    if quantity == "mlp_above_attention":
        return [_mean(late, keys, layer, mlp=True) - _mean(late, keys, layer, mlp=False) for layer in layers]
    inner = layers[1:-1]
    modules = sorted({module for _, module in keys})
    if not inner:
        return []
    ends = (layers[0], layers[-1])
    return [
        float(np.mean([_share(late[i, m]) for i in inner]) - np.mean([_share(late[i, m]) for i in ends]))
        for m in modules
    ]


def _mean(found: Mapping[Matrix, rows.Row], keys: Sequence[Matrix], layer: int, *, mlp: bool) -> float:
    chosen = [k for k in keys if k[0] == layer and (k[1] not in ATTENTION) == mlp]
    return float(np.mean([_share(found[k]) for k in chosen]))


def _words(
    quantity: Quantity,
    early: Mapping[int, Mapping[Matrix, rows.Row]],
    late: Mapping[int, Mapping[Matrix, rows.Row]],
    ranks: Sequence[int],
) -> str:
    """Ranks and their noise values in words."""
    first = [row for found in early.values() for row in found.values()]
    last = [row for found in late.values() for row in found.values()]
    if quantity == "above_lora_ranks":
        rank = float(np.mean([r["rank90"] for r in first]))
        times = ", ".join(f"{rank / r:.1f} x r{r}" for r in sorted(ranks))
        noise = float(np.mean([r["rank90_noise"] for r in first]))
        return f"rank at 90 % of {rank:.0f} at the earliest checkpoint ({times}; pure noise {noise:.0f}), in doublings"
    if quantity == "grows":
        shares = [float(np.mean([_share(r) for r in group])) for group in (first, last)]
        return f"rank at 90 % from {shares[0]:.2f} to {shares[1]:.2f} of pure noise's"
    if quantity == "mlp_above_attention":
        kinds = [[r for r in last if (r["module"] in ATTENTION) == a] for a in (False, True)]
        text = [
            f"{name} {np.mean([r['rank90'] for r in group]):.0f} "
            f"of noise {np.mean([r['rank90_noise'] for r in group]):.0f}"
            for name, group in zip(("MLP", "attention"), kinds, strict=True)
        ]
        return f"rank at 90 %: {text[0]}, {text[1]}; difference of the shares"
    return "rank at 90 % as a share of noise, layers between minus first and last"
