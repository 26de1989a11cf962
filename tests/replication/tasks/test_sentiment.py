"""Short texts as training sequences: tokens, padding, the loss on the label, and rows that are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from replication.config import AdamW, Budget, Full, Run, Sentiment, Source, Trapezoid
from replication.data import labelled
from replication.pocket import masked
from replication.tasks import open_stream

TEXTS = ("profit rises", "profit falls again and again and again", "a quiet day", "costs rise")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return masked.new_tokenizer(TEXTS, masked.Recipe(words=20, pieces=5))


def rows_file(folder: Path, rows: list[dict[str, object]]) -> Source:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(str(path))


def run(source: Source, *, seq_len: int = 6) -> Run:
    return Run(
        "t", "t", Sentiment(source, 3), "m", Full(), AdamW(1e-3), Trapezoid(0, 1.0), Budget(1, "epochs"),
        global_batch=2, seq_len=seq_len, micro_batch=2,
    )  # fmt: skip


def good_rows() -> list[dict[str, object]]:
    return [{"text": text, "label": label} for text, label in zip(TEXTS, (1, 0, 2, 0), strict=True)]


def test_a_text_is_padded_at_the_right_and_cut_at_the_left(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    stream = open_stream(run(rows_file(tmp_path, good_rows())), tokenizer, cache=tmp_path)
    words = [tokenizer.convert_ids_to_tokens(stream.sequence(i)["input_ids"].tolist()) for i in range(4)]
    assert words[0] == ["[CLS]", "profit", "rises", "[SEP]", "[PAD]", "[PAD]"]
    assert words[1] == ["[CLS]", "and", "again", "and", "again", "[SEP]"]
    assert stream.sequence(0)["attention_mask"].tolist() == [1, 1, 1, 1, 0, 0]
    assert stream.real.tolist() == [4, 6, 5, 4]
    assert [int(stream.sequence(i)["labels"]) for i in range(4)] == [1, 0, 2, 0]


def test_cutting_does_not_change_the_tokenizer_that_was_given(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.truncation_side = "right"
    try:
        assert labelled.encode([TEXTS[1]], tokenizer, seq_len=4).ids[0, 1] == tokenizer.convert_tokens_to_ids("and")
        assert tokenizer.truncation_side == "right"
    finally:
        tokenizer.truncation_side = "left"


def test_the_loss_is_the_summed_cross_entropy_of_the_labels(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    stream = open_stream(run(rows_file(tmp_path, good_rows())), tokenizer, cache=tmp_path)
    batch = stream.micro_batches(0, batch=2, micro=2)[0]
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_ids": (2, 6), "attention_mask": (2, 6), "labels": (2,),
    }  # fmt: skip
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])

    class Output:
        def __init__(self) -> None:
            self.logits = logits

    def forward(**inputs: torch.Tensor) -> Output:
        assert set(inputs) == {"input_ids", "attention_mask"}
        return Output()

    summed, count = stream.objective.loss(forward, batch)
    by_hand = sum(
        math.log(sum(math.exp(v) for v in row)) - row[label]
        for row, label in zip(logits.tolist(), batch["labels"].tolist(), strict=True)
    )
    assert count == stream.objective.supervised(batch) == 2
    assert float(summed) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"text": "a", "label": 3}, "row 1 .*label is 3; expected a whole number from 0 to 2"),
        ({"text": "a", "label": -1}, "row 1 .*label is -1"),
        ({"text": "a", "label": "bullish"}, "row 1 .*label is 'bullish'"),
        ({"text": "a", "label": 1.5}, "row 0 .*label is 0.0"),  # one fraction makes the whole column one of floats
        ({"text": "a", "label": True}, "row 1 .*label is True"),
        ({"text": " ", "label": 1}, "row 1 .*text is ' '"),
        ({"text": None, "label": 1}, "row 1 .*text is None"),
    ],
)
def test_a_bad_row_is_named_with_its_value(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, wrong: dict[str, object], told: str
) -> None:
    source = rows_file(tmp_path, [{"text": "fine", "label": 0}, wrong])
    with pytest.raises(ValueError, match=told):
        open_stream(run(source), tokenizer, cache=tmp_path)


def test_a_missing_column_is_named(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    source = rows_file(tmp_path, [{"tweet": "fine", "label": 0}])
    with pytest.raises(ValueError, match="no column 'text'; it has .*Source.columns"):
        open_stream(run(source), tokenizer, cache=tmp_path)


def test_the_digest_follows_what_the_model_is_given(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    source = rows_file(tmp_path, good_rows())
    first = open_stream(run(source), tokenizer, cache=tmp_path).digest
    assert open_stream(run(source), tokenizer, cache=tmp_path).digest == first
    assert open_stream(run(source, seq_len=7), tokenizer, cache=tmp_path).digest != first
    relabelled = rows_file(tmp_path, [*good_rows()[:3], {"text": TEXTS[3], "label": 1}])
    assert open_stream(run(relabelled), tokenizer, cache=tmp_path).digest != first


def test_an_epoch_is_every_text_once(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    stream = open_stream(run(rows_file(tmp_path, good_rows())), tokenizer, cache=tmp_path)
    read = np.concatenate([stream.micro_batches(step, batch=2, micro=2)[0]["labels"] for step in range(2)])
    assert sorted(read.tolist()) == [0, 0, 1, 2]
