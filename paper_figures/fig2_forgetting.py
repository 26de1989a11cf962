"""Figure 2, forgetting: what is left of the base's abilities against training length.

The paper's measure is the unweighted mean of three multiple-choice scores. Beside it: each of the three, and the
held-out loss on the text the base was trained on, which moves long before an accuracy does.
"""

from __future__ import annotations

from paper_figures import lines
from paper_figures import rows as table
from paper_figures.picture import Picture
from paper_figures.rows import Inputs

STEM = "fig2_forgetting"
NEEDS = ("curves",)


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """The forgetting mean, then the source loss and each source eval where there are rows."""
    axes = {STEM: "forgetting", f"{STEM}_loss": "source_loss"}
    # The paper prints the mean alone: there it is the one source eval.
    axes |= {f"{STEM}_{name}": name for name in inputs.scale.forgetting if name not in axes.values()}
    return lines.each(inputs.tables["curves"], inputs.scale, axes)


def missing(inputs: Inputs) -> list[str]:
    """Cells of the grid without a forgetting score."""
    return table.missing(table.select(inputs.tables["curves"], axis="forgetting"), inputs.scale)
