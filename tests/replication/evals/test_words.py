from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jiwer
import numpy as np
import pytest
import soundfile

from replication.config import Source
from replication.data.sources import documents
from replication.evals import evaluate, words
from replication.evals.transcriber import Transcriber
from replication.models import Form, Weights
from replication.specs import Words
from tests.replication import speech_models

TEST = Source("python:tests.replication.speech_models:test")
# References and answers with their errors counted by hand.
PAIRS = [
    ("three five nine", "three five nine", 0), ("three five nine", "three nine", 1),
    ("three five", "three four five", 1), ("three five nine", "tree five", 2), ("one", "two three four", 3),
    ("one two", "", 2), ("a b c d", "b c d e", 2),
    ("", "one two", 2), ("", "", 0),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "answer", "expected"), PAIRS)
def test_errors_are_those_counted_by_hand(reference: str, answer: str, expected: int) -> None:
    assert words.errors(reference.split(), answer.split()) == expected


def test_the_corpus_word_error_rate_is_jiwers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        texts = [" ".join(rng.choice(list("abcde"), size=rng.integers(1, 9))) for _ in range(24)]
        references, answers = texts[:12], [*texts[12:23], ""]
        counted = [words.errors(r.split(), a.split()) for r, a in zip(references, answers, strict=True)]
        sizes = [len(r.split()) for r in references]
        expected = jiwer.wer(references, answers)
        assert sum(counted) / sum(sizes) == pytest.approx(expected, rel=1e-12)
        assert np.mean(words.item_shares(counted, sizes, what="words")) == pytest.approx(expected, rel=1e-12)


def test_references_without_words_are_refused() -> None:
    with pytest.raises(ValueError, match="hold no words"):
        words.item_shares([1, 0], [0, 0], what="words")


def test_an_english_model_with_a_table_of_spellings_is_graded_by_the_english_normaliser() -> None:
    tokenizer = SimpleNamespace(english_spelling_normalizer={"colour": "color"})
    for language in (None, "english", "en"):
        english = words.normaliser(tokenizer, language)
        assert english("Mr. Smith has colour, twenty-five!") == "mister smith has color 25"
    assert words.normaliser(tokenizer, "hindi")("Colour, [noise] twenty-five!") == "colour twenty five "
    assert words.normaliser(SimpleNamespace(), "english")("Three, FIVE.") == "three five "


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    folder = speech_models.english(tmp_path_factory.mktemp("whisper"))
    return Transcriber(Weights(str(folder), None, Form("speech")))


def test_a_model_is_scored_by_its_transcripts(reader: Transcriber) -> None:
    found = evaluate(Words("wer", TEST, max_tokens=12, batch=4), reader, 0)
    rows = list(documents(TEST))
    assert [row["id"] for row in found.samples] == [row["id"] for row in rows]
    assert [row["reference"] for row in found.samples] == [row["text"] for row in rows]
    answers = [row["answered"] for row in found.samples]
    assert len(set(answers)) > 4
    assert found.value("wer") == pytest.approx(jiwer.wer([row["text"] for row in rows], answers), rel=1e-9)
    spoken = sum(len(row["text"].split()) for row in rows)
    assert sum(row["errors"] for row in found.samples) == round(found.value("wer") * spoken)
    for metric, items in zip(found.metrics, found.items, strict=True):
        assert metric.name == items.metric
        assert metric.value == pytest.approx(np.mean(items.values), rel=1e-9)


def test_the_loss_is_per_token_of_all_transcripts(reader: Transcriber) -> None:
    found = evaluate(Words("wer", TEST, max_tokens=12, batch=4), reader, 0)
    tokens = sum(len(row["reference"].split()) + 1 for row in found.samples)
    assert found.value("nats_per_token") == pytest.approx(sum(row["nats"] for row in found.samples) / tokens, rel=1e-9)


def test_the_batch_does_not_change_the_score(reader: Transcriber) -> None:
    one, many = (evaluate(Words("wer", TEST, max_tokens=12, batch=size), reader, 0) for size in (1, 10))
    assert one.value("wer") == many.value("wer")
    assert one.value("nats_per_token") == pytest.approx(many.value("nats_per_token"), rel=1e-5)


def test_case_and_punctuation_count_as_errors_until_they_are_normalised() -> None:
    rows = [{"text": "One, two."}, {"text": "three"}]
    found = words.graded(rows, ("a", "b"), ["one two", "three"], [1.0, 2.0], [3, 2], words.normaliser(None, None))
    assert found.value("wer") == pytest.approx(2 / 3)
    assert found.value("wer_normalised") == 0
    assert found.value("nats_per_token") == pytest.approx(3 / 5)
    assert found.items[0].values == pytest.approx((2 / 1.5, 0))


def test_a_reference_longer_than_what_may_be_written_is_named(reader: Transcriber) -> None:
    with pytest.raises(ValueError, match=r"transcript of clip 'clip\d' takes"):
        evaluate(Words("wer", TEST, max_tokens=2), reader, 0)


def test_clips_longer_than_the_model_hears_are_an_error_or_cut_and_counted(reader: Transcriber, tmp_path: Path) -> None:
    for name, seconds in (("a", 0.5), ("b", 1.5)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(int(8000 * seconds), 0.1), 8000)
        (tmp_path / f"{name}.txt").write_text("one two")
    source = Source(str(tmp_path))
    with pytest.raises(ValueError, match=r"clip 'b\.wav' lasts 1\.50 s and the model hears 1 s"):
        evaluate(Words("wer", source, max_tokens=12), reader, 0)
    found = evaluate(Words("wer", source, max_tokens=12, too_long="cut"), reader, 0)
    assert found.value("truncated") == 0.5
    assert found.items[-1].values == (0.0, 1.0)


def test_a_source_without_transcripts_is_refused(reader: Transcriber, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"audio": "a.wav", "sentence": "one"}\n')
    with pytest.raises(ValueError, match=r"clip 0 has no 'text'.*set Source\.columns"):
        evaluate(Words("wer", Source(str(tmp_path / "rows.jsonl"))), reader, 0)
