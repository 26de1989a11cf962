"""Side study: DistilBERT on financial tweets. Macro-F1 and accuracy of LoRA, its head alone and full fine-tuning.

Each arm at one and at five epochs, each from a fresh start; small marks are seeds, large ones their mean. Two lines are
controls that learnt nothing: answering the majority class to every tweet (dashed), and the head as it was drawn
(dotted), with which the original compared. What the adapters add is the height of LoRA's marks over the head's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row

STEM = "side_distilbert"
NEEDS = ("side_distilbert",)
EVAL = "tweets"
PANELS = (("macro_f1", "Macro-F1"), ("accuracy", "Accuracy"))
EPOCHS = (1, 5)
BESIDE = 0.045  # of a seed's mark, left of the mean's, which would hide it


class Look(NamedTuple):
    """Name, colour, marker and place beside the others of an arm."""

    name: str
    colour: str
    marker: str
    beside: float


ARMS = {
    "head": Look("new head alone", "#287a8c", "s", -0.14),
    "lora": Look("LoRA on queries + head", "#e79a35", "o", 0.0),
    "full": Look("full fine-tuning", style.INK, "^", 0.14),
}
Dashes = Literal["--", ":"]
CONTROLS: tuple[tuple[str, Dashes, str], ...] = (("majority_", "--", "majority class"), ("", ":", "head as drawn"))


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure of two panels."""
    rows = inputs.tables["side_distilbert"]
    return {STEM: Picture({"side_distilbert": rows}, partial(draw, rows))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """The arms of the study without a score."""
    scored = {row["arm"] for row in inputs.tables["side_distilbert"] if row["eval"] == EVAL}
    return [f"arm {arm}@{epochs}" for arm in ARMS for epochs in EPOCHS if f"{arm}@{epochs}" not in scored]


def draw(rows: list[Row]) -> Figure:
    """A panel for each score; both begin at 0."""
    with style.look():
        figure, panels = style.panels(len(PANELS), columns=2, height=2.4)
        for place, (axes, (metric, words)) in enumerate(zip(panels, PANELS, strict=True)):
            own = table.select(rows, eval=EVAL)
            for arm, look in ARMS.items():
                _arm(axes, table.select(own, metric=metric), arm, look)
            for prefix, dashes, _ in CONTROLS:
                for row in table.select(own, arm="base", metric=f"{prefix}{metric}"):
                    axes.axhline(row["value"], color=style.MUTED, linestyle=dashes, linewidth=1.1, zorder=1)
            _axes(axes, words)
            style.title(axes, place, words)
        lines = [_line(dashes, name) for _, dashes, name in CONTROLS]
        style.legend(figure, [*(_handle(look) for look in ARMS.values()), *lines, style.seed_and_data(rows)])
        return style.finish(figure)


def _arm(axes: Axes, rows: Sequence[Row], arm: str, look: Look) -> None:
    """The seeds of an arm at each length, and a line through their means."""
    means = []
    for place, epochs in enumerate(EPOCHS):
        values = [row["value"] for row in rows if row["arm"] == f"{arm}@{epochs}"]
        if values:
            at = place + look.beside
            seeds = [at - BESIDE] * len(values)
            axes.plot(seeds, values, look.marker, color=look.colour, markersize=2.6, alpha=0.6, zorder=3)
            means.append((at, fmean(values)))
    if means:
        axes.plot(*zip(*means, strict=True), color=look.colour, marker=look.marker, markersize=5.5, zorder=4)


def _axes(axes: Axes, words: str) -> None:
    axes.set_xticks(range(len(EPOCHS)), [f"{epochs} epoch{'s' if epochs > 1 else ''}" for epochs in EPOCHS])
    axes.set_xlim(-0.4, len(EPOCHS) - 0.6)
    axes.set_ylim(0, min(1.0, axes.dataLim.y1 * 1.08))
    axes.set_ylabel(f"{words[0].lower()}{words[1:]} on the test tweets")


def _handle(look: Look) -> Line2D:
    return Line2D([], [], color=look.colour, marker=look.marker, markersize=5.5, label=look.name)


def _line(dashes: Dashes, name: str) -> Line2D:
    return Line2D([], [], color=style.MUTED, linestyle=dashes, linewidth=1.1, label=name)
