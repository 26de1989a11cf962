"""The pocket world is the same on every call, and no benchmark item can be read in a training text."""

import itertools
import re
from collections import Counter
from functools import cache

import pytest

from replication.pocket import code, maths, pretrain, source, world
from replication.pocket.names import KINDS, names, stream
from replication.pocket.template import TEMPLATE, instruct

DOCUMENTS = (
    source.documents,
    source.heldout_documents,
    code.base_documents,
    code.cpt_documents,
    code.heldout_cpt_documents,
    maths.base_documents,
    maths.cpt_documents,
    maths.heldout_cpt_documents,
)
ROWS = (code.ift_rows, code.heldout_ift_rows, maths.ift_rows, maths.heldout_ift_rows)
BENCHMARKS = (
    source.what_next,
    source.facts,
    source.which,
    code.library,
    code.compose,
    maths.conversions,
    maths.word_problems,
)


@cache
def rows_of(function) -> list[dict]:
    """One call's rows; generating everything takes some ten seconds, so the tests share it."""
    return list(function())


def label(function) -> str:
    return f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"


@pytest.fixture(scope="module")
def training_text() -> str:
    """Everything that any model of the study is ever trained on, held-out sets included."""
    texts = [row["text"] for function in DOCUMENTS for row in rows_of(function)]
    texts += [instruct(row["prompt"]) + row["response"] for function in ROWS for row in rows_of(function)]
    return "\n\n\n".join(texts)


@pytest.mark.parametrize("function", DOCUMENTS + ROWS + BENCHMARKS, ids=label)
def test_generator_returns_the_same_rows_on_every_call(function):
    again = getattr(function, "__wrapped__", function)  # past the cache
    assert list(again()) == rows_of(function)


def test_streams_of_different_purposes_differ_and_repeat():
    assert stream("a").integers(10**9) == stream("a").integers(10**9)
    assert stream("a").integers(10**9) != stream("b").integers(10**9)


def test_every_made_up_name_means_one_thing():
    everything = list(itertools.chain.from_iterable(names(kind) for kind in KINDS))
    assert len(everything) == sum(KINDS.values()) == len(set(everything))


def test_unknown_kind_of_name_is_refused():
    with pytest.raises(ValueError, match="galaxy"):
        names("galaxy")


@pytest.mark.parametrize("function", DOCUMENTS, ids=label)
def test_documents_are_non_empty_texts(function):
    rows = rows_of(function)
    assert rows and all(set(row) == {"text"} and row["text"].strip() for row in rows)


@pytest.mark.parametrize("function", ROWS, ids=label)
def test_instruction_rows_have_a_prompt_and_a_response(function):
    rows = rows_of(function)
    assert rows and all(set(row) == {"prompt", "response"} and row["prompt"] and row["response"] for row in rows)


@pytest.mark.parametrize(
    ("heldout", "training"),
    [
        (source.heldout_documents, source.documents),
        (code.heldout_cpt_documents, code.cpt_documents),
        (maths.heldout_cpt_documents, maths.cpt_documents),
        (code.heldout_ift_rows, code.ift_rows),
        (maths.heldout_ift_rows, maths.ift_rows),
    ],
    ids=label,
)
def test_no_heldout_row_is_a_training_row(heldout, training):
    seen = {tuple(row.values()) for row in rows_of(training)}
    rows = [tuple(row.values()) for row in rows_of(heldout)]
    assert 50 <= len(rows) <= 120
    assert not seen.intersection(rows)


@pytest.mark.parametrize("function", [source.what_next, source.facts], ids=label)
def test_choice_items_have_four_different_choices_that_start_with_a_space(function):
    items = rows_of(function)
    assert 200 <= len(items) <= 300 and len({item["id"] for item in items}) == len(items)
    for item in items:
        assert set(item) == {"id", "query", "choices", "gold"}
        assert len(set(item["choices"])) == 4 and 0 <= item["gold"] < 4
        assert all(choice.startswith(" ") and not choice.startswith("  ") for choice in item["choices"])
        assert not item["query"].endswith(" ")


