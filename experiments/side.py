"""What the side studies share: their runs by arm, and claims that one estimate decides.

A side study is a module with

    SCALES      size ("pocket", "desk") -> Scale, a whole study of its own: model, data, arms, rates, evals
    arms        (scale, seed) -> runs by label; `of_settings` unless the study says otherwise
    QUESTIONS   comparisons of two arms, estimated by `analysis/sides.py`
    CLAIMS      the original's headlines, decided by those estimates

Standard library and the configuration only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments import ift
from experiments.comparisons import Claim, Measured, Part, Rule
from replication.config import ASR, Run, Source
from replication.scale import Scale, Setting


def of_settings(scale: Scale, seed: int) -> dict[str, Run]:
    """Runs by label: the arm's name, followed by its length where a setting has several ("lora@5")."""
    found: dict[str, Run] = {}
    for name, setting in scale.settings:
        for run in ift.runs(scale, name, setting, seed):
            arm = next(label for label, method in setting.methods if method == run.method)
            found[arm if len(setting.lengths) == 1 else f"{arm}@{run.budget.amount:g}"] = run
    return found


def on_recordings(setting: Setting, train: Source, language: str | None, **own: Any) -> Setting:
    """A pocket setting of speech on real recordings: three epochs, clips too long for the model left out."""
    return replace(
        setting,
        title="Recordings" if language is None else f"Recordings, {language}",
        task=ASR(train, language=language, too_long="leave out"),
        lengths=(3.0,),
        micro_batch=8,
        **own,
    )


def fleurs(language: str, split: str, *, text: str = "transcription") -> Source:
    """FLEURS in a language ("hi_in"), as the hub converted it: the loading script of its main branch is no longer run.

    Sentences recur, so a clip is known by its file.
    """
    columns = (("text", text), ("id", "path"))
    return Source(f"google/fleurs/{language}", split=split, revision="refs/convert/parquet", columns=columns)


def part(
    name: str,
    statement: str,
    quantity: str,
    rule: Rule,
    smallest: float,
    unit: str,
    refuted_by: str,
    *,
    reference: float = 0.0,
    trained: bool = True,
    counts: bool = True,
) -> Part:
    """A part of a claim that the estimate of one question decides, less `reference`.

    `trained` is False for what does not depend on what a model learnt, such as speed.
    """
    measure = Measured(quantity, reference, trained, pooled=True, beside=True)
    return Part(name, statement, measure, rule, smallest, unit, refuted_by, counts=counts)


def claim(name: str, statement: str, source: str, parts: tuple[Part, ...], *, study: str) -> Claim:
    """A headline of a side study's original; `source` also says what the original left uncontrolled."""
    return Claim(name, statement, source, parts, family="side study", lacking=f"rows of the side study `{study}`")
