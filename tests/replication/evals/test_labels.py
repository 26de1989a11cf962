"""The eval of classifiers: its numbers by hand, what it keeps per text, and whose answers it asks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from replication.config import Source
from replication.evals import evaluate, labels
from replication.evals.classifier import Classifier
from replication.models import Form, Weights
from replication.pocket import masked
from replication.specs import Labels

TEXTS = ["profit rises", "profit falls", "costs rise", "a quiet day", "nothing new on monday", "a quiet week"]
CLASSES = [1, 0, 0, 2, 2, 2]
# Answers 1, 0, 2, 2, 2, 1: four of six right.
LOGITS = np.log([[1, 8, 1], [6, 2, 2], [2, 2, 6], [1, 1, 8], [2, 2, 6], [1, 7, 2]])


class Told(Classifier):
    """Answers as it was told."""

    def logits(self, texts: list[str], *, seq_len: int) -> np.ndarray:
        assert (texts, seq_len) == (TEXTS, 8)
        return LOGITS.astype(np.float64)


@pytest.fixture
def spec(tmp_path: Path) -> Labels:
    path = tmp_path / "rows.jsonl"
    rows = [{"id": f"t{i}", "text": t, "label": c} for i, (t, c) in enumerate(zip(TEXTS, CLASSES, strict=True))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Labels("tweets", Source(str(path)), labels=3, seq_len=8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    recipe = masked.Recipe(words=30, pieces=10, width=16, hidden=16, length=12, epochs=1)
    tokenizer = masked.new_tokenizer(TEXTS, recipe)
    masked.new_model(np.array([[2, 5, 3]]), len(tokenizer), recipe).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_every_metric_by_hand(spec: Labels) -> None:
    found = evaluate(spec, Told(Weights("none")), 0)
    values = {metric.name: metric.value for metric in found.metrics}
    assert values["accuracy"] == pytest.approx(4 / 6)
    # Hits, texts, answers: bearish 1, 2, 1; bullish 1, 1, 2; neutral 2, 3, 3.
    assert values["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 4 / 6) / 3)
    assert values["weighted_f1"] == pytest.approx(2 / 6 * 2 / 3 + 1 / 6 * 2 / 3 + 3 / 6 * 4 / 6)
    shares = [0.8, 0.6, 0.2, 0.8, 0.6, 0.2]
    assert values["nats"] == pytest.approx(-sum(map(math.log, shares)) / 6)
    assert values["majority_accuracy"] == pytest.approx(3 / 6)
    assert values["majority_macro_f1"] == pytest.approx((2 * 3 / 9) / 3)
    assert values["majority_weighted_f1"] == pytest.approx(3 / 6 * 2 * 3 / 9)
    assert {metric.n for metric in found.metrics} == {6}
    accuracy = next(metric for metric in found.metrics if metric.name == "accuracy")
    assert accuracy.stderr == pytest.approx(math.sqrt(4 / 6 * 2 / 6 / 5))


def test_what_is_kept_of_each_text_tells_macro_f1_again(spec: Labels) -> None:
    found = evaluate(spec, Told(Weights("none")), 0)
    items = {item.metric: item for item in found.items}
    assert items["predicted"].values == (1, 0, 2, 2, 2, 1)
    assert items["label"].values == tuple(CLASSES)
    assert items["accuracy"].values == (1, 1, 0, 1, 1, 0)
    assert items["majority_predicted"].values == (2,) * 6
    assert items["majority_accuracy"].values == (0, 0, 0, 1, 1, 1)
    assert {item.ids for item in found.items} == {tuple(f"t{i}" for i in range(6))}
    assert found.samples[2] == {
        "id": "t2", "text": "costs rise", "label": 0, "predicted": 2, "nats": pytest.approx(-math.log(0.2)),
    }  # fmt: skip
    json.dumps(found.samples)


def test_a_class_without_a_text_is_refused(spec: Labels) -> None:
    with pytest.raises(ValueError, match="no text of class 3"):
        labels.score(replace(spec, labels=4), Told(Weights("none")), 0)


def test_an_untuned_classifier_answers_as_its_model_and_its_seed_do(spec: Labels, base: Path) -> None:
    form = Form("classifier", 3, seed=5)
    told: list[tuple[int, int]] = []
    reader = Classifier(Weights(str(base), form=form), watch=lambda done, total: told.append((done, total)))
    found = reader.logits(TEXTS, seq_len=12)
    torch.manual_seed(5)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3).eval()
    tokenizer = masked.new_tokenizer(TEXTS, masked.Recipe(words=30, pieces=10))
    with torch.no_grad():  # each text alone, without padding
        alone = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in TEXTS]
    assert np.abs(found - np.array(alone)).max() < 1e-5
    assert told == [(6, 6)]
    other = Classifier(Weights(str(base), form=replace(form, seed=6))).logits(TEXTS, seq_len=12)
    assert np.abs(found - other).max() > 1e-3


def test_scores_of_the_same_weights_are_equal_to_the_last_digit(spec: Labels, base: Path) -> None:
    reader = Classifier(Weights(str(base), form=Form("classifier", 3)))
    assert evaluate(spec, reader, 0) == evaluate(spec, reader, 1)
