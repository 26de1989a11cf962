"""Extraction rules of GSM8K against hand-written answers, and against GSM8K's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replication.config import Source
from replication.evals import evaluate
from replication.evals.maths import flexible_answer, normalise, strict_answer
from replication.specs import Maths


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("so 3 + 4 = 7\n#### 7", "7", "7"),
        ("#### 1,200.\nThe answer is: 1,200", "1200", "1200"),
        ("#### -5 and then #### 6", "-5", "6"),
        ("She pays $18.", None, "18"),
        ("she pays $1,234.50 now", None, "1234.50"),
        ("####7", None, "7"),
        ("no number", None, None),
        ("#### $18", None, "18"),
        ("12 apples\n#### 3\nQuestion 9", "3", "9"),
    ],
)
def test_answers_are_extracted_as_lm_eval_does(text: str, strict: str | None, flexible: str | None) -> None:
    assert strict_answer(text) == strict
    assert flexible_answer(text) == flexible


def test_every_gsm8k_answer_is_right_by_its_own_solution(shared_data: Path) -> None:
    lines = (shared_data / "benchmarks" / "gsm8k" / "test.jsonl").read_text().splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == 1319
    assert all(strict_answer(a) == normalise(a) for a in answers)
    assert all(flexible_answer(a) == normalise(a) for a in answers)


def test_scores_are_shares_of_right_answers_and_say_why_others_failed(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": str(i), "question": f"q{i}", "answer": "work\n#### 1,000"} for i in range(4)]
    monkeypatch.setattr("replication.evals.maths.documents", lambda _: iter(rows))
    model = scripted(
        [
            [("#### 1000", "eos")],
            [("it is 1,000.", "stop")],
            [("#### 7 not 1000", "length")],
            [("#### 1000\n5", "stop")],
        ]
    )
    result = evaluate(Maths("m", Source("rows"), max_tokens=9), model, 0)
    assert model.asked[1] == "Question: q1\nAnswer:"
    assert (model.sampling.temperature, model.sampling.n, model.sampling.max_tokens) == (0.0, 1, 9)
    assert {m.name: m.value for m in result.metrics} == {"strict": 0.5, "flexible": 0.75, "run_on": 0.25}
    assert [s["why"] for s in result.samples] == ["right", "no '#### ', last number right", "wrong number", "right"]
    # Four values, two of them 1: sd / sqrt(4) with three degrees of freedom.
    assert result.metrics[0].stderr == pytest.approx((1 / 3) ** 0.5 / 2)


def test_a_template_that_asks_for_a_missing_column_is_refused(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.evals.maths.documents", lambda _: iter([{"question": "q", "answer": "#### 1"}]))
    with pytest.raises(ValueError, match="asks for column 'instruction'; the row has"):
        evaluate(Maths("m", Source("rows"), template="{instruction}"), scripted([]), 0)
