"""Figure S3, alpha: does the highest rank need alpha = 2 r?

The score on the target, and what is left of the base's abilities, against the rate, one line per alpha of one rank.
Solid is alpha = 2 r, the study's choice. Alpha and the rate act on the same product, so the lines should be compared
at their tops: each alpha at its own best rate.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial

from matplotlib.figure import Figure

from paper_figures import rows as table
from paper_figures import style, sweep_lines
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "figS3_alpha"
NEEDS = ("sweeps",)
SWEEP = "alpha"


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure: a row of two panels per setting."""
    rows = sweep_lines.scored(inputs, SWEEP)
    return {STEM: Picture({"sweeps": rows}, partial(draw, rows, inputs.scale))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """Studies of alpha without rows."""
    return sweep_lines.missing(inputs, SWEEP)


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Two panels per setting: a line per alpha."""
    names = sweep_lines.order(rows)
    with style.look():
        figure, panels = style.panels(2 * len(sweep_lines.studies(rows, scale)), columns=2, height=2.0)
        for axes, _, _, own in sweep_lines.beside(panels, rows, scale):
            for step, (arm, name) in enumerate((arm, v) for arm in sweep_lines.arms(own, scale) for v in names):
                line = table.select(own, arm=arm, variant=name)
                shift = 1.0 if len({row["lr"] for row in own}) > 1 else 1.05 ** (step - 1)
                sweep_lines.line(axes, line, scale, across="lr", place=names.index(name), shift=shift)
            style.rate_axis(axes, [row["lr"] for row in own])
        keys = [
            style.handle(arm, scale.ranks, text=f"{style.label(arm)}, {_alpha(name, arm)}", place=names.index(name))
            for arm in sweep_lines.arms(rows, scale)
            for name in names
            if table.select(rows, arm=arm, variant=name)
        ]
        style.legend(figure, [*keys, *style.arms(["base"], scale.ranks)])
        return style.finish(figure)


def _alpha(variant: str, arm: str) -> str:
    rank = int(arm[1:])
    alpha = float(variant.removeprefix("a")) if variant else 2.0 * rank
    over = Fraction(alpha / rank).limit_denominator(64)
    times = "" if over.numerator == 1 else str(over.numerator)
    return f"α={alpha:g} ({times}r{'' if over.denominator == 1 else f'/{over.denominator}'})"
