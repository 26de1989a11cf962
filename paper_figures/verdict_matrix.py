"""The verdict matrix: every part of every claim against every setting, by sign, colour and size.

A tick is supported, a cross not supported, a question mark undecided; the colour says the same and the number is the
effect (in score where no unit is named), positive in the direction that is claimed. A dagger: the answer does not
survive when all questions of the matrix are counted (Holm). Grey text stands beside its claim and does not count.
"""

from __future__ import annotations

import math
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "verdict_matrix"
NEEDS = ("verdicts",)

# Blue and orange stay apart for every kind of colour blindness; grey is neither.
LOOK = {"supported": ("✓", "#bcd7f0"), "not supported": ("✗", "#f6c89b"), "undecided": ("?", "#e9ebee")}
_GROUPS = {"cpt": "CPT", "ift": "IFT", "code": "code", "math": "maths", "all": "all"}
# Inches of a line, and the lines that fit on a page of 9 inches.
_LINE, _PAGE = 0.165, 48
# Letters at 7 points that fit beside the number of a claim.
_LETTERS = 46
# Fills its cell, so the sign of "undecided" is left out beside it.
_ABSENT = "no rows"


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """As many pages as the claims need, a claim never broken over two."""
    rows = [row for row in inputs.tables["verdicts"] if row["part"] != "overall"]
    found = {}
    for place, page in enumerate(pages(rows)):
        stem = STEM if place == 0 else f"{STEM}_{place + 1}"
        found[stem] = Picture({"verdicts": page}, partial(draw, page, inputs.scale))
    return found


def missing(inputs: Inputs) -> list[str]:
    """Nothing is expected beyond the table: it has a row for each question that the scale asks."""
    return []


def pages(rows: list[Row]) -> list[list[Row]]:
    """The rows in pages that fit the height of a sheet, about equally full."""
    sizes = {claim: len({row["part"] for row in table.select(rows, claim=claim)}) for claim in _claims(rows)}
    count = max(1, math.ceil(sum(sizes.values()) / _PAGE))
    made: list[list[Row]] = [[]] if rows else []
    limit, filled = math.ceil(sum(sizes.values()) / count), 0
    for claim, size in sizes.items():
        if filled and filled + size / 2 > limit and len(made) < count:
            made, filled = [*made, []], 0
        made[-1] += table.select(rows, claim=claim)
        filled += size
    return made


def draw(rows: list[Row], scale: Scale) -> Figure:
    """One line per part of a claim, one column per setting or group of settings."""
    columns = _columns(rows, scale)
    lines = list(dict.fromkeys((row["claim"], row["part"]) for row in rows))
    with style.look():
        figure = Figure(figsize=(style.PAGE, _LINE * len(lines) + 0.75))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.42, right=0.985, top=1 - 0.55 / figure.get_figheight(), bottom=0.04)
        for height, (claim, part) in enumerate(lines):
            own = table.select(rows, claim=claim, part=part)
            first = height == 0 or lines[height - 1][0] != claim
            _line(axes, height, own, columns, first=first)
        _frame(axes, len(lines), columns, scale)
        figure.legend(handles=_keys(rows), loc="upper center", ncols=4, fontsize=style.SMALL)
        return figure


def _line(axes: Axes, height: int, rows: list[Row], columns: list[str], *, first: bool) -> None:
    for row in rows:
        place = columns.index(row["setting"])
        sign, tint = LOOK[row["answer"]]
        effect = _effect(row)
        axes.add_patch(Rectangle((place - 0.48, height - 0.45), 0.96, 0.9, facecolor=tint, linewidth=0))
        shade = style.INK if row.get("counts", True) else style.MUTED
        if effect != _ABSENT:
            axes.text(place - 0.42, height, sign, va="center", fontsize=style.SMALL, color=shade)
        axes.text(place + 0.44, height, effect, va="center", ha="right", fontsize=style.SMALL, color=shade)
    shade = style.INK if rows[0].get("counts", True) else style.MUTED
    axes.text(-0.6, height, _named(rows[0]), va="center", ha="right", fontsize=style.SMALL, color=shade)
    if first:
        axes.text(
            -0.74, height, rows[0]["claim"], va="center", fontsize=style.SMALL, fontweight="bold",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
        if height:
            axes.plot([-0.74, 1.0], [height - 0.5] * 2, color=style.MUTED, linewidth=0.5, clip_on=False,
                      transform=axes.get_yaxis_transform())  # fmt: skip


def _effect(row: Row) -> str:
    if row.get("effect") is None:
        return _ABSENT if row.get("missing") else ""
    value = row["effect"]
    # Without the zero before the point, as the paper prints its scores.
    text = f"{value:+.2f}".replace("+0.", "+.").replace("-0.", "-.") if abs(value) < 10 else f"{value:+.0f}"
    return text.replace("-", "−") + ("†" if row.get("holm") is False and row["answer"] != "undecided" else "")


def _frame(axes: Axes, count: int, columns: list[str], scale: Scale) -> None:
    titles = {study: setting.title for study, setting in scale.settings} | _GROUPS
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [titles.get(name, name).replace(" ", "\n", 1) for name in columns])
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", labelsize=style.SMALL)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _keys(rows: list[Row]) -> list[Patch]:
    keys = [Patch(color=tint, label=f"{sign} {answer}") for answer, (sign, tint) in LOOK.items()]
    if any(row.get("holm") is False and row["answer"] != "undecided" for row in rows):
        keys.append(Patch(color=style.PAPER, label="† not after Holm"))
    return keys


def _columns(rows: list[Row], scale: Scale) -> list[str]:
    present = {row["setting"] for row in rows}
    order = [*(study for study, _ in scale.settings), *_GROUPS]
    return [*(name for name in order if name in present), *sorted(present - set(order))]


def _claims(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["claim"] for row in rows))


def _named(row: Row) -> str:
    unit = row["unit"]
    short = {"share of noise rank": "of noise rank", "strings per problem": "strings", "nats per token": "nats/token"}
    text = row["part"] if unit.startswith("score") else f"{row['part']} ({short.get(unit, unit)})"
    return text if len(text) <= _LETTERS else text[: _LETTERS - 2].rstrip() + "…"
