"""The authors' released checkpoints as scored here, laid over the scores that their paper reports for them.

One row per checkpoint, branch and score: HumanEval pass@1, GSM8K strict match, the forgetting mean and its three parts.
The paper's number stands beside it where the paper has one and the length of the branch is known; their difference with
a 95 % interval for chance in the items alone,

    (ours - theirs) -/+ 1.96 sqrt(se_ours^2 + se_theirs^2),   se_theirs = sqrt(p (1 - p) / n),

as if the items of both were drawn anew: the paper gives no intervals, and its items are not known one by one. The same
items were asked, so this is wider than a paired interval would be. `agrees` says whether 0 lies inside; where
not all of the paper's items were scored, `note` says how many were, and nothing is said to agree.
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
            note = _note(quantity, count)
            row = about | {"quantity": quantity, "value": value, "stderr": stderr, "n": count, "note": note}
            row |= _beside(setting, method, length, quantity, value, stderr)
            yield row if note is None else row | {"agrees": None}


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


def _note(quantity: str, count: int) -> str | None:
    """How many of the paper's items were scored; None where all were, or the paper has no such benchmark."""
    sizes = paper.ITEMS | {"forgetting": sum(paper.ITEMS[name] for name in paper.FORGETTING)}
    full = sizes.get(quantity, count)
    return None if count == full else f"{count} of {full} items"


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
    """The rows as text, one line a score; a length that is not stated has a question mark, an unknown one is one."""
    heads = f"{'score':13s} {'ours':>6s} {'paper':>6s} {'difference (95 %)':>26s} items"
    lines = [f"{'model':47s} {'branch':14s} {'setting':8s} {'length':7s} {heads}"]
    for row in made:
        theirs = "     -" if row["paper"] is None else f"{row['paper']:6.3f}"
        between = "" if row["low"] is None else f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        about = f"{row['model']:47s} {_short(row['branch']):14s} {row['setting']:8s} {_length(row):7s}"
        # Only where they are not all of the paper's: "20 of 164".
        count = (row["note"] or "").removesuffix(" items")
        lines.append(f"{about} {row['quantity']:13s} {row['value']:6.3f} {theirs} {between:>26s} {count}".rstrip())
    return "\n".join(lines)


def _short(branch: str) -> str:
    return branch if len(branch) <= 14 else branch[:11] + "..."


def _length(row: rows.Row) -> str:
    length = row["length"]
    if length is None:
        return "?"
    if length == 0:
        return "0"
    text = f"{length / 1e9:g}B" if paper.UNITS[row["setting"]] == "tokens" else f"{length:g} ep"
    return text + ("?" if row["known"].startswith("inferred") else "")


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
