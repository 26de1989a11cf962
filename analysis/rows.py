"""Rows of analysis results: plain dicts, one JSON object a line, written atomically.

Unlike score rows (`replication/results.py`) each table has its own fields, so there is no class per table; what is
checked is what went wrong elsewhere: a number that is not one, and rows of one table with different fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def write(path: Path, rows: Sequence[Row]) -> int:
    """Replace the table at `path`; NaN and rows with differing fields are refused. Returns the number of rows.

    Seven significant digits are kept, as many as an fp32 result has: these tables are tracked.
    """
    for row in rows:
        if set(row) != set(rows[0]):
            raise ValueError(f"{path}: a row has fields {sorted(row)}, the first row {sorted(rows[0])}")
    text = "".join(json.dumps(_rounded(row), allow_nan=False) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)
    return len(rows)


def read(path: Path) -> list[Row]:
    """All rows of a table, in order."""
    if not path.is_file():
        raise FileNotFoundError(f"no analysis rows at {path}; make them with `python -m analysis`")
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value
