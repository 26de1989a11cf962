"""The interactive charts of the report: their rows as data inside the page, and the frame that a script fills.

    curves, tradeoff rows --data()--> JSON in the page --charts.js--> SVG

Python decides what is shown (names, colours, which run a point is), the script only draws it. A page without scripts
keeps the figures, which are drawn from the same rows; the frame of the charts then stays hidden.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from paper_figures import rows as table
from paper_figures import style, tables
from paper_figures.rows import Inputs, Row
from replication.results import RunRow
from replication.scale import Setting

_CURVE = ("study", "arm", "length", "axis", "metric", "value", "low", "high", "seeds", "n", "base")
_TRADEOFF = (
    "study", "arm", "length", "lr", "swept", "learning", "learning_low", "learning_high", "forgetting",
    "forgetting_low", "forgetting_high", "source_loss", "on_front",
)  # fmt: skip
_SWEEP = ".learning_rates"

# The frame: `charts.js` fills it, takes away `hidden` and hides the note (<noscript> would miss a script that fails).
_FRAME = """<div id='charts' hidden>
<p>Point at a mark, touch it, or step through the marks with Tab and the arrow keys, to see its run, rate, score and
interval. Buttons take an arm, a setting or a scale away and bring it back; axes stay where they are meanwhile.</p>
<div class='controls' role='group' aria-label='What the charts show'></div>
<h3 id='curves-title'></h3><div class='panels' id='curves'></div>
<h3 id='tradeoff-title'></h3><div class='panels' id='tradeoff'></div>
</div>
<p class='box' id='no-charts'>The charts need JavaScript. The figures below show the same rows without it.</p>"""


def section(inputs: Inputs, others: Sequence[Inputs] = ()) -> str:
    """The frame of the charts with the rows of every scale, or nothing where no scale has curves."""
    found = [data(each) for each in (inputs, *others) if each.tables.get("curves") or each.tables.get("tradeoff")]
    return _FRAME + embedded("chart-data", {"scales": found}) if found else ""


def embedded(name: str, value: object) -> str:
    """A value as JSON inside the page, where a script finds it by `name`.

    >>> embedded("x", {"a": "</script>"})
    "<script type='application/json' id='x'>{\\"a\\":\\"<\\\\/script>\\"}</script>"
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # "</" would end the element and "<!--" could start a comment in it; both are the same JSON when escaped.
    safe = text.replace("</", "<\\/").replace("<!--", "\\u003c!--")
    return f"<script type='application/json' id='{html.escape(name, quote=True)}'>{safe}</script>"


def data(inputs: Inputs) -> dict[str, Any]:
    """What the charts show of one scale, as plain values."""
    curves, tradeoff = inputs.tables.get("curves", []), inputs.tables.get("tradeoff", [])
    present = {row["arm"] for row in (*curves, *tradeoff)}
    runs = _named(inputs.runs)
    return {
        "name": inputs.scale.name,
        "arms": [_arm(arm, inputs.scale.ranks) for arm in table.arms(inputs.scale)[::-1] if arm in present],
        "settings": [
            _setting(study, setting, curves)
            for study, setting in inputs.scale.settings
            if any(row["study"] == study for row in (*curves, *tradeoff))
        ],
        "axes": _axes(curves),
        "curves": _packed((*_CURVE, "lr", "run"), [row | _origin(row, inputs, runs) for row in curves]),
        "tradeoff": _packed((*_TRADEOFF, "run"), [row | _origin(row, inputs, runs) for row in tradeoff]),
    }


def _arm(arm: str, ranks: Sequence[int]) -> dict[str, Any]:
    # Full fine-tuning takes the colour of ink, which the page knows in light and in dark.
    colour = None if arm == "full" else style.colour(arm, ranks)
    return {"arm": arm, "label": style.label(arm), "colour": colour, "shape": style.marker(arm, ranks)}


def _setting(study: str, setting: Setting, curves: list[Row]) -> dict[str, Any]:
    metrics = {row["axis"]: row["metric"].replace("_", " ") for row in curves if row["study"] == study}
    names = {"learning": setting.target, "target_loss": setting.target_loss, "forgetting": "mean of the source evals"}
    return {
        "study": study, "title": setting.title, "unit": "tokens" if setting.regime == "cpt" else "epochs",
        "lengths": [[length, style.count(length)] for length in setting.lengths],
        "quantities": {a: f"{names.get(a, a).replace('_', ' ')} ({metric})" for a, metric in metrics.items()},
    }  # fmt: skip


def _axes(curves: list[Row]) -> list[dict[str, str]]:
    """Axes of the curves in the order a reader asks: the two of the question, the losses, then each eval."""
    present = list(dict.fromkeys(row["axis"] for row in curves))
    ordered = [*(axis for axis in tables.AXES if axis in present), *(a for a in present if a not in tables.AXES)]
    return [{"axis": axis, "label": tables.AXES.get(axis, axis.replace("_", " "))} for axis in ordered]


_Key = tuple[str, int | None, float, float | None]


def _named(runs: list[RunRow]) -> dict[_Key, str]:
    """The runs behind a point, seeds together, by study, rank and length, and by rate as well."""
    found: dict[_Key, list[RunRow]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        if not run.trunk and not run.variant:
            for lr in (run.lr, None):
                found.setdefault((run.study, run.rank, run.length, lr), []).append(run)
    return {key: _together([run.run for run in group]) for key, group in found.items()}


def _together(names: list[str]) -> str:
    """Names of runs that differ in their seed alone, in one word.

    >>> _together(["cpt/full-s0", "cpt/full-s1"])
    'cpt/full-s0, -s1'
    """
    stem = names[0].rpartition("-s")[0]
    if any(name.rpartition("-s")[0] != stem for name in names):
        return ", ".join(names)
    return ", ".join([names[0], *(f"-s{name.rpartition('-s')[2]}" for name in names[1:])])


def _origin(row: Row, inputs: Inputs, runs: dict[_Key, str]) -> Row:
    """Rate and runs of a point, where they are known."""
    if row["arm"] == "base":
        return {"lr": None, "run": None}
    setting = dict(inputs.scale.settings).get(row["study"])
    rates = dict(setting.rates) if setting else {}
    lr = row["lr"] if row.get("lr") is not None else rates.get(row["arm"])
    study = row["study"] + (_SWEEP if row.get("swept") else "")
    return {"lr": lr, "run": runs.get((study, row.get("rank"), row["length"], lr if row.get("swept") else None))}


def _packed(columns: Sequence[str], rows: list[Row]) -> dict[str, Any]:
    """Rows as one list of names and a list of values each: a third of the size of objects."""
    return {"columns": columns, "rows": [[_short(row.get(name)) for name in columns] for row in rows]}


def _short(value: object) -> object:
    """Six digits: more than a screen can show, and a whole number without its decimal point."""
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")