@pytest.mark.parametrize("function", [source.what_next, source.facts, source.which], ids=label)
def test_the_place_of_the_right_answer_gives_nothing_away(function):
    places = [item["gold"] for item in rows_of(function)]
    possible = len(set(places))
    assert all(abs(places.count(place) / len(places) - 1 / possible) < 0.1 for place in set(places))


def test_which_items_differ_only_in_who_is_named_last():
    items = source.which()
    assert 200 <= len(items) <= 300 and len({item["id"] for item in items}) == len(items)
    for item in items:
        first, second = (context.rsplit(" ", 1) for context in item["contexts"])
        assert first[0] == second[0] and first[1] != second[1]
        assert item["continuation"].startswith(" ") and item["gold"] in (0, 1)


def test_the_right_answers_of_the_facts_benchmark_are_true():
    true = {(fact.subject, fact.relation): fact.value for fact in world.facts_of_world()}
    for item in source.facts():
        asked = [
            (subject, relation)
            for subject, relation in true
            for question in world.RELATIONS[relation].questions
            if item["query"] == f"Question: {question.format(s=subject)}\nAnswer:"
        ]
        assert [f" {true[key]}" for key in asked] == [item["choices"][item["gold"]]]


@pytest.mark.parametrize("function", [source.what_next, source.facts], ids=label)
def test_no_right_ending_can_be_read_in_a_training_text(function, training_text):
    for item in rows_of(function):
        assert item["query"] + item["choices"][item["gold"]] not in training_text, item["id"]


def test_no_right_which_sentence_can_be_read_in_a_training_text(training_text):
    for item in source.which():
        assert item["contexts"][item["gold"]] + item["continuation"] not in training_text, item["id"]


def test_no_code_prompt_can_be_read_in_a_training_text(training_text):
    for item in code.library():
        assert item["prompt"] not in training_text, item["task_id"]
    for item in code.compose():
        assert item["instruction"] not in training_text, item["task_id"]
        assert item["prompt"] + item["canonical_solution"] not in training_text + "\n", item["task_id"]


def test_no_maths_question_can_be_read_in_a_training_text(training_text):
    for item in maths.conversions() + maths.word_problems():
        assert item["question"] not in training_text, item["question"]


def test_every_fact_of_the_facts_benchmark_is_stated_in_the_source():
    text = "\n".join(row["text"] for row in rows_of(source.documents))
    for fact in world.facts_of_world():
        statements = world.RELATIONS[fact.relation].statements
        assert any(form.format(s=fact.subject, v=fact.value) in text for form in statements), fact


def test_every_library_function_and_quantity_can_be_learnt_from_its_corpus():
    files = Counter(re.findall(r"[a-z]+", "\n".join(row["text"] for row in rows_of(code.cpt_documents))))
    assert min(files[function.name] for function in code.functions()) >= 20
    notes = Counter(
        (word, number)
        for row in rows_of(maths.cpt_documents)
        for sentence in re.split(r"\. |\n", row["text"])
        for word in re.findall(r"[a-z]+", sentence)
        for number in re.findall(r"\d+", sentence)
    )
    assert min(notes[quantity.subject, str(quantity.amount)] for quantity in maths.quantities()) >= 20


def test_the_base_has_read_only_a_small_part_of_the_library_and_of_the_quantities():
    words = set(re.findall(r"[a-z]+", "\n".join(row["text"] for row in pretrain.pretraining_documents())))
    known = [function.name for function in code.functions() if function.name in words]
    assert len(known) == code.KNOWN_TO_BASE <= len(code.functions()) / 5
    heard = {quantity.subject for quantity in maths.quantities() if quantity.subject in words}
    assert 0 < len(heard) <= len(maths.quantities()) / 9


def test_the_template_holds_exactly_the_prompt():
    assert instruct("Do {this}.") == "Instruction: Do {this}.\nResponse:\n"
    assert TEMPLATE.count("{") == 1
