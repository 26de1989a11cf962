"""The report: one self-contained HTML page, from the answer down to the run behind each number.

Order: the answer in words, the verdict on each claim with its evidence, the figures with what to look for, the
score tables, every training run with the command that makes it, and where all of it came from. Pictures are inside
the file, so the page can be mailed; it needs no script and no network.
"""

from __future__ import annotations

import base64
import html
import platform
from collections.abc import Sequence

import matplotlib
import seaborn

from experiments import studies, sweeps
from paper_figures import captions, shell, style, tables, verdict_cards
from paper_figures import rows as table
from paper_figures.rows import Inputs, Row
from paper_figures.tables import Table, amount
from replication.config import number
from replication.results import RunRow


def page(inputs: Inputs, *, pictures: dict[str, bytes], missing: Sequence[str], reference: list[Row]) -> str:
    """The whole page as HTML.

    Args:
        pictures: the PNG file of each stem.
        missing: cells of the grid without a row, in words.
        reference: verdict rows of another collection to stand beside, or none.
    """
    parts = [
        _opening(inputs),
        _gaps(inputs, missing),
        shell.section("glance", "At a glance", _glance(inputs)),
        shell.section("verdicts", "Claim by claim", _verdicts(inputs, reference)),
        shell.section("figures", "Figures", _figures(inputs, pictures)),
        shell.section("tables", "Scores", _tables(inputs)),
        shell.section("runs", "Every run", _runs(inputs)),
        shell.section("provenance", "Where this page comes from", _provenance(inputs)),
    ]
    return shell.document(f"LoRA learns less and forgets less? ({inputs.scale.name} scale)", "\n".join(parts))


def _opening(inputs: Inputs) -> str:
    verdicts = inputs.tables["verdicts"]
    links = ("glance", "verdicts", "figures", "tables", "runs", "provenance")
    menu = "".join(f"<a href='#{name}'>{name}</a>" for name in links)
    return (
        "<h1>Does LoRA learn less and forget less?</h1>"
        f"<p class='quiet'>{html.escape(_size(inputs))}</p><nav>{menu}</nav>"
        f"<p class='lead'>{html.escape(verdict_cards.headline(verdicts))}</p>"
        "<p>A model is trained further on code or on mathematics, once with every weight free (full fine-tuning) and "
        "once through low-rank adapters (LoRA) of several ranks. What it <b>learns</b> is its score on the new domain; "
        "what it <b>forgets</b> is what it loses of the abilities it had before. Each claim of the paper "
        "“LoRA Learns Less and Forgets Less” (Biderman et al., TMLR 2024) is put to these runs; "
        "“undecided” means that the data cannot tell.</p>"
        f"{verdict_cards.tally(verdicts)}{_caution(verdicts)}"
    )


def _caution(verdicts: list[Row]) -> str:
    if not any(row.get("covers") == "items" for row in verdicts):
        return ""
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
        facts.append(f"{_duration(sum(run.seconds for run in runs))} of training")
    return " · ".join(facts)


def _gaps(inputs: Inputs, missing: Sequence[str]) -> str:
    lines = [*(f"table {name}" for name in inputs.absent), *missing]
    if not lines:
        return ""
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        f"<div class='box warning'><b>The study has {len(lines)} gap{'s' if len(lines) > 1 else ''}.</b> "
        f"What is missing is left empty, not filled in.{shell.more('What is missing', f'<ul>{listed}</ul>')}</div>"
    )


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
    titles = {study: setting.title for study, setting in inputs.scale.settings}
    titles |= {"cpt": "CPT", "ift": "IFT", "code": "code", "math": "maths", "all": ""}
    return how + verdict_cards.cards(verdicts, reference, titles)


def _figures(inputs: Inputs, pictures: dict[str, bytes]) -> str:
    shown = [_figure(stem, picture, inputs) for stem, picture in pictures.items() if stem in captions.MAIN]
    others = [_figure(stem, picture, inputs) for stem, picture in pictures.items() if stem not in captions.MAIN]
    folded = shell.more(f"{len(others)} more figures", "".join(others)) if others else ""
    return "".join(shown) + folded


