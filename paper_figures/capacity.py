"""Capacity: is LoRA behind where the data ask for more bits than its weights hold? ("LoRA Without Regret")

Across: the bits of the data, as the base sees them, over what the adapter can hold (2 bits per trained weight; the
pale bar reaches to 1 bit). Up: how far LoRA stays behind full fine-tuning trained as long. The rule predicts marks on
the dashed zero at the left of 1, and above it at the right. A line joins the lengths of one rank.
"""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "capacity"
NEEDS = ("capacity",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure, a panel per setting."""
    rows = [row for row in inputs.tables["capacity"] if row["study"] in dict(inputs.scale.settings)]
    usable = [row for row in rows if row.get("gap_to_full") is not None and row["arm"] != "full"]
    return {STEM: Picture({"capacity": usable}, partial(draw, usable, inputs.scale))} if usable else {}


def missing(inputs: Inputs) -> list[str]:
    """LoRA arms whose capacity was not compared."""
    present = {(row["study"], row["arm"]) for row in inputs.tables["capacity"]}
    lora = [arm for arm in table.arms(inputs.scale) if arm != "full"]
    return [f"{study} {arm}" for study, _ in inputs.scale.settings for arm in lora if (study, arm) not in present]


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Gap to full fine-tuning against the ratio of bits."""
    settings = [(study, s) for study, s in scale.settings if table.select(rows, study=study)]
    with style.look():
        figure, panels = style.panels(len(settings), columns=min(2, len(settings)), height=1.95)
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            for arm in table.arms(scale):
                _line(axes, table.by_length(table.select(rows, study=study, arm=arm)), scale)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            style.baseline(axes, 0.0)
            axes.axvline(1.0, color=style.MUTED, linestyle=":", linewidth=1.0)
            style.title(axes, place, setting.title)
            axes.set_xlabel("bits of the data / capacity")
            axes.set_ylabel("full minus LoRA (score)")
        arms = [arm for arm in table.arms(scale)[::-1] if table.select(rows, arm=arm)]
        style.legend(figure, style.arms(arms, scale.ranks))
        return style.finish(figure)


def _line(axes: Axes, rows: list[Row], scale: Scale) -> None:
    if not rows:
        return
    tint = style.colour(rows[0]["arm"], scale.ranks)
    for row in rows:
        most, gap = row["ratio"] * row["bits"] / row["bits_low"], row["gap_to_full"]
        axes.plot([row["ratio"], most], [gap, gap], color=tint, linewidth=2.2, alpha=0.25, zorder=2)
        style.whisker(axes, row["ratio"], row, tint)
    axes.plot(
        [row["ratio"] for row in rows], [row["gap_to_full"] for row in rows], color=tint, linewidth=1.0,
        marker=style.marker(rows[0]["arm"], scale.ranks), markersize=4.4, zorder=4,
    )  # fmt: skip
