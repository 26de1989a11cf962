"""The shell of the report: one HTML file with its style and scripts inside.

The parts are files beside this module, so that they can be read and checked as what they are: `page.css` (light, dark,
phone, paper), `page.js` (descriptions, tables), `plot.js` and `charts.js` (the charts).
"""

from __future__ import annotations

import html
from pathlib import Path

_HERE = Path(__file__).parent


def document(title: str, body: str) -> str:
    """A complete HTML document around `body`, which is markup already."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    scripts = "".join(f"<script>\n{_script(name)}</script>\n" for name in ("page.js", "plot.js", "charts.js"))
    # The policy makes "nothing from outside" a rule that the browser keeps. The empty icon saves a request.
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; img-src data:\">\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n<link rel='icon' href='data:,'>\n"
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"{scripts}</body>\n</html>\n"
    )


def section(name: str, title: str, body: str) -> str:
    """A titled part of the page that can be linked to."""
    return f"<section id='{name}'><h2>{html.escape(title)}</h2>\n{body}\n</section>\n"


def more(summary: str, body: str) -> str:
    """Something folded away until asked for."""
    return f"<details class='more'><summary>{html.escape(summary)}</summary>{body}</details>"


def _script(name: str) -> str:
    text = (_HERE / name).read_text(encoding="utf-8")
    if "</script" in text:
        raise ValueError(f"{name} holds '</script', which would end its element; write '<\\/script'")
    return text
