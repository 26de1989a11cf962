"""Figure S1, learning rates: the target against the rate, per arm.

The ring is the rate that was chosen by the held-out target loss, on seeds of its own. The score and that loss are two
figures: a rate is chosen by the loss, a claim is about the score.
"""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure

from paper_figures import lines, style, sweep_lines
from paper_figures import rows as table
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "figS1_rates"
NEEDS = ("sweeps",)
SWEEP = "learning_rates"


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """The score, the target loss and the forgetting against the rate."""
    rows = table.select(sweep_lines.of(inputs, SWEEP), variant="")
    axes = {STEM: "learning", f"{STEM}_loss": "target_loss", f"{STEM}_forgetting": "forgetting"}
    found = {stem: table.select(rows, axis=axis) for stem, axis in axes.items()}
    return {
        stem: Picture({"sweeps": own}, partial(draw, own, inputs.scale, axis=axes[stem]))
        for stem, own in found.items()
        if own
    }


def missing(inputs: Inputs) -> list[str]:
    """Settings whose rates were not swept."""
    present = {row["study"] for row in sweep_lines.of(inputs, SWEEP)}
    return [f"{study}: no rate was swept" for study, _ in inputs.scale.settings if study not in present]


def draw(rows: list[Row], scale: Scale, *, axis: str) -> Figure:
    """One panel per setting, one line per arm."""
    settings = sweep_lines.studies(rows, scale)
    with style.look():
        figure, panels = style.panels(len(settings), height=2.15)
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            own = table.select(rows, study=study)
            for arm in sweep_lines.arms(own, scale)[::-1]:
                line = table.select(own, arm=arm)
                sweep_lines.line(axes, line, scale, across="lr")
                sweep_lines.ring(axes, sweep_lines.points(line, "lr"), scale, across="lr")
            style.baseline(axes, lines.base(own))
            style.rate_axis(axes, [row["lr"] for row in own])
            style.title(axes, place, setting.title)
            axes.set_ylabel(lines.quantity(axis, setting, own))
        keys = style.arms([*sweep_lines.arms(rows, scale), "base"], scale.ranks)
        style.legend(figure, [*keys, sweep_lines.ring_key()])
        return style.finish(figure)
