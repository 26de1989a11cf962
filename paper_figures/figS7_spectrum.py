"""Figure S7, one matrix in full: singular values of the base, the tuned matrix and the change.

Left the values, right the share of the squared sum that the first k hold; the dotted line is at 90 %, where Figure 6
reads its rank. Dashed is pure noise of the size of the longest full fine-tuning's change.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "figS7_spectrum"
NEEDS = ("spectrum_lines",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """The first setting that has whole spectra (the paper shows code CPT)."""
    rows, scale = inputs.tables["spectrum_lines"], inputs.scale
    study = next((study for study, _ in scale.settings if table.select(rows, study=study)), None)
    if study is None:
        return {}
    own = table.by_length([*table.select(rows, study="base"), *table.select(rows, study=study)])
    return {STEM: Picture({"spectrum_lines": own}, partial(draw, own, scale, study=study))}


def draw(rows: list[Row], scale: Scale, *, study: str) -> Figure:
    """Left the singular values, right the share that the first k hold."""
    with style.look():
        figure, (left, right) = style.panels(2, columns=2, height=2.6)
        for row in rows:
            look = _look(row, scale, rows)
            _line(left, row["singular"], look)
            _line(right, shares(row["singular"]), look | {"label": None})
        _noise(left, right, rows)
        first = rows[0]
        style.title(left, 0, f"{dict(scale.settings)[study].title}: {first['module']}, layer {first['layer']}")
        style.title(right, 1, "share held by the first k")
        left.set_yscale("log")
        left.set_ylabel("singular value")
        right.axhline(0.9, color=style.MUTED, linestyle=":", linewidth=1.0)
        right.set_ylim(0, 1.03)
        right.set_ylabel("share of the squared sum")
        for axes in (left, right):
            axes.set_xlabel("k")
        style.legend(figure, left.get_legend_handles_labels()[0])
        return style.finish(figure)


def missing(inputs: Inputs) -> list[str]:
    """Nothing is expected beyond the table itself: which spectra are kept whole is the analysis's choice."""
    return []


def shares(singular: list[float]) -> list[float]:
    """Share of the squared sum held by the first k values, for k = 1, 2, ...

    >>> shares([2.0, 1.0, 1.0])
    [0.6666666666666666, 0.8333333333333334, 1.0]
    """
    total = math.fsum(value * value for value in singular)
    return [held / total for held in accumulate(value * value for value in singular)]


def _look(row: Row, scale: Scale, rows: list[Row]) -> dict[str, Any]:
    shortest = min((r["length"] for r in rows if r["arm"] == row["arm"]), default=row["length"])
    early = row["arm"] == "full" and row["length"] == shortest
    what = {"base": "base matrix", "tuned": "tuned matrix", "change": "change"}[row["which"]]
    who = (
        ""
        if row["which"] == "base"
        else f", {row['arm'] if row['arm'] == 'full' else style.label(row['arm'])}, {style.count(row['tokens'])} tokens"
    )
    return {
        "color": style.colour(row["arm"], scale.ranks), "label": what + who, "alpha": 0.45 if early else 1.0,
        "linewidth": 2.4 if row["which"] == "base" else 1.2, "linestyle": "-." if row["which"] == "tuned" else "-",
    }  # fmt: skip


def _noise(left: Axes, right: Axes, rows: list[Row]) -> None:
    changes = table.select(rows, arm="full", which="change")
    if changes:
        look: dict[str, Any] = {
            "color": style.MUTED,
            "linestyle": "--",
            "linewidth": 1.0,
            "label": "noise of that size",
        }
        _line(left, changes[-1]["noise"], look)
        _line(right, shares(changes[-1]["noise"]), look | {"label": None})


def _line(axes: Axes, values: list[float], look: dict[str, Any]) -> None:
    positive = [value for value in values if value > 0]
    axes.plot(range(1, len(positive) + 1), positive, marker="o" if len(positive) < 5 else "", markersize=3, **look)
