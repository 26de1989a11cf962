"""Figure 7, modules: which linears need an adapter, by rank, over training.

Panels by rank; solid is "all", the others dashed. At equal rank the variants train different numbers of weights, so
"all above attention" there may be size alone: `fig7_modules_matched` compares them at (nearly) equal numbers of
trained weights, as a follow-up of the paper asks ("LoRA Without Regret").
"""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures import lines, style, sweep_lines
from paper_figures import rows as table
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale, Setting

STEM = "fig7_modules"
NEEDS = ("sweeps",)
MATCHED = f"{STEM}_matched"
_ALL = "all linears"


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """The paper's figure, and the comparison at equal parameters."""
    found, scale = {}, inputs.scale
    rows = [row for row in sweep_lines.of(inputs, "modules") if row["axis"] == "learning"]
    if rows:
        found[STEM] = Picture({"sweeps": rows}, partial(draw, rows, scale))
    equal = [row for row in sweep_lines.of(inputs, "matched") if row["axis"] in ("learning", "target_loss")]
    if equal:
        found[MATCHED] = Picture({"sweeps": equal}, partial(draw_matched, equal, scale))
    return found


def missing(inputs: Inputs) -> list[str]:
    """Studies of the modules without rows."""
    return [*sweep_lines.missing(inputs, "modules"), *sweep_lines.missing(inputs, "matched")]


def draw(rows: list[Row], scale: Scale) -> Figure:
    """A row of panels per setting, one panel per rank, on one scale of scores."""
    settings = sweep_lines.studies(rows, scale)
    arms = sweep_lines.arms(rows, scale)[::-1]
    names = sweep_lines.order(rows)
    with style.look():
        figure, panels = style.panels(len(settings) * len(arms), columns=len(arms), height=2.1)
        for place, axes in enumerate(panels):
            (study, setting), arm = settings[place // len(arms)], arms[place % len(arms)]
            own = table.select(rows, study=study)
            _panel(axes, table.select(own, arm=arm), scale, setting, names)
            axes.set_ylim(*_range(own))
            style.baseline(axes, lines.base(own))
            style.title(axes, place, f"{setting.title}, {style.label(arm)}")
            if place % len(arms) == 0:
                axes.set_ylabel(lines.quantity("learning", setting, own))
        keys = [_key(i, sweep_lines.spoken(name, _ALL)) for i, name in enumerate(names)]
        style.legend(figure, [*keys, *style.arms(["base"], scale.ranks)])
        return style.finish(figure)


def draw_matched(rows: list[Row], scale: Scale) -> Figure:
    """One line of marks per configuration: its score and its target loss, every rate that was tried."""
    settings = sweep_lines.studies(rows, scale)
    with style.look():
        first = {(row["variant"], row["rank"]) for row in rows}
        figure, panels = style.panels(2 * len(settings), columns=2, height=0.3 * len(first) + 0.7)
        for place, axes in enumerate(panels):
            study, setting = settings[place // 2]
            axis = ("learning", "target_loss")[place % 2]
            own = table.select(rows, study=study, axis=axis)
            _dots(axes, own, named=place % 2 == 0)
            style.title(axes, place, f"{setting.title}: {axis.replace('_', ' ')}")
            axes.set_xlabel(lines.quantity(axis, setting, own) if own else "no rows")
        style.legend(figure, [_dot("the rate with the lower target loss", True), _dot("the other rate", False)])
        return style.finish(figure)


def _panel(axes: Axes, rows: list[Row], scale: Scale, setting: Setting, names: list[str]) -> None:
    for place, name in enumerate(names):
        shift = 2 ** (0.05 * (place - (len(names) - 1) / 2))
        own = table.select(rows, variant=name)
        sweep_lines.line(axes, own, scale, across="length", place=place, shift=shift)
    lengths = sorted({row["length"] for row in rows} or setting.lengths)
    style.length_axis(axes, lengths, table.unit(setting))


def _range(rows: list[Row]) -> tuple[float, float]:
    ends = [row[name] for row in rows for name in ("low", "high", "value", "base") if row.get(name) is not None]
    margin = 0.05 * (max(ends) - min(ends)) or 0.05
    return min(ends) - margin, max(ends) + margin


def _dots(axes: Axes, rows: list[Row], *, named: bool) -> None:
    kinds = sorted({(row["variant"], row["rank"], row["trainable"]) for row in rows})
    for height, (variant, rank, _) in enumerate(kinds):
        for row in table.select(rows, variant=variant, rank=rank):
            shift = height + (0.0 if row["chosen"] else 0.22)
            if row.get("low") is not None:
                axes.plot([row["low"], row["high"]], [shift, shift], color=style.INK, linewidth=0.9, alpha=0.75)
            axes.scatter(
                row["value"], shift, s=26 if row["chosen"] else 16, zorder=4, edgecolor=style.INK, linewidth=0.9,
                facecolor=style.INK if row["chosen"] else style.PAPER,
            )  # fmt: skip
    texts = [f"{sweep_lines.spoken(v, _ALL)}, r={rank}\n{style.count(size)} weights" for v, rank, size in kinds]
    axes.set_yticks(range(len(kinds)), texts if named else [""] * len(kinds))
    axes.set_ylim(len(kinds) - 0.5, -0.4)
    axes.grid(visible=False, axis="y")


def _key(place: int, text: str) -> Line2D:
    return Line2D([], [], color=style.MUTED, marker="o", label=text, **style.variant(place))


def _dot(text: str, filled: bool) -> Line2D:
    return Line2D(
        [], [], color=style.INK, marker="o", linestyle="none", label=text, fillstyle="full" if filled else "none"
    )
