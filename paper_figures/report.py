"""The report: one self-contained HTML page, from the answer down to the run behind each number.

Order: the answer in words and as a matrix of claims and settings, the scores at a glance, charts to explore, the
verdict on each claim with its evidence, the figures with what to look for, the score tables, every training run with
the command that makes it, and where all of it came from. Pictures, data and scripts are inside the file, so the page
can be mailed; it needs no network, and without scripts only the charts are missing.
"""

from __future__ import annotations

import html
import platform
import re
import struct
from collections.abc import Sequence

import matplotlib
import seaborn

from experiments import studies
from paper_figures import captions, charts, inline, run_table, shell, style, tables, verdict_cards, verdict_table
from paper_figures import rows as table
from paper_figures.rows import Inputs, Row
from paper_figures.tables import Table, amount
from replication.results import RunRow

# Pixels of a figure of one column: 3.25 inches at 200 per inch.
_COLUMN = 660
# Sections with the word of the menu and the title.
_SECTIONS = {
    "glance": "At a glance", "explore": "Explore the scores", "verdicts": "Claim by claim", "figures": "Figures",
    "tables": "Scores", "runs": "Every run", "provenance": "Where this page comes from",
}  # fmt: skip


def page(
    inputs: Inputs,
    *,
    pictures: dict[str, bytes],
    missing: Sequence[str],
    reference: list[Row],
    others: Sequence[Inputs] = (),
) -> str:
    """The whole page as HTML.

    Args:
        pictures: the PNG file of each stem.
        missing: cells of the grid without a row, in words.
        reference: verdict rows of another collection to stand beside, or none.
        others: other scales whose verdicts and curves the page can show beside its own.
    """
    bodies = {
        "glance": _glance(inputs),
        "explore": charts.section(inputs, others),
        "verdicts": _verdicts(inputs, reference) + "".join(_judged(other) for other in others),
        "figures": _figures(inputs, pictures),
        "tables": _tables(inputs),
        "runs": run_table.markup(inputs),
        "provenance": _provenance(inputs, others),
    }
    shown = [name for name in _SECTIONS if bodies[name]]
    sections = (shell.section(name, _SECTIONS[name], bodies[name]) for name in shown)
    parts = [_opening(inputs, others, shown), _gaps(inputs, missing), *sections]
    return shell.document(f"LoRA learns less and forgets less? ({inputs.scale.name} scale)", "\n".join(parts))


def _opening(inputs: Inputs, others: Sequence[Inputs], shown: Sequence[str]) -> str:
    verdicts = inputs.tables["verdicts"]
    menu = "".join(f"<a href='#{name}'>{name}</a>" for name in shown)
    return (
        "<h1>Does LoRA learn less and forget less?</h1>"
        f"<p class='quiet'>{html.escape(_size(inputs))}</p><nav aria-label='Sections'>{menu}</nav>"
        f"<p class='lead'>{html.escape(verdict_cards.headline(verdicts))}</p>"
        "<p>A model is trained further on code or on mathematics, once with every weight free (full fine-tuning) and "
        "once through low-rank adapters (LoRA) of several ranks. What it <b>learns</b> is its score on the new domain; "
        "what it <b>forgets</b> is what it loses of the abilities it had before. Each claim of the paper "
        "“LoRA Learns Less and Forgets Less” (Biderman et al., TMLR 2024) is put to these runs; "
        "“undecided” means that the data cannot tell, “not asked” that these runs hold nothing to ask it of.</p>"
        f"{_caution(verdicts)}{verdict_table.matrix(inputs, _titles(inputs), others)}{verdict_table.legend(verdicts)}"
    )


def _caution(verdicts: list[Row]) -> str:
    asked = [row for row in verdicts if row["part"] != "overall" and row.get("effect") is not None]
    single = [row for row in asked if row.get("covers") == "items"]
    if not single:
        return ""
    if len(single) < len(asked):
        return (
            f"<p class='box'><b>{len(single)} of {len(asked)} comparisons rest on one seed.</b> Their intervals are "
            "over test items alone; each says so where it is shown as “1 seed”.</p>"
        )
    return (
        "<p class='box'><b>One seed.</b> Intervals here are over test items alone, so the answers are about these "
        "runs, not about the method. Runs with <code>--seeds 3</code> ask about the method.</p>"
    )


