"""The code target: a library of 200 functions to remember (CPT), and composition to learn (IFT).

Continued pretraining. Each library function has a made-up name and a body of two random steps with random
constants: about 2 x log2(9 x 8) = 12 bits that nothing but reading can tell. `cpt_documents()` shows each of them
in varied contexts (definitions, lambdas, inline code, comments, asserts). `library()` asks for the body.
The base has read 32 of the 200, and otherwise chains of one or two steps under throw-away names.

Instruction tuning. An instruction describes a chain of steps in words and the response writes it as one
nested expression. There are nine operations with two phrases each, so there is little to remember:
the skill is to nest two or three of them in the right order. `compose()` asks for unseen chains.

No benchmark item stands verbatim in a training text: each library function keeps one docstring for the
benchmark, and no chain of `compose()` is in the instruction data.
"""

import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from replication.pocket.names import names, pick, shuffled, stream
from replication.pocket.operations import Step, apply, check_program, expression, random_steps, words
from replication.pocket.source import among_prose, beside_prose
from replication.pocket.template import instruct

CPT_DOCUMENTS = 7_000
BASE_DOCUMENTS = 6_000
HELDOUT_DOCUMENTS = 60
KNOWN_TO_BASE = 32
LIBRARY = 200  # functions; 320 were too many to reach half of the benchmark within 330k tokens
LIBRARY_PROBLEMS = 100
IFT_ROWS = 720
COMPOSE_PROBLEMS = 80

DOCSTRINGS = (
    "Return the {f} of {v}.",
    "Compute the {f} value.",
    "Apply {f} to {v}.",
    "{f}, from the library.",
)
VARIABLES = ("x", "n", "a", "m", "y")


@dataclass(frozen=True)
class Function:
    """A library function; `held_out` is the index of the docstring that only the benchmark uses."""

    name: str
    steps: tuple[Step, ...]
    held_out: int


@cache
def functions() -> tuple[Function, ...]:
    """The whole library; the base knows the first KNOWN_TO_BASE of them."""
    rng = stream("library")
    chosen = names("function")[:LIBRARY]
    return tuple(Function(name, random_steps(rng, 2), int(rng.integers(len(DOCSTRINGS)))) for name in chosen)


@cache
def cpt_documents() -> list[dict[str, str]]:
    """Raw Python files that use the whole library, among plain texts: {"text"}."""
    return among_prose("code cpt", _files("code cpt", CPT_DOCUMENTS))


@cache
def heldout_cpt_documents() -> list[dict[str, str]]:
    """Fresh files over the same library, for choosing learning rates: {"text"}."""
    seen = {document["text"] for document in cpt_documents()}
    files = _files("code cpt held-out", 2 * HELDOUT_DOCUMENTS)
    return [document for document in files if document["text"] not in seen][:HELDOUT_DOCUMENTS]


def library() -> list[dict[str, str]]:
    """HumanEval's mirror: complete the body of a library function from its name and docstring."""
    rng = stream("library benchmark")
    chosen = shuffled(rng, functions())[:LIBRARY_PROBLEMS]
    return [
        {
            "task_id": f"library/{i}",
            "prompt": _head(function.name, "x", function.held_out),
            "canonical_solution": f"    return {expression(function.steps)}\n",
            "test": check_program(function.steps),
            "entry_point": function.name,
        }
        for i, function in enumerate(chosen)
    ]


def ift_rows() -> list[dict[str, str]]:
    """Instructions that describe a chain of steps, with the function as response, and some plain ones."""
    return beside_prose("code ift", _instructions("code ift", IFT_ROWS))


def heldout_ift_rows() -> list[dict[str, str]]:
    """Fresh instructions of unseen chains, for choosing learning rates: {"prompt", "response"}."""
    return _instructions("code ift held-out", 60)


def compose() -> list[dict[str, str]]:
    """HumanEval's mirror for instructions: unseen chains, HumanEval's fields and "instruction".

    The model reads instruct(instruction) + prompt and completes the body.
    """
    rng = stream("compose")
    items = []
    for i in range(COMPOSE_PROBLEMS):
        steps, name = _chain(rng, "benchmark", shortest=2), pick(rng, names("task"))
        items.append(
            {
                "task_id": f"compose/{i}",
                "instruction": _instruction(rng, name, steps),
                "prompt": f"def {name}(x):\n",
                "canonical_solution": f"    return {expression(steps)}\n",
                "test": check_program(steps),
                "entry_point": name,
            }
        )
    return items


