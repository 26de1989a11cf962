"""Scaling one direction: does shrinking the top intruder give back what was forgotten? (Shuttleworth et al., 2024)

The change of each score against the run as trained (factor 1), when the top intruder of every matrix is scaled by the
factor; dashed is the control, the neighbouring direction of the base scaled the same. The claim is about the distance
between solid and dashed, not about the solid line.
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
from replication.scale import Scale

STEM = "intruder_scaling"
NEEDS = ("intruder_scaling",)
_NAMES = {"learning": "target score", "forgetting": "source evals", "source_loss": "source loss"}
_AXES = ("learning", "forgetting", "source_loss")


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure: a row of panels per setting, one panel per axis."""
    rows = [row for row in inputs.tables["intruder_scaling"] if row["study"] in dict(inputs.scale.settings)]
    return {STEM: Picture({"intruder_scaling": rows}, partial(draw, rows, inputs.scale))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """Nothing is expected: which runs are scaled is the analysis's choice."""
    return []


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Change against the factor, intruder solid, neighbour dashed; one line per run."""
    settings = [(study, s) for study, s in scale.settings if table.select(rows, study=study)]
    axes_names = [axis for axis in _AXES if table.select(rows, axis=axis)]
    with style.look():
        count = len(settings) * len(axes_names)
        figure, panels = style.panels(count, columns=len(axes_names), height=1.9, width=style.PAGE)
        for place, axes in enumerate(panels):
            (study, setting), axis = settings[place // len(axes_names)], axes_names[place % len(axes_names)]
            own = table.select(rows, study=study, axis=axis)
            _panel(axes, own, scale)
            style.title(axes, place, setting.title)
            axes.set_ylabel(f"change of {_NAMES[axis]}")
        arms = [arm for arm in table.arms(scale)[::-1] if table.select(rows, arm=arm)]
        style.legend(figure, [*style.arms(arms, scale.ranks), *_keys()])
        return style.finish(figure)


def _panel(axes: Axes, rows: list[Row], scale: Scale) -> None:
    arms = table.arms(scale)
    for run, direction in sorted({(row["run"], row["direction"]) for row in rows}):
        line = sorted(table.select(rows, run=run, direction=direction), key=lambda row: row["factor"])
        arm, control = line[0]["arm"], direction != "intruder"
        tint = style.colour(arm, scale.ranks)
        shift = 0.012 * (arms.index(arm) - (len(arms) - 1) / 2) + (0.006 if control else 0.0)
        for row in line:
            style.whisker(axes, row["factor"] + shift, row, tint)
        axes.plot(
            [row["factor"] + shift for row in line], [row["change"] for row in line], color=tint, markersize=4,
            marker=style.marker(arm, scale.ranks), linewidth=1.0 if control else 1.3, zorder=3,
            **style.variant(int(control)),
        )  # fmt: skip
    style.baseline(axes, 0.0)
    axes.set_xlabel("factor λ on the direction")


def _keys() -> list[Line2D]:
    look: dict[str, Any] = {"color": style.MUTED, "marker": "o"}
    return [
        Line2D([], [], label="top intruder", **look, **style.variant(0)),
        Line2D([], [], label="neighbour of the base", **look, **style.variant(1)),
    ]
