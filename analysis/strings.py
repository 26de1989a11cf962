"""How varied a bag of strings is: unique, distinct-n, self-BLEU and edit distance.

A bag says how often each string came. Exact match, the paper's measure, calls a renamed variable another answer and
two different algorithms no more than that; the others look inside. A token is a name, a number or one other sign;
white space only separates.

    unique        different strings
    distinct_n    different n-grams / all n-grams of the bag (Li et al. 2016)
    self_bleu     mean BLEU of each string against all others as references (Zhu et al. 2018); 1 = all the same
    edit_distance mean over pairs of Levenshtein distance in tokens / the longer one's tokens; 0 = all the same

All but the last depend on how many strings are in the bag: distinct-n falls and self-BLEU rises with their number.
Bags of different sizes are not compared (`texts.py` draws equal ones). BLEU goes up to 4-grams, with one added to
matches and totals of every order but the first (Lin and Och 2004), and the brevity penalty of the closest reference.
Equal strings are weighed, not repeated, so that a nearly greedy sampling costs next to nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np

MEASURES = ("unique", "distinct_1", "distinct_2", "self_bleu", "edit_distance")
ORDERS = 4
# Pairs of different strings that are measured; of more, as many are drawn. 256 samples could have 32,640.
PAIRS = 1500

Bag = Mapping[str, int]
Tokens = tuple[str, ...]
_TOKEN = re.compile(r"\w+|[^\w\s]")


@lru_cache(maxsize=100_000)
def tokens(text: str) -> Tokens:
    """Names, numbers and single other signs of a text.

    >>> tokens("return x_1**2")
    ('return', 'x_1', '*', '*', '2')
    """
    return tuple(_TOKEN.findall(text))


def measure(bag: Bag, rng: np.random.Generator) -> dict[str, float]:
    """All measures that the bag has: none if it is empty, the last two only from two strings on."""
    if not sum(bag.values()):
        return {}
    made = {"unique": float(len(bag))}
    for order in (1, 2):
        if (share := distinct(bag, order)) is not None:
            made[f"distinct_{order}"] = share
    if sum(bag.values()) > 1:
        made |= {"self_bleu": self_bleu(bag), "edit_distance": edit_distance(bag, rng)}
    return made


def distinct(bag: Bag, order: int) -> float | None:
    """Different n-grams over all n-grams; None where the strings are too short to have any."""
    total = sum(count * sum(_grams(text, order).values()) for text, count in bag.items())
    return len(set().union(*(_grams(text, order) for text in bag))) / total if total else None


def edit_distance(bag: Bag, rng: np.random.Generator) -> float:
    """Mean normalised distance over all pairs of strings in a bag of two or more; over `PAIRS` of them if more."""
    size = sum(bag.values())
    pairs = list(combinations(bag, 2))
    # Pairs of equal strings have distance 0 and only count.
    share = sum(bag[a] * bag[b] for a, b in pairs) / math.comb(size, 2)
    if len(pairs) > PAIRS:
        pairs = [pairs[i] for i in sorted(rng.choice(len(pairs), PAIRS, replace=False))]
    weights = [bag[a] * bag[b] for a, b in pairs]
    if not pairs:
        return 0.0
    return share * float(np.average([normalised(a, b) for a, b in pairs], weights=weights))


@lru_cache(maxsize=500_000)
def normalised(left: str, right: str) -> float:
    """Levenshtein distance of two texts in tokens, over the number of tokens of the longer."""
    a, b = tokens(left), tokens(right)
    return levenshtein(a, b) / max(len(a), len(b), 1)


def levenshtein(left: Sequence[str], right: Sequence[str]) -> int:
    """Fewest insertions, deletions and replacements that turn one sequence into the other.

    The bit-parallel algorithm of Myers (1999) as Hyyrö (2001) put it: a column of the usual table, whose entries
    differ by at most one from row to row, is two integers, and Python's have as many bits as `left` is long.
    """
    if not left or not right:
        return len(left) + len(right)
    where: dict[str, int] = {}
    for place, token in enumerate(left):
        where[token] = where.get(token, 0) | 1 << place
    last, full = 1 << (len(left) - 1), (1 << len(left)) - 1
    plus, minus, score = full, 0, len(left)
    for token in right:
        same = where.get(token, 0)
        diagonal = (((same & plus) + plus) ^ plus) | same | minus
        up, down = minus | (~(diagonal | plus) & full), plus & diagonal
        score += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & full, down << 1 & full
        plus, minus = down | (~(diagonal | up) & full), up & diagonal
    return score


def self_bleu(bag: Bag) -> float:
    """Mean BLEU of every string against the rest of a bag of two or more."""
    if len(bag) == 1:
        return 1.0
    lengths = Counter(len(tokens(text)) for text in bag)
    most = [_two_most(bag, order) for order in range(1, ORDERS + 1)]
    # A string that came twice has itself as a reference.
    scores = [1.0 if count > 1 else _bleu(text, lengths, most) for text, count in bag.items()]
    return float(np.average(scores, weights=list(bag.values())))


Most = dict[Tokens, tuple[int, str, int]]  # n-gram -> highest count in a string, that string, the next highest


def _two_most(bag: Bag, order: int) -> Most:
    """The most often that any string, and any other string, holds each n-gram."""
    found: Most = {}
    for text in bag:
        for gram, count in _grams(text, order).items():
            top, owner, second = found.get(gram, (0, "", 0))
            found[gram] = (count, text, top) if count > top else (top, owner, max(second, count))
    return found


def _bleu(text: str, lengths: Counter[int], most: Sequence[Most]) -> float:
    """BLEU of one string against all others of its bag."""
    size = len(tokens(text))
    logs = 0.0
    for order, table in enumerate(most, start=1):
        grams = _grams(text, order)
        matches = sum(min(c, _in_others(text, table[gram])) for gram, c in grams.items())
        smooth = int(order > 1)
        if matches + smooth == 0:
            return 0.0
        logs += math.log((matches + smooth) / (sum(grams.values()) + smooth)) / ORDERS
    others = [n for n, count in lengths.items() if count > (n == size)]
    closest = min(others, key=lambda n: (abs(n - size), n))
    return math.exp(logs + min(0.0, 1 - closest / size))


def _in_others(text: str, most: tuple[int, str, int]) -> int:
    top, owner, second = most
    return second if owner == text else top


@lru_cache(maxsize=100_000)
def _grams(text: str, order: int) -> Counter[Tokens]:
    words = tokens(text)
    return Counter(words[i : i + order] for i in range(len(words) - order + 1))
