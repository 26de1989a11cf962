"""Word problems: a person starts with some things, and what happens to them is worked line by line.

    Anna has 12 apples. Anna finds 5 more. Then Anna gives 3 to Felix. How many apples does Anna have?
    12 + 5 = 17
    17 - 3 = 14
    #### 14

Totals stay below 100, added or removed amounts below 20; factors are 2 and 3.
"""

import numpy as np

from replication.pocket.names import PEOPLE, pick, shuffled

ITEMS = ("apples", "pears", "nuts", "eggs", "books", "pens", "shells", "stones", "cards", "cups")
GAINS = ("{p} finds {k} more.", "{o} gives {k} more to {p}.", "{p} buys {k} at the market.")
LOSSES = ("{p} gives {k} to {o}.", "{p} loses {k} on the way.", "{p} sells {k} to {o}.")
GROWTHS = {2: "The next day {p} has 2 times as many.", 3: "The next day {p} has 3 times as many."}
ASIDES = ("{o} has {k} of them too.", "It takes {k} days.", "{o} is {k} years old.")


def story(rng: np.random.Generator, steps: int) -> tuple[str, str]:
    """A problem of `steps` steps and its worked answer, which ends in "#### n"."""
    person, other = shuffled(rng, PEOPLE)[:2]
    item, total = pick(rng, ITEMS), int(rng.integers(3, 30))
    sentences, lines = [f"{person} has {total} {item}."], []
    for _ in range(steps):
        sentence, line, total = _event(rng, total)
        sentences.append(sentence)
        lines.append(line)
    if steps > 1 and rng.random() < 0.5:
        aside = pick(rng, ASIDES).replace("{k}", str(int(rng.integers(2, 20))))
        sentences.insert(int(rng.integers(1, len(sentences) + 1)), aside)
    text = " ".join(sentences).format(p=person, o=other)
    question = f"How many {item} does {person} have?"
    return f"{text} {question}", "\n".join([*lines, f"#### {total}"])


def _event(rng: np.random.Generator, total: int) -> tuple[str, str, int]:
    """What happens next: the sentence, the line of working, and the new total."""
    if total <= 25 and rng.random() < 0.2:
        factor = pick(rng, list(GROWTHS))
        return GROWTHS[factor], f"{factor} * {total} = {factor * total}", factor * total
    amount = int(rng.integers(2, 20))
    if total + amount < 90 and (amount >= total or rng.random() < 0.5):
        return pick(rng, GAINS).replace("{k}", str(amount)), f"{total} + {amount} = {total + amount}", total + amount
    amount = min(amount, total - 1)
    return pick(rng, LOSSES).replace("{k}", str(amount)), f"{total} - {amount} = {total - amount}", total - amount
