"""What a plan warns of, read off the runs alone: lengths in the warm-up, one rate for all arms, undivided batches."""

from __future__ import annotations

from typing import Any

from replication.config import Run, Trapezoid, number

Flag = dict[str, Any]


def flags(runs: list[Run], *, gpus: int) -> list[Flag]:
    """Every warning, with its kind, study, text and the runs or arms that it is about."""
    return [*in_warmup(runs), *one_rate(runs), *undivided(runs, gpus=gpus)]


def in_warmup(runs: list[Run]) -> list[Flag]:
    """Lengths whose cooldown would begin before the warm-up ends, which then wins (replication.optim)."""
    found: dict[str, Flag] = {}
    for run in runs:
        schedule = run.schedule
        if not isinstance(schedule, Trapezoid) or run.budget.unit == "epochs":
            continue
        steps = run.steps(run.budget.amount, sequences_per_epoch=1)
        left = round(schedule.cooldown * steps)
        if steps - left >= schedule.warmup:
            continue
        inside, first = steps <= schedule.warmup, schedule.warmup
        # The warm-up wins: step k of it has k / warmup of the peak, and a cooldown that starts after it is cut short.
        reached = (steps - 1) / first if inside else 1.0
        text = f"{run.study}: {number(float(f'{run.budget.amount:.3g}'))} {run.budget.unit} ({steps:,} steps) "
        text += (
            f"lies inside the warm-up of {first:,} steps: no cooldown, and the rate reaches {reached:.3f} of its peak"
            if inside
            else f"has {steps - first:,} of {left:,} cooldown steps left after the warm-up: it does not reach 0"
        )
        flag = {"kind": "in_warmup", "study": run.study, "steps": steps, "reached": reached, "text": text, "runs": []}
        found.setdefault(f"{run.study}/{steps}", flag)["runs"].append(run.name())
    return list(found.values())


def one_rate(runs: list[Run]) -> list[Flag]:
    """Studies whose full fine-tuning and LoRA train at the same rate, as the paper's code CPT does."""
    found = []
    for study in dict.fromkeys(run.study for run in runs):
        rates: dict[str, set[float]] = {}
        for run in runs:
            if run.study == study:
                rates.setdefault(run.method.label(), set()).add(run.optim.lr)
        full = rates.pop("full", set())
        same = [arm for arm, values in rates.items() if len(values) == 1 and values == full]
        if same:
            text = (
                f"{study}: full fine-tuning and {', '.join(same)} train at one rate, {number(min(full))}; the best "
                "rate of LoRA is about ten times that of full fine-tuning, so a gap between them may be the rate's"
            )
            found.append({"kind": "one_rate", "study": study, "text": text, "runs": same})
    return found


def undivided(runs: list[Run], *, gpus: int) -> list[Flag]:
    """Studies whose global batch is no whole number of micro-batches on every GPU."""
    found: dict[str, Flag] = {}
    for run in runs:
        if run.global_batch % (run.micro_batch * gpus) == 0:
            continue
        fits = max(n for n in range(1, gpus + 1) if run.global_batch % (run.micro_batch * n) == 0)
        text = (
            f"{run.study}: {run.global_batch} sequences do not divide into micro-batches of {run.micro_batch} on "
            f"{gpus} GPUs; take {fits}, or a smaller micro-batch"
        )
        flag = {"kind": "undivided", "study": run.study, "text": text, "runs": []}
        found.setdefault(run.study, flag)["runs"].append(run.name())
    return list(found.values())
