"""Made-up financial tweets in three classes, for machines without the published ones.

As in the published data two thirds are neutral, a fifth bullish, the rest bearish. Whether news is good takes two words
together: profits that rise are good, costs that rise are bad, and a clause about something else may point elsewhere; a
neutral tweet names the same companies and figures without saying where they went. So words alone do not tell.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np

from replication.pocket.names import names, pick, stream

BEARISH, BULLISH, NEUTRAL = range(3)
SHARES = (0.15, 0.20, 0.65)
COUNTS = {"train": 3_000, "validation": 800}  # of the parts as published: validation is the test

GOOD = ("profit", "revenue", "sales", "margin", "order book", "cash flow", "market share", "dividend", "output")
BAD = ("debt", "costs", "net loss", "defaults", "write-downs", "complaints", "job cuts", "interest bill", "backlog")
UP = ("climbs", "jumps", "rises", "widens", "swells", "hits a high", "grows again", "doubles")
DOWN = ("falls", "shrinks", "slides", "drops", "narrows", "hits a low", "keeps sinking", "halves")
RAISED = ("{b} lifts {t} to buy", "{t}: {b} turns upbeat", "{b} sees more room for {c}", "{t} target raised at {b}")
CUT = ("{b} cuts {t} to sell", "{t}: {b} turns wary", "{b} sees less room for {c}", "{t} target trimmed at {b}")
CALM = (
    "{c} to report {m} on {d}",
    "{t}: {m} in focus on {d}",
    "What to watch on {d}: {c} {m}",
    "{c} names a new finance chief",
    "{c} {m}: transcript of the call",
    "{b} speaks with {c} about {m}",
    "{t} sets the date of its meeting",
    "{c} and {b} hold talks on {d}",
)
ASIDES = ("oil", "gold", "the index", "the yield", "copper", "wheat")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
LEADS = ("", "", "", "BRIEF - ", "UPDATE: ", "#stocks ", "JUST IN: ")
BROKERS = 24  # of the made-up names; the others are companies


def rows(part: Literal["train", "validation"]) -> list[dict[str, Any]]:
    """Tweets of a part, as published data have them: {"id", "text", "label"}."""
    rng = stream(f"tweets {part}")
    found = []
    for i in range(COUNTS[part]):
        label = int(rng.choice(len(SHARES), p=SHARES))
        found.append({"id": f"{part}/{i}", "text": _text(rng, label), "label": label})
    return found


def _text(rng: np.random.Generator, label: int) -> str:
    company = pick(rng, _names()[BROKERS:])
    words = {
        "c": company,
        "t": "$" + company[:4].upper(),
        "b": pick(rng, _names()[:BROKERS]),
        "m": pick(rng, GOOD + BAD),
        "d": pick(rng, DAYS),
    }
    core = pick(rng, CALM) if label == NEUTRAL else _news(rng, good=label == BULLISH)
    aside = f" as {pick(rng, ASIDES)} {pick(rng, UP + DOWN)}" if rng.random() < 0.3 else ""
    return pick(rng, LEADS) + core.format(**words) + aside


def _news(rng: np.random.Generator, *, good: bool) -> str:
    """What happened to a figure, or what a broker did; a third are the broker's."""
    if rng.random() < 1 / 3:
        return pick(rng, RAISED if good else CUT)
    figure, moved = pick(rng, [(GOOD, UP), (BAD, DOWN)] if good else [(GOOD, DOWN), (BAD, UP)])
    return f"{{c}} {pick(rng, figure)} {pick(rng, moved)}"


@cache
def _names() -> tuple[str, ...]:
    return tuple(name.capitalize() for name in names("town"))
