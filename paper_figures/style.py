"""How every figure looks: colours of the arms, panels, saving.

An arm keeps one colour and one marker in every figure. Full fine-tuning has the colour of ink; ranks run from
orange (small) over crimson to violet (large), which stay apart for the colour-blind and, by lightness, in grey
print. The base is a dashed grey line. Figures stand on white; on a dark screen the page turns them over (shell.py).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from replication.config import number

DPI = 150

INK, MUTED, GRID, PAPER = "#15171c", "#6b7280", "#e6e8ec", "#ffffff"

# Orange, crimson, violet: lightness falls with rank, and each keeps a contrast of 2.3 or more on both papers.
_RANKS = ("#e79a35", "#d1405f", "#7a5bb8")
_MARKERS = ("o", "s", "D", "v", "P", "X")


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
    shades = seaborn.blend_palette(_RANKS, n_colors=101).as_hex()
    return str(shades[round(100 * place / max(1, len(ranks) - 1))] if len(ranks) > 1 else _RANKS[1])


def marker(arm: str, ranks: Sequence[int]) -> str:
    """Marker of an arm."""
    if arm in ("full", "base"):
        return "^" if arm == "full" else "_"
    return _MARKERS[_place(arm, ranks) % len(_MARKERS)]


def label(arm: str) -> str:
    """Name of an arm for a reader."""
    return {"full": "full fine-tuning", "base": "base"}.get(arm, f"LoRA r={arm.removeprefix('r')}")


def panels(
    count: int, *, width: float = 9.6, height: float = 3.3, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, lettered; two columns up to four panels, three above. Sizes in inches."""
    across = columns or (1 if count == 1 else 2 if count <= 4 else 3)
    down = -(-count // across)
    figure = Figure(figsize=(width if across > 1 else 0.62 * width, height * down + 0.5))
    figure.set_layout_engine("constrained", h_pad=0.09, w_pad=0.07)
    grid = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for spare in grid[count:]:
        spare.remove()
    return figure, grid[:count]


def title(axes: Axes, place: int, text: str) -> None:
    """Panel letter and title, left-aligned."""
    axes.set_title(f"{chr(ord('A') + place)}  {text}", loc="left")


def length_axis(axes: Axes, lengths: Sequence[float], unit: str) -> None:
    """Logarithmic axis of training length, ticks at the lengths that were trained, as given."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [number(v) for v in lengths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(lengths) / 1.35, max(lengths) * 1.35)
    axes.set_xlabel(f"training length ({unit})")


def legend(figure: Figure, arms: Sequence[str], ranks: Sequence[int], *, extra: Sequence[Any] = ()) -> None:
    """One legend for all panels, above them."""
    handles = [handle(arm, ranks) for arm in arms] + list(extra)
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 7), handlelength=2.2)


def handle(arm: str, ranks: Sequence[int]) -> Line2D:
    """Legend entry of an arm."""
    base = arm == "base"
    return Line2D(
        [], [], color=colour(arm, ranks), marker="" if base else marker(arm, ranks),
        linestyle="--" if base else "-", linewidth=1.4 if base else 1.8, markersize=6, label=label(arm),
    )  # fmt: skip


def whisker(axes: Axes, x: float, row: dict[str, Any], colour: str) -> None:
    """Vertical interval of a row at x, where the row has one."""
    if row.get("low") is not None and row.get("high") is not None:
        axes.plot(
            [x, x], [row["low"], row["high"]], color=colour, linewidth=1.1, alpha=0.75, solid_capstyle="butt", zorder=2
        )


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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """The figure as a PDF file, without a date."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def _place(arm: str, ranks: Sequence[int]) -> int:
    known = [f"r{rank}" for rank in sorted(ranks)]
    if arm not in known:
        raise ValueError(f"arm {arm!r} is not among {[*known, 'full', 'base']}; the rows and the scale disagree")
    return known.index(arm)


def _settings() -> dict[str, Any]:
    ink = {
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
    }
    paper = {"figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER}
    lines = {"axes.edgecolor": MUTED, "grid.color": GRID, "grid.linewidth": 0.8, "axes.linewidth": 0.8}
    text = {"font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "legend.frameon": False}
    return ink | paper | lines | text | {"pdf.fonttype": 42}
