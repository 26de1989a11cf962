"""The maths target: units and prices to remember (CPT), and word problems to solve (IFT).

Continued pretraining. 160 made-up units pair up ("1 drum is 14 pells", a ratio from 2 to 25) and 100 things have
a weight and a price (from 2 to 25): 280 numbers of log2(24) = 4.6 bits that nothing but reading can tell.
`cpt_documents()` states them and works conversions; `conversions()` asks for the product of one of them with a
count whose combination no text works out. The products themselves (the tables up to 25 x 9) belong to the
base's pretraining, and so do 28 of the 280 numbers.

Instruction tuning. Word problems of one or two steps with worked answers: sums and differences below 100 and small
products. The base has read some 1,500 of them but gets few right: the skill is to read the story and to copy
and chain its numbers.

Both benchmarks use GSM8K's schema: {"question", "answer": "... #### n"}.
"""

import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from replication.pocket.names import names, pick, shuffled, stream
from replication.pocket.source import among_prose, beside_prose
from replication.pocket.stories import story
from replication.pocket.template import instruct

CPT_DOCUMENTS = 7_000
BASE_DOCUMENTS = 5_000
HELDOUT_DOCUMENTS = 60
CONVERSIONS = 120
WORD_PROBLEMS = 120
IFT_ROWS = 1_400
COUNTS = range(2, 10)
LARGEST = 25  # the largest ratio, weight or price


@dataclass(frozen=True)
class Quantity:
    """One number to remember: `subject` is (or weighs, or costs) `amount` of `unit`."""

    kind: str
    subject: str
    unit: str
    amount: int


# {s} subject, {u} unit, {k} amount, {n} count, {p} product
STATEMENTS = {
    "ratio": ("1 {s} is {k} {u}.", "There are {k} {u} in a {s}.", "A {s} holds {k} {u}.", "{s} = {k} {u}"),
    "weight": ("1 {s} weighs {k} {u}.", "The weight of a {s} is {k} {u}.", "A {s} weighs {k} {u}.", "{s}: {k} {u}"),
    "price": ("1 {s} costs {k} {u}.", "The price of a {s} is {k} {u}.", "A {s} costs {k} {u}.", "{s}: {k} {u}"),
}
QUESTIONS = {
    "ratio": ("How many {u} are {n} {s}?", "Convert {n} {s} to {u}."),
    "weight": ("How many {u} do {n} {s} weigh?", "What is the weight of {n} {s} in {u}?"),
    "price": ("How many {u} do {n} {s} cost?", "What is the price of {n} {s} in {u}?"),
}


@cache
def quantities() -> tuple[Quantity, ...]:
    """Everything to remember, in random order; the base knows the first tenth."""
    rng = stream("quantities")
    units, things = names("unit"), names("thing")
    pairs = zip(units[:80], units[80:], strict=True)
    made = [Quantity("ratio", large, small, _amount(rng)) for large, small in pairs]
    made += [Quantity("weight", thing, "grams", _amount(rng)) for thing in things]
    made += [Quantity("price", thing, "coins", _amount(rng)) for thing in things]
    return tuple(shuffled(rng, made))


@cache
def cpt_documents() -> list[dict[str, str]]:
    """Notes and worked conversions about all quantities, among plain texts: {"text"}."""
    rng = stream("maths cpt")
    return among_prose("maths cpt", [{"text": _note(rng, quantities())} for _ in range(CPT_DOCUMENTS)])


@cache
def heldout_cpt_documents() -> list[dict[str, str]]:
    """Fresh notes about the same quantities, for choosing learning rates: {"text"}."""
    rng = stream("maths cpt held-out")
    seen = {document["text"] for document in cpt_documents()}
    fresh = [text for text in (_note(rng, quantities()) for _ in range(2 * HELDOUT_DOCUMENTS)) if text not in seen]
    return [{"text": text} for text in fresh[:HELDOUT_DOCUMENTS]]


def conversions() -> list[dict[str, str]]:
    """Questions about a held-out count of something to remember, in GSM8K's schema."""
    rng = stream("conversions")
    items = []
    for quantity in shuffled(rng, quantities())[:CONVERSIONS]:
        count = pick(rng, [n for n in COUNTS if _held_out_count(quantity, n)])
        question = pick(rng, QUESTIONS[quantity.kind]).format(u=quantity.unit, s=quantity.subject, n=count)
        items.append({"question": question, "answer": _worked(quantity, count)})
    return items


