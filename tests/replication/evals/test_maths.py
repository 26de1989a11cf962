"""Extraction rules of GSM8K against hand-written answers, GSM8K's own, and lm-evaluation-harness's filters."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replication.config import Source
from replication.evals import evaluate
from replication.evals.generate import Completion
from replication.evals.maths import flexible_answer, grade, normalise, strict_answer
from replication.evals.prompts import Answer
from replication.specs import Maths, Shots
from replication.suite import benchmarks


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


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q"}, "row 0 has no column 'answer'; it has .'question'."),
        ({"question": "q", "answer": 7}, "row 0 has 7 in column 'answer'; expected text"),
        ({"question": "q", "answer": "The answer is: x"}, "row 0 has 'The answer is: x' in column 'answer'"),
        ({"problem": "q", "answer": "#### 1"}, "asks for column 'question'; the row has"),
    ],
)
def test_rows_that_cannot_be_graded_are_refused_before_anything_is_generated(
    row: dict[str, Any], message: str, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.evals.maths.documents", lambda _: iter([row]))
    model = scripted([])
    with pytest.raises(ValueError, match=message):
        evaluate(Maths("m", Source("rows")), model, 0)
    assert model.asked is None


# ---------------------------------------------------------------- against lm-evaluation-harness


def nasty(answer: str, number: str, rng: random.Random) -> str:
    """A generation that extraction may stumble over, made from a right answer and its number."""
    work = answer.split("####")[0]
    other = str(rng.randrange(-50, 5000))
    return rng.choice(
        [
            answer,
            answer + ".",
            f"{work}#### ${number}",
            f"{work}#### {number}.",
            f"{work}#### {number}.00",
            f"{work}#### {int(number):,}",
            f"{work}#### {int(number):,}. dollars",
            f"{work}####{number}",
            f"{work}#### -{number}",
            f"{work}####  {number}",
            f"{work}#### {number} apples\n\nShe has {other} more.",
            f"{work}#### {other}\n#### {number}",
            f"{work}#### {number}\n#### {other}",
            f"{work}The answer is: {number}",
            f"{work}The answer is ${int(number):,}.",
            f"{work}so it is {number}%.",
            f"{work}so it is {number}...",
            f"{work}so it is {number},\n",
            f"{work}so it is $.",
            f"{work}{number} - {other}",
            f"#### .{number}",
            f"#### ,,,{number},",
            f"#### {number[0]} {number[1:]}",
            f"#### {number}\n\nQuestion: Ann has {other} pears.\nAnswer: {other}\n#### {other}",
            f"ANSWER IS {number}E0",
            "I do not know.",
            "#### ",
            "",
            "\u0664\u0662 \u2212" + number,
            " ".join([number] * 60),
        ]
    )


def lm_eval_scores(filters: Any, metric: Any, texts: Sequence[str], golds: Sequence[str]) -> list[float]:
    """Exact match of each text by the task's own filter and metric."""
    found = filters.apply([[text] for text in texts], [{}] * len(texts))
    ignored = [",", r"\$", r"(?s).*#### ", r"\.$"]
    return [
        float(metric(predictions=[f[0]], references=[g], regexes_to_ignore=ignored, ignore_case=True)["exact_match"])
        for f, g in zip(found, golds, strict=True)
    ]


def test_both_extractions_agree_with_lm_eval_on_1319_generations(shared_data: Path) -> None:
    extraction = pytest.importorskip("lm_eval.filters.extraction", reason="lm-eval is a development dependency")
    from lm_eval.api.metrics import exact_match_fn

    lines = (shared_data / "benchmarks" / "gsm8k" / "test.jsonl").read_text().splitlines()
    golds = [json.loads(line)["answer"] for line in lines]
    rng = random.Random(0)
    texts = [nasty(gold, normalise(gold), rng) for gold in golds]
    spec = benchmarks("lm_eval")["gsm8k"]
    assert isinstance(spec, Maths)
    # The generation ends at the stop string, as the harness's engines cut it.
    parts = [next((text.partition(s) for s in spec.stop if s in text), (text, "", "")) for text in texts]
    answers = [Answer(text, stop, "stop" if stop else "eos", 1) for text, stop, _ in parts]
    ours = grade(spec, [str(i) for i in range(len(golds))], [normalise(gold) for gold in golds], answers)
    strict = extraction.RegexFilter(r"#### (\-?[0-9\.\,]+)")
    flexible = extraction.RegexFilter(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1)
    cut = [text for text, _, _ in parts]
    assert [sample["strict"] for sample in ours] == lm_eval_scores(strict, exact_match_fn, cut, golds)
    assert [sample["flexible"] for sample in ours] == lm_eval_scores(flexible, exact_match_fn, cut, golds)
    assert len(ours) == 1319
    for name in ("strict", "flexible"):
        assert 0.2 < sum(sample[name] for sample in ours) / 1319 < 0.8  # neither all right nor all wrong
    assert sum(sample["strict"] != sample["flexible"] for sample in ours) > 300


