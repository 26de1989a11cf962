"""The side studies by name, each at the sizes it has: scales of their own beside those of the main study.

python -m experiments run whisper --scale pocket        the scale "whisper"
python -m experiments run whisper --scale desk          the scale "whisper-desk"
"""

from __future__ import annotations

from types import ModuleType

from experiments import distilbert, s2lora, throughput, whisper
from experiments.comparisons import Claim, Question
from replication.config import Run
from replication.scale import Scale

STUDIES: dict[str, ModuleType] = {
    "whisper": whisper,
    "distilbert": distilbert,
    "s2lora": s2lora,
    "throughput": throughput,
}
SCALES: dict[str, Scale] = {scale.name: scale for study in STUDIES.values() for scale in study.SCALES.values()}
CLAIMS: tuple[Claim, ...] = tuple(claim for study in STUDIES.values() for claim in study.CLAIMS)


def scale(study: str, size: str) -> Scale | None:
    """The scale of a side study at a size, such as "pocket"; None for other studies and for other names of scales.

    Raises:
        ValueError: the study has no such size.
    """
    module = STUDIES.get(study.split(".")[0])
    if module is None or size in SCALES or size.endswith(".py"):
        return None
    if size not in module.SCALES:
        raise ValueError(f"the side study {study!r} has no scale {size!r}; it has {', '.join(module.SCALES)}")
    return module.SCALES[size]


def size_of(scale: Scale) -> str | None:
    """The main study's scale that a side study's belongs to: "pocket" for "whisper"; None for a scale of one's own."""
    return next((size for size, own in STUDIES[scale.side].SCALES.items() if own.name == scale.name), None)


def beside(scale: Scale) -> dict[str, Scale]:
    """The side studies that are analysed with a scale: those of its size, or the one that a scale of one's own is."""
    if scale.side:
        return {scale.side: scale}
    return {study: module.SCALES[scale.name] for study, module in STUDIES.items() if scale.name in module.SCALES}


def arms(scale: Scale, seed: int) -> dict[str, Run]:
    """The runs of a side study by label."""
    return STUDIES[scale.side].arms(scale, seed)


def varied(scale: Scale, arm: str, run: Run) -> Run:
    """The run of an arm of a side study's setting where the arm is more than a method; else the run as it is."""
    return throughput.vary(arm, run) if scale.side == "throughput" else run


def reference(study: str, arm: str) -> str | None:
    """The arm whose losses an arm must repeat to rounding, where a study says so (`throughput.reference`)."""
    return throughput.reference(arm) if study == "throughput" else None


def questions(study: str) -> tuple[Question, ...]:
    """What a side study compares."""
    return STUDIES[study].QUESTIONS


def quantities(study: str) -> frozenset[str]:
    """The names of the estimates that a side study's questions have."""
    return frozenset(question.quantity for question in questions(study))


def question(study: str) -> str:
    """The question that a side study asks: the first line of its docstring."""
    return (STUDIES[study].__doc__ or "").split("\n")[0]