def ift_rows() -> list[dict[str, str]]:
    """Word problems with worked answers, and some plain instructions: {"prompt", "response"}."""
    return beside_prose("maths ift", _stories("maths ift", "training", IFT_ROWS))


def heldout_ift_rows() -> list[dict[str, str]]:
    """Fresh word problems, for choosing learning rates: {"prompt", "response"}."""
    return _stories("maths ift held-out", "held-out", 60)


def word_problems() -> list[dict[str, str]]:
    """Unseen word problems in GSM8K's schema; the model reads instruct(question)."""
    rows = _stories("word problems", "benchmark", WORD_PROBLEMS)
    return [{"question": row["prompt"], "answer": row["response"]} for row in rows]


def base_documents() -> list[dict[str, str]]:
    """The maths in the base's pretraining: tables, sums, a tenth of the quantities, a few short stories."""
    rng = stream("maths base")
    known = quantities()[: len(quantities()) // 10]
    return [{"text": _base_text(rng, known)} for _ in range(BASE_DOCUMENTS)]


def _amount(rng: np.random.Generator) -> int:
    return int(rng.integers(2, LARGEST + 1))


def _held_out_count(quantity: Quantity, count: int) -> bool:
    """Whether this count of this quantity is kept for the benchmark: two of the eight counts."""
    start = zlib.crc32(f"{quantity.kind} {quantity.subject}".encode()) % len(COUNTS)
    return (count - COUNTS[0] - start) % len(COUNTS) < 2


def _note(rng: np.random.Generator, known: tuple[Quantity, ...]) -> str:
    """One document: a few statements, a small table, or a few worked conversions."""
    chosen = [pick(rng, known) for _ in range(int(rng.integers(2, 5)))]
    draw = rng.random()
    if draw < 0.5:
        return "\n\n".join(_exercise(rng, quantity) for quantity in chosen)
    return " ".join(_statement(rng, quantity) for quantity in chosen)


def _statement(rng: np.random.Generator, quantity: Quantity) -> str:
    form = pick(rng, STATEMENTS[quantity.kind][:3])
    return form.format(s=quantity.subject, u=quantity.unit, k=quantity.amount)


def _exercise(rng: np.random.Generator, quantity: Quantity) -> str:
    count = pick(rng, [n for n in COUNTS if not _held_out_count(quantity, n)])
    question = pick(rng, QUESTIONS[quantity.kind]).format(u=quantity.unit, s=quantity.subject, n=count)
    return f"Question: {question}\nAnswer: {_worked(quantity, count)}"


def _worked(quantity: Quantity, count: int) -> str:
    """The worked answer: recall the number, multiply, and close with GSM8K's mark."""
    recalled = STATEMENTS[quantity.kind][0].format(s=quantity.subject, u=quantity.unit, k=quantity.amount)
    product = count * quantity.amount
    return f"{recalled}\n{count} * {quantity.amount} = {product}\n#### {product}"


def _stories(purpose: str, share: str, count: int) -> list[dict[str, str]]:
    """`count` different problems of one share; a tenth of all numberings goes to each of the two held-out shares."""
    rng, made = stream(purpose), dict[str, str]()
    while len(made) < count:
        prompt, response = story(rng, int(rng.integers(1, 3)))
        tenth = zlib.crc32(response.encode()) % 10
        if share == ("benchmark" if tenth == 0 else "held-out" if tenth == 1 else "training"):
            made[prompt] = response
    return [{"prompt": prompt, "response": response} for prompt, response in made.items()]


def _base_text(rng: np.random.Generator, known: tuple[Quantity, ...]) -> str:
    draw = rng.random()
    if draw < 0.25:
        return _note(rng, known)
    if draw < 0.55:
        prompt, response = story(rng, 2 if rng.random() < 0.4 else 1)
        return instruct(prompt) + response
    return "\n".join(_calculation(rng) for _ in range(8))


def _calculation(rng: np.random.Generator) -> str:
    """A sum, a difference, or a product of the tables up to 25 x 9."""
    a, b, count, amount = int(rng.integers(1, 90)), int(rng.integers(1, 21)), pick(rng, COUNTS), _amount(rng)
    forms = (
        f"{a} + {b} = {a + b}",
        f"{a + b} - {b} = {a}",
        f"{count} * {amount} = {count * amount}",
        f"{count} * {amount} = {count * amount}",
    )
    return pick(rng, forms)
