"""The pocket tokenizer is exact on every text, and no token straddles a boundary a prompt can end at."""

import pytest

from replication.pocket import code, maths, source
from replication.pocket.names import KINDS, names
from replication.pocket.pretrain import new_tokenizer
from replication.pocket.template import instruct
from replication.pocket.tokenizer import save_tokenizer

STRANGE = ["", " ", "\n    ", "a\r\n\tb", "x  =  1\n\n\n", "é ☃ 数", "<s", "1 234.5e-6", "def f(x):\n    return x\n"]


def ids(text: str) -> list[int]:
    return new_tokenizer()(text)["input_ids"]


@pytest.mark.parametrize("text", STRANGE)
def test_strange_texts_survive(text):
    assert new_tokenizer().decode(ids(text)) == text


@pytest.mark.parametrize("documents", [source.documents, code.cpt_documents, maths.cpt_documents])
def test_corpora_survive(documents):
    texts = [row["text"] for row in documents()[:200]]
    encoded = new_tokenizer()(texts)["input_ids"]
    assert [new_tokenizer().decode(row) for row in encoded] == texts


def test_encoding_adds_no_special_tokens():
    assert not set(ids(source.documents()[0]["text"])) & set(new_tokenizer().all_special_ids)
    assert new_tokenizer().all_special_ids == [0, 1, 2]


def test_every_prompt_boundary_is_a_token_boundary():
    rows = code.ift_rows()[:50] + maths.ift_rows()[:50]
    pairs = [(instruct(row["prompt"]), row["response"]) for row in rows]
    pairs += [(item["prompt"], item["canonical_solution"]) for item in code.library()]
    pairs += [(f"Question: {item['question']}\nAnswer:", f" {item['answer']}") for item in maths.conversions()]
    pairs += [(item["query"], choice) for item in source.what_next() + source.facts() for choice in item["choices"]]
    pairs += [(context, item["continuation"]) for item in source.which() for context in item["contexts"]]
    for prompt, completion in pairs:
        assert ids(prompt) + ids(completion) == ids(prompt + completion)


def test_digits_newlines_and_indentation_stand_alone():
    vocabulary = new_tokenizer().get_vocab()
    plain = {new_tokenizer().decode([number]) for number in vocabulary.values()}
    assert all(len(token.strip()) == 1 for token in plain if any(letter.isdigit() for letter in token))
    assert all(token == "\n" for token in plain if "\n" in token)
    assert all(not token.strip() for token in plain if token.startswith("  "))


def test_every_made_up_name_is_two_tokens():
    for kind in KINDS:
        for name in names(kind):
            for form in (name, f" {name}", name.capitalize(), f" {name.capitalize()}"):
                assert len(ids(form)) == 2, form


def test_a_saved_tokenizer_is_read_back_by_auto_tokenizer(tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(new_tokenizer(), tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = code.cpt_documents()[0]["text"]
    assert loaded(text)["input_ids"] == ids(text) and loaded.decode(ids(text)) == text
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 1, 2)
