"""Tables of scores, in the shape of the paper's S1 to S8: arms down, lengths across, one per setting and axis.

A cell is a value with its interval; a cell without a row is an em dash and stands in the list of what is missing.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from paper_figures import rows as table
from paper_figures import style
from paper_figures.rows import Inputs, Row
from replication.config import number
from replication.scale import Scale, Setting

ABSENT = "–"

# Axis of the curves table -> what a reader calls it.
AXES = {
    "learning": "learning",
    "forgetting": "forgetting score (higher: less forgotten)",
    "target_loss": "loss on the target",
    "source_loss": "loss on the source (lower: less forgotten)",
}


@dataclass(frozen=True)
class Table:
    """A table of text: `rows` hold one cell per column, the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def score_tables(inputs: Inputs) -> list[Table]:
    """One table for each setting and axis with rows."""
    tables = []
    for study, setting in inputs.scale.settings:
        for axis in AXES:
            chosen = table.select(inputs.tables["curves"], study=study, axis=axis)
            if chosen:
                tables.append(_scores(chosen, inputs.scale, setting, axis))
    return tables


def markdown(tables: Sequence[Table]) -> str:
    """The tables as Markdown."""
    parts = []
    for item in tables:
        lines = [f"**{item.title}**", "", _bar(item.columns), _bar(["---"] * len(item.columns))]
        parts.append("\n".join([*lines, *(_bar(row) for row in item.rows)]))
    return "\n\n".join(parts) + "\n"


def markup(item: Table) -> str:
    """One table as HTML that scrolls sideways where the screen is narrow."""
    head = "".join(f"<th scope='col'>{html.escape(text)}</th>" for text in item.columns)
    body = "".join(
        f"<tr><th scope='row'>{html.escape(row[0])}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in item.rows
    )
    caption = f"<caption>{html.escape(item.title)}</caption>" if item.title else ""
    return f"<div class='scroll'><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def interval(row: Row) -> str:
    """A value and its interval.

    >>> interval({"value": 0.5, "low": 0.41, "high": 0.6})
    '0.500 [0.410, 0.600]'
    """
    if row.get("low") is None or row.get("high") is None:
        return amount(row["value"])
    return f"{amount(row['value'])} [{amount(row['low'])}, {amount(row['high'])}]"


def amount(value: float) -> str:
    """A number for a reader: three decimals below ten, thousands apart above.

    >>> [amount(v) for v in (0.1234, -2.0, 63.25, 12345.6)]
    ['0.123', '-2.000', '63.2', '12,346']
    """
    if abs(value) < 10:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _scores(rows: list[Row], scale: Scale, setting: Setting, axis: str) -> Table:
    unit = "tokens" if setting.regime == "cpt" else "epochs"
    base = next((row["base"] for row in rows if row.get("base") is not None), None)
    name = f"{setting.target} {rows[0]['metric']}" if axis == "learning" else AXES[axis]
    title = f"{setting.title}: {name}" + ("" if base is None else f"; base {amount(base)}")
    cells = {(row["arm"], row["length"]): interval(row) for row in rows}
    body = tuple(
        (style.label(arm), *(cells.get((arm, length), ABSENT) for length in setting.lengths))
        for arm in table.arms(scale)
    )
    return Table(title, ("arm", *(f"{number(v)} {unit}" for v in setting.lengths)), body)


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
