"""What each figure was drawn from, in a small file beside it, and whether the rows are still those.

`fig1_learning.json` holds the command, the digest of every table that was read and of the rows that were drawn, and
the commits that trained the runs. Pictures differ from one version of matplotlib to the next, rows do not: the check
draws nothing, and asks of a PNG (or `tables.md`) only whether it is the file that the sidecar was written with. A PDF
is not tracked and not checked.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from paper_figures.rows import Inputs, Row

SCORES = "tables"


def describe(stem: str, drawn: dict[str, list[Row]], inputs: Inputs, *, result: bytes) -> dict[str, Any]:
    """The content of a figure's sidecar; `drawn` has the rows that it shows, by table, and `result` is its PNG file."""
    known = {name.removesuffix(".jsonl"): (rows, sha) for name, rows, sha in inputs.files}
    return {
        "figure": stem,
        "command": command(stem, inputs),
        "tables": {n: {"rows": known[n][0], "sha256": known[n][1]} for n in sorted(drawn) if n in known},
        "rows_drawn": {name: len(rows) for name, rows in sorted(drawn.items())},
        "rows_drawn_sha256": digest(drawn),
        "result_sha256": hashlib.sha256(result).hexdigest(),
        "git_sha": sorted({sha for run in inputs.runs for sha in run.git_sha.split(", ")}),
        "versions": {name: importlib.metadata.version(name) for name in ("matplotlib", "numpy", "seaborn")}
        | {"python": platform.python_version()},
    }


def command(stem: str, inputs: Inputs) -> str:
    """The command that draws one figure again."""
    return f"python -m paper_figures {stem} --scale {inputs.asked}"


def digest(rows: dict[str, list[Row]]) -> str:
    """First hex digits of the sha256 of some rows, by table, in the order given."""
    text = "".join(f"{name}\n{json.dumps(row, sort_keys=True)}\n" for name in sorted(rows) for row in rows[name])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def dumps(content: dict[str, Any]) -> bytes:
    """A sidecar as the bytes of its file."""
    return (json.dumps(content, indent=1) + "\n").encode()


def stale(folder: Path, drawn: dict[str, dict[str, list[Row]]], inputs: Inputs, *, whole: bool) -> list[str]:
    """What does not fit the rows as they are, one line each, naming the figure, the table and the command.

    Args:
        drawn: what the rows allow now: by stem, the rows of each table.
        whole: also look for figures that the rows no longer allow.
    """
    found = [line for stem, rows in drawn.items() for line in _one(folder, stem, rows, inputs)]
    kept = sorted(path.stem for path in folder.glob("*.json")) if whole else []
    for stem in kept:
        if stem not in drawn:
            found.append(
                f"{stem}: its rows are gone; `python -m analysis` says how they are made, or delete {folder / stem}.*"
            )
    return found


def _one(folder: Path, stem: str, rows: dict[str, list[Row]], inputs: Inputs) -> list[str]:
    redraw = f"`{command(stem, inputs)}`"
    path = folder / f"{stem}.json"
    result = folder / ("tables.md" if stem == SCORES else f"{stem}.png")
    gone = [file.name for file in (path, result) if not file.is_file()]
    if gone:
        return [f"{stem}: {' and '.join(gone)} missing, from {', '.join(sorted(rows))}.jsonl; {redraw}"]
    try:
        before = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        return [f"{stem}: {path.name} is not JSON ({error.msg}); {redraw}"]
    now = describe(stem, rows, inputs, result=result.read_bytes())
    lines = [
        f"{stem}: {name}.jsonl has changed since it was drawn; {redraw}"
        for name, table in now["tables"].items()
        if before.get("tables", {}).get(name) != table
    ]
    if not lines and before.get("rows_drawn_sha256") != now["rows_drawn_sha256"]:
        lines = [f"{stem}: draws other rows of {', '.join(sorted(rows))}.jsonl than it did; {redraw}"]
    if not lines and before.get("result_sha256") != now["result_sha256"]:
        lines = [f"{stem}: {result.name} is not the file that {path.name} was written with; {redraw}"]
    return lines
