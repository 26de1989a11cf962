"""Draw pictures on all cores and write them: PNG, PDF and sidecar of each.

Drawing is text layout in one thread, about a second a figure. Where the system can fork, two processes share the
figures; they inherit the rows, so nothing is sent but the bytes of the files.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from paper_figures import sidecar, style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs

# Three figures or fewer are drawn before a second process has paid for itself.
_WORTH = 4
_shared: dict[str, Picture] = {}


def files(pictures: dict[str, Picture]) -> Iterable[tuple[str, bytes, bytes]]:
    """The stem, the PNG file and the PDF file of every picture, in their order."""
    workers = min(2, os.cpu_count() or 1)
    if len(pictures) < _WORTH or workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from ((stem, *_both(picture)) for stem, picture in pictures.items())
        return
    _shared.clear()
    _shared.update(pictures)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        yield from pool.map(_named, pictures)


def write(pictures: dict[str, Picture], inputs: Inputs, folder: Path) -> dict[str, bytes]:
    """Write three files for each picture into the folder; returns the PNG files by stem."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for stem, png, pdf in files(pictures):
        (folder / f"{stem}.png").write_bytes(png)
        (folder / f"{stem}.pdf").write_bytes(pdf)
        described = sidecar.describe(stem, pictures[stem].rows, inputs, result=png)
        (folder / f"{stem}.json").write_bytes(sidecar.dumps(described))
        drawn[stem] = png
    return drawn


def _named(stem: str) -> tuple[str, bytes, bytes]:
    return (stem, *_both(_shared[stem]))


def _both(picture: Picture) -> tuple[bytes, bytes]:
    figure = picture.draw()
    return style.png(figure), style.pdf(figure)
