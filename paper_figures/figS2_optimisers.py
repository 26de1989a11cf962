"""Figure S2, optimisers: LionW against AdamW at every rate, for full fine-tuning and for LoRA.

Left the score on the target, right what is left of the base's abilities, as in the paper. Solid is LionW, with which
the study trains; dashed is AdamW. Their rates are not on one scale: compare the heights of the lines, not their x.
"""

from __future__ import annotations

from functools import partial

from matplotlib.figure import Figure

from paper_figures import style, sweep_lines
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "figS2_optimisers"
NEEDS = ("sweeps",)
SWEEP = "optimiser"


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure: a row of two panels per setting."""
    rows = sweep_lines.scored(inputs, SWEEP)
    return {STEM: Picture({"sweeps": rows}, partial(draw, rows, inputs.scale))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """Studies of the optimiser without rows."""
    return sweep_lines.missing(inputs, SWEEP)


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Two panels per setting: a line per arm and optimiser."""
    with style.look():
        figure, panels = style.panels(2 * len(sweep_lines.studies(rows, scale)), columns=2, height=2.3)
        for axes, axis, _, own in sweep_lines.beside(panels, rows, scale):
            for arm, adam in _lines(own, scale):
                line = [row for row in own if row["arm"] == arm and _adam(row) == adam]
                sweep_lines.line(axes, line, scale, across="lr", place=int(adam))
                if axis == "learning":
                    sweep_lines.ring(axes, sweep_lines.points(line, "lr"), scale, across="lr")
            style.rate_axis(axes, [row["lr"] for row in own])
        keys = [
            style.handle(arm, scale.ranks, text=_named(rows, arm, adam), place=int(adam))
            for arm, adam in _lines(rows, scale)
        ]
        style.legend(figure, [*keys, *style.arms(["base"], scale.ranks), sweep_lines.ring_key()])
        return style.finish(figure)


def _lines(rows: list[Row], scale: Scale) -> list[tuple[str, bool]]:
    found = {(row["arm"], _adam(row)) for row in rows}
    return [(arm, adam) for arm in sweep_lines.arms(rows, scale) for adam in (False, True) if (arm, adam) in found]


def _named(rows: list[Row], arm: str, adam: bool) -> str:
    # What a LoRA of this comparison has of its own (no gate, alpha) belongs to its name.
    variants = [row["variant"] for row in rows if row["arm"] == arm and _adam(row) == adam]
    own = [part for part in sweep_lines.parts(max(variants, key=len)) if part != "adamw"]
    words = [style.label(arm), *(sweep_lines.spoken(part) for part in own)]
    return f"{' '.join(words)}, {('LionW', 'AdamW')[adam]}"


def _adam(row: Row) -> bool:
    return "adamw" in sweep_lines.parts(row["variant"])
