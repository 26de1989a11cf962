"""Figures S4 to S6, the instruction mix: MT-bench, GSM8K, MMLU and forgetting over the epochs of one run.

Drawn where a scale has rows of the mix on axes of its own (MT-bench, MMLU); without them figures 1 and 2 show it all.
"""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure

from experiments import paper
from paper_figures import lines, style
from paper_figures import rows as table
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "figS4_mix"
NEEDS = ("curves",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure for the mix, where its setting has rows."""
    rows = table.select(inputs.tables["curves"], study=paper.MIX)
    asked = [row for row in rows if not row["axis"].endswith("_loss")]
    if paper.MIX not in dict(inputs.scale.settings) or {row["axis"] for row in asked} <= {"learning", "forgetting"}:
        return {}
    return {STEM: Picture({"curves": asked}, partial(draw, asked, inputs.scale))}


def missing(inputs: Inputs) -> list[str]:
    """Nothing is expected beyond the grid, which figures 1 and 2 look over."""
    return []


def draw(rows: list[Row], scale: Scale) -> Figure:
    """One panel per axis."""
    setting = dict(scale.settings)[paper.MIX]
    axes_names = list(dict.fromkeys(row["axis"] for row in rows))
    with style.look():
        figure, panels = style.panels(len(axes_names), columns=2, height=1.9)
        for place, (axes, axis) in enumerate(zip(panels, axes_names, strict=True)):
            own = table.select(rows, axis=axis)
            lines.lines(axes, own, scale, setting)
            style.title(axes, place, f"{setting.title}: {lines.NAMES.get(axis, axis.replace('_', ' '))}")
            axes.set_ylabel(lines.quantity(axis, setting, own))
        arms = [arm for arm in table.arms(scale)[::-1] if table.select(rows, arm=arm)]
        style.legend(figure, style.arms([*arms, "base"], scale.ranks))
        return style.finish(figure)