def test_the_patterns_are_those_of_the_installed_task() -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is a development dependency")
    import yaml

    file = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
    task = yaml.safe_load(file.read_text())
    spec = benchmarks("lm_eval")["gsm8k"]
    assert isinstance(spec, Maths) and spec.shots is not None
    assert set(spec.cut) == set(task["generation_kwargs"]["until"])
    assert (spec.shots.count, task["metadata"]["version"]) == (task["num_fewshot"], 3.0)
    assert task["doc_to_text"].replace("{{", "{").replace("}}", "}") == spec.template
    patterns = [f["filter"][0]["regex_pattern"] for f in task["filter_list"]]
    assert patterns == [r"#### (\-?[0-9\.\,]+)", r"(-?[$0-9.,]{2,})|(-?[0-9]+)"]
    assert task["metric_list"][0]["regexes_to_ignore"] == [",", r"\$", r"(?s).*#### ", r"\.$"]


def test_prompts_are_lm_evals_with_its_draws_of_worked_examples(shared_data: Path, written: Any) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is a development dependency")
    import datasets
    import yaml
    from lm_eval.api.task import ConfigurableTask

    folder = shared_data / "benchmarks" / "gsm8k"
    train = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    test = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()[:50]]
    config = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml").read_text())
    splits = {"train": datasets.Dataset.from_list(train), "test": datasets.Dataset.from_list(test)}
    task = ConfigurableTask(config=config | {"custom_dataset": lambda **_: splits})
    task.set_fewshot_seed(1234)
    spec = benchmarks("lm_eval", {"gsm8k": str(folder)})["gsm8k"]
    assert isinstance(spec, Maths)
    model = written([[Completion(row["answer"], (), "eos")] for row in test])
    result = evaluate(replace(spec, source=replace(spec.source, limit=50)), model, 0)
    theirs = [task.fewshot_context(row, 5) for row in test]
    assert [sample["asked"] for sample in result.samples] == theirs == model.asked
    assert model.sampling.stop == spec.stop
    assert (result.value("strict"), result.value("truncated")) == (1.0, 0.0)


def test_a_prompt_that_does_not_fit_loses_its_examples_from_the_front_or_stops_the_eval(
    tmp_path: Path, written: Any
) -> None:
    pool, rows = tmp_path / "pool.jsonl", tmp_path / "rows.jsonl"
    pool.write_text('{"question": "one", "answer": "#### 1"}\n{"question": "two", "answer": "#### 2"}\n')
    rows.write_text('{"question": "three", "answer": "#### 3"}\n')
    whole = (
        "Question: one\nAnswer: #### 1\n\nQuestion: two\nAnswer: #### 2\n\nQuestion: three\nAnswer:"
    )  # fmt: skip
    spec = Maths("m", Source(str(rows)), max_tokens=10, shots=Shots(Source(str(pool)), 2, seed=None))
    model = written([[Completion("#### 3", (), "eos")]], context=60)
    with pytest.raises(ValueError, match=f"item '0' is asked with {len(whole)} tokens.*leave 50 .*give fewer examples"):
        evaluate(spec, model, 0)
    assert model.asked is None
    result = evaluate(replace(spec, too_long="cut"), model, 0)
    assert model.asked == [whole[-50:]]
    assert (result.samples[0]["asked"], result.value("truncated")) == (whole, 1.0)


def test_an_answer_is_graded_up_to_the_cut(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.evals.maths.documents", lambda _: iter([{"question": "q", "answer": "#### 1"}]))
    spec = Maths("m", Source("rows"), stop=("Question:",), cut=("\n\n", "Question:"))
    given = Completion("#### 1\n\nor 2\n\n", (5, 6, 7), "stop", "Question:")
    result = evaluate(spec, written([[given]]), 0)
    assert {m.name: m.value for m in result.metrics} == {"strict": 1.0, "flexible": 1.0, "run_on": 0.0}
    kept = {"text": given.text, "stop": "Question:", "finish": "stop", "tokens": 3}
    assert (result.samples[0]["answered"], result.samples[0]["generated"]) == ("#### 1", kept)
