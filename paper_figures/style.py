"""How every figure looks: sizes, colours of the arms, panels, saving.

Figures have the size they are printed at: 3.25 inches for one column, 6.75 for two, and no text under 7 points.

An arm keeps one colour and one marker in every figure. Full fine-tuning has the colour of ink; ranks run from
orange (small) over crimson to violet (large), which stay apart for the colour-blind and, by lightness, in grey
print. The base is a dashed grey line. What varies within an arm (the linears adapted, alpha, the optimiser) is told
by dashes and by how its marker is filled, and not by a colour but in figure 4, where five variants cross. The paper's
own values are a pale line of the arm's colour. Figures stand on white; on a dark screen the page turns them over
(shell.py).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from replication.config import number

DPI = 200
# Inches: one column and two columns of a page of two columns.
COLUMN, PAGE = 3.25, 6.75
# Points, at the size of print.
TEXT, SMALL, TITLE = 8.0, 7.0, 8.5

INK, MUTED, GRID, PAPER = "#15171c", "#6b7280", "#e6e8ec", "#ffffff"

# Orange, crimson, violet: lightness falls with rank, and each keeps a contrast of 2.3 or more on both papers.
_RANKS = seaborn.blend_palette(("#e79a35", "#d1405f", "#7a5bb8"), as_cmap=True)
# Green to blue, for what is ordered but no rank: training lengths.
_LENGTHS = seaborn.blend_palette(("#7dba91", "#287a8c", "#2c3172"), as_cmap=True)
_MARKERS = ("o", "s", "D", "v", "P", "X")
# How the variants of an arm are drawn, in their order: (dashes, fill of the marker).
_VARIANTS: tuple[tuple[Any, str], ...] = (
    ("-", "full"), ((0, (4, 1.5)), "none"), ((0, (1, 1.2)), "left"), ((0, (6, 1.5, 1, 1.5)), "bottom"),
    ((0, (2, 2)), "right"), ((0, (8, 2)), "top"),
)  # fmt: skip


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib settings of all figures, for the time of the block only."""
    settings: dict[Any, Any] = {**seaborn.axes_style("whitegrid"), **_settings()}
    with matplotlib.rc_context(settings):
        yield


def colour(arm: str, ranks: Sequence[int]) -> str:
    """Colour of an arm ("full", "r16", "base") among the ranks of the study."""
    if arm == "base":
        return MUTED
    if arm == "full":
        return INK
    place = _place(arm, ranks)
    return to_hex(_RANKS(place / (len(ranks) - 1) if len(ranks) > 1 else 0.5))


def marker(arm: str, ranks: Sequence[int]) -> str:
    """Marker of an arm."""
    if arm in ("full", "base"):
        return "^" if arm == "full" else "_"
    return _MARKERS[_place(arm, ranks) % len(_MARKERS)]


def label(arm: str) -> str:
    """Name of an arm for a reader."""
    return {"full": "full fine-tuning", "base": "base"}.get(arm, f"LoRA r={arm.removeprefix('r')}")


def shades(count: int) -> list[str]:
    """Colours of `count` training lengths, the shortest lightest."""
    return [to_hex(_LENGTHS(i / max(1, count - 1))) for i in range(count)]


def variant(place: int) -> dict[str, Any]:
    """Dashes and marker fill of the variant at that place of its arm; 0 is the setting's own choice."""
    dashes, fill = _VARIANTS[place % len(_VARIANTS)]
    return {"linestyle": dashes, "fillstyle": fill, "markerfacecoloralt": PAPER}


