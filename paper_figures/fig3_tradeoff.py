"""Figure 3, the trade-off: learning against forgetting, every run of the study and of the rate sweep.

Up is more learnt, right is less forgotten, the star is the base. Filled marks are runs of the grid, larger for longer
training. Hollow marks are the learning-rate sweep: a claim about forgetting at one rate is a claim about that rate.
The grey steps join the runs that no other run beats on both axes, as `analysis` marked them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale, Setting

STEM = "fig3_tradeoff"
NEEDS = ("tradeoff",)

# Marker areas in points squared, shortest to longest training.
_SMALLEST, _LARGEST = 9.0, 48.0
# Axis of what was kept -> the field that marks the runs which no other beats on both axes.
_MARKS = {"forgetting": "on_front", "source_loss": "on_front_loss"}


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """Learning against the forgetting mean, and against the loss on the source where rows have it."""
    rows, scale = inputs.tables["tradeoff"], inputs.scale
    found = {}
    for stem, across in ((STEM, "forgetting"), (f"{STEM}_loss", "source_loss")):
        usable = [row for row in rows if row["study"] in dict(scale.settings) and row.get(across) is not None]
        if usable:
            found[stem] = Picture({"tradeoff": usable}, partial(draw, usable, scale, across=across))
    return found


def missing(inputs: Inputs) -> list[str]:
    """Cells of the grid without a point."""
    return table.missing(table.select(inputs.tables["tradeoff"], swept=False), inputs.scale)


def draw(rows: list[Row], scale: Scale, *, across: str) -> Figure:
    """One panel per setting; `across` is the field that stands for what was kept."""
    settings = [(study, s) for study, s in scale.settings if table.select(rows, study=study)]
    with style.look():
        figure, panels = style.panels(len(settings), height=2.15)
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            _panel(axes, table.select(rows, study=study), scale, setting, across=across)
            style.title(axes, place, setting.title)
        arms = [arm for arm in table.arms(scale) if table.select(rows, arm=arm)]
        style.legend(figure, [*style.arms(arms[::-1], scale.ranks), *_keys(rows, across)])
        return style.finish(figure)


def _panel(axes: Axes, rows: list[Row], scale: Scale, setting: Setting, *, across: str) -> None:
    _front(axes, rows, across)
    for row in table.select(rows, arm="base"):
        axes.scatter(row[across], row["learning"], s=60, marker="*", color=style.MUTED, zorder=3)
    for arm in table.arms(scale):
        tint, mark = style.colour(arm, scale.ranks), style.marker(arm, scale.ranks)
        for row in table.by_length(table.select(rows, arm=arm)):
            _cross(axes, row, across, tint)
            axes.scatter(
                row[across], row["learning"], s=_area(row["length"], setting.lengths), marker=mark,
                facecolor="none" if row["swept"] else tint, edgecolor=tint if row["swept"] else style.PAPER,
                linewidth=0.8 if row["swept"] else 0.5, zorder=3 if row["swept"] else 4,
            )  # fmt: skip
    if across == "forgetting":
        axes.set_xlabel("source evals (less forgotten →)")
    else:
        axes.invert_xaxis()
        axes.set_xlabel("source loss (less forgotten →)")
    axes.set_ylabel(f"{setting.target.replace('_', ' ')} (more learnt →)")


def _cross(axes: Axes, row: Row, across: str, tint: str) -> None:
    thin: dict[str, Any] = {"color": tint, "linewidth": 0.7, "alpha": 0.45, "zorder": 2}
    if row["swept"]:
        return
    if row.get("learning_low") is not None:
        axes.plot([row[across]] * 2, [row["learning_low"], row["learning_high"]], **thin)
    if across == "forgetting" and row.get("forgetting_low") is not None:
        axes.plot([row["forgetting_low"], row["forgetting_high"]], [row["learning"]] * 2, **thin)


def _front(axes: Axes, rows: list[Row], across: str) -> None:
    mark = _MARKS[across]
    front = sorted(((row[across], row["learning"]) for row in rows if row.get(mark)), reverse=across == "source_loss")
    if front:
        axes.step(*zip(*front, strict=True), where="pre", color=style.MUTED, linewidth=3.5, alpha=0.25, zorder=1)


def _area(length: float, lengths: tuple[float, ...]) -> float:
    shortest, longest = min(lengths), max(lengths)
    share = 1.0 if longest == shortest else (length - shortest) / (longest - shortest)
    return _SMALLEST + (_LARGEST - _SMALLEST) * min(1.0, max(0.0, share))


def _keys(rows: list[Row], across: str) -> list[Line2D]:
    grey: dict[str, Any] = {"color": style.MUTED, "marker": "o", "linestyle": "none", "markerfacecolor": "none"}
    keys = [Line2D([], [], color=style.MUTED, marker="*", linestyle="none", markersize=7.5, label="base")]
    if any(row["swept"] for row in rows):
        keys.append(Line2D([], [], label="rate sweep", **grey))
    if any(row.get(_MARKS[across]) for row in rows):
        keys.append(Line2D([], [], color=style.MUTED, linewidth=3.5, alpha=0.25, label="front"))
    return keys
