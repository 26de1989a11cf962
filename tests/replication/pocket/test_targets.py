"""The code and maths targets: programs compute what their steps say, worked answers are right."""

import re

import numpy as np
import pytest

from replication.pocket import code, maths, source
from replication.pocket.operations import OPERATIONS, PROBES, Step, apply, expression, random_steps
from replication.pocket.stories import story


@pytest.fixture
def rng_for_chains() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_python_and_compute_agree_on_each_operation(operation):
    steps = [Step(operation, 7)]
    for x in range(-20, 40):
        assert eval(expression(steps), {"x": x}) == apply(steps, x)


def test_python_and_compute_agree_on_random_chains(rng_for_chains):
    for _ in range(500):
        steps = random_steps(rng_for_chains, 3)
        for x in PROBES:
            assert eval(expression(steps), {"x": x}) == apply(steps, x), expression(steps)


def test_parentheses_stand_only_where_they_are_needed():
    assert expression([Step("add", 7), Step("times", 3)]) == "(x + 7) * 3"
    assert expression([Step("times", 3), Step("add", 7)]) == "x * 3 + 7"
    assert expression([Step("cap", 9), Step("times", 2)], "n") == "min(n, 9) * 2"
    assert expression([Step("add", 2), Step("from", 8), Step("apart", 4)]) == "abs(8 - (x + 2) - 4)"


def test_every_step_of_a_chain_changes_the_result(rng_for_chains):
    for _ in range(200):
        steps = random_steps(rng_for_chains, 3)
        whole = [apply(steps, x) for x in PROBES]
        for i in range(3):
            assert [apply(steps[:i] + steps[i + 1 :], x) for x in PROBES] != whole


def solve(item: dict, body: str) -> None:
    space: dict = {}
    exec(item["prompt"] + body + "\n" + item["test"], space)
    space["check"](space[item["entry_point"]])


@pytest.mark.parametrize("benchmark", [code.library, code.compose])
def test_canonical_solutions_pass_and_others_fail(benchmark):
    items = benchmark()
    assert 60 <= len(items) <= 100 and len({item["task_id"] for item in items}) == len(items)
    for item in items:
        solve(item, item["canonical_solution"])
        with pytest.raises(AssertionError):
            solve(item, "    return x\n")


def test_most_wrong_library_bodies_fail():
    items = code.library()
    passed = 0
    for item, other in zip(items, items[1:] + items[:1], strict=True):
        try:
            solve(item, other["canonical_solution"])
            passed += 1
        except AssertionError:
            pass
    assert passed <= 2


def test_instructions_of_training_held_out_and_benchmark_share_no_chain():
    bodies = [
        {row["response"].split("return ")[1] for row in code.ift_rows() if row["response"] not in source.prose()},
        {row["response"].split("return ")[1] for row in code.heldout_ift_rows()},
        {item["canonical_solution"].split("return ")[1].strip() for item in code.compose()},
    ]
    assert not bodies[0] & bodies[1] and not bodies[0] & bodies[2] and not bodies[1] & bodies[2]


def worked_lines_are_right(answer: str) -> bool:
    lines = re.findall(r"(\d+ [-+*] \d+) = (\d+)", answer)
    return bool(lines) and all(eval(left) == int(right) for left, right in lines)


@pytest.mark.parametrize("benchmark", [maths.conversions, maths.word_problems])
def test_worked_answers_are_right_and_end_in_the_mark(benchmark):
    items = benchmark()
    assert 100 <= len(items) <= 150
    for item in items:
        assert set(item) == {"question", "answer"}
        assert worked_lines_are_right(item["answer"])
        last = re.findall(r"= (\d+)", item["answer"])[-1]
        assert item["answer"].endswith(f"\n#### {last}")


def test_conversion_answers_recall_the_quantity_asked_about():
    true = {(q.subject, q.unit): q.amount for q in maths.quantities()}
    for item in maths.conversions():
        subject, amount, unit = re.match(r"1 (\w+) (?:is|weighs|costs) (\d+) (\w+)\.", item["answer"]).groups()
        assert true[subject, unit] == int(amount)
        assert subject in item["question"] and unit in item["question"]


def test_stories_follow_their_numbers(rng_for_chains):
    for steps in (1, 2, 3, 4):
        for _ in range(100):
            text, answer = story(rng_for_chains, steps)
            start = int(re.search(r"has (\d+) ", text).group(1))
            lines = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)", answer)
            assert len(lines) == steps
            for left, sign, right, result in lines:
                assert start == int(right if sign == "*" else left)
                start = int(result)
            assert 0 < start < 100
