"""Multiple choice against forward passes written out here, and token boundaries against hand-made ids."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from replication.config import Source
from replication.evals import evaluate, forms
from replication.evals.choice import _grade, encode_pairs, option_texts
from replication.evals.forms import Question
from replication.evals.generate import TransformersGenerator
from replication.specs import Choice, Shots

ROWS = [
    {"id": "a", "query": "Once upon a time, there was a", "choices": [" little girl.", " tax.", " of the"], "gold": 0},
    {"id": "b", "query": "Tom was sad. He ", "choices": ["cried.", "sun sun sun sun"], "gold": 1},
    {
        "id": "c",
        "contexts": ["The dog was happy", "The dog is table"],
        "continuation": " because he played.",
        "gold": 0,
    },
]


def sources(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Choice:
    monkeypatch.setattr("replication.evals.choice.documents", lambda _: iter(rows))
    return Choice("test", Source("rows"))


def test_scores_equal_a_forward_pass_per_choice(stories: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = stories
    result = evaluate(sources(ROWS, monkeypatch), TransformersGenerator(model, tokenizer), 0)
    for row, sample in zip(ROWS, result.samples, strict=True):
        pairs = [(row.get("query"), c) for c in row.get("choices", [])]
        pairs = pairs or [(c, row["continuation"]) for c in row["contexts"]]
        sums, tokens, characters = zip(*[score(model, tokenizer, c, d) for c, d in pairs], strict=True)
        assert sample["logprobs"] == pytest.approx(sums, abs=1e-4)
        assert sample["tokens"] == list(tokens)
        gold = row["gold"]
        assert sample["acc"] == (int(np.argmax(sums)) == gold)
        assert sample["acc_norm"] == (int(np.argmax(np.array(sums) / characters)) == gold)
        assert sample["acc_token"] == (int(np.argmax(np.array(sums) / tokens)) == gold)
    assert result.value("acc") == np.mean([s["acc"] for s in result.samples])


def score(model: Any, tokenizer: Any, context: str, continuation: str) -> tuple[float, int, int]:
    whole, before = tokenizer(context + continuation)["input_ids"], tokenizer(context.rstrip())["input_ids"]
    with torch.inference_mode():
        logprobs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    places = range(len(before), len(whole))
    return math.fsum(float(logprobs[i - 1, whole[i]]) for i in places), len(places), len(continuation.strip())


def test_trailing_spaces_of_the_context_belong_to_the_continuation(tiny: tuple[Any, Any]) -> None:
    (pair,) = encode_pairs([("ab ", "cd")], tiny[1])
    assert [tiny[1].decode(ids) for ids in pair] == ["ab", " cd"]


def test_an_empty_context_is_the_beginning_of_text(tiny: tuple[Any, Any]) -> None:
    ((prefix, option),) = encode_pairs([("", "cd")], tiny[1])
    assert prefix == [tiny[1].bos_token_id]
    assert tiny[1].decode(option) == "cd"


def test_a_token_across_the_boundary_moves_it_for_every_choice() -> None:
    """ "ab" is one token: after "xa" the choice "b" straddles, so "c" is scored from behind "x" as well."""
    (first, second) = encode_pairs([("xa", "b"), ("xa", "c")], Merging())
    assert first == ([0], [4])
    assert second == ([0], [1, 3])


class Merging:
    """Letters x a b c = 0 1 2 3, and "ab" = 4."""

    bos_token_id, eos_token_id = 9, 9

    def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [["xabcz".index(c) for c in text.replace("ab", "z")] for text in texts]}


def test_the_same_weights_scored_twice_differ_by_exactly_nothing(stories: tuple[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2]))
    question = Choice("test", Source(str(path)))
    first, second = (evaluate(question, TransformersGenerator(*stories), seed) for seed in (0, 1))
    assert first == second


def test_real_hellaswag_items_go_through(stories: tuple[Any, Any], shared_data: Path) -> None:
    path = shared_data / "benchmarks" / "hellaswag" / "hellaswag_val_10042.jsonl.gz"
    source = Source(str(path), columns=(("gold", "label"), ("id", "ind")), limit=40)
    result = evaluate(Choice("hellaswag", source), TransformersGenerator(*stories), 0)
    assert [m.n for m in result.metrics] == [40, 40, 40]
    assert len(set(result.items[0].ids)) == 40
    assert 0 < result.value("acc") < 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "a", "gold": 0}, "expected query, choices, gold"),
        ({"query": "a", "choices": ["b", "c"], "gold": 2}, "gold 2; expected 0 to 1"),
        ({"query": "a", "choices": ["b", " "], "gold": 0}, "empty continuation"),
    ],
)
def test_a_row_that_cannot_be_scored_is_refused(
    row: dict[str, Any], message: str, generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(sources([row], monkeypatch), generator, 0)


def test_two_items_of_one_id_are_refused(generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'a' occurs more than once"):
        evaluate(sources([ROWS[0], ROWS[0]], monkeypatch), generator, 0)


ARC = [
    {
        "id": f"q{i}",
        "question": f"Which is number {i}?" + " And why so?" * (6 * i),
        "choices": {"text": ["one", "two", "three"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    }
    for i in range(3)
]


def test_hub_columns_are_asked_in_their_form(generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(sources(ARC[:2], monkeypatch), form="arc")
    result = evaluate(spec, generator, 0)
    assert [s["id"] for s in result.samples] == ["q0", "q1"]
    assert result.samples[0]["asked"] == "Question: Which is number 0?\nAnswer:"
    assert result.samples[0]["choices"] == [" one", " two", " three"]
    with pytest.raises(ValueError, match="test: row 0 has columns .*expected query"):
        evaluate(sources(ARC, monkeypatch), generator, 0)


def test_what_does_not_fit_is_refused_before_anything_is_scored(
    tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third question has about 170 bytes, each a token; the tiny model has 128 positions."""
    spec = replace(sources(ARC, monkeypatch), form="arc")
    with pytest.raises(ValueError, match=r"item 'q2' has \d+ tokens; .*room for 129 \(1 of 3 items.*too_long"):
        evaluate(spec, Counting(*tiny), 0)
    assert not Counting.asked


