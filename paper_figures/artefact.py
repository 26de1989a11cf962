"""Is the high rank full fine-tuning's or the optimiser's? The rank of the change under LionW, AdamW and SGD.

LionW moves every weight by the sign of its momentum, and the sign of a matrix of low rank has high rank.
Compare at equal target loss: the same height at the same x says that the optimiser does not matter, a line of SGD far
below says that the sign made the rank. Dashed is noise.
"""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures import rows as table
from paper_figures import style, sweep_lines
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "artefact"
NEEDS = ("artefact",)
_OPTIMISERS = ("lionw", "adamw", "sgd")
_FIELDS = {"rank90_share": "rank for 90 % / that of noise", "effective_share": "effective rank / that of noise"}


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure: a row of panels per setting."""
    rows = [row for row in inputs.tables["artefact"] if row["study"] in dict(inputs.scale.settings)]
    return {STEM: Picture({"artefact": rows}, partial(draw, rows, inputs.scale))} if rows else {}


def missing(inputs: Inputs) -> list[str]:
    """Studies of the optimiser's part without rows."""
    present = {row["study"] for row in inputs.tables["artefact"]}
    asked = [name.partition(".") for name in inputs.scale.ablations]
    return [f"no rows of {study}.artefact" for study, _, own in asked if own == "artefact" and study not in present]


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Two ranks against the target loss; lines follow one run's lengths, one line per seed."""
    settings = [(study, s) for study, s in scale.settings if table.select(rows, study=study)]
    known = [name for name in _OPTIMISERS if table.select(rows, optimiser=name)]
    with style.look():
        figure, panels = style.panels(2 * len(settings), columns=2, height=2.4)
        for place, axes in enumerate(panels):
            study, setting = settings[place // 2]
            field = tuple(_FIELDS)[place % 2]
            _panel(axes, table.select(rows, study=study), field)
            style.title(axes, place, f"{setting.title}, full fine-tuning")
        keys = [
            Line2D([], [], color=style.INK, marker="^", label=sweep_lines.spoken(name), **style.variant(_place(name)))
            for name in known
        ]
        null = Line2D([], [], color=style.MUTED, linestyle="--", linewidth=1.0, label="noise of that shape")
        style.legend(figure, [*keys, null, *style.seeds(rows)])
        return style.finish(figure)


def _panel(axes: Axes, rows: list[Row], field: str) -> None:
    for name, seed, lr in sorted({(row["optimiser"], row["seed"], row["lr"]) for row in rows}):
        line = table.by_length(table.select(rows, optimiser=name, seed=seed, lr=lr))
        axes.plot(
            [row["target_loss"] for row in line], [row[field] for row in line], color=style.INK, marker="^",
            markersize=5, linewidth=1.0, alpha=0.9, **style.variant(_place(name)),
        )  # fmt: skip
    style.baseline(axes, 1.0)
    axes.set_ylim(0, 1.08)
    axes.invert_xaxis()
    axes.set_xlabel("target loss, nats/token (right: learnt more)")
    axes.set_ylabel(_FIELDS[field])


def _place(optimiser: str) -> int:
    return _OPTIMISERS.index(optimiser) if optimiser in _OPTIMISERS else len(_OPTIMISERS)
