"""Rank over noise: Figure 6 divided by what pure noise of the same shape has, per module and layer.

At 1 (dashed) the change has the rank of noise, whatever its height in Figure 6; below it is structure. Modules of
different shapes can be compared here and not there. Within a module layers run from left to right; colour is the
length of training; hollow marks are ranks that the rounding of the stored weights has touched. One line per seed.
"""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures import fig6_spectra, style
from paper_figures import rows as table
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "rank_over_noise"
NEEDS = ("spectra",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure, a panel per setting."""
    rows = [row for row in fig6_spectra.changes(inputs) if row["study"] in dict(inputs.scale.settings)]
    return {STEM: Picture({"spectra": rows}, partial(draw, rows, inputs.scale))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """Nothing beyond what figure 6 misses."""
    return []


def draw(rows: list[Row], scale: Scale) -> Figure:
    """One panel per setting: modules across, layers within a module."""
    settings = [(study, s) for study, s in scale.settings if table.select(rows, study=study)]
    most = max(len({row["length"] for row in table.select(rows, study=study)}) for study, _ in settings)
    tints = style.shades(most)
    with style.look():
        figure, panels = style.panels(len(settings), columns=min(2, len(settings)), height=2.1)
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            own = table.select(rows, study=study)
            _panel(axes, own, tints)
            style.title(axes, place, f"{setting.title}, to {style.count(max(row['tokens'] for row in own))} tokens")
            if place % 2 == 0:
                axes.set_ylabel("rank for 90 % / that of noise")
        style.legend(figure, [*_keys(tints), *style.seeds(rows)])
        return style.finish(figure)


def _panel(axes: Axes, rows: list[Row], tints: list[str]) -> None:
    lengths, modules = sorted({row["length"] for row in rows}), fig6_spectra.modules(rows)
    layers = sorted({row["layer"] for row in rows})
    across = {layer: (i + 0.5) / len(layers) * 0.8 - 0.4 for i, layer in enumerate(layers)}
    for place, module in enumerate(modules):
        for length, tint in zip(lengths, tints[-len(lengths) :], strict=True):
            for run in sorted({row["run"] for row in table.select(rows, length=length)}):
                line = sorted(table.select(rows, run=run, module=module), key=lambda row: row["layer"])
                xs, ys = [place + across[r["layer"]] for r in line], [r["rank90"] / r["rank90_noise"] for r in line]
                faces = [style.PAPER if (r.get("floor_ratio") or 0) >= fig6_spectra.FLOOR else tint for r in line]
                axes.plot(xs, ys, color=tint, linewidth=0.7, alpha=0.8)
                axes.scatter(xs, ys, s=5, facecolor=faces, edgecolor=tint, linewidth=0.6, zorder=3)
    style.baseline(axes, 1.0)
    axes.set_ylim(0, 1.08)
    axes.set_xticks(range(len(modules)), [module.removesuffix("_proj") for module in modules])
    axes.grid(visible=False, axis="x")


def _keys(tints: list[str]) -> list[Line2D]:
    words = {0: "shortest training", len(tints) - 1: "longest"}
    marks = [
        Line2D([], [], color=tint, marker="o", markersize=3, linewidth=0.8, label=words.get(place, "..."))
        for place, tint in enumerate(tints)
        if place in words
    ]
    return [*marks, Line2D([], [], color=style.MUTED, linestyle="--", linewidth=1.0, label="noise of that shape")]