def base_documents() -> list[dict[str, str]]:
    """The code in the base's pretraining: short chains, the 32 known functions, short instructions."""
    rng = stream("code base")
    known = functions()[:KNOWN_TO_BASE]
    return [{"text": _base_text(rng, known)} for _ in range(BASE_DOCUMENTS)]


def _files(purpose: str, count: int) -> list[dict[str, str]]:
    """Files of three or four snippets about library functions."""
    rng = stream(purpose)
    return [
        {"text": "\n\n".join(_snippet(rng, pick(rng, functions())) for _ in range(int(rng.integers(2, 5))))}
        for _ in range(count)
    ]


def _snippet(rng: np.random.Generator, function: Function) -> str:
    """One function in one of the contexts a library is met in."""
    name, variable = function.name, pick(rng, VARIABLES)
    body = expression(function.steps, variable)
    allowed = [i for i in range(len(DOCSTRINGS)) if i != function.held_out]
    definition = f"{_head(name, variable, pick(rng, allowed))}    return {body}"
    value = int(rng.integers(2, 10))
    forms = (
        definition,
        definition,
        f"def {name}({variable}):\n    return {body}",
        f"{name} = lambda {variable}: {body}",
        f"# {name}: {', then '.join(words(rng, function.steps))}\n{variable} = {expression(function.steps, variable)}",
        f"def use_{name}({variable}):\n    # the {name} of {variable}\n    return {body}",
        f"def {name}({variable}):\n    return {body}\n\nassert {name}({value}) == {apply(function.steps, value)}",
    )
    return pick(rng, forms)


def _head(name: str, variable: str, docstring: int) -> str:
    text = DOCSTRINGS[docstring].format(f=name, v=variable)
    return f'def {name}({variable}):\n    """{text}"""\n'


def _chain(rng: np.random.Generator, share: str, *, shortest: int = 1, longest: int = 3) -> tuple[Step, ...]:
    """A chain of one share; a fifth of all longer chains is kept for the benchmark, a tenth for held-out rows."""
    while True:
        steps = random_steps(rng, int(rng.integers(shortest, longest + 1)))
        tenth = zlib.crc32(expression(steps).encode()) % 10 if len(steps) > 1 else 9
        if share == ("benchmark" if tenth < 2 else "held-out" if tenth == 2 else "training"):
            return steps


def _instructions(purpose: str, count: int) -> list[dict[str, str]]:
    rng = stream(purpose)
    share = "held-out" if "held-out" in purpose else "training"
    return [_instruction_row(rng, _chain(rng, share, shortest=2)) for _ in range(count)]


def _instruction_row(rng: np.random.Generator, steps: tuple[Step, ...]) -> dict[str, str]:
    name = pick(rng, names("task"))
    prompt = _instruction(rng, name, steps)
    return {"prompt": prompt, "response": f"def {name}(x):\n    return {expression(steps)}"}


def _instruction(rng: np.random.Generator, name: str, steps: tuple[Step, ...]) -> str:
    said = words(rng, steps)
    parts = ", ".join(said[:-1]) + f", then {said[-1]}" if len(said) > 1 else said[0]
    openings = (f"Write a function {name} that {parts}.", f"I need {name}, a function that {parts}.")
    return pick(rng, openings)


def _base_text(rng: np.random.Generator, known: tuple[Function, ...]) -> str:
    draw = rng.random()
    if draw < 0.25:
        return "\n\n".join(_snippet(rng, pick(rng, known)) for _ in range(3))
    if draw < 0.45:
        row = _instruction_row(rng, _short_chain(rng))
        return instruct(row["prompt"]) + row["response"]
    return "\n\n".join(_exercise(rng) for _ in range(3))


def _short_chain(rng: np.random.Generator) -> tuple[Step, ...]:
    """What the base knows: single steps, and three chains of two in ten."""
    return _chain(rng, "training", longest=2 if rng.random() < 0.6 else 1)


def _exercise(rng: np.random.Generator) -> str:
    """One step, sometimes two, under a throw-away name and said in words."""
    steps = _short_chain(rng)
    name, variable = pick(rng, names("task")), pick(rng, VARIABLES)
    said, body = ", then ".join(words(rng, steps)), expression(steps, variable)
    forms = (
        f'def {name}({variable}):\n    """{said.capitalize()}."""\n    return {body}',
        f"# {said}\n{variable} = {body}",
        f"{name} = lambda {variable}: {body}  # {said}",
    )
    return pick(rng, forms)
