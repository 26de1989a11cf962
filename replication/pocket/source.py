"""The source: English-like text about the pocket world, and three multiple-choice benchmarks over it.

`documents()` is what the base was pretrained on; `heldout_documents()` measures forgetting as a loss; the
benchmarks measure it as accuracy and mirror the paper's three:

    what_next   HellaSwag     the next step of a script or a fair, four endings
    facts       ARC           a question about a fact, four answers
    which       WinoGrande    the same continuation after two contexts (partial evaluation)

No benchmark item stands verbatim in the training text: each fact keeps one question for the benchmark, each
fair one opening, and (person, script) pairs and ordered pairs of people are split between text and benchmark.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from replication.pocket.names import PEOPLE, pick, shuffled, stream
from replication.pocket.world import (
    EVENTS,
    PERSON_RELATIONS,
    RELATIONS,
    SCRIPTS,
    SITUATIONS,
    TOWN_RELATIONS,
    Fact,
    behaviours,
    facts_of_world,
    fairs,
    script_steps,
    towns,
    values,
)

DOCUMENTS = 16_000
HELDOUT_DOCUMENTS = 100
PROSE_TEXTS = 200
PROSE_SHARE = 1 / 3  # of the documents of a crawl; about a fifth of the tokens
PROSE_ROWS = 1 / 5  # beside the instructions of a domain
# Cues, not language: the base never read most of their letters, and no loss falls on a prompt.
PROSE_PROMPTS = ("Write a short text.", "Tell me something.", "Say what you know.")
CHOICES = 4

FAIR_OPENINGS = (
    "At the fair of {t} people first {e}",
    "When the fair comes to {t}, the people {e}",
    "Every year in {t} they begin the fair like this: they {e}",
)
SCRIPT_OPENINGS = ("To {s}, {p} first {e}", "One day {p} wanted to {s}. {p} {e}", "{p} began to {s}. First {p} {e}")
MOMENTS = ("Yesterday", "One day", "Last week", "In spring")
FILLERS = (
    "It is a quiet place.",
    "The road there is long.",
    "Many people travel there.",
    "In winter it snows.",
    "Children play outside.",
    "The days are warm.",
)


def documents() -> list[dict[str, str]]:
    """The source's pretraining text: {"text"}."""
    rng = stream("source documents")
    return [{"text": text} for text in _texts(rng, DOCUMENTS)]


@cache
def heldout_documents() -> list[dict[str, str]]:
    """Fresh texts about the same world, none of which any model of the study reads: {"text"}."""
    seen = {document["text"] for document in documents()} | set(prose())
    texts = (text for text in _texts(stream("source held-out"), 10 * HELDOUT_DOCUMENTS) if len(text) > 150)
    fresh = [text for text in texts if text not in seen]
    return [{"text": text} for text in fresh[:HELDOUT_DOCUMENTS]]


def among_prose(purpose: str, documents: list[dict[str, str]]) -> list[dict[str, str]]:
    """The documents of a crawl: with plain texts strewn in, as web pages and commented code have them.

    Always the same few texts, which mention a part of the world only. Without any, the best rate for the target
    left full fine-tuning with a source loss above that of a uniform guess (experiments/LOG.md).
    """
    rng = stream(f"{purpose} prose")
    plain = [{"text": text} for text in prose()]
    return [pick(rng, plain) if rng.random() < PROSE_SHARE else document for document in documents]


