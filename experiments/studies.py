"""From a study's name to its runs. The settings of the scale are studies; so are the sweep over their rates and the
ablations that the scale names."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from experiments import ablations, cpt, ift, sides, sweeps
from replication.config import Run
from replication.scale import Scale

MAIN = "study"  # of a side study's scale: that study
SWEEP = "learning_rates"


def names(scale: Scale) -> dict[str, str]:
    """Every study of a scale and the question it asks."""
    settings = {name: f"{setting.title}: does LoRA learn less and forget less?" for name, setting in scale.settings}
    if not settings or scale.printed:
        return {}
    if scale.side:
        swept = (
            {SWEEP: "which learning rate suits each arm, by loss on its validation data?"} if scale.sweep_rates else {}
        )
        return {scale.side: sides.question(scale.side), **swept}
    judge = "held-out target loss" if any(setting.target_loss for _, setting in scale.settings) else "target score"
    sweep = {SWEEP: f"which learning rate suits each arm, by {judge}?"} if scale.sweep_rates else {}
    return {
        MAIN: "all settings below: the paper's figures 1, 2, 3, 5, 6",
        **settings,
        **sweep,
        **ablations.names(scale),
    }


def runs(study: str, scale: Scale, *, seeds: int) -> list[Run]:
    """All runs of a study, parents before their branches.

    Raises:
        ValueError: no such study; the message lists those there are.
    """
    known = names(scale)
    if not known:
        raise ValueError(f"scale {scale.name!r} has nothing to train; see `list`")
    study = scale.side if scale.side and study == MAIN else study
    if study not in known:
        raise ValueError(f"no study {study!r} at scale {scale.name!r}; there are {', '.join(known)}")
    if study == SWEEP:
        return [run for seed in range(seeds) for run in sweeps.runs(scale, seed)]
    if scale.side:
        return [run for seed in range(seeds) for run in sides.arms(scale, seed).values()]
    if study in scale.ablations:
        return [run for seed in range(seeds) for run in ablations.runs(study, scale, seed)]
    kinds = {"cpt": cpt.runs, "ift": ift.runs}
    return [
        run
        for seed in range(seeds)
        for name, setting in scale.settings
        if study in (MAIN, name)
        for run in kinds[setting.regime](scale, name, setting, seed)
    ]


def override(run: Run, assignments: Sequence[str]) -> Run:
    """A run with values replaced, as in `optim.lr=3e-4`.

    Raises:
        ValueError: an unknown key, or a value that the field cannot take.
    """
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ValueError(f"--set {assignment!r}; expected key=value, as in optim.lr=3e-4")
        run = _replaced(run, key.split("."), _value(text), key)
    return run


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _replaced(item: Any, path: list[str], value: Any, key: str) -> Any:
    known = [f.name for f in fields(item)]
    if path[0] not in known:
        there = f"it has {', '.join(known)}" if known else "it has none: take others out with --only"
        raise ValueError(f"--set {key}: {type(item).__name__} has no field {path[0]!r}; {there}")
    old = getattr(item, path[0])
    if len(path) > 1:
        if not is_dataclass(old):
            raise ValueError(f"--set {key}: {path[0]} is the value {old!r} and has no fields")
        return replace(item, **{path[0]: _replaced(old, path[1:], value, key)})
    if isinstance(value, bool) and not isinstance(old, bool):
        raise ValueError(f"--set {key}={value!r}; expected {'text' if old is None else f'a value like {old!r}'}")
    if old is not None and not isinstance(value, (type(old), int if isinstance(old, float) else type(old))):
        raise ValueError(f"--set {key}={value!r}; expected a value like {old!r}")
    return replace(item, **{path[0]: value})
