"""Side study: Whisper. What LoRA costs and gives beside full fine-tuning, on the four axes that its originals compare.

Errors, speed of writing, time of a training step and size of what is stored; small marks are seeds, large ones their
mean. The dashed line is the model before tuning. Hollow marks are LoRA with its adapter beside the weights, filled ones
the same weights merged: where those lie on the dashed line, the adapter's place is what slows, not LoRA.

The second figure has peaks of memory at some batches, a line through them, and the batch where it meets the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row

STEM = "side_whisper"
NEEDS = ("side_whisper",)
FIT = "whisper_fit"
BESIDE = 0.13  # of a seed's mark, left of the mean's, which would hide it


class Look(NamedTuple):
    """Name, colour, marker and short name of an arm."""

    name: str
    colour: str
    marker: str
    short: str


class Panel(NamedTuple):
    """What a panel shows: title, axis, the eval and metric of its rows (`hollow`: a second metric), and its unit."""

    title: str
    axis: str
    eval: str
    metric: str
    hollow: str = ""
    unit: float = 1.0
    log: bool = False


ARMS = {
    "full": Look("full fine-tuning", style.INK, "^", "full"),
    "lora-qv": Look("LoRA on queries and values", "#e79a35", "o", "LoRA q, v"),
    "lora-all": Look("LoRA on all linears", "#7a5bb8", "D", "LoRA all"),
}
# Where the study was run on a GPU.
INT8 = {"lora-qv-int8": Look("LoRA on queries and values, base in 8 bits", "#287a8c", "s", "LoRA q, v\n8 bits")}
PANELS = (
    Panel("Errors", "word error rate", "wer", "wer"),
    Panel("Writing", "speed (untuned = 1)", "speed", "merged_over_base", "unmerged_over_base"),
    Panel("Training", "median step (ms)", "run", "step_seconds", unit=1e3),
    Panel("Storing", "checkpoint (MB)", "run", "stored_bytes", unit=1e-6, log=True),
)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure of four panels, and one of memory against batch where that was measured."""
    rows, fit = inputs.tables["side_whisper"], inputs.tables.get(FIT, [])
    found = {STEM: Picture({"side_whisper": rows}, partial(draw, rows))} if rows else {}
    return found | ({f"{STEM}_fit": Picture({FIT: fit}, partial(draw_fit, fit))} if fit else {})


def missing(inputs: Inputs) -> list[str]:
    """The arms of the study without a score."""
    scored = {row["arm"] for row in inputs.tables["side_whisper"] if row["eval"] == "wer"}
    return [f"arm {arm}" for arm in ARMS if arm not in scored]


def draw(rows: list[Row]) -> Figure:
    """A panel for each axis, an arm beside the other; all but sizes begin at 0."""
    looks = ARMS | {arm: look for arm, look in INT8.items() if table.select(rows, arm=arm)}
    with style.look():
        figure, panels = style.panels(len(PANELS), columns=2, height=1.9)
        for place, (axes, panel) in enumerate(zip(panels, PANELS, strict=True)):
            own = table.select(rows, eval=panel.eval)
            if panel.eval == "speed":
                style.baseline(axes, 1.0)
            for row in table.select(own, arm="base", metric=panel.metric) if panel.eval == "wer" else ():
                style.baseline(axes, row["value"])
            for at, (arm, look) in enumerate(looks.items()):
                for metric, hollow in ((panel.hollow, True), (panel.metric, False)):
                    _marks(axes, at, table.select(own, arm=arm, metric=metric), look, panel, hollow=hollow)
            _axes(axes, rows, panel, looks)
            style.title(axes, place, panel.title)
        beside = Line2D(
            [], [], color=style.MUTED, marker="o", markerfacecolor="white", linestyle="none", label="adapter not merged"
        )
        untuned = Line2D([], [], color=style.MUTED, linestyle="--", linewidth=1.0, label="before tuning")
        style.legend(figure, [*map(_handle, looks.values()), beside, untuned, style.seed_and_data(rows)])
        return style.finish(figure)


def draw_fit(rows: list[Row]) -> Figure:
    """Peak memory against batch: marks are measured, lines go on to the limit."""
    with style.look():
        figure, (axes,) = style.panels(1, height=2.4)
        limit = rows[0]["memory_gb"]
        drawn = {_fitted(row): row for row in rows}
        looks = {arm: look for arm, look in (ARMS | INT8).items() if arm in drawn}
        for arm, look in looks.items():
            row = drawn[arm]
            ends = [0, row["largest_batch"]]
            line = [row["fixed_gb"] + row["per_item_gb"] * batch for batch in ends]
            axes.plot(ends, line, color=look.colour, linewidth=1.0, zorder=2)
            axes.plot(row["batches"], row["peaks_gb"], look.marker, color=look.colour, markersize=4, zorder=3)
        style.baseline(axes, limit)
        axes.set_xlim(left=0)
        axes.set_ylim(0, limit * 1.12)
        axes.set_xlabel(f"batch (clips)\n{rows[0]['hardware'][:52]}")
        axes.set_ylabel("peak memory (GB)")
        fits = [(look, drawn[arm]["largest_batch"]) for arm, look in looks.items()]
        named = [_handle(look._replace(name=f"{look.name}: {largest:,} clips")) for look, largest in fits]
        style.legend(figure, [*named, style.note(f"largest batch in {limit:g} GB")])
        return style.finish(figure)


def _fitted(row: Row) -> str:
    """The arm of the study whose method has this name ("lora-r8-q_proj+v_proj int8")."""
    name = row["arm"]
    arm = "full" if name == "full" else "lora-qv" if "q_proj+v_proj" in name else "lora-all"
    return f"{arm}-int8" if name.endswith(" int8") else arm


def _marks(axes: Axes, at: int, rows: Sequence[Row], look: Look, panel: Panel, *, hollow: bool) -> None:
    """The seeds of an arm and their mean."""
    values = [row["value"] * panel.unit for row in rows]
    if not values:
        return
    face = "white" if hollow else look.colour
    many = [at - BESIDE] * len(values)
    axes.plot(many, values, look.marker, color=look.colour, markerfacecolor=face, markersize=2.8, alpha=0.7, zorder=3)
    axes.plot([at], [fmean(values)], look.marker, color=look.colour, markerfacecolor=face, markersize=6, zorder=4)


def _axes(axes: Axes, rows: list[Row], panel: Panel, looks: dict[str, Look]) -> None:
    words = [f"{look.short}{_trained(rows, arm) if panel.log else ''}" for arm, look in looks.items()]
    axes.set_xticks(range(len(looks)), words)
    axes.set_xlim(-0.5, len(looks) - 0.5)
    axes.set_ylabel(panel.axis)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.margins(y=0.25)
    else:
        axes.set_ylim(0, axes.dataLim.y1 * 1.12)


def _trained(rows: list[Row], arm: str) -> str:
    """How many weights an arm trains, as a line of its own."""
    found = table.select(rows, eval="run", arm=arm, metric="trainable")
    return f"\n{style.count(found[0]['value'])} trained" if found else ""


def _handle(look: Look) -> Line2D:
    return Line2D([], [], color=look.colour, marker=look.marker, markersize=5.5, linestyle="none", label=look.name)