class Counting(TransformersGenerator):
    """Remembers what it was asked."""

    asked: list[Any] = []

    def logprobs(self, pairs: Any) -> Any:
        self.asked.extend(pairs)
        return super().logprobs(pairs)


def test_what_is_cut_loses_its_beginning_and_is_counted(
    tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By lm-eval's rule: the last context + 1 tokens of context + continuation; of them the last is not read."""
    model, tokenizer = tiny
    spec = replace(sources(ARC, monkeypatch), form="arc", too_long="cut")
    result = evaluate(spec, TransformersGenerator(model, tokenizer), 0)
    assert result.value("truncated") == pytest.approx(1 / 3)
    assert [s["truncated"] for s in result.samples] == [0, 0, 1]
    assert "1 of 3 items lost the beginning" in caplog.text
    text = f"Question: {ARC[2]['question']}\nAnswer:"
    for answer, found in zip((" one", " two", " three"), result.samples[2]["logprobs"], strict=True):
        whole = tokenizer(text + answer)["input_ids"][-129:]
        with torch.inference_mode():
            logprobs = model(torch.tensor([whole[:-1]])).logits[0].log_softmax(-1)
        places = range(len(whole) - len(answer), len(whole))
        assert found == pytest.approx(math.fsum(float(logprobs[i - 1, whole[i]]) for i in places), abs=1e-4)


def test_a_choice_longer_than_the_model_is_refused_even_where_prompts_are_cut(
    generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"query": "a", "choices": [" b", " " + "c" * 130], "gold": 0}
    with pytest.raises(ValueError, match="item '0' has a choice of 131 tokens; the model's context is 128"):
        evaluate(replace(sources([row], monkeypatch), too_long="cut"), generator, 0)


def test_an_empty_context_without_any_special_token_is_refused() -> None:
    bare = Merging()
    bare.bos_token_id = bare.eos_token_id = None  # type: ignore[assignment]
    assert encode_pairs([("x", "b")], bare) == [([0], [2])]
    with pytest.raises(ValueError, match="the tokenizer has none"):
        encode_pairs([("", "b")], bare)


def test_normalisation_leaves_one_leading_space_aside_and_no_more() -> None:
    """lm-eval joins by one space and counts what the data set has, which may begin with another."""
    question = Question(("q", "q"), (" ab", "  ab"), 0)
    assert _grade("0", question, [[-3.0], [-3.9]])["acc_norm"] == 0  # -3/2 < -3.9/3
    assert _grade("0", question, [[-3.0], [-4.6]])["acc_norm"] == 1


def test_equal_choices_have_equal_values_and_the_first_is_answered(
    stories: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"query": "Once upon a time there was a boy named", "choices": [" Tim.", " Tom.", " Tim."], "gold": 0}]
    (sample,) = evaluate(sources(rows, monkeypatch), TransformersGenerator(*stories), 0).samples
    assert sample["logprobs"][0] == sample["logprobs"][2]


def test_worked_examples_and_preamble_come_before_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": q, "choices": ["x", "y"], "answer": 1, "subject": "law"} for q in ("What?", "Who?", "Why?")]
    monkeypatch.setattr("replication.evals.shots.documents", lambda _: iter(rows[1:]))
    spec = Choice("test", Source("rows"), form="letters", shots=Shots(Source("pool"), 2, seed=None))
    (texts,) = option_texts(spec, rows[:1], [forms.question("letters", rows[0], "row")])
    shown = "".join(f"{q}\nA. x\nB. y\nAnswer: B\n\n" for q in ("Who?", "Why?"))
    prompt = (
        f"The following are multiple choice questions (with answers) about law.\n\n{shown}What?\nA. x\nB. y\nAnswer:"
    )
    assert texts == [(prompt, " A"), (prompt, " B")]
