"""Score against training length, one panel per setting: the picture behind figures 1 and 2.

One line per arm through its rows, a whisker where the row has an interval, the base dashed, the paper's values pale
where they are comparable. Arms are moved apart sideways by a few per cent so that whiskers do not hide each other;
the ticks show the true lengths.
"""

from __future__ import annotations

import math
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures import published, style
from paper_figures import rows as table
from paper_figures.picture import Picture
from paper_figures.rows import Row
from replication.scale import Scale, Setting

# Axes that are evals with a spelling of their own.
NAMES = {"mmlu": "MMLU", "mt_bench": "MT-bench"}
# Sideways distance between neighbouring arms, in doublings of the length.
_DODGE = 0.045


def each(rows: list[Row], scale: Scale, axes: dict[str, str]) -> dict[str, Picture]:
    """A picture for each stem whose axis of the curves table has rows."""
    known = [row for row in rows if row["study"] in dict(scale.settings)]
    found = {stem: table.select(known, axis=axis) for stem, axis in axes.items()}
    return {
        stem: Picture({"curves": chosen}, partial(draw, chosen, scale, axis=axes[stem]))
        for stem, chosen in found.items()
        if chosen
    }


def draw(rows: list[Row], scale: Scale, *, axis: str) -> Figure:
    """Every setting's lines on one axis of the curves table ("learning", "forgetting", "source_loss", an eval)."""
    chosen = table.select(rows, axis=axis)
    settings = [(study, s) for study, s in scale.settings if table.select(chosen, study=study)]
    with style.look():
        figure, panels = style.panels(len(settings), height=1.85)
        beside = False
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            own = table.select(chosen, study=study)
            beside |= published.draw(axes, scale, study, axis)
            lines(axes, own, scale, setting)
            style.title(axes, place, setting.title)
            axes.set_ylabel(quantity(axis, setting, own))
        drawn = [arm for arm in table.arms(scale) if table.select(chosen, arm=arm)]
        keys = style.arms([*drawn[::-1], "base"], scale.ranks)
        style.legend(figure, [*keys, published.key()] if beside else keys)
        return style.finish(figure)


def lines(axes: Axes, rows: list[Row], scale: Scale, setting: Setting) -> None:
    """One panel: a line per arm over the lengths of the setting, and the base."""
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
        size = 5.6 if arm == "full" else 4.6
        axes.plot(
            [n * shift for n in lengths], values, color=tint, marker=style.marker(arm, scale.ranks), markersize=size,
            markeredgecolor=style.PAPER, markeredgewidth=0.6, zorder=4 if arm == "full" else 3,
        )  # fmt: skip
    style.baseline(axes, base(rows))
    style.length_axis(axes, setting.lengths, table.unit(setting))


def base(rows: list[Row]) -> float | None:
    """The base's value on the axis of these rows, where one is known."""
    return next((row["base"] for row in rows if row.get("base") is not None), None)


def quantity(axis: str, setting: Setting, rows: list[Row]) -> str:
    """What a panel measures, for its axis: the eval and its metric."""
    metric = rows[0]["metric"].replace("_", " ").replace("nats per token", "nats/token")
    if axis == "forgetting":
        return f"source evals ({metric})"
    names = {"learning": setting.target, "target_loss": "target loss", "source_loss": "source loss"} | NAMES
    return f"{names.get(axis, axis).replace('_', ' ')} ({metric})"
