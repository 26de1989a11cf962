"""Learning-rate sweeps: the rate of every arm is chosen by the held-out loss on its target, never by forgetting.

As the paper chose (by the target, highest stable rate; its sweeps ran 2 epochs). The sweep uses seeds of its own, so
that no run of the study helped to choose its own rate. All rates are also scored on forgetting, because a claim about
forgetting at one rate is a claim about that rate: the trade-off figure shows the whole sweep.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.arms import arms, base_run
from replication.config import Run
from replication.scale import Scale

SUFFIX = ".learning_rates"
FIRST_SEED = 100


def runs(scale: Scale, seed: int) -> list[Run]:
    """Every arm of every setting at every rate of its sweep, at the setting's middle length, cooldown included."""
    found = []
    rates = dict(scale.sweep_rates)
    for study, setting in scale.settings:
        middle = sorted(setting.lengths)[len(setting.lengths) // 2]
        for arm in arms(scale):
            for lr in rates.get(f"{setting.regime}/{arm}", ()):
                run = base_run(scale, study + SUFFIX, setting, arm, FIRST_SEED + seed, lr=lr)
                found.append(replace(run, budget=replace(run.budget, amount=middle)))
    return found


def setting_of(study: str) -> str:
    """The setting whose rates a sweep study compares; a setting is its own."""
    return study.removesuffix(SUFFIX)
