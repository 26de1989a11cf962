"""Is the high rank of full fine-tuning's change the method's, or the sign's? Ranks under LionW, AdamW and SGD.

LionW moves every weight by the sign of its momentum times the rate. The sign of a matrix of low rank is itself of high
rank: for a Gaussian one of rank 16 the energy rank is already about .30 of the width (`sign_share` measures it for a
shape), of the .51 that pure noise has. So the optimiser alone can make a change look full, and claim C8 about full
fine-tuning needs this control: the same trunk and branches by AdamW (steps nearly signs) and SGD (steps in proportion).

A longer run has a higher rank and a lower loss, so ranks are compared at equal held-out target loss: of each optimiser
the share rank90 / noise is interpolated in the target loss along its lengths, at five losses that all of them reach.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from analysis import command, effects, grid, rows, spectra
from experiments import sweeps
from replication.config import number
from replication.results import RunRow
from replication.stats import contrast

OPTIMISERS = ("lionw", "adamw", "sgd")
# Quantity -> the optimiser that LionW is compared with.
QUANTITIES = {"artefact_sign": "sgd", "artefact_adam": "adamw"}
POINTS = 5  # losses at which curves are compared, ends of the common range included
RANK = 16
SEED = 7


@dataclass(frozen=True)
class Measured:
    """A run by one optimiser: its held-out target loss, and per matrix its ranks as shares of noise's."""

    study: str
    optimiser: str
    run: RunRow
    length: float
    target_loss: float
    learning: float | None
    matrices: tuple[rows.Row, ...]

    @property
    def shares(self) -> np.ndarray:
        """rank90 over that of noise, in the order of the matrices, shape (matrices,)."""
        return np.array([m["rank90"] / m["rank90_noise"] for m in self.matrices])


def sign_share(shape: tuple[int, int], *, rank: int = RANK) -> float:
    """rank90 of the sign of a Gaussian matrix of low rank, over that of noise of its shape."""
    from analysis import singular

    rng = np.random.default_rng([SEED, *shape, rank])
    signs = np.sign(rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1])))
    noise = singular.measures(singular.noise(*shape), *shape)["rank90_noise"]
    return singular.rank_at_share(np.linalg.svd(signs, compute_uv=False), 0.9) / noise


def runs_of(tables: grid.Tables, study: str) -> list[tuple[str, float, RunRow]]:
    """Full fine-tuning runs of a setting by each optimiser, with the setting's length they belong to."""
    setting = grid.settings(tables.scale)[study]
    own: list[tuple[str, float, RunRow]] = [
        (tables.scale.optim, length, run)
        for (arm, length, _), run in sorted(grid.cells(tables, study).items())
        if arm == "full" and isinstance(run, RunRow)
    ]
    for run in tables.runs:
        if not isinstance(run, RunRow) or run.study != f"{study}.artefact" or run.trunk or run.method != "full":
            continue
        length = grid.length_of(run, setting)
        if length is not None:
            own.append((run.variant, length, run))
    return [one for one in own if one[0] in OPTIMISERS]


def study(tables: grid.Tables, where: command.Places) -> tuple[list[Measured], list[str]]:
    """Every run with a score and a checkpoint, measured; and why others are left out."""
    made, absent = [], []
    names = [sweeps.setting_of(n) for n in tables.scale.ablations if n.endswith(".artefact")]
    for name in names:
        for optimiser, length, run in tqdm(runs_of(tables, name), desc=f"ranks {name}", unit="run"):
            setting = grid.settings(tables.scale)[name]
            asked = grid.questions(tables.scale, setting, "target_loss")
            loss = grid.score(tables, grid.point(run), asked)
            folder = where.runs / tables.scale.name / run.run
            path = folder / "checkpoints" / f"step_{run.step:06d}"
            if loss is None:
                absent.append(f"{run.run}: no {asked[0][0]} score")
            elif not path.is_dir():
                absent.append(f"{run.run}: no checkpoint at {path}")
            elif spectra.digest(folder) != run.digest:
                absent.append(f"{run.run}: {folder} holds another configuration than the collected scores are of")
            else:
                learning = grid.score(tables, grid.point(run), grid.questions(tables.scale, setting, "learning"))
                found = _matrices(tables.scale.model, path, where.runs)
                made.append(Measured(name, optimiser, run, length, loss, learning, found))
    return made, absent


