"""Overlap of training data with benchmark items, and scores on the items without any.

    python analysis/contamination.py --train DATA --benchmark humaneval=HumanEval.jsonl.gz --benchmark gsm8k=test.jsonl
        --scores runs/.../evals/step_000193/humaneval@1

Two signs, each looked for in one pass over the training documents; only the benchmark is held in memory:

    words      runs of 13 words of an item that a training document holds too (Brown et al. 2020, GPT-3, appendix C).
               A word is lower-case letters and digits; everything else separates words. `share` is the part of an
               item's runs that was found. Questions and answers count apart, and GSM8K's calculator marks are left
               out, because derived sets leave them out.
    solution   for programs, whose solutions are often shorter than 13 words: a training document defines the item's
               entry point and, in the 4,000 characters behind that, holds every line of its solution in order, white
               space and comments aside

An item overlaps with a solution, or with a share of its runs above `--share` (0: any run at all, as for GPT-3).
`defined` (a function of that name is defined somewhere) is reported and counts for nothing: gcd is a common name.
A rewritten item (other names, translated, other numbers) leaves no such sign: what is found here is a lower bound.

The items of a score folder are matched by id, and by what was asked: another file has the same ids. A table of items
keeps no questions, so its items are matched by id alone; the column `matched` says which.

A subset's interval of K values with mean m is, with z = 1.96, around (K m + z^2 / 2) / (K + z^2):

    0/1      z sqrt(K m (1 - m) + z^2 / 4) / (K + z^2) each way (Wilson 1927), which stays within [0, 1]
    others   pass@1 over samples: z sqrt(v / (K + z^2)) each way, cut to [0, 1]; v is the variance of the K values
             and z^2 imaginary ones, half of them 0 and half 1 (Agresti and Coull 1998), so that it is never 0
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from analysis import command, rows
from replication.config import Source, require
from replication.data.sources import documents
from replication.results import read_items
from replication.runs import read_json
from replication.stats import contrast
from replication.suite import benchmarks

WORDS = 13
# Characters behind a definition in which its body is looked for; HumanEval's longest prompt and solution have 2,000.
REACH = 4_000
Z95 = 1.959964
# The texts of an item, each looked for by itself; the first is what is asked.
TEXTS = {"humaneval": ("prompt", "canonical_solution"), "gsm8k": ("question", "answer")}
_WORD = re.compile(r"[a-z0-9]+")
_MARK = re.compile(r"<<[^<>\n]*>>")
_DEFINITION = re.compile(r"\bdef\s+(\w+)\s*\(")


@dataclass(frozen=True)
class Item:
    """One benchmark item: its runs of words, its question and, for programs, entry point and lines of the solution."""

    name: str
    runs: frozenset[str]
    question: str
    entry: str | None = None
    lines: tuple[str, ...] = ()


@dataclass
class Found:
    """What the training data hold of the items: runs of words, defined entry points, solved items."""

    runs: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)
    solved: set[str] = field(default_factory=set)
    documents: int = 0


def items_of(benchmark: str, place: str | None = None) -> list[Item]:
    """The items of a benchmark from its hub id, or from a place of one's own.

    Raises:
        ValueError: an unknown benchmark, or rows without its columns.
    """
    if benchmark not in TEXTS:
        raise ValueError(f"benchmark {benchmark!r}; expected one of {sorted(TEXTS)}")
    source = benchmarks("paper", {benchmark: place} if place else None)[benchmark].source
    return [_item(benchmark, row, i) for i, row in enumerate(documents(source))]


def search(items: Sequence[Item], training: Iterable[Mapping[str, Any]]) -> Found:
    """Look for the items in training documents, each read once. Time is linear in their length."""
    wanted = {run for item in items for run in item.runs}
    starts = {tuple(run.split(" ", 2)[:2]) for run in wanted}
    entries: dict[str, list[Item]] = {}
    for item in items:
        if item.entry is not None:
            entries.setdefault(item.entry, []).append(item)
    found = Found()
    for row in training:
        found.documents += 1
        for text in _strings(row):
            _search_runs(text, wanted, starts, found)
            _search_solutions(text, entries, found)
    return found


def flags(benchmark: str, items: Sequence[Item], found: Found, *, share: float = 0.0) -> list[rows.Row]:
    """One row per item: the share of its runs that was found, the signs, and whether it overlaps."""
    made = []
    for item in items:
        held = len(item.runs & found.runs)
        part = held / len(item.runs) if item.runs else 0.0
        solved = item.name in found.solved
        made.append(
            {
                "benchmark": benchmark,
                "id": item.name,
                "runs": len(item.runs),
                "found": held,
                "share": part,
                "defined": item.entry in found.defined,
                "solution": solved,
                "overlaps": solved or part > share,
            }
        )
    return made


def summary(flagged: Sequence[rows.Row], found: Found) -> rows.Row:
    """How many items of one benchmark overlap, by sign."""
    shares = [row["share"] for row in flagged]
    return {
        "benchmark": flagged[0]["benchmark"],
        "documents": found.documents,
        "items": len(flagged),
        "overlapping": sum(row["overlaps"] for row in flagged),
        "any_run": sum(s > 0 for s in shares),
        "half_of_runs": sum(s >= 0.5 for s in shares),
        "all_runs": sum(s == 1 for s in shares),
        "solution": sum(row["solution"] for row in flagged),
        "defined": sum(row["defined"] for row in flagged),
    }


def scores(flagged: Sequence[rows.Row], place: Path, known: Mapping[str, Sequence[Item]]) -> list[rows.Row]:
    """Scores on all, the clean and the overlapping items, and overlapping less clean, with intervals over items.

    A subset of fewer than two items has no row.

    Args:
        place: a score folder, or a table of Items rows (`items.jsonl.gz`).
        known: the items of each benchmark, whose questions must be those that were asked.

    Raises:
        ValueError: an item that the benchmark does not have or asks otherwise, or no score of any of the benchmarks.
    """
    names: dict[str, dict[str, bool]] = {row["benchmark"]: {} for row in flagged}
    for row in flagged:
        names[row["benchmark"]][row["id"]] = row["overlaps"]
    made: list[rows.Row] = []
    others, asked, matched = set(), _asked(place), 0
    for named, ids, values in _scored(place):
        benchmark = next((b for b in names if named["eval"] == b or named["eval"].startswith(f"{b}_")), None)
        if benchmark is None:
            others.add(named["eval"])
            continue
        if not named["metric"].startswith(("pass@", "strict", "flexible")):
            continue
        if unknown := sorted(set(ids) - set(names[benchmark])):
            raise ValueError(f"{place}: item {unknown[0]!r} of {named['eval']!r} is not an item of {benchmark!r}")
        if asked is not None:
            _same_questions(place, known[benchmark], ids, asked)
        matched += len(ids)
        dirty = np.array([names[benchmark][i] for i in ids])
        named |= {"matched": "id" if asked is None else "id and question"}
        made += [named | row for row in _subsets(np.array(values, dtype=float), dirty)]
    if not matched:
        there = f"it has {', '.join(sorted(others))}" if others else "it has no items of it"
        raise ValueError(f"{place} holds no score of {' or '.join(sorted(names))}; {there}")
    return made


def _asked(place: Path) -> dict[str, str] | None:
    """What was asked, by item, of a score folder; None of a table, which does not keep it."""
    if not place.is_dir() or not (place / "scores.json").is_file():
        return None
    with gzip.open(place / "samples.jsonl.gz", "rt", encoding="utf-8") as file:
        samples = [json.loads(line) for line in file]
    return {sample["id"]: sample["asked"] for sample in samples if "asked" in sample}


def _same_questions(place: Path, items: Sequence[Item], ids: Sequence[str], asked: Mapping[str, str]) -> None:
    """Conventions strip questions and put templates and examples around them: what was asked must contain them."""
    questions = {item.name: item.question for item in items}
    for name in ids:
        if name not in asked:
            raise ValueError(f"{place}: its samples do not say what was asked of item {name!r}; score it anew")
        if _plain(questions[name]) not in _plain(asked[name]):
            raise ValueError(
                f"{place}: item {name!r} was another one: asked was {_end(asked[name])!r}, the benchmark has "
                f"{_end(questions[name])!r}; name the file that was scored"
            )


def _plain(text: str) -> str:
    return " ".join(text.split())


def _end(text: str) -> str:
    # The end: worked examples and templates stand before.
    plain = _plain(text)
    return plain if len(plain) <= 60 else "..." + plain[-60:]


def _subsets(values: np.ndarray, dirty: np.ndarray) -> Iterator[rows.Row]:
    for name, chosen in (("all", np.ones_like(dirty)), ("clean", ~dirty), ("overlapping", dirty)):
        if chosen.sum() > 1:
            low, high = interval(values[chosen])
            mean = float(values[chosen].mean())
            yield {"subset": name, "items": int(chosen.sum()), "value": mean, "low": low, "high": high}
    if 1 < dirty.sum() < len(dirty) - 1:
        # Scores lie in [0, 1], so an imaginary item each way has the size 1 (stats.py).
        est = contrast([values[None, dirty], -values[None, ~dirty]], pseudo=[1.0, 1.0])
        yield {
            "subset": "overlapping - clean",
            "items": est.items,
            "value": est.value,
            "low": est.low,
            "high": est.high,
        }


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of values within [0, 1], shape (items,), itself within [0, 1] and never of width 0.

    >>> [round(end, 4) for end in interval(np.zeros(5))]
    [0.0, 0.4345]
    """
    count, total, square = len(values), float(values.sum()), Z95**2
    weight = count + square
    centre = (total + square / 2) / weight
    if np.isin(values, (0.0, 1.0)).all():
        half = Z95 * math.sqrt(total * (count - total) / count + square / 4) / weight
    else:
        variance = (float((values**2).sum()) + square / 2) / weight - centre**2
        half = Z95 * math.sqrt(variance / weight)
    # Wilson's ends lie within [0, 1] but for rounding.
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _scored(place: Path) -> Iterator[tuple[rows.Row, Sequence[str], Sequence[float]]]:
    """(run, step, eval, metric), ids and values of everything scored at a place."""
    if place.is_dir():
        if not (place / "scores.json").is_file():
            raise FileNotFoundError(f"{place} has no scores.json; name a score folder or a table of items")
        content = read_json(place / "scores.json")
        for item in content["items"]:
            named = {"run": str(place), "step": content["step"], "eval": content["spec"]["name"]}
            yield named | {"metric": item["metric"]}, item["ids"], item["values"]
        return
    for row in read_items(place):
        yield {"run": row.run, "step": row.step, "eval": row.eval, "metric": row.metric}, row.ids, row.values


