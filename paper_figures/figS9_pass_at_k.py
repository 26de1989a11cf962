"""Figure S9, pass@k: how often one of k samples is right.

A model that says one thing gains nothing from more samples: its line is flat. Lines that cross say that the model
with the better single answer knows fewer answers. One line per arm at its longest training, the base dashed.
"""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.config import number
from replication.scale import Scale

STEM = "figS9_pass_at_k"
NEEDS = ("pass_at_k",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One panel per setting with generated programs and sampling: the study's own, and hotter ones that were asked."""
    rows = []
    for study, name in _samplings(inputs.tables["pass_at_k"], inputs.scale):
        for arm in ("base", *table.arms(inputs.scale)):
            own = table.select(inputs.tables["pass_at_k"], study=study, arm=arm, eval=name)
            rows += [row for row in own if row["length"] == max(other["length"] for other in own)]
    return {STEM: Picture({"pass_at_k": rows}, partial(draw, rows, inputs.scale))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """Arms without a curve, in the settings that have one."""
    rows = inputs.tables["pass_at_k"]
    present = {(row["study"], row["arm"]) for row in rows}
    studies = [study for study, _ in inputs.scale.settings if table.select(rows, study=study)]
    return [f"{s} {arm} has no pass@k" for s in studies for arm in table.arms(inputs.scale) if (s, arm) not in present]


def draw(rows: list[Row], scale: Scale) -> Figure:
    """A line per arm with its interval as a band."""
    asked, titles = _samplings(rows, scale), {study: setting.title for study, setting in scale.settings}
    with style.look():
        figure, panels = style.panels(len(asked), columns=min(2, len(asked)), height=2.3)
        for place, (axes, (study, name)) in enumerate(zip(panels, asked, strict=True)):
            own = table.select(rows, study=study, eval=name)
            for arm in ("base", *table.arms(scale)):
                _line(axes, sorted(table.select(own, arm=arm), key=lambda row: row["k"]), scale)
            _ticks(axes, sorted({row["k"] for row in own}))
            first = own[0]
            style.title(axes, place, f"{titles[study]}, T={number(first['temperature'])}")
            axes.set_xlabel(f"k, of {first['samples']} samples")
            axes.set_ylabel(f"{name.replace('_', ' ')} (pass@k)")
        arms = [arm for arm in table.arms(scale)[::-1] if table.select(rows, arm=arm)]
        style.legend(figure, style.arms([*arms, "base"], scale.ranks))
        return style.finish(figure)


def _samplings(rows: list[Row], scale: Scale) -> list[tuple[str, str]]:
    """Settings and evals that tuned models were asked, coolest first: the base alone is sampled in more ways."""
    order = [study for study, _ in scale.settings]
    found = {(row["temperature"], row["study"], row["eval"]) for row in rows if row["arm"] != "base"}
    listed = sorted((temperature, order.index(study), name) for temperature, study, name in found if study in order)
    return [(order[place], name) for _, place, name in listed]


def _line(axes: Axes, rows: list[Row], scale: Scale) -> None:
    if not rows:
        return
    arm, ks = rows[0]["arm"], [row["k"] for row in rows]
    tint, base = style.colour(rows[0]["arm"], scale.ranks), rows[0]["arm"] == "base"
    axes.plot(
        ks, [row["value"] for row in rows], color=tint, linewidth=1.1 if base else 1.3, linestyle="--" if base else "-",
        marker="" if base else style.marker(arm, scale.ranks), markersize=4, zorder=3,
    )  # fmt: skip
    if rows[0].get("low") is not None:
        low, high = [row["low"] for row in rows], [row["high"] for row in rows]
        axes.fill_between(ks, low, high, color=tint, alpha=0.1, linewidth=0, zorder=2)


def _ticks(axes: Axes, ks: list[int]) -> None:
    axes.set_xscale("log", base=2)
    shown = [k for k in ks if k & (k - 1) == 0 or k == ks[-1]]
    # The last k is named even where it crowds the power of two before it, which then is not.
    shown = [k for k in shown if k == ks[-1] or k * 1.5 <= ks[-1]]
    axes.set_xticks(shown, [str(k) for k in shown])
    axes.xaxis.set_minor_locator(NullLocator())