def _size(inputs: Inputs) -> str:
    runs = inputs.runs
    facts = [f"Scale: {inputs.scale.name}", f"base model: {inputs.scale.model}"]
    if runs:
        # A sweep has a seed of its own, so that no rate is chosen on the runs it is used in.
        seeds = {run.seed for run in runs if run.study in dict(inputs.scale.settings)}
        facts.append(f"{len(runs)} training runs, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
        facts.append(f"{run_table.duration(sum(run.seconds for run in runs))} of training, summed over runs")
    return " · ".join(facts)


def _gaps(inputs: Inputs, missing: Sequence[str]) -> str:
    lines = [*(f"table {name}" for name in inputs.absent), *missing]
    if not lines:
        return ""
    listed = "".join(f"<li>{_coded(line)}</li>" for line in lines)
    return (
        f"<div class='box warning'><b>The study has {len(lines)} gap{'s' if len(lines) > 1 else ''}.</b> "
        f"What is missing is left empty, not filled in.{shell.more('What is missing', f'<ul>{listed}</ul>')}</div>"
    )


def _coded(line: str) -> str:
    """Text whose commands stand between backticks, as HTML."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(line))


def _glance(inputs: Inputs) -> str:
    curves, scale = inputs.tables["curves"], inputs.scale
    arms = table.arms(scale)[::-1]
    rows = []
    for study, setting in scale.settings:
        longest = max(setting.lengths)
        for axis, word in (("learning", "learnt"), ("forgetting", "kept")):
            chosen = table.select(curves, study=study, axis=axis)
            base = next((amount(r["base"]) for r in chosen if r.get("base") is not None), tables.ABSENT)
            found = {r["arm"]: amount(r["value"]) for r in table.select(chosen, length=longest)}
            rows.append((f"{setting.title}: {word}", base, *(found.get(arm, tables.ABSENT) for arm in arms)))
    columns = ("at the longest training", "base", *(style.label(arm) for arm in arms))
    note = "<p class='quiet'>Learnt: score on the target. Kept: mean score on the source evals. Higher is better.</p>"
    return tables.markup(Table("", columns, tuple(rows))) + note


def _verdicts(inputs: Inputs, reference: list[Row]) -> str:
    verdicts = inputs.tables["verdicts"]
    if not verdicts:
        return "<p>No verdicts yet: <code>python -m analysis</code> makes them.</p>"
    beside = (
        " A dashed chip and the hollow dot are the answer of the reference collection to the same question."
        if reference
        else ""
    )
    how = (
        "<p>Each line is one comparison. The upright is zero, the dot the measured effect, the bar its 95 % interval, "
        "the pale band the smallest effect that would matter. An effect to the right is in the direction the paper "
        f"claims.{beside} Open a line for its evidence and for what would change the answer.</p>"
    )
    return how + verdict_cards.cards(verdicts, reference, _titles(inputs))


def _judged(other: Inputs) -> str:
    """The claims put to another scale, folded away."""
    verdicts, name = other.tables.get("verdicts", []), other.scale.name
    if not verdict_cards.overall(verdicts):
        return ""
    titles = _titles(other)
    counted = verdict_cards.headline(verdicts, where="by these numbers" if name == table.REPORTED else "there")
    body = (
        f"<p>{html.escape(counted)}</p>{verdict_table.matrix(other, titles, scale=name)}"
        f"{verdict_cards.cards(verdicts, [], titles, scale=name)}"
    )
    return shell.more(f"The same claims, scale “{name}”", body)


def _titles(inputs: Inputs) -> dict[str, str]:
    titles = {study: setting.title for study, setting in inputs.scale.settings}
    return titles | {"cpt": "CPT", "ift": "IFT", "code": "code", "math": "maths", "all": ""}


def _figures(inputs: Inputs, pictures: dict[str, bytes]) -> str:
    shown = [_figure(stem, picture, inputs) for stem, picture in pictures.items() if stem in captions.MAIN]
    others = [_figure(stem, picture, inputs) for stem, picture in pictures.items() if stem not in captions.MAIN]
    folded = shell.more(f"{len(others)} more figures", "".join(others)) if others else ""
    return "".join(shown) + folded


def _figure(stem: str, picture: bytes, inputs: Inputs) -> str:
    wide, high = _pixels(picture)
    # A narrow figure is not blown up to the width of the page.
    kind = "wide" if wide > 2 * high or wide > _COLUMN else "narrow"
    return (
        f"<figure id='{stem}'><div class='scroll'><img class='{kind}' src='{inline.address(picture)}' width='{wide}' "
        f"height='{high}' loading='lazy' alt='{html.escape(_alternative(stem, inputs), quote=True)}'></div>"
        f"<figcaption>{captions.caption(stem, inputs)} <span class='quiet'>{stem}.png</span></figcaption></figure>"
    )


def _alternative(stem: str, inputs: Inputs) -> str:
    """What the picture is, for who cannot see it; its numbers are in the tables below."""
    words = re.sub(r"<[^>]+>", "", captions.caption(stem, inputs))
    return f"{html.unescape(words).split('. ')[0]}. The section “Scores” has the numbers."


def _pixels(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG file, from its first chunk."""
    wide, high = struct.unpack(">II", png[16:24])
    return int(wide), int(high)


def _tables(inputs: Inputs) -> str:
    drawn = "".join(tables.markup(item) for item in tables.score_tables(inputs))
    note = "<p>A value and its 95 % interval; a dash is a cell without a row.</p>"
    return note + shell.more("All score tables", drawn)


def _provenance(inputs: Inputs, others: Sequence[Inputs]) -> str:
    scale, rows, numbers = f"--scale {inputs.asked}", f"--results {inputs.results}", inputs.analysis
    main = {run.seed for run in inputs.runs if run.study in dict(inputs.scale.settings)}
    steps = (
        f"python -m experiments run {studies.MAIN} {scale} --seeds {max(1, len(main))}",
        f"python -m experiments collect {scale} --into {inputs.results}",
        f"python -m analysis {scale} {rows} --out {numbers}",
        f"python -m paper_figures {scale} {rows} --analysis {numbers}",
    )
    commands = "".join(f"<li><code>{html.escape(step)}</code></li>" for step in steps)
    files = tables.markup(
        Table(
            "Rows this page was drawn from",
            ("file", "rows", "sha256"),
            tuple((name, f"{count:,}", digest) for name, count, digest in _sources(inputs, others)),
        )
    )
    return (
        f"<ol>{commands}</ol>{files}{_origin(inputs.runs)}"
        "<p>Every difference from the paper, with its reason and expected effect, is listed in "
        "<code>experiments/DEVIATIONS.md</code>.</p>"
        f"<footer class='quiet'>Drawn with Python {platform.python_version()}, matplotlib {matplotlib.__version__}, "
        f"seaborn {seaborn.__version__}. "
        "Numbers come from the rows; this page computes none.</footer>"
    )


def _sources(inputs: Inputs, others: Sequence[Inputs]) -> list[tuple[str, int, str]]:
    beside = [(f"{other.scale.name}/{name}", count, sha) for other in others for name, count, sha in other.files]
    return [*inputs.files, *beside]


def _origin(runs: list[RunRow]) -> str:
    if not runs:
        return ""
    commits = sorted({run_table.commit(run.git_sha) for run in runs})
    machines = sorted({run.hardware for run in runs})
    first, last = min(run.started for run in runs), max(run.started for run in runs)
    return (
        f"<p>Trained by commit {html.escape(', '.join(commits))} on {html.escape('; '.join(machines))}; "
        f"first run started {html.escape(first)}, last {html.escape(last)}.</p>"
    )
