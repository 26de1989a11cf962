"""Financial tweets in three classes, in three splits, and the small DistilBERT that is tuned on them.

The published data set (zeroshot/twitter-financial-news-sentiment) has two parts, "train" and "validation", and no test
split; the study's original chose its checkpoint on the part that it reported. Here

    test         the published validation part, whole; nothing is chosen by it
    validation   a tenth of the texts of each class of the published training part, always the same
    train        the rest

and no text of one split stands in another, once links are removed and spaces joined: 32 of the test's texts occur in
the training part too, in 69 of its rows (31 and 68 if spaces count), which are left out. So are three tweets that are
nothing but a link. Three kinds of rows with the same splits:

    recorded_*    from the CSV files on this machine, without links: at pocket size they are a third of the tokens
    hub_*         from the hub, or a copy of its files, as published
    synthetic_*   made up here, for machines without the files

Rows: {"id", "text", "label"}, 0 bearish, 1 bullish, 2 neutral.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication import seeding
from replication.config import Source
from replication.data.sources import documents
from replication.pocket import masked, tweet_texts
from replication.pocket.tweet_files import FILES, tweets

HUB = "zeroshot/twitter-financial-news-sentiment"
VALIDATION = 0.1  # of the texts of each class
LINK = re.compile(r"https?://\S+")

Row = dict[str, Any]


@dataclass(frozen=True)
class Splits:
    """Rows of the three splits."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]


def recorded_train() -> list[Row]:
    """Published tweets without links, to train on."""
    return _recorded().train


def recorded_validation() -> list[Row]:
    """Published tweets without links, to choose rates by."""
    return _recorded().validation


def recorded_test() -> list[Row]:
    """The published validation part without links, to report."""
    return _recorded().test


def hub_train() -> list[Row]:
    """Tweets as published, to train on."""
    return _hub().train


def hub_validation() -> list[Row]:
    """Tweets as published, to choose rates by."""
    return _hub().validation


def hub_test() -> list[Row]:
    """The published validation part, to report."""
    return _hub().test


def synthetic_train() -> list[Row]:
    """Made-up tweets to train on."""
    return _synthetic().train


def synthetic_validation() -> list[Row]:
    """Made-up tweets to choose rates by."""
    return _synthetic().validation


def synthetic_test() -> list[Row]:
    """Made-up tweets to report."""
    return _synthetic().test


def recorded_base() -> Path:
    """A small DistilBERT that has read the published tweets of `recorded_train`, without their labels."""
    return masked.made("tweets-recorded", [row["text"] for row in recorded_train()], masked.Recipe())


def synthetic_base() -> Path:
    """A small DistilBERT that has read the made-up tweets of `synthetic_train`, without their labels."""
    return masked.made("tweets-synthetic", [row["text"] for row in synthetic_train()], masked.Recipe())


# ---------------------------------------------------------------- splits


def bare(text: str) -> str:
    """A tweet without links, its spaces joined."""
    return " ".join(LINK.sub(" ", text).split())


def split(train: Sequence[Row], test: Sequence[Row]) -> Splits:
    """The three splits of two published parts; no text of one stands in another, links and spaces aside."""
    asked = {bare(row["text"]) for row in test}
    first: dict[str, Row] = {}  # the first row of each text that may be trained on
    for row in train:
        if (text := bare(row["text"])) and text not in asked:
            first.setdefault(text, row)
    held_out = {bare(row["text"]) for row in _held_out(list(first.values()))}
    left = [row for row in train if (text := bare(row["text"])) in first and text not in held_out]
    return Splits(left, [row for text, row in first.items() if text in held_out], list(test))


def _held_out(rows: list[Row]) -> list[Row]:
    """A share of the rows of each class."""
    chosen = []
    for label in sorted({row["label"] for row in rows}):
        own = [row for row in rows if row["label"] == label]
        order = seeding.generator(0, "validation tweets", label).permutation(len(own))
        chosen += [own[i] for i in order[: round(VALIDATION * len(own))]]
    return chosen


# ---------------------------------------------------------------- parts as published


@functools.cache
def _recorded() -> Splits:
    parts = (read(_file(part), name=part) for part in FILES)
    whole = split(*parts)
    return Splits(*([row | {"text": bare(row["text"])} for row in rows] for rows in vars(whole).values()))


def _file(part: str) -> Path:
    folder = tweets()
    if folder is None:
        raise FileNotFoundError(
            "no published tweets: name the folder that holds sentiment/twitter_financial_sentiment in "
            "REPLICATION_DATA, or use the synthetic tweets"
        )
    return folder / FILES[part]


def read(file: Path, *, name: str) -> list[Row]:
    """Rows of a published part: CSV with commas, quotes and line breaks in its tweets.

    Raises:
        ValueError: a row without a whole number for its label.
    """
    with file.open(newline="", encoding="utf-8") as lines:
        found = list(csv.DictReader(lines))
    for i, row in enumerate(found):
        if not (row.get("label") or "").isdigit():
            raise ValueError(f"{file}, row {i}: the label is {row.get('label')!r}; expected a whole number")
    return [{"id": f"{name}/{i}", "text": row["text"], "label": int(row["label"])} for i, row in enumerate(found)]


@functools.cache
def _hub() -> Splits:
    return split(*([*_of_hub(part)] for part in FILES))


def _of_hub(part: str) -> list[Row]:
    rows = enumerate(documents(Source(HUB, split=part)))
    return [{"id": f"{part}/{i}", "text": row["text"], "label": row["label"]} for i, row in rows]


@functools.cache
def _synthetic() -> Splits:
    return split(tweet_texts.rows("train"), tweet_texts.rows("validation"))
