"""Every training run as a table that sorts and filters, one part per study, each with the command that makes it."""

from __future__ import annotations

import html

from experiments import studies, sweeps
from paper_figures import style
from paper_figures.rows import Inputs
from paper_figures.tables import amount
from replication.config import number
from replication.results import RunRow

_COLUMNS = ("run", "rate", "length", "tokens", "trainable", "final loss", "time", "started", "digest", "commit")

_FILTER = """<p class='controls' hidden><label>Filter runs <input id='run-filter' type='search'
placeholder='for example: full ift_code s0' autocomplete='off'></label> <span id='run-count' class='quiet'
role='status'></span></p>"""


def markup(inputs: Inputs) -> str:
    """All runs of the collection, folded by study."""
    if not inputs.runs:
        return "<p>No collected runs.</p>"
    by_study: dict[str, list[RunRow]] = {}
    for run in inputs.runs:
        by_study.setdefault(run.study, []).append(run)
    intro = (
        "<p>Every number above comes from these runs. A digest names everything that decided the weights; the commit "
        "is the code that trained them. Trunks are the constant-rate parts that cooldown branches start from.</p>"
    )
    return intro + _FILTER + "".join(_study(study, rows, inputs) for study, rows in by_study.items())


def command(study: str, runs: list[RunRow], asked: str) -> str:
    """The command that trains the runs of a study at the scale `asked`."""
    name = studies.SWEEP if study.endswith(sweeps.SUFFIX) else study
    return f"python -m experiments run {name} --scale {asked} --seeds {len({run.seed for run in runs})}"


def duration(seconds: float) -> str:
    """A time for a reader.

    >>> [duration(value) for value in (90, 600, 7300)]
    ['90 s', '10 min', '2.0 h']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def commit(label: str) -> str:
    """Eight digits of each commit, and whether the code differed from it."""
    shas = (part.partition("+") for part in label.split(", "))
    return ", ".join(sha[:8] + plus + rest for sha, plus, rest in shas)


def _study(study: str, runs: list[RunRow], inputs: Inputs) -> str:
    title = f"{study}: {len(runs)} runs, {duration(sum(run.seconds for run in runs))}"
    head = "".join(f"<th scope='col'>{name}</th>" for name in _COLUMNS)
    ordered = sorted(runs, key=lambda run: (run.rank or 1 << 30, run.variant, run.length, run.seed))
    body = "".join(_row(run) for run in ordered)
    return (
        f"<details class='more runs' data-study='{html.escape(study, quote=True)}'>"
        f"<summary>{html.escape(title)}</summary>"
        f"<p><code>{html.escape(command(study, runs, inputs.asked))}</code></p><div class='scroll'>"
        f"<table class='sortable'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _row(run: RunRow) -> str:
    """One run; a cell whose words do not sort as its number carries the number."""
    name = run.run.removeprefix(f"{run.study}/") + (" (trunk)" if run.trunk else "")
    cells = (
        (number(run.lr), run.lr), (f"{style.count(run.length)} {run.length_unit}", run.length),
        (f"{run.tokens:,}", run.tokens), (f"{run.trainable:,}", run.trainable),
        (amount(run.final_loss), run.final_loss), (duration(run.seconds), run.seconds),
        (run.started[:16].replace("T", " "), None), (run.digest, None), (commit(run.git_sha), None),
    )  # fmt: skip
    drawn = "".join(_cell(text, value) for text, value in cells)
    return f"<tr><th scope='row'>{html.escape(name)}</th>{drawn}</tr>"


def _cell(text: str, value: float | None) -> str:
    carried = "" if value is None else f" data-value='{value}'"
    return f"<td{carried}>{html.escape(text)}</td>"
