"""Learning-rate sweeps: the rate of every arm is chosen by the held-out loss on its target, never by forgetting.

As the paper chose (by the target, highest stable rate; its sweeps ran 2 epochs). The sweep uses seeds of its own, so
that no run of the study helped to choose its own rate. All rates are also scored on forgetting, because a claim about
forgetting at one rate is a claim about that rate: the trade-off figure shows the whole sweep.
"""

from __future__ import annotations

from dataclasses import replace

from experiments import sides
from experiments.arms import arms, base_run
from replication.config import Run
from replication.scale import Scale, Setting

SUFFIX = ".learning_rates"
FIRST_SEED = 100


def runs(scale: Scale, seed: int) -> list[Run]:
    """Every arm of every setting at every rate of its sweep, cooldown included.

    The length is the setting's `sweep_length`, else its middle length.
    """
    found = []
    for study, setting in scale.settings:
        middle = sorted(setting.lengths)[len(setting.lengths) // 2]
        length = middle if setting.sweep_length is None else setting.sweep_length
        for arm in arms(scale, setting):
            for lr in rates(scale, study, setting, arm):
                run = base_run(scale, study + SUFFIX, setting, arm, FIRST_SEED + seed, lr=lr)
                run = sides.varied(scale, arm, run)
                found.append(replace(run, budget=replace(run.budget, amount=length)))
    return found


def rates(scale: Scale, name: str, setting: Setting, arm: str) -> tuple[float, ...]:
    """The rates at which an arm is swept: those of its setting ("ift_code/r16"), else of its regime ("ift/r16")."""
    swept = dict(scale.sweep_rates)
    return swept.get(f"{name}/{arm}", swept.get(f"{setting.regime}/{arm}", ()))


def setting_of(study: str) -> str:
    """The setting that a sweep or an ablation varies ("ift_code.alpha"); a setting is its own."""
    return study.split(".")[0]