def _figure(stem: str, picture: bytes, inputs: Inputs) -> str:
    address = "data:image/png;base64," + base64.b64encode(picture).decode()
    return (
        f"<figure id='{stem}'><div class='scroll'><img src='{address}' alt='{html.escape(stem, quote=True)}'></div>"
        f"<figcaption>{captions.caption(stem, inputs)} <span class='quiet'>{stem}.png</span></figcaption></figure>"
    )


def _tables(inputs: Inputs) -> str:
    drawn = "".join(tables.markup(item) for item in tables.score_tables(inputs))
    note = "<p>A value and its 95 % interval; a dash is a cell without a row.</p>"
    return note + shell.more("All score tables", drawn)


def _runs(inputs: Inputs) -> str:
    if not inputs.runs:
        return "<p>No collected runs.</p>"
    by_study: dict[str, list[RunRow]] = {}
    for run in inputs.runs:
        by_study.setdefault(run.study, []).append(run)
    intro = (
        "<p>Every number above comes from these runs. A digest names everything that decided the weights; the commit "
        "is the code that trained them. Trunks are the constant-rate parts that cooldown branches start from.</p>"
    )
    return intro + "".join(_study(study, rows, inputs) for study, rows in by_study.items())


def _study(study: str, runs: list[RunRow], inputs: Inputs) -> str:
    asked = studies.SWEEP if study.endswith(sweeps.SUFFIX) else study
    command = f"python -m experiments run {asked} --scale {inputs.asked} --seeds {len({run.seed for run in runs})}"
    columns = ("run", "rate", "length", "tokens", "trainable", "final loss", "time", "digest", "commit")
    rows = [
        (
            run.run.removeprefix(f"{study}/") + (" (trunk)" if run.trunk else ""), number(run.lr),
            f"{number(run.length)} {run.length_unit}", f"{run.tokens:,}", f"{run.trainable:,}",
            amount(run.final_loss), _duration(run.seconds), run.digest, _commit(run.git_sha),
        )
        for run in sorted(runs, key=lambda r: (r.rank or 1 << 30, r.length, r.seed))
    ]  # fmt: skip
    title = f"{study}: {len(runs)} runs, {_duration(sum(run.seconds for run in runs))}"
    return shell.more(
        title, f"<p><code>{html.escape(command)}</code></p>" + tables.markup(Table("", columns, tuple(rows)))
    )


def _provenance(inputs: Inputs) -> str:
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
            tuple((n, f"{c:,}", s) for n, c, s in inputs.files),
        )
    )
    return (
        f"<ol>{commands}</ol>{files}{_origin(inputs.runs)}"
        "<p>Every difference from the paper, with its reason and expected effect, is listed in "
        "<code>experiments/DEVIATIONS.md</code>.</p>"
        f"<footer class='quiet'>Drawn with Python {platform.python_version()}, matplotlib {matplotlib.__version__}, "
        f"seaborn {seaborn.__version__}. Numbers come from the rows; this page computes none.</footer>"
    )


def _origin(runs: list[RunRow]) -> str:
    if not runs:
        return ""
    commits = sorted({_commit(run.git_sha) for run in runs})
    machines = sorted({run.hardware for run in runs})
    first, last = min(run.started for run in runs), max(run.started for run in runs)
    return (
        f"<p>Trained by commit {html.escape(', '.join(commits))} on {html.escape('; '.join(machines))}; "
        f"first run started {html.escape(first)}, last {html.escape(last)}.</p>"
    )


def _commit(label: str) -> str:
    """Eight digits of each commit, and whether the code differed from it."""
    shas = (part.partition("+") for part in label.split(", "))
    return ", ".join(sha[:8] + plus + rest for sha, plus, rest in shas)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
