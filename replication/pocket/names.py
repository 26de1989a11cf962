"""Made-up words and the random streams of the pocket world.

Every made-up name is two syllables of one shared inventory, so a name first met in fine-tuning is spelled
with tokens the base knows well. Each kind of name (town, river, function, ...) owns a slice of one shuffled
list, so no name means two things.
"""

import builtins
import keyword
import zlib
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import numpy as np

T = TypeVar("T")

WORLD_SEED = 20240923  # the day of the paper's second version; any fixed number would do

SYLLABLES = (
    "bal",
    "bel",
    "bor",
    "dan",
    "del",
    "dor",
    "fal",
    "fen",
    "gal",
    "gan",
    "gor",
    "hal",
    "har",
    "hol",
    "jan",
    "jor",
    "kal",
    "kel",
    "lan",
    "lem",
    "lor",
    "mal",
    "mar",
    "mir",
    "nal",
    "nel",
    "nor",
    "pal",
    "pel",
    "pin",
    "ral",
    "ren",
    "ros",
    "sal",
    "sel",
    "sor",
    "tal",
    "ten",
    "tor",
    "val",
    "ven",
    "vor",
    "wal",
    "wen",
    "wil",
    "yar",
    "yel",
    "zan",
)

# How many names of each kind the world holds. Append only: a changed count moves every later slice.
KINDS = {
    "town": 160,
    "river": 24,
    "function": 320,
    "unit": 160,
    "thing": 100,
    "task": 200,
}

PEOPLE = (
    "Anna",
    "Boris",
    "Clara",
    "David",
    "Elsa",
    "Felix",
    "Greta",
    "Henry",
    "Irene",
    "Jonas",
    "Karin",
    "Leo",
    "Marta",
    "Nils",
    "Olga",
    "Peter",
    "Rosa",
    "Simon",
    "Tilda",
    "Ulrich",
    "Vera",
    "Walter",
    "Xenia",
    "Yuri",
    "Zelda",
    "Adam",
    "Bella",
    "Carl",
    "Dora",
    "Emil",
    "Flora",
    "Gustav",
)


def stream(purpose: str) -> np.random.Generator:
    """The random stream of one purpose: the same on every call, independent of every other purpose."""
    return np.random.default_rng([WORLD_SEED, zlib.crc32(purpose.encode())])


@cache
def names(kind: str) -> tuple[str, ...]:
    """All made-up names of one kind, in lower case.

    Raises:
        ValueError: `kind` is not one of KINDS.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of name {kind!r}: choose one of {sorted(KINDS)}")
    kinds = list(KINDS)
    start = sum(KINDS[earlier] for earlier in kinds[: kinds.index(kind)])
    return _all_words()[start : start + KINDS[kind]]


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One option, each equally likely."""
    return options[int(rng.integers(len(options)))]


def shuffled(rng: np.random.Generator, options: Sequence[T]) -> list[T]:
    """The options in random order."""
    return [options[i] for i in rng.permutation(len(options))]


@cache
def _all_words() -> tuple[str, ...]:
    reserved = {*keyword.kwlist, *dir(builtins)}
    words = [a + b for a in SYLLABLES for b in SYLLABLES if a != b and a + b not in reserved]
    return tuple(shuffled(stream("names"), words))
