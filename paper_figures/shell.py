"""The shell of the report: one HTML file with its style inside, readable in light and dark, on a phone, on paper."""

from __future__ import annotations

import html

STYLE = """
:root { color-scheme: light dark; --paper:#fbfbf9; --card:#ffffff; --ink:#15171c; --muted:#606774; --line:#e3e5ea;
  --accent:#7a5bb8; --yes:#1668a8; --no:#b8431a; --open:#6b6f78; --yes-bg:#e3f0fa; --no-bg:#fbe9e1; --open-bg:#eeeff2;
  --band:#eceaf3; }
@media (prefers-color-scheme: dark) { :root { --paper:#0f1115; --card:#171a20; --ink:#f2f4f7; --muted:#9aa3b0;
  --line:#2b303a; --accent:#b79df0; --yes:#7fc0f5; --no:#f6a37e; --open:#b4bac5; --yes-bg:#14293b; --no-bg:#3a2118;
  --open-bg:#272b33; --band:#2a2735; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin:0; background:var(--paper); color:var(--ink); font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
  "Helvetica Neue",Arial,sans-serif; overflow-wrap: break-word; }
main { max-width: 1060px; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1,h2,h3,.lead { font-family: Charter,"Iowan Old Style","Source Serif 4",Georgia,"Times New Roman",serif;
  line-height:1.2; }
h1 { font-size: 2.1rem; margin: 0 0 .3rem; letter-spacing:-.01em; }
h2 { font-size: 1.5rem; margin: 3rem 0 .8rem; }
h3 { font-size: 1.12rem; margin: 0; }
p { margin: .4rem 0; }
a { color: var(--accent); }
code { font: .86em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; background: var(--open-bg);
  padding:.08em .35em;
  border-radius:4px; white-space:nowrap; }
.quiet { color: var(--muted); font-size:.88rem; }
.lead { font-size: 1.55rem; margin: 1.4rem 0 1rem; max-width: 34em; }
.chip { display:inline-block; white-space:nowrap; font-size:.82rem; font-weight:600; padding:.1em .6em;
  border-radius:99px; }
.supported.chip { color:var(--yes); background:var(--yes-bg); } .not-supported.chip { color:var(--no);
  background:var(--no-bg); }
.undecided.chip { color:var(--open); background:var(--open-bg); }
.tally { list-style:none; margin:0; padding:0; border-top:1px solid var(--line); }
.tally a { display:grid; grid-template-columns: 8.6rem 2.4rem 1fr; gap:.4rem; padding:.55rem 0; color:inherit;
  text-decoration:none; border-bottom:1px solid var(--line); align-items:baseline; }
.tally .chip { justify-self:start; }
.tally a:hover { background: var(--open-bg); }
.card, figure, .box { background:var(--card); border:1px solid var(--line); border-radius:12px; padding:1.1rem 1.2rem;
  margin: 1rem 0; }
.card header p { display:flex; flex-wrap:wrap; gap:.5rem; align-items:center; }
.card .id { color: var(--accent); margin-right:.2rem; }
.part { border-top:1px solid var(--line); padding:.6rem 0 .3rem; margin-top:.5rem; }
.part > p { font-size:.97rem; margin:0 0 .2rem; }
.line summary { display:grid; grid-template-columns: 8rem minmax(13rem,1fr) 15rem 17rem; gap:.2rem .9rem;
  align-items:center; cursor:pointer; list-style:none; font-size:.9rem; padding:.12rem 0; border-radius:6px; }
.line summary:hover { background:var(--open-bg); }
.line summary::-webkit-details-marker { display:none; }
.line .where::before { content:"▸"; color:var(--muted); margin-right:.45em; }
.line[open] .where::before { content:"▾"; }
.line[open] { padding-bottom:.5rem; }
.line .words, .line > p { margin-left:1.1rem; }
.answer, .reference { display:flex; flex-wrap:wrap; gap:.35rem; align-items:center; }
.reference .chip { font-weight:500; background:none; border:1px dashed currentColor; }
.number { color:var(--muted); font-size:.86rem; font-variant-numeric: tabular-nums; }
.words { font-size:.92rem; max-width: 52em; }
svg.effect { display:block; width:100%; max-width:260px; height:auto; }
.effect .band { fill:var(--band); } .effect .zero { stroke:var(--muted); stroke-width:1; }
.effect .own line { stroke:currentColor; stroke-width:4; stroke-linecap:round; opacity:.55; }
.effect .own circle { fill:currentColor; }
.effect .other { opacity:.7; } .effect .other line { stroke:var(--muted); stroke-width:1.5; }
.effect .other circle { fill:var(--card); stroke:var(--muted); stroke-width:1.5; r:3px; }
.effect.supported { color:var(--yes); } .effect.not-supported { color:var(--no); }
  .effect.undecided { color:var(--open); }
figure img { display:block; width:100%; min-width:560px; height:auto; }
figcaption { font-size:.94rem; margin-top:.7rem; max-width: 52em; }
details > summary { cursor:pointer; } details.more { margin:.6rem 0; } details.more > summary { color:var(--accent); }
.scroll { overflow-x:auto; margin:.8rem 0; }
table { border-collapse:collapse; font-size:.86rem; font-variant-numeric: tabular-nums; min-width:100%; }
caption { text-align:left; font-weight:600; padding:.3rem 0; }
th,td { text-align:right; padding:.32rem .7rem; border-bottom:1px solid var(--line); white-space:nowrap; }
th:first-child { text-align:left; } thead th { color:var(--muted); font-weight:600; } tbody th { font-weight:500; }
.warning { border-left:4px solid var(--no); }
nav a { margin-right:1.1rem; font-size:.92rem; }
footer { margin-top:3rem; border-top:1px solid var(--line); padding-top:.8rem; }
/* Figures stand on white. Turned over with the hues turned back, they stand on dark with the arms' colours kept. */
@media screen and (prefers-color-scheme: dark) { figure img { filter: invert(1) hue-rotate(180deg);
  mix-blend-mode: screen; } }
@media (max-width: 760px) { h1 { font-size:1.6rem; } .lead { font-size:1.25rem; }
  .line summary { grid-template-columns: 1fr 1fr; } .tally a { grid-template-columns: auto 1fr; }
  .tally a span:last-child { grid-column: 1 / -1; } .card, figure { padding:.8rem; } }
@media print { :root { --paper:#fff; --card:#fff; --ink:#000; --muted:#444; --line:#ccc; } body { font-size:11pt; }
  .line, figure, .box, tr { break-inside: avoid; } h2, .part > p { break-after: avoid; }
  nav { display:none; } figure img { min-width:0; }
  details::details-content { content-visibility: visible; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""


def document(title: str, body: str) -> str:
    """A complete HTML document around `body`, which is markup already."""
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def section(name: str, title: str, body: str) -> str:
    """A titled part of the page that can be linked to."""
    return f"<section id='{name}'><h2>{html.escape(title)}</h2>\n{body}\n</section>\n"


def more(summary: str, body: str) -> str:
    """Something folded away until asked for."""
    return f"<details class='more'><summary>{html.escape(summary)}</summary>{body}</details>"
