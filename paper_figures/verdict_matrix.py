"""The verdict matrix: every part of every claim against every setting, by sign, colour and size.

A tick is supported, a cross not supported, a question mark undecided, a dash not asked (its rows are missing); the
colour says the same and the number is the effect (in score where no unit is named), positive in the direction that is
claimed. A dagger: the answer does not survive when all questions of the matrix are counted (Holm). Grey text stands
beside its claim and does not count.
"""

from __future__ import annotations

import math
import textwrap
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from paper_figures import rows as table
from paper_figures import states, style, verdict_cards
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale

STEM = "verdict_matrix"
NEEDS = ("verdicts",)

# Blue and orange stay apart for every kind of colour blindness; grey is neither, and white was not asked.
LOOK = {"supported": "#bcd7f0", "not supported": "#f6c89b", "undecided": "#e4e6ea", states.NOT_ASKED: style.PAPER}
_GROUPS = {"cpt": "CPT", "ift": "IFT", "code": "code", "math": "maths", "all": "all"}
# Inches of a line, and the lines that fit on a page of 9 inches.
_LINE, _PAGE = 0.165, 48
# Share of the width at the left, and the letters at 7 points that fit there beside the number of a claim; the second
# with many columns, whose numbers would otherwise run into their signs.
_MARGINS, _MANY = ((0.42, 50), (0.345, 40)), 7
_UNITS = {
    "share of noise rank": "of noise rank", "strings per problem": "strings", "nats per token": "nats/token",
    "share of full fine-tuning's speed": "of full's speed", "share of full fine-tuning's memory": "of full's memory",
    "powers of ten above a factor of 10": "powers of ten above 10×",
}  # fmt: skip


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """As many pages as the claims need, a claim never broken over two; side studies have figures of their own."""
    asked = [row for row in inputs.tables["verdicts"] if row["part"] != "overall"]
    rows = [row for row in asked if verdict_cards.family(row) != "side study"]
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
    left, letters = _MARGINS[len(columns) > _MANY]
    groups = [table.select(rows, claim=c, part=p) for c, p in dict.fromkeys((r["claim"], r["part"]) for r in rows)]
    names = [_named(own[0], letters) for own in groups]
    # A name of two lines is higher than one by most of a line.
    heights = [1 + 0.75 * name.count("\n") for name in names]
    tops = [sum(heights[:place]) for place in range(len(heights))]
    with style.look():
        figure = Figure(figsize=(style.PAGE, _LINE * sum(heights) + 0.75))
        axes = figure.subplots()
        figure.subplots_adjust(left=left, right=0.985, top=1 - 0.55 / figure.get_figheight(), bottom=0.04)
        claim = ""
        for own, name, top, high in zip(groups, names, tops, heights, strict=True):
            _cells(axes, own, columns, top, high)
            shade = style.INK if own[0].get("counts", True) else style.MUTED
            axes.text(-0.6, top + high / 2, name, va="center", ha="right", fontsize=style.SMALL, color=shade)
            if own[0]["claim"] != claim:
                claim = own[0]["claim"]
                _start(axes, claim, top, left / (0.985 - left))
        _frame(axes, sum(heights), columns, scale)
        figure.legend(handles=_keys(rows), loc="upper center", ncols=5, fontsize=style.SMALL)
        return figure


def _cells(axes: Axes, rows: list[Row], columns: list[str], top: float, high: float) -> None:
    middle = top + high / 2
    for row in rows:
        place, state = columns.index(row["setting"]), states.state(row)
        edge = style.GRID if state == states.NOT_ASKED else LOOK[state]
        axes.add_patch(
            Rectangle(
                (place - 0.48, top + 0.05), 0.96, high - 0.1, facecolor=LOOK[state], edgecolor=edge, linewidth=0.6
            )
        )
        shade = style.INK if row.get("counts", True) else style.MUTED
        asked = row["effect"] is not None
        axes.text(
            place - 0.43 if asked else place, middle, states.SIGNS[state], va="center", color=shade,
            ha="left" if asked else "center", fontsize=style.SMALL,
        )  # fmt: skip
        if asked:
            axes.text(place + 0.46, middle, _effect(row), va="center", ha="right", fontsize=style.SMALL, color=shade)


def _start(axes: Axes, claim: str, top: float, left: float) -> None:
    """The number of a claim beside its first part, and the rule above it; `left` in widths of the axes."""
    across = axes.get_yaxis_transform()
    axes.text(0.005 - left, top + 0.5, claim, va="center", fontsize=style.SMALL, fontweight="bold", transform=across)
    if top:
        axes.plot([0.005 - left, 1.0], [top] * 2, color=style.MUTED, linewidth=0.5, clip_on=False, transform=across)


def _effect(row: Row) -> str:
    value = row["effect"]
    # Without the zero before the point, as the paper prints its scores.
    text = f"{value:+.2f}".replace("+0.", "+.").replace("-0.", "-.") if abs(value) < 10 else f"{value:+.0f}"
    return text.replace("-", "−") + ("†" if row.get("holm") is False and row["answer"] != "undecided" else "")


def _frame(axes: Axes, height: float, columns: list[str], scale: Scale) -> None:
    titles = {study: setting.title for study, setting in scale.settings} | _GROUPS
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(height, 0)
    axes.set_xticks(range(len(columns)), [titles.get(name, name).replace(" ", "\n", 1) for name in columns])
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", labelsize=style.SMALL)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _keys(rows: list[Row]) -> list[Patch]:
    keys = [
        Patch(facecolor=tint, edgecolor=style.GRID, label=f"{states.SIGNS[state]} {state}")
        for state, tint in LOOK.items()
    ]
    if any(row.get("holm") is False and row["answer"] != "undecided" for row in rows):
        keys.append(Patch(color=style.PAPER, label="† not after Holm"))
    return keys


def _columns(rows: list[Row], scale: Scale) -> list[str]:
    present = {row["setting"] for row in rows}
    order = [*(study for study, _ in scale.settings), *_GROUPS]
    return [*(name for name in order if name in present), *sorted(present - set(order))]


def _claims(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["claim"] for row in rows))


def _named(row: Row, letters: int) -> str:
    unit = "" if row["unit"].startswith("score") else f"({_UNITS.get(row['unit'], row['unit'])})"
    text = f"{row['part']} {unit}".strip()
    if len(text) <= letters:
        return text
    return "\n".join([*textwrap.wrap(row["part"], letters), *([unit] if unit else [])])
