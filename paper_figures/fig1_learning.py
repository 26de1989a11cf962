"""Figure 1, learning: the target's score against training length, per setting (paper.md 3.1)."""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures import lines
from paper_figures import rows as table
from paper_figures.rows import Inputs

STEM = "fig1_learning"


def draw(inputs: Inputs) -> dict[str, Figure]:
    """The score on the target, as in the paper, and beside it the held-out loss on the target's own text."""
    curves = inputs.tables["curves"]
    drawn = {STEM: lines.draw(curves, inputs.scale, axis="learning")}
    if table.select(curves, axis="target_loss"):
        drawn[f"{STEM}_loss"] = lines.draw(curves, inputs.scale, axis="target_loss")
    return drawn


def missing(inputs: Inputs) -> list[str]:
    """Cells of the grid without a learning score."""
    return table.missing(table.select(inputs.tables["curves"], axis="learning"), inputs.scale)