def _matrices(model: str, tuned: Path, runs: Path) -> tuple[rows.Row, ...]:
    """Spectra rows of the change, by matrix; the cache of the spectra keeps them."""
    from analysis import pair, weights

    works = pair.of_change(weights.folder(model), tuned)
    found = [pair.row(pair.Spectrum(w.matrix, w.which, pair.solve(w, runs / spectra.CACHE)), {}) for w in works]
    return tuple(sorted(found, key=lambda r: (r["layer"], r["module"])))


def table_rows(made: Sequence[Measured]) -> list[rows.Row]:
    """One row per run: means over matrices; `sign_share` is what the sign of a rank-16 matrix has in those shapes."""
    shapes = {(m["rows"], m["cols"]) for one in made for m in one.matrices}
    signs = {shape: sign_share(shape) for shape in shapes}
    return [
        {
            "study": one.study, "run": one.run.run, "optimiser": one.optimiser, "lr": one.run.lr, "seed": one.run.seed,
            "length": one.length, "target_loss": one.target_loss, "learning": one.learning,
            "rank90_share": float(one.shares.mean()),
            "effective_share": _mean(one, lambda m: m["effective_rank"] / m["effective_rank_noise"]),
            "stable_rank": _mean(one, lambda m: m["stable_rank"]),
            "frobenius": float(np.sqrt(sum(m["frobenius"] ** 2 for m in one.matrices))),
            "floor_ratio": max((m["floor_ratio"] for m in one.matrices if m["floor_ratio"] is not None), default=None),
            "sign_share": _mean(one, lambda m: signs[m["rows"], m["cols"]]),
        }
        for one in made
    ]  # fmt: skip


def _mean(one: Measured, of: Callable[[rows.Row], float]) -> float:
    return float(np.mean([of(m) for m in one.matrices]))


def effect_rows(made: Sequence[Measured]) -> list[rows.Row]:
    """LionW minus SGD and minus AdamW, of every setting in which their losses overlap."""
    found = []
    for name in dict.fromkeys(one.study for one in made):
        own = [one for one in made if one.study == name]
        present = [o for o in OPTIMISERS if any(one.optimiser == o for one in own)]
        chosen = {o: _at_best_rate([one for one in own if one.optimiser == o]) for o in present}
        for quantity, other in QUANTITIES.items():
            if other in chosen and OPTIMISERS[0] in chosen:
                found += _compared(quantity, name, chosen[OPTIMISERS[0]], chosen[other], other)
    return found


def _at_best_rate(own: Sequence[Measured]) -> list[Measured]:
    """The runs at the rate that ends at the lowest target loss, where an optimiser was tried at several."""
    longest = max(one.length for one in own)
    ends = {lr: [one.target_loss for one in own if (one.run.lr, one.length) == (lr, longest)]
            for lr in {one.run.lr for one in own}}  # fmt: skip
    best = min((lr for lr, losses in ends.items() if losses), key=lambda lr: float(np.mean(ends[lr])))
    return [one for one in own if one.run.lr == best]


def _compared(
    quantity: str, name: str, left: Sequence[Measured], right: Sequence[Measured], other: str
) -> list[rows.Row]:
    """One effect, or none where no seed has two lengths of each whose losses overlap."""
    by_seed, losses, means = [], [], []
    for seed in sorted({one.run.seed for one in left} & {one.run.seed for one in right}):
        sides = [[one for one in side if one.run.seed == seed] for side in (left, right)]
        common = overlap(*([one.target_loss for one in side] for side in sides))
        if common is None:
            continue
        at = np.linspace(*common, POINTS)
        shares = [at_losses([one.target_loss for one in s], np.array([one.shares for one in s]), at) for s in sides]
        by_seed.append((shares[0] - shares[1]).mean(axis=0))
        losses.append(common)
        means.append([side.mean() for side in shares])
    if not by_seed:
        return []
    low, high = np.mean(losses, axis=0)
    ours, theirs = np.mean(means, axis=0)
    words = (
        f"rank at 90 % as a share of noise's, full fine-tuning at equal target loss ({low:.3f} to {high:.3f}): LionW "
        f"{ours:.2f}, {other} {theirs:.2f}"
    )
    return [effects.row(quantity, name, words, contrast([np.array(by_seed)]))]


