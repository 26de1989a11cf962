"""Tables of scores, in the shape of the paper's S1 to S8 and S10 to S13: arms down, lengths across.

A cell is a value with its interval and, where axis and lengths are the paper's, the paper's value behind it. A cell
without a row is a dash and stands in the list of what is missing. Memory is S14 to S16: our count and the paper's.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from experiments import paper
from paper_figures import published, style
from paper_figures import rows as table
from paper_figures.rows import Inputs, Row
from replication import memory
from replication.scale import Scale, Setting

ABSENT = "–"

# Axis of the curves table -> what a reader calls it.
AXES = {
    "learning": "learning",
    "forgetting": "forgetting score (higher: less forgotten)",
    "target_loss": "loss on the target",
    "source_loss": "loss on the source (lower: less forgotten)",
}


# The paper's number of a table, by setting and axis.
NUMBERS = {
    ("cpt_code", "learning"): "S1", ("cpt_code", "forgetting"): "S2", ("cpt_math", "learning"): "S3",
    ("cpt_math", "forgetting"): "S4", ("ift_code", "learning"): "S5", ("ift_code", "forgetting"): "S6",
    ("ift_math", "learning"): "S7", ("ift_math", "forgetting"): "S8", ("ift_mix", "mt_bench"): "S10",
    ("ift_mix", "mmlu"): "S11", ("ift_mix", "gsm8k"): "S12", ("ift_mix", "learning"): "S12",
    ("ift_mix", "forgetting"): "S13",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of text: `rows` hold one cell per column, the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def all_tables(inputs: Inputs) -> list[Table]:
    """The score tables, then memory."""
    return [*score_tables(inputs), *memory_tables()]


def used(inputs: Inputs) -> dict[str, list[Row]]:
    """The rows that the score tables show, by table."""
    own = [row for row in inputs.tables["curves"] if row["study"] in dict(inputs.scale.settings)]
    return {"curves": [row for row in own if row["axis"] in (*AXES, *_extra(row["study"]))]}


def score_tables(inputs: Inputs) -> list[Table]:
    """One table for each setting and axis with rows."""
    made = []
    for study, setting in inputs.scale.settings:
        for axis in (*AXES, *_extra(study)):
            chosen = table.select(inputs.tables["curves"], study=study, axis=axis)
            if chosen:
                beside = published.values(inputs.scale, study, axis)
                made.append(_scores(chosen, inputs.scale, setting, _title(chosen, study, setting, axis), beside))
    return made


def memory_tables() -> list[Table]:
    """S14 to S16: weights, gradients and optimiser state on each GPU, as counted here and as the paper prints them."""
    made = []
    for size in sorted({row.parameters for row in paper.MEMORY}):
        own = [row for row in paper.MEMORY if row.parameters == size]
        gpus = sorted({row.gpus for row in own})
        lines: dict[str, list[str]] = {}
        for row in own:
            count = memory.paper_count(size, adam=row.optimizer == "adam", lora=row.lora, world=row.gpus)
            name = row.optimizer.capitalize() + (" + LoRA" if row.lora else "")
            lines.setdefault(name, []).append(f"{count.states / memory.GB:.4g} (paper {row.gigabytes:g})")
        title = f"{own[0].source}. GB (1e9 bytes) a GPU, {size / 1e9:g}B parameters, without activations"
        body = tuple((name, *cells) for name, cells in lines.items())
        made.append(Table(title, ("optimiser", *(f"{n} GPU{'s' if n > 1 else ''}" for n in gpus)), body))
    return made


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


def _scores(
    rows: list[Row], scale: Scale, setting: Setting, title: str, beside: dict[tuple[str, float], float]
) -> Table:
    cells = {(row["arm"], row["length"]): interval(row) for row in rows}
    for key, value in beside.items():
        cells[key] = f"{cells.get(key, ABSENT)} (paper {amount(value)})"
    body = tuple(
        (style.label(arm), *(cells.get((arm, length), ABSENT) for length in setting.lengths))
        for arm in table.arms(scale)
    )
    return Table(title, ("arm", *(f"{style.count(v)} {table.unit(setting)}" for v in setting.lengths)), body)


def _title(rows: list[Row], study: str, setting: Setting, axis: str) -> str:
    base = next((row["base"] for row in rows if row.get("base") is not None), None)
    own = f"{setting.target} {rows[0]['metric']}" if axis == "learning" else AXES.get(axis, axis)
    place = NUMBERS.get((study, axis))
    text = f"{setting.title}: {own}" + ("" if base is None else f"; base {amount(base)}")
    return f"Table {place}. {text}" if place else text


def _extra(study: str) -> tuple[str, ...]:
    return ("mt_bench", "mmlu", "gsm8k") if study == paper.MIX else ()


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
