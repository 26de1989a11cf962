"""Arithmetic steps: each can be written as Python, said in words, and computed.

A function body of the pocket world is a chain of steps, applied from the inside out:

    [add 7, times 3]  ->  (x + 7) * 3  ->  "adds 7, then multiplies by 3"

The Python is built as text with only the parentheses it needs, and computed by `apply`, which never
evaluates text; the tests check that the two agree.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from replication.pocket.names import pick


@dataclass(frozen=True)
class Operation:
    """One kind of step: {e} the expression so far, {k} a constant; `wraps` if {e} needs parentheses."""

    python: str
    wraps: bool
    phrases: tuple[str, ...]
    compute: Callable[[int, int], int]


@dataclass(frozen=True)
class Step:
    """One operation with its constant."""

    operation: str
    constant: int


OPERATIONS = {
    "add": Operation("{e} + {k}", False, ("adds {k}", "counts up by {k}"), lambda x, k: x + k),
    "subtract": Operation("{e} - {k}", False, ("subtracts {k}", "counts down by {k}"), lambda x, k: x - k),
    "times": Operation("{e} * {k}", True, ("multiplies by {k}", "scales by {k}"), lambda x, k: x * k),
    "divide": Operation("{e} // {k}", True, ("divides by {k}", "splits by {k}"), lambda x, k: x // k),
    "rest": Operation("{e} % {k}", True, ("takes the rest by {k}", "wraps around at {k}"), lambda x, k: x % k),
    "from": Operation("{k} - {e}", True, ("takes it from {k}", "turns it around at {k}"), lambda x, k: k - x),
    "floor": Operation("max({e}, {k})", False, ("keeps at least {k}", "lifts it to {k}"), max),
    "cap": Operation("min({e}, {k})", False, ("keeps at most {k}", "caps it at {k}"), min),
    "apart": Operation(
        "abs({e} - {k})", False, ("measures how far from {k}", "finds the gap to {k}"), lambda x, k: abs(x - k)
    ),
}
CONSTANTS = range(2, 10)
PROBES = (-7, 0, 1, 4, 9, 16, 23)  # arguments that tell almost all two-step chains apart


def expression(steps: Sequence[Step], variable: str = "x") -> str:
    """The chain as a Python expression of `variable`.

    >>> expression([Step("add", 7), Step("times", 3)])
    '(x + 7) * 3'
    """
    text, atomic = variable, True
    for step in steps:
        operation = OPERATIONS[step.operation]
        operand = f"({text})" if operation.wraps and not atomic else text
        text = operation.python.format(e=operand, k=step.constant)
        atomic = operation.python.endswith(")")
    return text


def apply(steps: Sequence[Step], value: int) -> int:
    """The chain's value for one argument."""
    for step in steps:
        value = OPERATIONS[step.operation].compute(value, step.constant)
    return value


def words(rng: np.random.Generator, steps: Sequence[Step]) -> list[str]:
    """One phrase per step, in the order of application."""
    return [pick(rng, OPERATIONS[step.operation].phrases).format(k=step.constant) for step in steps]


def random_steps(rng: np.random.Generator, count: int) -> tuple[Step, ...]:
    """A chain of `count` different operations with constants from 2 to 9, none of which could be left out."""
    while True:
        kinds = rng.permutation(len(OPERATIONS))[:count]
        steps = tuple(Step(list(OPERATIONS)[kind], int(pick(rng, CONSTANTS))) for kind in kinds)
        if _every_step_matters(steps):
            return steps


def check_program(steps: Sequence[Step]) -> str:
    """HumanEval's `test`: a function check(candidate) that compares a solution with the chain."""
    lines = [f"    assert candidate({value}) == {apply(steps, value)}" for value in PROBES]
    return "\n".join(["def check(candidate):", *lines, ""])


def _every_step_matters(steps: tuple[Step, ...]) -> bool:
    """Whether the chain varies with its argument and differs from all its shorter versions on the probes."""
    results = [apply(steps, value) for value in PROBES]
    shorter = [part for length in range(len(steps)) for part in combinations(steps, length)]
    return len(set(results)) > 2 and all([apply(part, value) for value in PROBES] != results for part in shorter)
