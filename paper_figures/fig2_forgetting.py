"""Figure 2, forgetting: what is left of the base's abilities against training length (paper.md 3.1).

The paper's measure is the unweighted mean of three multiple-choice scores. Beside it: each of the three, and the
held-out loss on the text the base was trained on, which moves long before an accuracy does.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures import lines
from paper_figures import rows as table
from paper_figures.rows import Inputs

STEM = "fig2_forgetting"


def draw(inputs: Inputs) -> dict[str, Figure]:
    """The forgetting mean, then the source loss and each source eval where there are rows."""
    curves = inputs.tables["curves"]
    drawn = {STEM: lines.draw(curves, inputs.scale, axis="forgetting")}
    axes = {"loss": "source_loss"} | {name: name for name in inputs.scale.forgetting}
    for suffix, axis in axes.items():
        if table.select(curves, axis=axis):
            drawn[f"{STEM}_{suffix}"] = lines.draw(curves, inputs.scale, axis=axis)
    return drawn


def missing(inputs: Inputs) -> list[str]:
    """Cells of the grid without a forgetting score."""
    return table.missing(table.select(inputs.tables["curves"], axis="forgetting"), inputs.scale)
