"""A figure before it is drawn: the rows it shows, and how to draw them.

Which figures there are, and from which rows, is known without drawing one; so the check of tracked figures against
the rows as they are now takes no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from paper_figures.rows import Row


@dataclass(frozen=True)
class Picture:
    """The rows that a figure shows, by table, and the function that draws them."""

    rows: dict[str, list[Row]]
    draw: Callable[[], Figure]
