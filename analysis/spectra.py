"""Rank of what training changed: singular values of W_tuned - W_base, per matrix (Figures 6 and S7).

    python analysis/spectra.py                                  the study's runs under --runs
    python analysis/spectra.py --base FOLDER --tuned FOLDER     any pair: a whole model, or a LoRA adapter of the base

Beside every rank stands that of pure noise of the same shape (`analysis/singular.py`). Beside every change stand the
share of weights that moved at all, and `floor_ratio`: the norm of the rounding in the stored dtype over the norm of
the change. From about .3 on the rank is that of the rounding: a true rank of 16 read back from bf16 weights gave 16
at .30, 195 at .43 and 389 at .62 (1024 square). A LoRA change is taken from its factors and has no such rounding
beyond that of the factors themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from analysis import command, grid, rows, singular, weights
from analysis.ranks import FLOOR
from replication.config import number
from replication.results import RunRow
from replication.runs import is_adapter
from replication.scale import Scale

# Figure S7 shows W_q of layer 26 of 32.
SHOWN, DEPTH = "q_proj", 26 / 32


@dataclass(frozen=True)
class Spectrum:
    """Singular values of one matrix, and how far its change stands above rounding."""

    matrix: weights.Matrix
    which: str
    shape: tuple[int, int]
    values: np.ndarray
    share_moved: float | None = None
    floor_ratio: float | None = None


def of_model(path: Path, which: str) -> Iterator[Spectrum]:
    """Spectra of a model's own matrices."""
    for matrix, place in sorted(weights.model(path).items()):
        tensor = weights.read(place)
        yield Spectrum(matrix, which, _shape(tensor), singular.of_dense(tensor))


def of_change(base: Path, tuned: Path) -> Iterator[Spectrum]:
    """Spectra of what a checkpoint changed; matrices that did not change at all are left out.

    Raises:
        ValueError: nothing changed, or the two have different matrices.
    """
    found = _lora_change(tuned) if is_adapter(tuned) else _full_change(base, tuned)
    count = 0
    for spectrum in found:
        count += 1
        yield spectrum
    if not count:
        raise ValueError(f"{tuned} changes no layer matrix of {base}; it is the base itself, or an untrained adapter")


def _full_change(base: Path, tuned: Path) -> Iterator[Spectrum]:
    places, others = weights.model(base), weights.model(tuned)
    if set(places) != set(others):
        raise ValueError(f"{base} and {tuned} differ in matrices: {sorted(set(places) ^ set(others))[:3]} ...")
    for matrix in sorted(places):
        before, after = weights.read(places[matrix]), weights.read(others[matrix])
        change = after.float() - before.float()
        moved = float(torch.count_nonzero(change)) / change.numel()
        if moved:
            rounding = float(singular.rounding_variance(after).sum().sqrt())
            ratio = rounding / float(torch.linalg.vector_norm(change, dtype=torch.float64))
            yield Spectrum(matrix, "change", _shape(change), singular.of_dense(change), moved, ratio)


def _lora_change(tuned: Path) -> Iterator[Spectrum]:
    factors = weights.adapter(tuned)
    for matrix in sorted(factors.a):
        a, b = weights.read(factors.a[matrix]), weights.read(factors.b[matrix])
        values = factors.scaling * singular.of_factors(b, a)
        # Entries of B A are zero where a row of B or a column of A is, and otherwise by chance only.
        moved = float(b.any(dim=1).double().mean() * a.any(dim=0).double().mean())
        if moved:
            # E |dB A|^2 + E |B dA|^2 for independent roundings of the entries.
            left = singular.rounding_variance(b).sum(dim=0) @ a.double().square().sum(dim=1)
            right = b.double().square().sum(dim=0) @ singular.rounding_variance(a).sum(dim=1)
            ratio = factors.scaling * float((left + right).sqrt()) / float(np.linalg.norm(values))
            yield Spectrum(matrix, "change", (b.shape[0], a.shape[1]), values, moved, ratio)


def of_merged(base: Path, tuned: Path) -> Iterator[Spectrum]:
    """Spectra of the tuned matrices of an adapter: the base plus the product of the factors, in fp32."""
    factors, places = weights.adapter(tuned), weights.model(base)
    for matrix in sorted(factors.a):
        product = weights.read(factors.b[matrix]).float() @ weights.read(factors.a[matrix]).float()
        merged = weights.read(places[matrix]).float() + factors.scaling * product
        yield Spectrum(matrix, "tuned", _shape(merged), singular.of_dense(merged))


