"""Held-out loss against forward passes written out here."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from tokenizers import processors

from replication.config import Source
from replication.evals import evaluate
from replication.evals.generate import TransformersGenerator
from replication.specs import HeldOut

TEXTS = ["Once upon a time, there was a little dog.", "Tom ran. " * 12, "É"]


def ask(rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> HeldOut:
    monkeypatch.setattr("replication.evals.heldout.documents", lambda _: iter(rows))
    return HeldOut("loss", Source("rows"), **settings)


def losses(model: Any, given: list[int], scored: list[int]) -> list[float]:
    """-log p of each scored token behind the given ones."""
    with torch.inference_mode():
        logprobs = model(torch.tensor([given + scored])).logits[0].log_softmax(-1)
    return [-float(logprobs[len(given) - 1 + i, token]) for i, token in enumerate(scored)]


@pytest.mark.parametrize("adds_beginning", [True, False])
def test_text_is_scored_behind_its_start_and_with_its_end(
    adds_beginning: bool, stories: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = stories
    tokenizer = tokenizer if adds_beginning else copy.deepcopy(tokenizer)
    if not adds_beginning:
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    assert (tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id) == adds_beginning
    spec = ask([{"text": text} for text in TEXTS], monkeypatch, seq_len=200)
    result = evaluate(spec, TransformersGenerator(model, tokenizer), 0)
    eos = tokenizer.eos_token_id
    plain = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    given = tokenizer.bos_token_id if adds_beginning else eos
    expected = [losses(model, [given], [*ids, eos]) for ids in plain]
    assert result.items[0].values == pytest.approx([sum(e) / len(e) for e in expected], abs=1e-4)
    total, tokens = sum(map(sum, expected)), sum(map(len, expected))
    assert result.value("nats_per_token") == pytest.approx(total / tokens, abs=1e-4)
    size = sum(len(text.encode()) for text in TEXTS)
    assert result.value("bits_per_byte") == pytest.approx(total / math.log(2) / size, abs=1e-4)
    weights = {i.metric: i.values for i in result.items}
    assert weights["scored_tokens"] == tuple(map(len, expected))
    assert weights["scored_bytes"] == (41.0, 108.0, 2.0)


def test_a_window_is_given_the_last_token_of_the_one_before(
    stories: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = stories
    spec = ask([{"text": TEXTS[1]}], monkeypatch, seq_len=16)
    eos = tokenizer.eos_token_id
    ids = [*tokenizer(TEXTS[1])["input_ids"], eos]
    assert ids[0] == tokenizer.bos_token_id
    expected = [v for i in range(0, len(ids) - 1, 16) for v in losses(model, ids[i : i + 1], ids[i + 1 : i + 17])]
    assert len(expected) == len(ids) - 1  # every token once
    found = evaluate(spec, TransformersGenerator(model, tokenizer), 0)
    assert found.value("nats_per_token") == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_with_a_template_only_responses_are_scored(tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny
    rows = [
        {"prompt": "2+2", "response": "4"},
        {"prompt": "3", "response": "x" * 50},
        {"prompt": "p" * 40, "response": "y"},
    ]
    spec = ask(rows, monkeypatch, seq_len=30, template="Q {prompt} A ")
    result = evaluate(spec, TransformersGenerator(model, tokenizer), 0)
    short, long = tokenizer("Q 2+2 A ")["input_ids"], tokenizer("Q 3 A ")["input_ids"]
    four, x = tokenizer("4")["input_ids"], tokenizer("x")["input_ids"]
    first = losses(model, short, [*four, tokenizer.eos_token_id])
    second = losses(model, long, x * (30 - len(long)))  # cut at seq_len: its end is not seen
    assert result.items[0].ids == ("0", "1")  # the third prompt fills seq_len
    assert result.items[0].values == pytest.approx([sum(v) / len(v) for v in (first, second)], abs=1e-4)
    assert {i.metric: i.values for i in result.items}["scored_bytes"] == (1.0, 24.0)


def test_the_standard_error_is_that_of_a_ratio() -> None:
    from replication.evals.heldout import _ratio

    # Ratio 2; residuals (4 - 2, 2 - 4): sqrt((4 + 4) * 2 / 1) / 3.
    metric = _ratio("nats", [4.0, 2.0], [1, 2])
    assert metric.value == 2.0
    assert metric.stderr == pytest.approx(4.0 / 3.0)


def test_a_document_without_text_is_refused(generator: TransformersGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="row 1 has no text in column 'text'"):
        evaluate(ask([{"text": "a"}, {"text": ""}], monkeypatch, seq_len=8), generator, 0)
