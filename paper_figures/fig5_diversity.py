"""Figure 5, diversity: how many of the samples of a problem are different strings.

Correct and incorrect samples apart, as in the paper. One row per arm, the base on top; the filled mark is the
longest training, smaller marks behind it the shorter ones. Limits fit the data of their panel, so that counts near one
can be told apart; compare numbers, not lengths, across panels. The number of problems with a sample of that outcome
stands at the right: arms that solve other problems are averaged over other problems.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale
from replication.specs import Code

STEM = "fig5_diversity"
NEEDS = ("diversity",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One row of panels per setting with generated programs: correct at the left, incorrect at the right."""
    rows = [row for row in inputs.tables["diversity"] if row["study"] in dict(inputs.scale.settings)]
    return {STEM: Picture({"diversity": rows}, partial(draw, rows, inputs.scale))} if rows else {}


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Two panels per setting that has rows."""
    settings = [(study, s) for study, s in scale.settings if table.select(rows, study=study)]
    with style.look():
        figure, panels = style.panels(2 * len(settings), columns=2, height=0.24 * (len(scale.ranks) + 2) + 0.55)
        for place, axes in enumerate(panels):
            study, setting = settings[place // 2]
            outcome = ("correct", "incorrect")[place % 2]
            own = table.select(rows, study=study, outcome=outcome)
            _panel(axes, own, scale, named=place % 2 == 0)
            style.title(axes, place, f"{setting.title}: {outcome}")
        style.legend(figure, _keys())
        return style.finish(figure)


def missing(inputs: Inputs) -> list[str]:
    """Cells of the grid without a count, among settings whose target is generated code."""
    scale = inputs.scale
    coded = {study for study, setting in scale.settings if isinstance(scale.eval(setting.target), Code)}
    gaps = table.missing(inputs.tables["diversity"], scale)
    return [gap for gap in gaps if gap.split(" ")[0] in coded]


def _panel(axes: Axes, rows: list[Row], scale: Scale, *, named: bool) -> None:
    order = ["base", *table.arms(scale)]
    for height, arm in enumerate(order):
        line = table.by_length(table.select(rows, arm=arm))
        for row in line:
            _mark(axes, height, row, scale, longest=row is line[-1])
        if line:
            axes.annotate(
                f"{line[-1]['problems']:.0f} problems", (1.0, height), xycoords=("axes fraction", "data"),
                xytext=(4, 0), textcoords="offset points", va="center", fontsize=style.SMALL, color=style.MUTED,
            )  # fmt: skip
    axes.set_yticks(range(len(order)), [style.label(arm) if named else "" for arm in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(*_range(rows))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    samples = max((row["samples"] for row in rows), default=0)
    axes.set_xlabel(f"different strings among {samples} samples" if samples else "no rows")
    axes.grid(visible=False, axis="y")


def _range(rows: list[Row]) -> tuple[float, float]:
    """Limits that hold every mark and every interval drawn, with a margin."""
    longest = {row["arm"]: row for row in table.by_length(rows)}.values()
    ends = [row["unique"] for row in rows] + [row[n] for row in longest for n in ("low", "high") if row[n] is not None]
    ends = ends or [0.0, 1.0]
    margin = 0.06 * (max(ends) - min(ends)) or 0.5
    return min(ends) - margin, max(ends) + margin


def _keys() -> list[Line2D]:
    look: dict[str, Any] = {"color": style.MUTED, "marker": "o", "markeredgecolor": style.PAPER}
    return [
        Line2D([], [], linewidth=1.0, markersize=5.6, label="longest training, 95 % interval", **look),
        Line2D([], [], linestyle="none", markersize=3.6, alpha=0.6, label="shorter training", **look),
    ]


def _mark(axes: Axes, height: int, row: Row, scale: Scale, *, longest: bool) -> None:
    tint, mark = style.colour(row["arm"], scale.ranks), style.marker(row["arm"], scale.ranks)
    if longest and row.get("low") is not None:
        axes.plot([row["low"], row["high"]], [height, height], color=tint, linewidth=1.0, zorder=2)
    axes.scatter(
        row["unique"], height, s=32 if longest else 11, marker="o" if row["arm"] == "base" else mark, color=tint,
        alpha=1.0 if longest else 0.45, linewidth=0.5, edgecolor=style.PAPER, zorder=4 if longest else 3,
    )  # fmt: skip
