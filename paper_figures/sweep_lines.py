"""Lines of the sweeps table: one choice varied, the rest as in the setting. The pictures behind 4, 7, S1, S2 and S3.

A line is an arm (colour, marker) in one variant (dashes, fill of the marker). Variants are named here for a reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from paper_figures import lines, style
from paper_figures import rows as table
from paper_figures.rows import Inputs, Row
from replication.scale import Scale, Setting

# "wd4.2e-4" has a hyphen of its own, so a variant cannot simply be split at them.
_PART = re.compile(r"(?:wd|ad|a)[\d.]+(?:e-?\d+)?|[^-]+")
_NAMES = {"mlp": "MLP", "attention": "attention", "adamw": "AdamW", "lionw": "LionW", "sgd": "SGD", "nogate": "no gate"}
AXES = {"learning": "score on the target", "forgetting": "source evals", "target_loss": "target loss (nats/token)"}
AXES |= {"source_loss": "source loss (nats/token)"}


def of(inputs: Inputs, sweep: str) -> list[Row]:
    """The rows of one sweep, among the settings of the scale."""
    rows = table.select(inputs.tables["sweeps"], sweep=sweep)
    return [row for row in rows if row["study"] in dict(inputs.scale.settings)]


def scored(inputs: Inputs, sweep: str) -> list[Row]:
    """Rows of a sweep on the two axes that its figure draws beside each other."""
    return [row for row in of(inputs, sweep) if row["axis"] in ("learning", "forgetting")]


def missing(inputs: Inputs, sweep: str) -> list[str]:
    """The studies of this sweep that the scale names and that have no rows."""
    present = {row["study"] for row in of(inputs, sweep)}
    asked = [name.partition(".") for name in inputs.scale.ablations]
    return [
        f"no rows of {study}.{sweep}; made by `python -m experiments run {study}.{sweep} --scale {inputs.asked}`"
        for study, _, own in asked
        if own == sweep and study not in present
    ]


def studies(rows: list[Row], scale: Scale) -> list[tuple[str, Setting]]:
    """The settings that have rows, in the order of the scale."""
    return [(study, setting) for study, setting in scale.settings if table.select(rows, study=study)]


def beside(panels: Sequence[Axes], rows: list[Row], scale: Scale) -> Iterator[tuple[Axes, str, Setting, list[Row]]]:
    """Two panels per setting, learning and forgetting, each titled and named: (panel, axis, setting, its rows)."""
    pairs = [(study, setting, axis) for study, setting in studies(rows, scale) for axis in ("learning", "forgetting")]
    for place, (axes, (study, setting, axis)) in enumerate(zip(panels, pairs, strict=True)):
        own = table.select(rows, study=study, axis=axis)
        style.title(axes, place, f"{setting.title}: {axis}")
        if own:
            axes.set_ylabel(lines.quantity(axis, setting, own))
        yield axes, axis, setting, own
        style.baseline(axes, lines.base(own))


def parts(variant: str) -> tuple[str, ...]:
    """What a variant changes, one by one.

    >>> parts("nogate-a2"), parts("wd4.2e-4"), parts("")
    (('nogate', 'a2'), ('wd4.2e-4',), ())
    """
    return tuple(_PART.findall(variant))


def spoken(variant: str, own: str = "as in the study") -> str:
    """A variant in words; `own` stands for the setting's own choice.

    >>> spoken("nogate-a2"), spoken("wd4.2e-4"), spoken("ad5e-2")
    ('no gate, α=2', 'weight decay 4.2e-4', 'attention dropout 0.05')
    """
    return ", ".join(_part(part) for part in parts(variant)) or own


def order(rows: Sequence[Row]) -> list[str]:
    """The variants of some rows: the setting's own first, numbers by size."""
    return sorted({row["variant"] for row in rows}, key=_key)


def points(rows: list[Row], across: str) -> list[Row]:
    """The rows of one line by ascending x; where the setting's own run stands beside a swept one, the swept one."""
    found: dict[Any, Row] = {}
    for row in rows:
        if row[across] not in found or found[row[across]]["own"]:
            found[row[across]] = row
    return [found[x] for x in sorted(found)]


def line(
    axes: Axes, rows: list[Row], scale: Scale, *, across: str, place: int = 0, shift: float = 1.0,
    tint: str | None = None,
) -> None:  # fmt: skip
    """One line through rows of one arm and variant; `place` of the variant among those of the arm.

    Args:
        shift: moves the line sideways by this factor.
        tint: another colour than the arm's.
    """
    own = points(rows, across)
    if not own:
        return
    arm = own[0]["arm"]
    tint, look = tint or style.colour(arm, scale.ranks), style.variant(place)
    for row in own:
        style.whisker(axes, row[across] * shift, row, tint)
    axes.plot(
        [row[across] * shift for row in own], [row["value"] for row in own], color=tint, zorder=3,
        marker=style.marker(arm, scale.ranks), markersize=4.8 if place == 0 else 4.2, linewidth=1.2, **look,
    )  # fmt: skip


def ring(axes: Axes, rows: list[Row], scale: Scale, *, across: str) -> None:
    """A ring around the rate that was chosen by the held-out target loss."""
    for row in rows:
        if row["chosen"]:
            axes.scatter(
                row[across], row["value"], s=75, facecolor="none", edgecolor=style.colour(row["arm"], scale.ranks),
                linewidth=0.9, zorder=5,
            )  # fmt: skip


def ring_key() -> Line2D:
    """Legend entry of the ring."""
    return Line2D(
        [],
        [],
        color=style.MUTED,
        marker="o",
        markersize=8,
        fillstyle="none",
        linestyle="none",
        label="chosen: lowest held-out target loss",
    )


def arms(rows: list[Row], scale: Scale) -> list[str]:
    """The arms of some rows, full fine-tuning first, then from the largest rank down."""
    present = {row["arm"] for row in rows}
    return [arm for arm in table.arms(scale)[::-1] if arm in present]


def _part(part: str) -> str:
    if part in _NAMES:
        return _NAMES[part]
    for head, name in (("wd", "weight decay "), ("ad", "attention dropout "), ("a", "α=")):
        if re.fullmatch(rf"{head}[\d.]+(e-?\d+)?", part):
            value = part.removeprefix(head)
            return name + (value if head == "wd" else f"{float(value):g}")
    return part


def _key(variant: str) -> tuple[bool, tuple[tuple[str, float], ...]]:
    found = []
    for part in parts(variant):
        number = re.search(r"[\d.]+(e-?\d+)?$", part)
        # From the smallest weight decay to the largest dropout: by kind in reverse, then by size.
        found.append((part[: number.start()] if number else part, float(number.group()) if number else 0.0))
    return variant != "", tuple(found)
