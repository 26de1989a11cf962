from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from replication.data.chat import prompt_ids, render, render_all

PAIRS = [
    ("Instruction: {prompt}\nResponse:\n", "write f", "def f():\n    return 1\n"),
    ("Question: {prompt}\nAnswer:", "2+2?", " 4"),
    ("Question: {prompt}\nAnswer:", "2+2?", " It is 4.\n#### 4"),
]


@pytest.fixture
def merging() -> PreTrainedTokenizerFast:
    """a=0 b=1 ab=2 and end-of-text 3: "a" followed by "b" is one token."""
    backend = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "</s>": 3}, [("a", "b")]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def test_prompt_and_response_are_the_ids_written_by_hand(words: PreTrainedTokenizerFast) -> None:
    assert render("a {prompt} b", "c d", "e f", words) == ([1, 3, 4, 2], [5, 6, 0])


def test_end_of_text_is_added_once(words: PreTrainedTokenizerFast) -> None:
    assert render("{prompt} ", "a", "b </s>", words)[1] == [2, 0]


def test_a_token_across_the_boundary_does_not_change_the_prompt(merging: PreTrainedTokenizerFast) -> None:
    # Together "b" + "a" + "b" would be [1, 2]; an eval that gives "ba" gives [1, 0].
    assert render("b{prompt}", "a", "b", merging) == ([1, 0], [1, 3])


def test_many_are_rendered_as_one_by_one(words: PreTrainedTokenizerFast) -> None:
    pairs = [("c", "d"), ("e f", "g h i"), ("", "j")]
    assert render_all("a {prompt} b", pairs, words) == [render("a {prompt} b", p, r, words) for p, r in pairs]


@pytest.mark.parametrize("template", ["{instruction}", "{prompt} {input}", "{}"])
def test_an_unknown_field_is_named(words: PreTrainedTokenizerFast, template: str) -> None:
    with pytest.raises(ValueError, match=r"unknown field .*the only one is \{prompt\}"):
        render(template, "a", "b", words)


@pytest.mark.parametrize("template", ["no field", "{prompt", "{{prompt}}"])
def test_a_template_without_a_prompt_is_refused(words: PreTrainedTokenizerFast, template: str) -> None:
    with pytest.raises(ValueError, match="template"):
        render(template, "a", "b", words)


def test_a_tokenizer_without_end_of_text_is_refused() -> None:
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    with pytest.raises(ValueError, match="no end-of-text"):
        render("{prompt}", "a", "a", plain)


def test_a_chat_template_is_trained_to_its_end_token(words: PreTrainedTokenizerFast) -> None:
    words.chat_template = (
        "{% for m in messages %}{{ 'a' if m.role == 'user' else 'b' }} {{ m.content }} j\n{% endfor %}"
        "{% if add_generation_prompt %}b {% endif %}"
    )
    assert render("chat", "c d", "e", words) == ([1, 3, 4, 10, 2], [5, 10, 0])


def test_chat_without_a_chat_template_is_refused(words: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="chat template"):
        render("chat", "a", "b", words)


@pytest.mark.parametrize(("template", "prompt", "response"), PAIRS)
def test_byte_level_round_trip(neox: PreTrainedTokenizerFast, template: str, prompt: str, response: str) -> None:
    asked, answered = render(template, prompt, response, neox)
    assert neox.decode(asked) == template.format(prompt=prompt)
    assert neox.decode(answered) == response + "<|endoftext|>"
    assert asked == prompt_ids(template, prompt, neox) == neox(template.format(prompt=prompt))["input_ids"]


@pytest.mark.parametrize(("template", "prompt", "response"), PAIRS)
def test_sentencepiece_round_trip(shared_data: Path, template: str, prompt: str, response: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / "stories260K")
    asked, answered = render(template, prompt, response, tokenizer)
    assert asked[0] == tokenizer.bos_token_id
    assert answered[-1] == tokenizer.eos_token_id
    # Tokenised alone a response would begin with a space, and Python code would not parse.
    assert tokenizer.decode(asked + answered) == f"<s> {template.format(prompt=prompt)}{response}</s>"