def panels(
    count: int, *, width: float | None = None, height: float = 2.2, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels; two columns up to four panels, three above. Sizes in inches, height per panel."""
    across = columns or (1 if count == 1 else 2 if count <= 4 else 3)
    down = -(-count // across)
    figure = Figure(figsize=(width or (PAGE if across > 1 else COLUMN), height * down + 0.35))
    figure.set_layout_engine("constrained", h_pad=0.05, w_pad=0.04)
    grid = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for spare in grid[count:]:
        spare.remove()
    return figure, grid[:count]


def title(axes: Axes, place: int, text: str) -> None:
    """Panel letter and title, left-aligned."""
    axes.set_title(f"{chr(ord('A') + place)}  {text}", loc="left")


def count(value: float) -> str:
    """A number of tokens, epochs or weights for a reader.

    >>> count(20e9), count(40960), count(4)
    ('20B', '40.96k', '4')
    """
    return number(value).replace("m", "M").replace("b", "B")


def length_axis(axes: Axes, lengths: Sequence[float], unit: str) -> None:
    """Logarithmic axis of training length: a line at each length that was trained, named where there is room."""
    axes.set_xscale("log", base=2)
    named = _apart(axes, sorted(lengths, reverse=True), 1.35, count)
    axes.set_xticks(lengths, [count(v) if v in named else "" for v in lengths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(lengths) / 1.35, max(lengths) * 1.35)
    axes.set_xlabel(f"training length ({unit})")


def rate_axis(axes: Axes, rates: Sequence[float]) -> None:
    """Logarithmic axis of learning rates: a line at each, named where there is room; aslant if that names more."""
    known = sorted(set(rates))
    axes.set_xscale("log", base=2)
    named = _apart(axes, known, 1.3, number)
    slant: dict[str, Any] = (
        {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len(named) < len(known) else {}
    )
    if slant:
        # A line of text at 7 points is 0.1 high; aslant it needs that over sin 40.
        named = _apart(axes, known, 1.3, number, room=0.155)
    axes.set_xticks(known, [number(rate) if rate in named else "" for rate in known], **slant)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(known[0] / 1.3, known[-1] * 1.3)
    axes.set_xlabel("learning rate")


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend for all panels, above them, in as many columns as the figure is wide enough for."""
    widest = max(len(str(handle.get_label())) for handle in handles)
    # Half an em a letter at 7.5 points, and the line before it; inches.
    fits = max(1, math.floor((figure.get_figwidth() - 0.1) / (0.052 * widest + 0.48)))
    rows = -(-len(handles) // fits)
    figure.legend(handles=handles, loc="outside upper center", ncols=-(-len(handles) // rows))


def arms(names: Sequence[str], ranks: Sequence[int]) -> list[Line2D]:
    """Legend entries of some arms."""
    return [handle(arm, ranks) for arm in names]


def handle(
    arm: str, ranks: Sequence[int], *, text: str | None = None, place: int = 0, tint: str | None = None
) -> Line2D:
    """Legend entry of an arm, or of one of its variants under a name (and in a colour) of its own."""
    if arm == "base":
        return Line2D([], [], color=MUTED, linestyle="--", linewidth=1.1, label=text or label(arm))
    return Line2D(
        [], [], color=tint or colour(arm, ranks), marker=marker(arm, ranks), linewidth=1.4, markersize=4.5,
        label=text or label(arm), **variant(place),
    )  # fmt: skip


def note(text: str) -> Line2D:
    """Legend entry of words alone."""
    return Line2D([], [], linestyle="none", label=text)


def seed_and_data(rows: Sequence[dict[str, Any]]) -> Line2D:
    """Legend entry of a side study: what the small marks are, and the last part of its training data's name."""
    data = str(rows[0].get("data", "")).rpartition(":")[2]
    return note(f"small: a seed{f'; data: {data}' if data else ''}")


def seeds(rows: Sequence[dict[str, Any]]) -> list[Line2D]:
    """Legend entry that says so where there is a line for each of several seeds; none for one seed."""
    return [note("one line per seed")] if len({row["seed"] for row in rows}) > 1 else []


def whisker(axes: Axes, x: float, row: dict[str, Any], colour: str) -> None:
    """Vertical interval of a row at x, where the row has one."""
    if row.get("low") is not None and row.get("high") is not None:
        axes.plot(
            [x, x], [row["low"], row["high"]], color=colour, linewidth=0.9, alpha=0.75, solid_capstyle="butt", zorder=2
        )


def baseline(axes: Axes, value: float | None, *, across: bool = True) -> None:
    """The dashed line of what nothing would have: the base, or the null."""
    if value is not None:
        (axes.axhline if across else axes.axvline)(value, color=MUTED, linestyle="--", linewidth=1.0, zorder=1)


def finish(figure: Figure) -> Figure:
    """Remove the spines that carry nothing and solve the layout."""
    seaborn.despine(fig=figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        # Left in place, the engine would draw and solve again for every file: three times the work.
        engine.execute(figure)
        figure.set_layout_engine(None)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, without a date: the same rows give the same bytes."""
    return _saved(figure, format="png", dpi=DPI, metadata={"Software": None})


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF file, without a date."""
    return _saved(figure, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})


def _saved(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    # How many ticks an axis gets is decided here, by the settings' size of text: others would not fit the layout.
    with look():
        figure.savefig(buffer, **options)
    return buffer.getvalue()


def _apart(
    axes: Axes, values: Sequence[float], margin: float, text: Callable[[float], str], *, room: float | None = None
) -> list[float]:
    """The values whose names do not touch on a logarithmic axis; the first is kept, then each that has room.

    Args:
        room: inches between two names, where that is not their width.
    """
    place = axes.get_subplotspec()
    across = place.get_gridspec().ncols if place is not None else 1
    # What the numbers at the left leave of a panel, inches; a letter of a tick is 0.062 wide at 7 points.
    wide = axes.figure.bbox.width / axes.figure.dpi / across - 0.5
    inch = wide / math.log2(max(values) * margin**2 / min(values))
    kept: list[float] = []
    for value in values:
        between = [inch * abs(math.log2(value / other)) for other in kept]
        needs = [room or 0.031 * (len(text(value)) + len(text(other))) + 0.07 for other in kept]
        if all(has >= need for has, need in zip(between, needs, strict=True)):
            kept.append(value)
    return kept


def _place(arm: str, ranks: Sequence[int]) -> int:
    known = [f"r{rank}" for rank in sorted(ranks)]
    if arm not in known:
        raise ValueError(f"arm {arm!r} is not among {[*known, 'full', 'base']}; the rows and the scale disagree")
    return known.index(arm)


def _settings() -> dict[Any, Any]:
    ink = {"text.color": INK, "axes.labelcolor": INK, "xtick.color": MUTED, "ytick.color": MUTED}
    ink |= {"xtick.labelcolor": INK, "ytick.labelcolor": INK}
    paper = {"figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER}
    grid = {"axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6}
    lines = {"axes.edgecolor": MUTED, "axes.linewidth": 0.6, "lines.linewidth": 1.4, "lines.markersize": 4.5}
    lines |= {"xtick.major.size": 0.0, "ytick.major.size": 0.0, "ytick.minor.size": 0.0, "xtick.minor.size": 0.0}
    text = {"font.size": TEXT, "axes.titlesize": TITLE, "axes.titleweight": "bold", "axes.labelsize": TEXT}
    text |= {"xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "figure.titlesize": TITLE, "axes.titlepad": 4.0}
    legend = {"legend.frameon": False, "legend.fontsize": 7.5, "legend.handlelength": 2.3, "legend.columnspacing": 1.2}
    return ink | paper | grid | lines | text | legend | {"pdf.fonttype": 42, "figure.titleweight": "bold"}
