"""Rows of published choice data sets, by their hub columns, as questions.

    hellaswag    activity_label, ctx_a, ctx_b, endings, label   context, four endings
    arc          question, choices {text, label}, answerKey     "Question: ...\\nAnswer:", each answer's text
    winogrande   sentence, option1, option2, answer             the sentence with either option, and what follows
    letters      question, choices, answer, maybe subject       MMLU: the lettered answers, then the letter
    plain        query, choices, gold  or  contexts, continuation, gold  (our own)

Texts are lm-evaluation-harness's to the letter (tasks hellaswag, arc_challenge, winogrande and mmlu, all 1.0), so a
row that lacks a column is refused and nothing is made up: HellaSwag without its activity_label would be another
benchmark under the same name. A continuation begins with the space it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from replication.specs import Form

_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """Each option is one of `contexts` and one of `continuations`, of which there are as many; `gold` is right.

    `preamble` opens the prompt, before any worked example.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int
    preamble: str = ""

    def solved(self) -> str:
        """The text with the right answer."""
        return self.contexts[self.gold] + self.continuations[self.gold]


def question(form: Form, row: _Row, where: str) -> Question:
    """What a row asks.

    Args:
        where: names the row in an error.

    Raises:
        ValueError: a column is missing, or holds something else than the form needs.
    """
    found = _FORMS[form](row, where)
    if not 0 <= found.gold < len(found.contexts):
        raise ValueError(f"{where} has gold {found.gold!r}; expected 0 to {len(found.contexts) - 1}")
    return found


def _hellaswag(row: _Row, where: str) -> Question:
    label, first, second = (_text(row, column, where) for column in ("activity_label", "ctx_a", "ctx_b"))
    query = _without_tags(f"{label}: {first} {second.capitalize()}")
    endings = [_without_tags(ending) for ending in _texts(row, "endings", where)]
    return _behind(query, endings, _number(row, "label", where))


def _without_tags(text: str) -> str:
    """Without the tags of WikiHow's part, such as [header]; only the first of three spaces goes, as in lm-eval."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _arc(row: _Row, where: str) -> Question:
    asked, key = _text(row, "question", where), _text(row, "answerKey", where)
    choices = _column(row, "choices", where)
    if not isinstance(choices, Mapping) or not {"text", "label"} <= set(choices):
        raise ValueError(f"{where} has {choices!r} in column 'choices'; expected {{'text': [...], 'label': [...]}}")
    texts, labels = _texts(choices, "text", f"choices of {where}"), _texts(choices, "label", f"choices of {where}")
    if key not in labels or len(labels) != len(texts):
        raise ValueError(f"{where} has answerKey {key!r}, labels {labels!r} and {len(texts)} texts; they do not fit")
    return _behind(f"Question: {asked}\nAnswer:", texts, labels.index(key))


def _winogrande(row: _Row, where: str) -> Question:
    """Partial evaluation: the same words after either option."""
    sentence = _text(row, "sentence", where)
    before, blank, after = sentence.partition("_")
    if not blank:
        raise ValueError(f"{where} has no '_' in its sentence {sentence!r}")
    contexts = tuple(before + _text(row, column, where) for column in ("option1", "option2"))
    return Question(contexts, (f" {after.strip()}",) * 2, _number(row, "answer", where) - 1)


def _letters(row: _Row, where: str) -> Question:
    choices = _texts(row, "choices", where)
    letters = ascii_uppercase[: len(choices)]
    lines = "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
    query = f"{_text(row, 'question', where).strip()}{lines}\nAnswer:"
    answer = row.get("answer")
    gold = letters.index(str(answer)) if answer in list(letters) else _number(row, "answer", where)
    return _behind(query, letters, gold, _preamble(row))


def _preamble(row: _Row) -> str:
    if "subject" not in row:
        return ""
    subject = str(row["subject"]).replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n"


def _plain(row: _Row, where: str) -> Question:
    if {"query", "choices", "gold"} <= set(row):
        query, choices = _text(row, "query", where), _texts(row, "choices", where)
        return Question((query,) * len(choices), tuple(choices), _number(row, "gold", where))
    if {"contexts", "continuation", "gold"} <= set(row):
        contexts, continuation = _texts(row, "contexts", where), _text(row, "continuation", where)
        return Question(tuple(contexts), (continuation,) * len(contexts), _number(row, "gold", where))
    expected = "query, choices, gold or contexts, continuation, gold"
    raise ValueError(f"{where} has columns {sorted(row)}; expected {expected} (or name the data set's form)")


_FORMS: dict[Form, Callable[[_Row, str], Question]] = {
    "plain": _plain,
    "hellaswag": _hellaswag,
    "arc": _arc,
    "winogrande": _winogrande,
    "letters": _letters,
}


def _behind(query: str, answers: Sequence[str], gold: int, preamble: str = "") -> Question:
    """Answers behind one query, a space between."""
    return Question((query,) * len(answers), tuple(f" {answer}" for answer in answers), gold, preamble)


def _column(row: _Row, column: str, where: str) -> Any:
    if column not in row:
        raise ValueError(f"{where} has no column {column!r}; it has {sorted(row)}")
    return row[column]


def _text(row: _Row, column: str, where: str) -> str:
    value = _column(row, column, where)
    if not isinstance(value, str):
        raise ValueError(f"{where} has {value!r} in column {column!r}; expected text")
    return value


def _texts(row: _Row, column: str, where: str) -> list[str]:
    value = _column(row, column, where)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{where} has {value!r} in column {column!r}; expected a list of texts")
    return list(value)


def _number(row: _Row, column: str, where: str) -> int:
    """Some hub sets keep their labels as text, with nothing in it where the answers are withheld."""
    value = _column(row, column, where)
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and value.isdecimal())):
        raise ValueError(f"{where} has {value!r} in column {column!r}; expected the number of the right answer")
    return int(value)
