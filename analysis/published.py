"""The authors' released checkpoints as scored here, laid over the scores that their paper reports for them.

One row per checkpoint, branch and score: HumanEval pass@1, GSM8K strict match, the forgetting mean and its three parts.
The paper's number stands beside it where the paper has one and the length of the branch is known; their difference with
a 95 % interval for chance in the items alone,

    (ours - theirs) -/+ 1.96 sqrt(se_ours^2 + se_theirs^2),   se_theirs = sqrt(p (1 - p) / n),

as if the items of both were drawn anew: the paper gives no intervals, and its items are not known one by one. The same
items were asked, so this is wider than a paired interval would be. `agrees` says whether 0 lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from analysis import command, grid, rows
from experiments import paper, published
from replication.results import Score, read_scores
from replication.scale import Scale

Z95 = 1.959964


def overlay(scores: list[Score], scale: Scale) -> list[rows.Row]:
    """Rows of every model among the scores of the study `published`, the base first."""
    found: dict[str, dict[tuple[str, str], Score]] = {}
    for score in scores:
        found.setdefault(score.run, {})[score.eval, score.metric] = score
    runs = sorted(found, key=lambda run: (not run.endswith("/base"), run))
    return [row for run in runs for row in _rows(run, found[run], scale)]


def _rows(run: str, scores: dict[tuple[str, str], Score], scale: Scale) -> Iterator[rows.Row]:
    name, _, branch = run.split("/", 1)[1].partition("@")
    branch = branch.replace("--", "/")
    for setting, method, length, known in _places(name, branch):
        about = {
            "model": name,
            "branch": branch,
            "setting": setting,
            "method": method,
            "length": length,
            "known": known,
        }
        for quantity, value, stderr, count in _measured(scores, scale):
            row = about | {"quantity": quantity, "value": value, "stderr": stderr, "n": count}
            yield row | _beside(setting, method, length, quantity, value, stderr)


def _places(name: str, branch: str) -> list[tuple[paper.Setting, str, float | None, str]]:
    """Setting, method, length and how it is known; the base stands at the start of every setting."""
    if name == "base":
        return [(setting, "base", 0.0, "the base itself") for setting in paper.UNITS]
    item = published.named(name)
    length = published.length_of(branch, item.setting)
    return [(item.setting, item.method, length, published.how_known(branch, item.setting))]


def _measured(scores: dict[tuple[str, str], Score], scale: Scale) -> Iterator[tuple[str, float, float | None, int]]:
    """(quantity, value, standard error, items) of the headline metric of each eval, and of the forgetting mean."""
    parts = []
    for spec in scale.evals:
        score = scores.get((spec.name, grid.primary(spec)))
        if score is not None:
            yield spec.name, score.value, score.stderr, score.n
            if spec.name in scale.forgetting:
                parts.append(score)
    if parts and len(parts) == len(scale.forgetting):
        errors = [part.stderr for part in parts if part.stderr is not None]
        stderr = math.sqrt(sum(e * e for e in errors)) / len(parts) if len(errors) == len(parts) else None
        yield "forgetting", sum(part.value for part in parts) / len(parts), stderr, sum(part.n for part in parts)


def _beside(
    setting: paper.Setting, method: str, length: float | None, quantity: str, value: float, stderr: float | None
) -> rows.Row:
    """The paper's number, the difference and its interval; all empty where there is none."""
    reported = None
    if length is not None and quantity in ("humaneval", "gsm8k", "forgetting"):
        reported = paper.reported(setting, method, length, quantity)  # type: ignore[arg-type]
    if reported is None:
        return dict.fromkeys(("paper", "source", "difference", "low", "high", "agrees"))
    made: rows.Row = {"paper": reported.value, "source": reported.source, "difference": value - reported.value}
    if stderr is None:
        return made | dict.fromkeys(("low", "high", "agrees"))
    half = Z95 * math.sqrt(stderr**2 + _paper_variance(reported.value, quantity))
    low, high = made["difference"] - half, made["difference"] + half
    return made | {"low": low, "high": high, "agrees": low <= 0 <= high}


def _paper_variance(value: float, quantity: str) -> float:
    """Chance in the paper's own items, as if each were right or wrong: for pass@1 over 50 samples an upper bound."""
    if quantity == "forgetting":
        # Its parts are not in the tables: each is taken to lie at the mean.
        return sum(value * (1 - value) / paper.ITEMS[name] for name in paper.FORGETTING) / len(paper.FORGETTING) ** 2
    return value * (1 - value) / paper.ITEMS[quantity]


def table(made: list[rows.Row]) -> str:
    """The rows as text, one line a score."""
    lines = [f"{'model':52s} {'branch':14s} {'score':14s} {'ours':>6s} {'paper':>6s} {'difference (95 %)':>26s}"]
    for row in made:
        theirs = "     -" if row["paper"] is None else f"{row['paper']:6.3f}"
        between = "" if row["low"] is None else f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        lines.append(
            f"{row['model']:52s} {row['branch']:14s} {row['quantity']:14s} {row['value']:6.3f} {theirs} {between:>26s}"
        )
    return "\n".join(lines)


def write(scale: Scale, where: command.Places) -> list[rows.Row]:
    """Write `published.jsonl`; returns its rows.

    Raises:
        FileNotFoundError: no published checkpoint is scored and collected yet.
    """
    scores = where.results / scale.name / "published.jsonl"
    if not scores.is_file():
        raise FileNotFoundError(
            f"no scores at {scores}; make them with `python -m experiments run published --scale {scale.name}` and "
            f"`python -m experiments collect --scale {scale.name}`"
        )
    made = overlay(read_scores(scores), scale)
    rows.write(where.out / "published.jsonl", made)
    return made


def main() -> None:
    """Write the rows and print them."""
    here = command.places(__doc__)
    print(table(write(here.scale, here)))
    print(f"rows in {here.out / 'published.jsonl'}")


if __name__ == "__main__":
    command.run(main)
