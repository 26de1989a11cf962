"""Continued pretraining: one trunk per arm and seed, and a cooldown branch for every length.

The paper trains once to the longest length and re-trains the last 20 % of each shorter one from the latest
checkpoint before it, with the rate going linearly to 0 (Appendix A of the paper). Here every length is such a branch,
the longest too, so that all points of a curve are made alike:

    trunk   0 ------- .8 L1 ------ .8 L2 ------------- .8 L3        constant rate after the warm-up
                        \\ L1        \\ L2                \\ L3       20 % cooldown each, scored at its end
"""

from __future__ import annotations

from dataclasses import replace

from experiments.arms import arms, base_run
from replication.config import Branch, Budget, Run, Trapezoid
from replication.scale import Scale, Setting


def runs(scale: Scale, study: str, setting: Setting, seed: int) -> list[Run]:
    """Trunk and branches of every arm of a CPT setting."""
    return [run for arm in arms(scale, setting) for run in of_arm(base_run(scale, study, setting, arm, seed), setting)]


def of_arm(run: Run, setting: Setting) -> list[Run]:
    """The trunk of one arm and a branch for every length of its setting."""
    schedule = setting.schedule
    if not isinstance(schedule, Trapezoid):
        raise ValueError(f"setting {run.study!r}: continued pretraining needs a Trapezoid schedule, not {schedule}")
    per_step = run.global_batch * run.seq_len
    steps = {length: max(2, round(length / per_step)) for length in setting.lengths}
    starts = {length: n - max(1, round(schedule.cooldown * n)) for length, n in steps.items()}
    trunk = replace(
        run,
        schedule=replace(schedule, cooldown=0.0),
        budget=Budget(max(starts.values()) * per_step, "tokens"),
        ladder=tuple(sorted({start * per_step for start in starts.values()})),
        evals=(),
    )
    branches = [
        replace(
            run,
            budget=Budget(steps[length] * per_step, "tokens"),
            branch=Branch(trunk.name(), starts[length] * per_step),
        )
        for length in setting.lengths
    ]
    return [trunk, *branches]
