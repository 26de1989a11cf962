"""Instruction tuning: a separate run for every number of epochs, each with its own whole schedule.

The paper's Tulu mix is the exception: one run, scored on its way.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.arms import arms, base_run
from replication.config import Budget, Run
from replication.scale import Scale, Setting


def runs(scale: Scale, study: str, setting: Setting, seed: int) -> list[Run]:
    """One run per arm and length of an IFT setting; one per arm, with a ladder, where lengths are not separate."""
    if not setting.separate:
        longest = Budget(max(setting.lengths), "epochs")
        bases = [base_run(scale, study, setting, arm, seed) for arm in arms(scale, setting)]
        return [replace(run, budget=longest, ladder=setting.lengths) for run in bases]
    return [
        replace(base_run(scale, study, setting, arm, seed), budget=Budget(epochs, "epochs"))
        for arm in arms(scale, setting)
        for epochs in setting.lengths
    ]
