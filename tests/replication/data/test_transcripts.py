from __future__ import annotations

import numpy as np
import pytest
from transformers import GenerationConfig

from replication.data import transcripts
from replication.pocket import recogniser

HINDI = GenerationConfig(
    decoder_start_token_id=50258, lang_to_id={"<|en|>": 50259, "<|hi|>": 50276},
    task_to_id={"transcribe": 50359, "translate": 50358}, no_timestamps_token_id=50363,
)  # fmt: skip
ENGLISH = GenerationConfig(decoder_start_token_id=50257, no_timestamps_token_id=50362)
# 0, 1, 2 words, 3 end-of-text, 4 start, 5 unknown, 6 no timestamps
TOKENIZER = recogniser.new_tokenizer(("one", "two", "three"))


@pytest.mark.parametrize("language", ["hindi", "Hindi", "hi", "HI"])
def test_a_multilingual_model_is_told_language_and_task(language: str) -> None:
    # As whisper-large-v2 is prompted: start, <|hi|>, <|transcribe|>, <|notimestamps|>.
    assert transcripts.prompt_tokens(HINDI, language) == [50258, 50276, 50359, 50363]


@pytest.mark.parametrize("language", [None, "english", "en"])
def test_an_english_model_is_told_neither(language: str | None) -> None:
    assert transcripts.prompt_tokens(ENGLISH, language) == [50257, 50362]


def test_a_language_that_is_not_said_or_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="say which"):
        transcripts.prompt_tokens(HINDI, None)
    with pytest.raises(ValueError, match="'klingon' is none that this model knows"):
        transcripts.prompt_tokens(HINDI, "klingon")
    with pytest.raises(ValueError, match="knows a single language"):
        transcripts.prompt_tokens(ENGLISH, "hindi")


def test_a_transcript_carries_the_loss_and_its_prompt_and_padding_do_not() -> None:
    ids, count = transcripts.encode(TOKENIZER, "two one three", [4, 6], name="x", length=8)
    assert ids.tolist() == [4, 6, 1, 0, 2, 3, 3, 3, 3]
    assert count == 6
    reads, labels = transcripts.shifted(ids, count, 2)
    assert reads.tolist() == [4, 6, 1, 0, 2, 3, 3, 3]
    assert labels.tolist() == [-100, 1, 0, 2, 3, -100, -100, -100]
    assert labels.dtype == np.int64


def test_a_transcript_that_just_fits_keeps_its_end() -> None:
    ids, count = transcripts.encode(TOKENIZER, "two one", [4, 6], name="x", length=4)
    reads, labels = transcripts.shifted(ids, count, 2)
    assert (reads.tolist(), labels.tolist()) == ([4, 6, 1, 0], [-100, 1, 0, 3])


def test_a_transcript_that_does_not_fit_is_named_with_its_length() -> None:
    with pytest.raises(ValueError, match=r"'clip7' takes 5 positions with its prompt of 2, and 4 are read"):
        transcripts.encode(TOKENIZER, "two one three", [4, 6], name="clip7", length=4)
