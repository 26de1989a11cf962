"""Conversations as instruction rows: the last answer, and everything before it as its prompt."""

from __future__ import annotations

from experiments.tulu import last_answers


def _said(*turns: tuple[str, str]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_the_last_answer_is_asked_with_the_whole_history() -> None:
    talk = _said(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "2+2?"), ("assistant", "4"))
    (row,) = last_answers([talk])
    assert row["prompt"] == (
        "<|system|>\nBe kind.\n<|user|>\nHi\n<|assistant|>\nHello\n<|user|>\n2+2?\n<|assistant|>\n"
    )
    assert row["response"] == "4"


def test_what_follows_the_last_answer_is_left_out() -> None:
    (row,) = last_answers([_said(("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"))])
    assert row == {"prompt": "<|user|>\nHi\n<|assistant|>\n", "response": "Hello"}


def test_a_conversation_without_question_or_answer_gives_no_row() -> None:
    assert not list(last_answers([_said(("user", "Hi")), _said(("assistant", "Hello")), _said()]))
