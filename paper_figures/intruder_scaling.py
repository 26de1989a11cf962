"""Scaling one direction: does shrinking the top intruder give back what was forgotten? (Shuttleworth et al., 2024)

The change of each score against the run as trained (factor 1), when the top intruder of every matrix is scaled by the
factor; dashed is the control, the neighbouring direction of the base scaled the same. The claim is about the distance
between solid and dashed, not about the solid line. Lines are the run of one seed, with the interval of its own items;
other seeds, scaled by fewer factors, are small pale marks.
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
# How far right of the line the marks of other seeds stand, in factors.
_ASIDE = 0.045
_AXES = ("learning", "forgetting", "source_loss")


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure: a row of panels per setting, one panel per axis."""
    rows = [row for row in inputs.tables["intruder_scaling"] if row["study"] in dict(inputs.scale.settings)]
    return {STEM: Picture({"intruder_scaling": rows}, partial(draw, rows, inputs.scale))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """Nothing is expected: which runs are scaled is the analysis's choice."""
    return []


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Change against the factor, intruder solid, neighbour dashed; a line per arm, other seeds as marks."""
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
        style.legend(figure, [*style.arms(arms, scale.ranks), *_keys(rows)])
        return style.finish(figure)


def _panel(axes: Axes, rows: list[Row], scale: Scale) -> None:
    first = _first(rows)
    for run, direction in sorted({(row["run"], row["direction"]) for row in rows}):
        line = sorted(table.select(rows, run=run, direction=direction), key=lambda row: row["factor"])
        (_line if run in first else _others)(axes, line, scale)
    style.baseline(axes, 0.0)
    factors = sorted({row["factor"] for row in rows})
    axes.set_xticks(factors, [f"{factor:g}" for factor in factors])
    axes.set_xlabel("factor λ on the direction")


def _first(rows: list[Row]) -> set[str]:
    """The run of each arm that was scaled by most factors, of equals the first seed."""
    factors: dict[tuple[str, int, str], set[float]] = {}
    for row in rows:
        factors.setdefault((row["arm"], row["seed"], row["run"]), set()).add(row["factor"])
    order = sorted(factors, key=lambda key: (-len(factors[key]), key[1], key[2]))
    return {next(run for arm, _, run in order if arm == own) for own in {key[0] for key in order}}


def _line(axes: Axes, line: list[Row], scale: Scale) -> None:
    arm, control = line[0]["arm"], line[0]["direction"] != "intruder"
    tint, across = style.colour(arm, scale.ranks), _across(line, scale)
    for x, row in zip(across, line, strict=True):
        style.whisker(axes, x, row, tint)
    axes.plot(
        across, [row["change"] for row in line], color=tint, markersize=4, marker=style.marker(arm, scale.ranks),
        linewidth=1.0 if control else 1.3, zorder=3, **style.variant(int(control)),
    )  # fmt: skip


def _others(axes: Axes, line: list[Row], scale: Scale) -> None:
    """Marks of another seed; it was scaled by few factors, and a line from them to 1 would look measured."""
    scaled, arm = [row for row in line if row["factor"] != 1], line[0]["arm"]
    look = style.variant(int(line[0]["direction"] != "intruder")) | {"linestyle": "none"}
    axes.plot(
        [x + _ASIDE for x in _across(scaled, scale)], [row["change"] for row in scaled], alpha=0.6, zorder=2,
        color=style.colour(arm, scale.ranks), marker=style.marker(arm, scale.ranks), markersize=2.8, **look,
    )  # fmt: skip


def _across(line: list[Row], scale: Scale) -> list[float]:
    """The factors, each arm and direction moved a little sideways so that marks do not hide each other."""
    arms = table.arms(scale)
    shift = 0.012 * (arms.index(line[0]["arm"]) - (len(arms) - 1) / 2) if line else 0.0
    return [row["factor"] + shift + (0.006 if row["direction"] != "intruder" else 0.0) for row in line]


def _keys(rows: list[Row]) -> list[Line2D]:
    look: dict[str, Any] = {"color": style.MUTED, "marker": "o"}
    keys = [
        Line2D([], [], label="top intruder", **look, **style.variant(0)),
        Line2D([], [], label="neighbour of the base", **look, **style.variant(1)),
    ]
    if len({row["seed"] for row in rows}) > 1:
        keys.append(Line2D([], [], linestyle="none", markersize=2.8, alpha=0.6, label="other seeds", **look))
    return keys
