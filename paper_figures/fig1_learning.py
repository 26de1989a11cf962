"""Figure 1, learning: the target's score against training length, per setting."""

from __future__ import annotations

from paper_figures import lines
from paper_figures import rows as table
from paper_figures.picture import Picture
from paper_figures.rows import Inputs

STEM = "fig1_learning"
NEEDS = ("curves",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """The score on the target, as in the paper, and beside it the held-out loss on the target's own text."""
    return lines.each(inputs.tables["curves"], inputs.scale, {STEM: "learning", f"{STEM}_loss": "target_loss"})


def missing(inputs: Inputs) -> list[str]:
    """Cells of the grid without a learning score."""
    return table.missing(table.select(inputs.tables["curves"], axis="learning"), inputs.scale)