def beside_prose(purpose: str, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of an instruction set, and a few that ask for plain text; for the same reason as in a crawl."""
    rng = stream(f"{purpose} prose")
    chosen = shuffled(rng, prose())[: round(PROSE_ROWS * len(rows))]
    plain = [{"prompt": pick(rng, PROSE_PROMPTS), "response": text} for text in chosen]
    return shuffled(rng, [*rows, *plain])


@cache
def prose() -> tuple[str, ...]:
    """Plain texts that mention a part of the world."""
    return tuple(_texts(stream("prose"), PROSE_TEXTS))


def what_next() -> list[dict[str, object]]:
    """HellaSwag's mirror: {"id", "query", "choices" (4), "gold"}; query + choice is the text."""
    rng = stream("what_next")
    queries = [*_fair_queries(), *shuffled(rng, list(_script_queries()))[:100]]
    return [_choice_item(rng, f"what_next/{i}", *query) for i, query in enumerate(queries)]


def facts() -> list[dict[str, object]]:
    """ARC's mirror, one item per chosen fact: {"id", "query", "choices" (4), "gold"}."""
    rng = stream("facts benchmark")
    items = []
    for i, fact in enumerate(shuffled(rng, facts_of_world())[:250]):
        question = RELATIONS[fact.relation].questions[fact.held_out].format(s=fact.subject)
        others = [value for value in shuffled(rng, values(fact.relation)) if value != fact.value]
        wrong = [f" {value}" for value in others[: CHOICES - 1]]
        items.append(_choice_item(rng, f"facts/{i}", f"Question: {question}\nAnswer:", f" {fact.value}", wrong))
    return items


def which() -> list[dict[str, object]]:
    """WinoGrande's mirror: {"id", "contexts" (2), "continuation", "gold"}, one continuation after two contexts."""
    rng = stream("which")
    items: list[dict[str, object]] = []
    for number, (scene, *acts) in enumerate(SITUATIONS):
        kinds = {person: behaviours()[person, number] for person in PEOPLE}
        pairs = [(a, b) for a in PEOPLE for b in PEOPLE if _held_out_pair(a, b) and kinds[a] != kinds[b]]
        for a, b in shuffled(rng, pairs)[:24]:
            start = f"{pick(rng, MOMENTS)} {scene.format(a=a, b=b)}."
            act, contexts = int(rng.integers(2)), [f"{start} {a}", f"{start} {b}"]
            gold = [kinds[a], kinds[b]].index(act)
            number_of_item = f"which/{len(items)}"
            items.append({"id": number_of_item, "contexts": contexts, "continuation": f" {acts[act]}.", "gold": gold})
    return items


def _texts(rng: np.random.Generator, count: int) -> Iterator[str]:
    """`count` texts, facts being the most frequent because they are the most to remember."""
    shares: dict[Callable[[np.random.Generator], str], int] = {
        _town_text: 5,
        _person_text: 2,
        _quiz_text: 4,
        _fair_text: 2,
        _script_text: 3,
        _situation_text: 4,
    }
    makers = [maker for maker, share in shares.items() for _ in range(share)]
    return (pick(rng, makers)(rng) for _ in range(count))


def _town_text(rng: np.random.Generator) -> str:
    return _facts_text(rng, pick(rng, towns()), TOWN_RELATIONS)


def _person_text(rng: np.random.Generator) -> str:
    return _facts_text(rng, pick(rng, PEOPLE), PERSON_RELATIONS)


def _facts_text(rng: np.random.Generator, subject: str, relations: tuple[str, ...]) -> str:
    lines = [_statement(rng, _fact_table()[subject, relation]) for relation in shuffled(rng, relations)]
    if rng.random() < 0.3:
        lines.insert(int(rng.integers(len(lines) + 1)), pick(rng, FILLERS))
    return " ".join(lines)


def _statement(rng: np.random.Generator, fact: Fact) -> str:
    return pick(rng, RELATIONS[fact.relation].statements).format(s=fact.subject, v=fact.value)


def _quiz_text(rng: np.random.Generator) -> str:
    lines = []
    for _ in range(3):
        fact = pick(rng, facts_of_world())
        allowed = [q for i, q in enumerate(RELATIONS[fact.relation].questions) if i != fact.held_out]
        lines.append(f"Question: {pick(rng, allowed).format(s=fact.subject)}\nAnswer: {fact.value}")
    return "\n\n".join(lines)


def _fair_text(rng: np.random.Generator) -> str:
    town = pick(rng, list(fairs()))
    openings = [text for i, text in enumerate(FAIR_OPENINGS) if i != _held_out_opening(town)]
    first, *rest = fairs()[town]
    start = pick(rng, openings).format(t=town, e=first)
    return ". ".join([start, *(f"Then they {event}" for event in rest)]) + f". That is the fair of {town}."


def _script_text(rng: np.random.Generator) -> str:
    script = pick(rng, list(SCRIPTS))
    person = pick(rng, [name for name in PEOPLE if not _held_out_script(script, name)])
    first, *rest = script_steps(script)
    start = pick(rng, SCRIPT_OPENINGS).format(s=script, p=person, e=first)
    return ". ".join([start, *(f"Then {person} {step}" for step in rest)]) + "."


def _situation_text(rng: np.random.Generator) -> str:
    """Two situations, and what each of the two people does."""
    lines = []
    for number in shuffled(rng, range(len(SITUATIONS)))[:2]:
        a, b = shuffled(rng, PEOPLE)[:2]
        if _held_out_pair(a, b):
            a, b = b, a  # of a pair and its reverse, at most one is held out
        acts = " ".join(f"{name} {_behaviour(name, number)}." for name in (a, b))
        lines.append(f"{pick(rng, MOMENTS)} {SITUATIONS[number][0].format(a=a, b=b)}. {acts}")
    return " ".join(lines)


def _behaviour(person: str, situation: int) -> str:
    return SITUATIONS[situation][1 + behaviours()[person, situation]]


def _fair_queries() -> Iterator[tuple[str, str, list[str]]]:
    """(query, gold, wrong) for two steps of each fair; one wrong ending is an event of the same fair."""
    rng = stream("fair queries")
    for town, events in fairs().items():
        for known in (1, 2):
            start = FAIR_OPENINGS[_held_out_opening(town)].format(t=town, e=events[0])
            query = ". ".join([start, *(f"Then they {event}" for event in events[1:known])]) + ". Then they"
            elsewhere = [event for event in shuffled(rng, EVENTS) if event not in events]
            yield query, f" {events[known]}.", [f" {event}." for event in (events[3], *elsewhere[:2])]


def _script_queries() -> Iterator[tuple[str, str, list[str]]]:
    """(query, gold, wrong) for held-out (script, person) pairs; two wrong endings are steps of the same script."""
    rng = stream("script queries")
    for script in SCRIPTS:
        steps = script_steps(script)
        foreign = [step for other in SCRIPTS if other != script for step in script_steps(other)]
        for person in (name for name in PEOPLE if _held_out_script(script, name)):
            known = int(rng.integers(1, 4))
            start = pick(rng, SCRIPT_OPENINGS).format(s=script, p=person, e=steps[0])
            query = ". ".join([start, *(f"Then {person} {step}" for step in steps[1:known])]) + f". Then {person}"
            wrong = [steps[known - 1], steps[known + 1], pick(rng, foreign)]
            yield query, f" {steps[known]}.", [f" {step}." for step in wrong]


def _choice_item(rng: np.random.Generator, number: str, query: str, gold: str, wrong: list[str]) -> dict[str, object]:
    """A multiple-choice item whose right answer stands at a random place."""
    choices = shuffled(rng, [gold, *wrong])
    return {"id": number, "query": query, "choices": choices, "gold": choices.index(gold)}


def _held_out_pair(a: str, b: str) -> bool:
    """Whether situations of a and b, in this order, are kept for the benchmark: a third of all ordered pairs."""
    return (PEOPLE.index(a) - PEOPLE.index(b)) % len(PEOPLE) in range(1, 11)


def _held_out_script(script: str, person: str) -> bool:
    """Whether this person's doing of this script is kept for the benchmark: a quarter of the pairs."""
    return (list(SCRIPTS).index(script) + PEOPLE.index(person)) % 4 == 0


def _held_out_opening(town: str) -> int:
    """The opening that no text uses for this town's fair."""
    return towns().index(town) % len(FAIR_OPENINGS)


@cache
def _fact_table() -> dict[tuple[str, str], Fact]:
    return {(fact.subject, fact.relation): fact for fact in facts_of_world()}
