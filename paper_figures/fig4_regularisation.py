"""Figure 4, regularisation: does weight decay or dropout make full fine-tuning forget less?

Left the score on the target, right what is left of the base's abilities, against epochs. Full fine-tuning is ink, its
regularised variants are triangles from green to blue (five inks could not be told apart where they cross); LoRA of the
smallest and the largest rank stand beside them.
"""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures import rows as table
from paper_figures import style, sweep_lines
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale, Setting

STEM = "fig4_regularisation"
NEEDS = ("sweeps", "curves")
SWEEP = "regularisation"


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure: a row of two panels per setting that was regularised."""
    rows, scale = table.select(sweep_lines.of(inputs, SWEEP), arm="full"), inputs.scale
    if not rows:
        return {}
    ends = {f"r{min(scale.ranks)}", f"r{max(scale.ranks)}"}
    known = {row["study"] for row in rows}
    beside = [row for row in inputs.tables["curves"] if row["study"] in known and row["arm"] in ends]
    beside = [row | {"variant": "", "own": True} for row in beside if row["axis"] in ("learning", "forgetting")]
    return {STEM: Picture({"sweeps": rows, "curves": beside}, partial(draw, [*rows, *beside], scale))}


def missing(inputs: Inputs) -> list[str]:
    """Studies of regularisation without rows."""
    return sweep_lines.missing(inputs, SWEEP)


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Two panels per setting."""
    tints = _tints(sweep_lines.order(rows))
    with style.look():
        figure, panels = style.panels(2 * len(sweep_lines.studies(rows, scale)), columns=2, height=2.3)
        for axes, _, setting, own in sweep_lines.beside(panels, rows, scale):
            _panel(axes, own, scale, setting, tints)
        keys = [
            style.handle("full", scale.ranks, text=sweep_lines.spoken(name, "full fine-tuning"), place=i, tint=tint)
            for i, (name, tint) in enumerate(tints.items())
        ]
        others = [arm for arm in sweep_lines.arms(rows, scale) if arm != "full"]
        style.legend(figure, [*keys, *style.arms([*others, "base"], scale.ranks)])
        return style.finish(figure)


def _tints(names: list[str]) -> dict[str, str]:
    """Ink for the study's own choice; the variants from green to blue, short of the last blue, which is nearly ink."""
    return dict(zip(names, [style.INK, *style.shades(len(names))], strict=False))


def _panel(axes: Axes, rows: list[Row], scale: Scale, setting: Setting, tints: dict[str, str]) -> None:
    names = list(tints)
    drawn = [("full", name) for name in names] + [(arm, "") for arm in sweep_lines.arms(rows, scale) if arm != "full"]
    for step, (arm, name) in enumerate(drawn):
        shift = 2 ** (0.04 * (step - (len(drawn) - 1) / 2))
        own = table.select(rows, arm=arm, variant=name)
        tint = tints[name] if arm == "full" else None
        sweep_lines.line(axes, own, scale, across="length", place=names.index(name), shift=shift, tint=tint)
    style.length_axis(axes, sorted({row["length"] for row in rows} or setting.lengths), table.unit(setting))
