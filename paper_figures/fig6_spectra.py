"""Figure 6, the rank of what full fine-tuning changed, per module, layer and checkpoint.

Height: how many singular directions hold 90 % of the squared change. Two yardsticks stand in each panel: the dashed
line is pure Gaussian noise of that shape (a change can look "high-rank" because it is noise), the dotted lines are
the ranks LoRA was given, which its change cannot exceed. A hollow mark is a rank to distrust: the rounding of the
stored weights is too large a part of the change. One line per seed.
"""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "fig6_spectra"
NEEDS = ("spectra",)

# Rounding over change from which a rank is the rounding's (measured, see `analysis/spectra.py`).
FLOOR = 0.3

# In the order of a block's computation; modules of another model follow by name.
_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """The first setting with rows under the figure's own name (the paper shows code CPT), the others beside it."""
    rows = changes(inputs)
    studies = [study for study, _ in inputs.scale.settings if table.select(rows, study=study)]
    stems = [STEM, *(f"{STEM}_{study}" for study in studies[1:])]
    found = {}
    for stem, study in zip(stems, studies, strict=False):
        own = table.select(rows, study=study)
        found[stem] = Picture({"spectra": own}, partial(draw, own, inputs.scale, study=study))
    return found


def missing(inputs: Inputs) -> list[str]:
    """Full fine-tuning runs of the grid whose change has no spectrum."""
    rows = changes(inputs)
    spectral = {row["study"] for row in rows}
    gaps = [gap for gap in table.missing(rows, inputs.scale) if gap.split(" ")[1] == "full"]
    return [gap for gap in gaps if gap.split(" ")[0] in spectral or not spectral]


def changes(inputs: Inputs) -> list[Row]:
    """What full fine-tuning changed, of all runs: the rows of Figure 6."""
    return table.select(inputs.tables["spectra"], arm="full", which="change")


def modules(rows: list[Row]) -> list[str]:
    """The linears that rows have, in the order of a block's computation."""
    return sorted({row["module"] for row in rows}, key=lambda m: (_ORDER.index(m) if m in _ORDER else len(_ORDER), m))


def draw(rows: list[Row], scale: Scale, *, study: str) -> Figure:
    """One panel per module; the last place holds the key."""
    tokens = sorted({row["tokens"] for row in rows})
    tints = dict(zip(tokens, style.shades(len(tokens)), strict=True))
    names = modules(rows)
    with style.look():
        figure, panels = style.panels(len(names) + 1, columns=4, height=1.6)
        for place, (axes, module) in enumerate(zip(panels, names, strict=False)):
            _panel(axes, table.select(rows, module=module), scale, tints, named=place % 4 == 0)
        _key(panels[-1], scale, tints, style.seeds(rows))
        figure.suptitle(f"{dict(scale.settings)[study].title}: change of full fine-tuning")
        return style.finish(figure)


def _panel(axes: Axes, rows: list[Row], scale: Scale, tints: dict[int, str], *, named: bool) -> None:
    for run, count in sorted({(row["run"], row["tokens"]) for row in rows}, key=lambda pair: pair[::-1]):
        line = sorted(table.select(rows, run=run, tokens=count), key=lambda row: row["layer"])
        layers, ranks = [row["layer"] for row in line], [row["rank90"] for row in line]
        faces = [style.PAPER if (row.get("floor_ratio") or 0.0) >= FLOOR else tints[count] for row in line]
        axes.plot(layers, ranks, color=tints[count], linewidth=0.9, zorder=3)
        axes.scatter(layers, ranks, s=8, facecolor=faces, edgecolor=tints[count], linewidth=0.7, zorder=4)
    first = rows[0]
    style.baseline(axes, first["rank90_noise"])
    for rank in scale.ranks:
        axes.axhline(rank, color=style.colour(f"r{rank}", scale.ranks), linestyle=":", linewidth=1.2)
    axes.set_title(
        f"{first['module'].removesuffix('_proj')}  ({first['rows']}×{first['cols']})", loc="left", fontsize=style.TEXT
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set_ylim(0, 1.05 * min(first["rows"], first["cols"]))
    axes.set_xlabel("layer")
    if named:
        axes.set_ylabel("rank for 90 %")


def _key(axes: Axes, scale: Scale, tints: dict[int, str], seeds: list[Line2D]) -> None:
    tokens = [
        Line2D([], [], color=t, marker="o", markersize=3, label=f"{style.count(n)} tokens") for n, t in tints.items()
    ]
    noise = Line2D([], [], color=style.MUTED, linestyle="--", label="noise of this shape")
    ranks = [
        Line2D([], [], color=style.colour(f"r{r}", scale.ranks), linestyle=":", linewidth=1.2, label=f"LoRA r={r}")
        for r in scale.ranks
    ]
    axes.set_axis_off()
    axes.legend(handles=[*tokens, *seeds, noise, *ranks], loc="center left")
