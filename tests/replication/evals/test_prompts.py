"""A model must be asked in the very tokens it was trained on."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from replication.data.chat import render
from replication.evals.prompts import Answer, prompt_ids, prompt_text


@pytest.mark.parametrize("model", ["tiny", "stories"])
def test_an_eval_asks_in_the_token_ids_of_training(model: str, request: pytest.FixtureRequest) -> None:
    _, tokenizer = request.getfixturevalue(model)
    trained, _ = render("Instruction: {prompt}\nResponse:\n", "Add one {x}.", "def f(x):", tokenizer)
    row = {"instruction": "Add one {x}.", "prompt": "def f(x):\n"}
    assert prompt_ids("Instruction: {instruction}\nResponse:\n", row, tokenizer) == trained


def test_an_end_of_text_that_a_tokenizer_appends_is_taken_off(tiny: tuple[Any, Any]) -> None:
    eos = tiny[1].eos_token_id

    def appending(text: str) -> dict[str, list[int]]:
        return {"input_ids": [*tiny[1](text)["input_ids"], eos]}

    appending.eos_token_id = eos  # type: ignore[attr-defined]
    assert prompt_ids("{prompt}", {"prompt": "ab"}, appending) == tiny[1]("ab")["input_ids"]


def test_a_template_without_a_column_is_refused() -> None:
    # "chat" alone would ask every item the same four letters.
    with pytest.raises(ValueError, match="names no column"):
        prompt_text("chat", {"question": "1+1?"})


def test_a_chat_is_asked_in_the_ids_that_chat_training_used(tiny: tuple[Any, Any]) -> None:
    tokenizer = copy.deepcopy(tiny[1])
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token if m.role == 'assistant' else '' }}"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    trained, _ = render("chat", "1+1?", "2", tokenizer)
    assert prompt_ids("chat:{question}", {"question": "1+1?"}, tokenizer) == trained
    assert tokenizer.decode(trained) == "[user]1+1?[assistant]"


@pytest.mark.parametrize(
    ("answer", "cuts", "text", "place"),
    [
        (Answer("a\n#b", "\ndef ", "stop", 3), ("\ndef", "\n#"), "a", 1),
        (Answer("a", "\ndef ", "stop", 3), ("\ndef",), "a", 1),
        (Answer("a\nde", "f(x", "stop", 3), ("\ndef",), "a", 1),  # half of the cut string is in the stop string
        (Answer("ab", "\nclass", "stop", 3), ("\ndef",), "ab", None),
        (Answer("ab", "", "eos", 3), ("\ndef",), "ab", None),
        (Answer("\ndef ab", "", "length", 3), ("\ndef",), "", 0),
    ],
)
def test_an_answer_is_cut_at_the_first_cut_string_wherever_it_ended(
    answer: Answer, cuts: tuple[str, ...], text: str, place: int | None
) -> None:
    assert (answer.cut(cuts), answer.ends_at(cuts)) == (text, place)
    assert answer.ran_on(cuts) == (answer.finish == "length" and place is None)
    assert Answer(**answer.fields()) == answer