# ---------------------------------------------------------------- the search


def _item(benchmark: str, row: Mapping[str, Any], place: int) -> Item:
    for column in TEXTS[benchmark]:
        if not isinstance(row.get(column), str):
            raise ValueError(f"{benchmark}: row {place} has no text in column {column!r}; it has {sorted(row)}")
    runs = frozenset(run for column in TEXTS[benchmark] for run in _runs(_words(row[column])))
    question = row[TEXTS[benchmark][0]]
    if benchmark != "humaneval":
        return Item(str(row.get("id", place)), runs, question)
    lines = tuple(_lines(row["canonical_solution"]))
    return Item(str(row.get("task_id", place)), runs, question, row["entry_point"], lines)


def _words(text: str) -> list[str]:
    return _WORD.findall(_MARK.sub(" ", text).lower())


def _runs(words: Sequence[str]) -> Iterator[str]:
    """Every run of WORDS words, joined by a space; none of a shorter text."""
    return (" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1))


def _lines(text: str) -> list[str]:
    """Lines of code without their white space and comments; empty ones are left out."""
    stripped = ("".join(line.split("#", 1)[0].split()) for line in text.splitlines())
    return [line for line in stripped if line]


def _strings(value: Any) -> Iterator[str]:
    """Every text in a training row, whatever its columns: text, prompt and response, messages, ..."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _search_runs(text: str, wanted: set[str], starts: set[tuple[str, ...]], found: Found) -> None:
    words = _words(text)
    # Joining 13 words at every place is what costs; few places start with two words that a wanted run starts with.
    for i, pair in enumerate(pairwise(words[: len(words) - WORDS + 2])):
        if pair in starts and (run := " ".join(words[i : i + WORDS])) in wanted:
            found.runs.add(run)


def _search_solutions(text: str, entries: Mapping[str, Sequence[Item]], found: Found) -> None:
    for match in _DEFINITION.finditer(text):
        for item in entries.get(match.group(1), ()):
            found.defined.add(match.group(1))
            body = text[match.end() : match.end() + REACH]
            if item.lines and item.name not in found.solved and _in_order(item.lines, _lines(body)):
                found.solved.add(item.name)


def _in_order(wanted: Sequence[str], lines: Iterable[str]) -> bool:
    rest = iter(lines)
    return all(line in rest for line in wanted)


# ---------------------------------------------------------------- command line


def main() -> None:
    """Search the training data, print what overlaps, and score the clean items."""
    args = _parser().parse_args()
    require(0 <= args.share < 1, "--share", args.share, "0 or more, below 1")
    places = dict(_pair(text) for text in args.benchmark)
    known = {name: items_of(name, place) for name, place in places.items()}
    sources = [Source(where, args.split, args.name, limit=args.limit) for where in args.train]
    training = (row for source in sources for row in tqdm(documents(source), desc=source.where, unit=" documents"))
    found = search([item for items in known.values() for item in items], training)
    flagged = {name: flags(name, items, found, share=args.share) for name, items in known.items()}
    listed = [row for own in flagged.values() for row in own]
    totals = [summary(own, found) for own in flagged.values()]
    scored = [row for place in args.scores for row in scores(listed, place, known)]
    print(_table(totals) + ("\n\n" + _table(scored) if scored else ""))
    if args.out:
        for name, made in (("overlap", totals), ("overlap_items", listed), ("overlap_scores", scored)):
            rows.write(args.out / f"{name}.jsonl", made)
        print(f"\nrows in {args.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--train", required=True, nargs="+", help="training data: files, folders, hub ids or python:m:f"
    )
    parser.add_argument("--split", default="train", help="split of the training data (default train)")
    parser.add_argument("--name", help="configuration of the training data on the hub")
    parser.add_argument("--limit", type=int, help="documents to read of each (default all)")
    parser.add_argument(
        "--benchmark", required=True, action="append", help=f"one of {sorted(TEXTS)}, from the hub, or NAME=PLACE"
    )
    parser.add_argument("--share", type=float, default=0.0, help="an item overlaps above this share of runs, 0 to 1")
    parser.add_argument("--scores", type=Path, nargs="+", default=[], help="score folders or tables of items")
    parser.add_argument("--out", type=Path, help="folder for rows (default: none are written)")
    return parser


def _pair(text: str) -> tuple[str, str | None]:
    name, _, place = text.partition("=")
    return name, place or None


def _table(made: Sequence[rows.Row]) -> str:
    columns = list(made[0])
    cells = [columns] + [[_cell(row[column]) for column in columns] for row in made]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    command.run(main)
