"""The paper's own scores as a light overlay, where axis and lengths are the paper's.

A setting is comparable if the paper has it, asks the same questions of it and trained it for these lengths; the
model may be another one. The scale that consists of the paper's numbers needs no overlay.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from experiments import paper
from paper_figures import rows as table
from paper_figures import style
from replication.scale import Scale, Setting


def values(scale: Scale, study: str, axis: str) -> dict[tuple[str, float], float]:
    """The paper's score of each (arm, length) of this setting, for the arms that the scale has; often none."""
    setting = dict(scale.settings)[study]
    quantity = {"learning": setting.target, "forgetting": "forgetting"}.get(axis)
    if scale.name == table.REPORTED or not _same(scale, study, setting, axis):
        return {}
    arms = {"full", *(f"r{rank}" for rank in scale.ranks)}
    return {
        (row.method, row.length): row.value
        for row in paper.REPORTED
        if row.setting == study and row.quantity == quantity and row.method in arms
    }


def draw(axes: Axes, scale: Scale, study: str, axis: str) -> bool:
    """Pale lines of the paper's scores in the colours of the arms; False where nothing is comparable."""
    found = values(scale, study, axis)
    for arm in sorted({arm for arm, _ in found}):
        line = sorted((length, value) for (own, length), value in found.items() if own == arm)
        axes.plot(
            *zip(*line, strict=True), color=style.colour(arm, scale.ranks), alpha=0.3, linewidth=2.6,
            solid_capstyle="round", zorder=1,
        )  # fmt: skip
    return bool(found)


def key() -> Line2D:
    """Legend entry of the overlay."""
    return Line2D([], [], color=style.MUTED, alpha=0.35, linewidth=2.6, label="the paper's values")


def _same(scale: Scale, study: str, setting: Setting, axis: str) -> bool:
    if study not in paper.UNITS or not set(setting.lengths) <= set(paper.lengths(study)):
        return False
    if axis == "learning":
        return setting.target == {"code": "humaneval", "math": "gsm8k"}.get(setting.domain)
    return axis == "forgetting" and set(scale.forgetting) == set(paper.FORGETTING)
