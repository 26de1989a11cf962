"""Hub columns become the texts that lm-evaluation-harness asks with; a wrong column is named before anything runs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from replication.evals.forms import Question, question
from replication.specs import Form

HELLASWAG = {
    "ind": 24, "activity_label": "Roof removal", "ctx_a": "A man [substeps] sits on a roof.", "ctx_b": "he",
    "endings": ["starts [title] Then  rests.", "[step] rips.", "holds.", "sleeps."], "label": "3",
}  # fmt: skip
ARC = {
    "id": "Mercury_1", "question": "Which is a gas?", "answerKey": "2",
    "choices": {"text": ["iron", "oxygen", "salt"], "label": ["1", "2", "3"]},
}  # fmt: skip
WINOGRANDE = {"sentence": "Ann thanked Bea because _ had helped.", "option1": "Ann", "option2": "Bea", "answer": "2"}
MMLU = {"question": " What is 2+2?\n", "choices": ["3", "4", "5", "6"], "answer": 1, "subject": "abstract_algebra"}


def test_hellaswag_is_label_context_and_cleaned_endings() -> None:
    query = "Roof removal: A man sits on a roof. He"
    endings = (" starts. Then rests.", "  rips.", " holds.", " sleeps.")  # lm-eval strips before it takes tags out
    assert question("hellaswag", HELLASWAG, "row") == Question((query,) * 4, endings, 3)


def test_arc_asks_for_the_text_of_the_answer() -> None:
    asked = "Question: Which is a gas?\nAnswer:"
    assert question("arc", ARC, "row") == Question((asked,) * 3, (" iron", " oxygen", " salt"), 1)


def test_winogrande_is_the_same_end_after_either_option() -> None:
    contexts = ("Ann thanked Bea because Ann", "Ann thanked Bea because Bea")
    found = question("winogrande", WINOGRANDE, "row")
    assert found == Question(contexts, (" had helped.",) * 2, 1)
    assert found.solved() == "Ann thanked Bea because Bea had helped."


def test_letters_lists_the_answers_and_asks_for_the_letter() -> None:
    found = question("letters", MMLU, "row")
    assert found.contexts[0] == "What is 2+2?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:"
    assert found.continuations == (" A", " B", " C", " D") and found.gold == 1
    assert found.preamble == "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    assert question("letters", MMLU | {"answer": "B"}, "row").gold == 1
    assert question("letters", {k: v for k, v in MMLU.items() if k != "subject"}, "row").preamble == ""


@pytest.mark.parametrize(
    ("form", "row", "column", "value", "message"),
    [
        ("hellaswag", HELLASWAG, "activity_label", None, "row 7 has no column 'activity_label'; it has"),
        ("hellaswag", HELLASWAG, "label", "", "row 7 has '' in column 'label'; expected the number"),
        ("hellaswag", HELLASWAG, "label", "4", "gold 4; expected 0 to 3"),
        ("hellaswag", HELLASWAG, "endings", "one", "in column 'endings'; expected a list of texts"),
        ("arc", ARC, "choices", ["iron", "oxygen"], "in column 'choices'; expected {'text'"),
        ("arc", ARC, "answerKey", "B", "answerKey 'B', labels"),
        ("winogrande", WINOGRANDE, "sentence", "no blank", "no '_' in its sentence"),
        ("winogrande", WINOGRANDE, "answer", "0", "gold -1; expected 0 to 1"),
        ("winogrande", WINOGRANDE, "option2", None, "no column 'option2'"),
        ("winogrande", WINOGRANDE, "option1", 3, "has 3 in column 'option1'; expected text"),
        ("letters", MMLU, "answer", "AB", "in column 'answer'"),
        ("letters", MMLU, "choices", [], "in column 'choices'"),
        ("plain", ARC, "id", "x", "name the data set's form"),
    ],
)
def test_what_does_not_fit_the_form_is_named(
    form: Form, row: dict[str, Any], column: str, value: object, message: str
) -> None:
    changed = {k: v for k, v in row.items() if k != column} | ({} if value is None else {column: value})
    with pytest.raises(ValueError, match="row 7") as error:
        question(form, changed, "row 7")
    assert message in str(error.value)


def test_every_row_of_the_real_sets_is_read(shared_data: Path) -> None:
    """Gold labels spread over the places; no text is left with a tag of HellaSwag's."""
    sets: tuple[tuple[Form, str, int], ...] = (
        ("hellaswag", "hellaswag/hub_schema/validation.jsonl.gz", 10042),
        ("arc", "arc_challenge/hub_schema/test.jsonl", 1172),
        ("winogrande", "winogrande/hub_schema/validation.jsonl", 1267),
    )
    for form, path, count in sets:
        file = shared_data / "benchmarks" / path
        lines = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).splitlines()
        found = [question(form, json.loads(line), f"row {i}") for i, line in enumerate(lines)]
        assert len(found) == count
        assert {q.gold for q in found} >= {0, 1}
        assert all(d.startswith(" ") and d.strip() for q in found for d in q.continuations)
        assert not any("[title]" in text or "[step]" in text for q in found for text in q.contexts + q.continuations)


def test_hellaswag_agrees_with_the_preprocessed_copy(shared_data: Path) -> None:
    """An independent preprocessing of the same rows, which kept the few brackets that are no tags."""
    folder = shared_data / "benchmarks" / "hellaswag"
    hub = gzip.decompress((folder / "hub_schema" / "validation.jsonl.gz").read_bytes()).splitlines()[::10]
    ready = gzip.decompress((folder / "hellaswag_val_10042.jsonl.gz").read_bytes()).splitlines()[::10]
    for ours, theirs in zip(map(json.loads, hub), map(json.loads, ready), strict=True):
        found = question("hellaswag", ours, "row")
        assert found.contexts[0] == theirs["query"]
        pairs = [(d.strip(), c.strip()) for d, c in zip(found.continuations, theirs["choices"], strict=True)]
        assert all(d == c for d, c in pairs if "[" not in c)
        assert found.gold == theirs["label"]
