"""Figure S10, what a step costs: tokens per second and peak memory against the batch.

Marks on top of each other mean that the adapters cost or save nothing here. A speed is the fastest turn, since whatever
else a machine does only slows; its bar reaches down to the slowest and is no interval. The hardware stands below: the
numbers are about it as much as about the methods.
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

STEM = "figS10_throughput"
NEEDS = ("throughput",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """Throughput at the left, memory at the right; one row of panels per machine."""
    rows = inputs.tables["throughput"]
    return {STEM: Picture({"throughput": rows}, partial(draw, rows))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """Nothing is expected: which batches fit is the machine's to say."""
    return []


def draw(rows: list[Row]) -> Figure:
    """Two panels per machine, a line per arm."""
    ranks = sorted({row["rank"] for row in rows if row["rank"] is not None})
    machines = sorted({row["hardware"] for row in rows})
    arms = [*(f"r{rank}" for rank in ranks), "full"]
    with style.look():
        figure, panels = style.panels(2 * len(machines), columns=2, height=2.3)
        for place, axes in enumerate(panels):
            own = table.select(rows, hardware=machines[place // 2])
            field = ("tokens_per_s", "peak_memory_gb")[place % 2]
            for step, arm in enumerate(arms):
                shift = 2 ** (0.04 * (step - (len(arms) - 1) / 2))
                _line(axes, table.select(own, arm=arm), ranks, field=field, shift=shift)
            _axes(axes, own, field)
            style.title(axes, place, ("Speed", "Peak memory")[place % 2])
        drawn = [arm for arm in arms[::-1] if table.select(rows, arm=arm)]
        style.legend(figure, [*style.arms(drawn, ranks), style.note(_turns(rows))])
        return style.finish(figure)


def _turns(rows: list[Row]) -> str:
    counts = sorted({row["repeats"] for row in rows})
    most = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"bar: down to the slowest of {most} turns"


def _line(axes: Axes, rows: list[Row], ranks: list[int], *, field: str, shift: float) -> None:
    line = sorted((row for row in rows if row.get(field) is not None), key=lambda row: row["batch"])
    if not line:
        return
    arm = line[0]["arm"]
    tint = style.colour(arm, ranks)
    axes.plot(
        [row["batch"] * shift for row in line], [row[field] for row in line], color=tint, linewidth=1.3,
        marker=style.marker(arm, ranks), markersize=4.4, zorder=3,
    )  # fmt: skip
    for row in line if field == "tokens_per_s" else ():
        style.whisker(axes, row["batch"] * shift, row, tint)


def _axes(axes: Axes, rows: list[Row], field: str) -> None:
    batches = sorted({row["batch"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"batch (sequences of {rows[0]['seq_len']} tokens)\n{_short(rows[0]['hardware'])}")
    axes.set_ylabel("tokens/s, fastest turn" if field == "tokens_per_s" else "GB (1e9 bytes)")
    axes.set_ylim(bottom=0)


def _short(text: str) -> str:
    return text if len(text) <= 52 else text[:49] + "..."