def of_pair(base: Path, tuned: Path) -> list[Spectrum]:
    """Base, tuned and change of any pair."""
    after = of_merged(base, tuned) if is_adapter(tuned) else of_model(tuned, "tuned")
    return [*of_model(base, "base"), *after, *of_change(base, tuned)]


def row(spectrum: Spectrum, named: rows.Row) -> rows.Row:
    """A spectrum's measures under the names of its run."""
    layer, module = spectrum.matrix
    return named | {
        "layer": layer, "module": module, "rows": spectrum.shape[0], "cols": spectrum.shape[1], "which": spectrum.which,
        **singular.measures(spectrum.values, *spectrum.shape),
        "share_moved": spectrum.share_moved, "floor_ratio": spectrum.floor_ratio,
    }  # fmt: skip


def line(spectrum: Spectrum, named: rows.Row) -> rows.Row:
    """A spectrum's values, with those of noise of the same energy."""
    scaled = singular.noise(*spectrum.shape) * np.linalg.norm(spectrum.values)
    made = row(spectrum, named)
    return {k: made[k] for k in (*named, "layer", "module", "which", "rows", "cols")} | {
        "singular": [float(f"{v:.6g}") for v in spectrum.values], "noise": [float(f"{v:.6g}") for v in scaled],
    }  # fmt: skip


def study(tables: grid.Tables, runs: Path) -> tuple[list[rows.Row], list[rows.Row], list[str]]:
    """Rows and lines of every scored run whose last checkpoint is under `runs`, and why others are not there."""
    base = weights.folder(tables.scale.model)
    ready, absent = available(tables, runs)
    if not ready:
        return [], [], absent
    origin = list(of_model(base, "base"))
    shown = (int(DEPTH * (1 + max(s.matrix[0] for s in origin))), SHOWN)
    named = {
        "study": "base",
        "run": grid.BASE,
        "arm": grid.BASE,
        "rank": None,
        "seed": 0,
        "length": 0.0,
        "step": 0,
        "tokens": 0,
    }
    made, lines = [row(s, named) for s in origin], [line(s, named) for s in origin if s.matrix == shown]
    drawn = _drawn(tables.scale, [cell for cell, _, _ in ready])
    for cell, run, path in tqdm(ready, desc="spectra", unit="run"):
        named = _named(cell, run)
        found = list(of_change(base, path))
        # Base and tuned spectra nearly coincide (Figure S7), so the tuned ones are kept for full fine-tuning alone.
        if cell[1] == "full":
            found += of_model(path, "tuned")
        made += [row(s, named) for s in found]
        if cell in drawn:
            lines += [line(s, named) for s in found if s.matrix == shown]
    return made, lines, absent


Cell = tuple[str, str, float, int]  # study, arm, length, seed


def available(tables: grid.Tables, runs: Path) -> tuple[list[tuple[Cell, RunRow, Path]], list[str]]:
    """Runs of the study with the checkpoint they were scored at, and reasons why others cannot be analysed."""
    ready, absent = [], []
    for name, _ in tables.scale.settings:
        for (arm, length, seed), run in sorted(grid.cells(tables, name).items()):
            folder = runs / tables.scale.name / run.run
            path = folder / "checkpoints" / f"step_{run.step:06d}"
            if not path.is_dir():
                absent.append(f"{run.run}: no checkpoint at {path}")
            elif (digest := _digest(folder)) != run.digest:
                absent.append(f"{run.run}: {folder} holds digest {digest}, the collected scores are of {run.digest}")
            else:
                ready.append(((name, arm, length, seed), run, path))
    return ready, absent


def _digest(folder: Path) -> str:
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise FileNotFoundError(f"{folder} has checkpoints but no manifest.json; remove it and run again")
    return str(json.loads(manifest.read_text())["digest"])


def _drawn(scale: Scale, cells: Sequence[Cell]) -> set[Cell]:
    """Cells whose whole spectra are kept: full at both ends and the highest rank at the longest, one seed."""
    top = f"r{max(scale.ranks)}"
    chosen = set()
    for name, setting in scale.settings:
        ends = (min(setting.lengths), max(setting.lengths))
        wanted = [("full", ends[0]), ("full", ends[1]), (top, ends[1])]
        for arm, length in wanted:
            own = sorted(c for c in cells if c[:3] == (name, arm, length))
            chosen |= set(own[:1])
    return chosen


def _named(cell: Cell, run: RunRow) -> rows.Row:
    name, arm, length, seed = cell
    return {
        "study": name, "run": run.run, "arm": arm, "rank": run.rank, "seed": seed, "length": length, "step": run.step,
        "tokens": run.tokens,
    }  # fmt: skip


