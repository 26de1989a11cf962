"""Score against training length, one panel per setting: the picture behind figures 1 and 2.

One line per arm through its rows, a whisker where the row has an interval, the base dashed. Arms are moved apart
sideways by a few per cent so that whiskers do not hide each other; the ticks show the true lengths.
"""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures import rows as table
from paper_figures import style
from paper_figures.rows import Row
from replication.scale import Scale, Setting

# Sideways distance between neighbouring arms, in doublings of the length.
_DODGE = 0.045


def draw_each(rows: list[Row], scale: Scale, axes: dict[str, str]) -> dict[str, Figure]:
    """A figure for each stem whose axis has rows."""
    present = {row["axis"] for row in rows if row["study"] in dict(scale.settings)}
    return {stem: draw(rows, scale, axis=axis) for stem, axis in axes.items() if axis in present}


def draw(rows: list[Row], scale: Scale, *, axis: str) -> Figure:
    """Every setting's lines on one axis of the curves table ("learning", "forgetting", "source_loss", an eval)."""
    chosen = table.select(rows, axis=axis)
    settings = [(study, s) for study, s in scale.settings if table.select(chosen, study=study)]
    with style.look():
        figure, panels = style.panels(len(settings))
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            _panel(axes, table.select(chosen, study=study), scale, setting)
            style.title(axes, place, setting.title)
            axes.set_ylabel(_quantity(axis, setting, table.select(chosen, study=study)))
        drawn = [arm for arm in table.arms(scale) if table.select(chosen, arm=arm)]
        style.legend(figure, [*drawn[::-1], "base"], scale.ranks)
        return style.finish(figure)


def _panel(axes: Axes, rows: list[Row], scale: Scale, setting: Setting) -> None:
    arms = table.arms(scale)
    for place, arm in enumerate(arms):
        found = {row["length"]: row for row in table.select(rows, arm=arm)}
        shift = 2 ** (_DODGE * (place - (len(arms) - 1) / 2))
        tint = style.colour(arm, scale.ranks)
        for length, row in found.items():
            style.whisker(axes, length * shift, row, tint)
        # A missing length breaks the line; drawn through, it would look measured.
        lengths = sorted({*setting.lengths, *found})
        values = [found[length]["value"] if length in found else math.nan for length in lengths]
        # A triangle of the same width looks smaller than a disc.
        size = 7.5 if arm == "full" else 6
        axes.plot(
            [n * shift for n in lengths], values, color=tint, marker=style.marker(arm, scale.ranks), markersize=size,
            linewidth=1.8, markeredgecolor=style.PAPER, markeredgewidth=0.8, zorder=4 if arm == "full" else 3,
        )  # fmt: skip
    base = next((row["base"] for row in rows if row.get("base") is not None), None)
    if base is not None:
        axes.axhline(base, color=style.MUTED, linestyle="--", linewidth=1.3, zorder=1)
    style.length_axis(axes, setting.lengths, "tokens" if setting.regime == "cpt" else "epochs")


def _quantity(axis: str, setting: Setting, rows: list[Row]) -> str:
    metric = rows[0]["metric"].replace("_", " ")
    names = {"learning": setting.target, "target_loss": setting.target_loss, "forgetting": "mean of the source evals"}
    return f"{names.get(axis, axis).replace('_', ' ')} ({metric})"