def overlap(left: Sequence[float], right: Sequence[float]) -> tuple[float, float] | None:
    """The range of losses that both curves reach, ascending; None where there is none, or a curve of one point."""
    low, high = max(min(left), min(right)), min(max(left), max(right))
    return (low, high) if low < high and min(len(left), len(right)) > 1 else None


def at_losses(losses: Sequence[float], shares: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Shares at given losses, linear between the measured ones.

    Args:
        losses: of every length, shape (lengths,).
        shares: shape (lengths, matrices).
        wanted: within the range of `losses`, shape (points,).

    Returns:
        shape (points, matrices).
    """
    order = np.argsort(losses)
    return np.stack([np.interp(wanted, np.array(losses)[order], column[order]) for column in shares.T], axis=1)


def write(tables: grid.Tables, where: command.Places) -> str:
    """Write `artefact` and `artefact_effects` where runs by more than one optimiser are on disk; says what was done."""
    make = f"`python -m experiments run <setting>.artefact --scale {tables.scale.name}` and `collect` make them"
    if importlib.util.find_spec("torch") is None:
        return "artefact: skipped, tracked rows kept (torch is not installed; `make install`)"
    made, absent = study(tables, where)
    file = where.out / "artefact.jsonl"
    gone = ({r["run"] for r in rows.read(file)} if file.is_file() else set()) - {one.run.run for one in made}
    if len({one.optimiser for one in made}) < 2 or gone & {run.run for run in tables.runs}:
        reason = absent[0] if absent else "no runs by AdamW or SGD are collected"
        return f"artefact: skipped, tracked rows kept ({reason}); {make}"
    listed, found = table_rows(made), effect_rows(made)
    rows.write(file, listed)
    rows.write(where.out / "artefact_effects.jsonl", found)
    missing = sorted(set(QUANTITIES) - {r["quantity"] for r in found})
    left = f"; no losses that both optimisers reach for {', '.join(missing)}" if missing else ""
    left += f"; {len(absent)} runs left out, the first: {absent[0]}" if absent else ""
    return f"artefact: {len(listed)} rows, {len(found)} effects{left}"


def table(listed: Sequence[rows.Row]) -> str:
    """Ranks by optimiser and length, means over seeds, as text."""
    lines = [
        f"{'study':<10}{'optimiser':<10}{'lr':>8}{'length':>9}{'seeds':>6}{'target loss':>12}{'rank90/noise':>13}"
        f"{'eff./noise':>11}{'stable':>8}{'|dW|':>8}"
    ]
    groups: dict[tuple[str, str, float, float], list[rows.Row]] = {}
    for row in listed:
        groups.setdefault((row["study"], row["optimiser"], row["lr"], row["length"]), []).append(row)
    fields = ("target_loss", "rank90_share", "effective_share", "stable_rank", "frobenius")
    for (name, optimiser, lr, length), group in sorted(groups.items()):
        means = [float(np.mean([r[f] for r in group])) for f in fields]
        lines.append(
            f"{name:<10}{optimiser:<10}{number(lr):>8}{number(length):>9}{len(group):>6}{means[0]:>12.3f}"
            f"{means[1]:>13.2f}{means[2]:>11.2f}{means[3]:>8.1f}{means[4]:>8.2f}"
        )
    if listed:
        share = float(np.mean([r["sign_share"] for r in listed]))
        lines.append(f"the sign of a rank-{RANK} matrix of these shapes has {share:.2f} of noise's rank")
    return "\n".join(lines)


def main() -> None:
    """Measure the ranks by optimiser and print them."""
    places = command.with_checkpoints(command.parser(__doc__).parse_args())
    print(write(grid.load(places.scale, places.results), places))
    command.show(places.out / "artefact.jsonl", table)


if __name__ == "__main__":
    command.run(main)