def _shape(matrix: torch.Tensor) -> tuple[int, int]:
    return int(matrix.shape[0]), int(matrix.shape[1])


def table(made: Sequence[rows.Row]) -> str:
    """Means over layers of every kind of matrix, as text; a warning where ranks are those of rounding."""
    lines = [f"{'':<8}{'matrix':<11}{'shape':<13}{'rank90':>7}{'noise':>7}{'unsq.':>7}{'eff.':>8}{'noise':>8}"
             f"{'stable':>8}{'moved':>7}{'floor':>9}"]  # fmt: skip
    groups: dict[tuple[str, str], list[rows.Row]] = {}
    for found in made:
        groups.setdefault((found["which"], found["module"]), []).append(found)
    for (which, module), group in groups.items():
        numbers = {k: np.mean([r[k] for r in group]) for k in group[0] if _number(group[0][k])}
        shape = f"{group[0]['rows']}x{group[0]['cols']}"
        text = (
            f"{which:<8}{module:<11}{shape:<13}{numbers['rank90']:>7.0f}{numbers['rank90_noise']:>7.0f}"
            f"{numbers['rank90_unsquared']:>7.0f}{numbers['effective_rank']:>8.1f}{numbers['effective_rank_noise']:>8.1f}"
            f"{numbers['stable_rank']:>8.1f}"
        )
        if which == "change":
            text += f"{numbers['share_moved']:>7.3f}{numbers['floor_ratio']:>9.1e}"
        lines.append(text)
    worst = max((r["floor_ratio"] for r in made if r["floor_ratio"] is not None), default=0.0)
    if worst >= FLOOR:
        lines.append(
            f"Rounding reaches {worst:.2f} of the change; from {FLOOR} on a rank is the rounding's, not the change's."
        )
    return "\n".join(lines)


def by_arm(made: Sequence[rows.Row]) -> str:
    """Mean rank of the change over all matrices, for every study, arm and length, as text."""
    lines = [
        f"{'study':<10}{'arm':<6}{'length':>9}{'rank90':>8}{'noise':>7}{'eff.':>8}{'noise':>8}{'stable':>8}{'noise':>8}"
    ]
    groups: dict[tuple[str, str, float], list[rows.Row]] = {}
    for found in made:
        if found["which"] == "change":
            groups.setdefault((found["study"], found["arm"], found["length"]), []).append(found)
    for (study, arm, length), group in groups.items():
        columns = ("rank90", "effective_rank", "stable_rank")
        means = [np.mean([r[name + end] for r in group]) for name in columns for end in ("", "_noise")]
        lines.append(
            f"{study:<10}{arm:<6}{number(length):>9}{means[0]:>8.1f}{means[1]:>7.1f}"
            + "".join(f"{m:>8.1f}" for m in means[2:])
        )
    return "\n".join(lines)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def write(tables: grid.Tables, where: command.Places) -> str:
    """Write `spectra.jsonl` and `spectrum_lines.jsonl` where checkpoints are there; returns what was done."""
    made, lines, absent = study(tables, where.runs)
    if not made:
        reason = absent[0] if absent else "no collected runs"
        return f"spectra: skipped, tracked rows kept ({len(absent)} runs without checkpoints; {reason})"
    rows.write(where.out / "spectra.jsonl", made)
    rows.write(where.out / "spectrum_lines.jsonl", lines)
    left = f"; {len(absent)} runs left out, the first: {absent[0]}" if absent else ""
    return f"spectra: {len(made)} rows{left}"


def main() -> None:
    """Analyse the study's runs, or one pair of folders."""
    options = command.parser(__doc__)
    options.add_argument("--base", help="base model: folder, or a model in the hub cache")
    options.add_argument("--tuned", help="tuned model or LoRA adapter of the base: folder, or in the hub cache")
    options.add_argument("--rows", type=Path, help="also write the pair's rows to this file")
    args = options.parse_args()
    if bool(args.base) != bool(args.tuned):
        options.error("--base and --tuned go together")
    if not args.base:
        places = command.resolve(args)
        print(write(grid.load(places.scale, places.results), places))
        print(by_arm(rows.read(places.out / "spectra.jsonl")))
        return
    try:
        found = of_pair(weights.folder(args.base), weights.folder(args.tuned))
    except (FileNotFoundError, ValueError) as error:
        options.error(str(error))
    made = [row(s, {"base": args.base, "tuned": args.tuned}) for s in found]
    print(table(made))
    if args.rows:
        rows.write(args.rows, made)


if __name__ == "__main__":
    command.run(main)
