"""Accuracy, F1 and loss of a classifier, beside what answering one class to every text would score.

    accuracy      share of texts answered rightly        nats           mean cross-entropy of the labels
    macro_f1      mean F1 of the classes                 weighted_f1    weighed by their share (the original's)
    majority_*    the same of a constant answer: the commonest class of these texts, the best there is

Per item: `accuracy` (0 or 1), `nats`, and the classes `label`, `predicted` and `majority_predicted`, from which
macro-F1 is compared in pairs (analysis/macro_f1.py).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from replication import f1
from replication.data import labelled
from replication.evals.classifier import Classifier
from replication.evals.result import ItemValues, Metric, Result, item_ids, mean
from replication.specs import Labels

MAJORITY = "majority_"


def score(spec: Labels, reader: Classifier, seed: int) -> Result:
    """Classify every text of the source; nothing is sampled, so the seed is not used.

    Raises:
        ValueError: a row is unfit, or a class has no text: its F1 would be of nothing.
    """
    del seed
    rows = labelled.rows(spec.source, labels=spec.labels)
    ids = item_ids(rows)
    labels = np.array([row["label"] for row in rows])
    counts = np.bincount(labels, minlength=spec.labels)
    if not counts.all():
        raise ValueError(f"{spec.source.where!r} has no text of class {int(counts.argmin())}, so it has no macro-F1")
    logits = reader.logits([row["text"] for row in rows], seq_len=spec.seq_len)
    nats = -special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    predicted = logits.argmax(axis=1)
    constant = np.full_like(labels, counts.argmax())
    columns = {"accuracy": predicted == labels, "nats": nats, "predicted": predicted, "label": labels}
    columns |= {f"{MAJORITY}accuracy": constant == labels, f"{MAJORITY}predicted": constant}
    metrics = (
        *_metrics("", labels, predicted, spec.labels),
        mean("nats", nats.tolist()),
        *_metrics(MAJORITY, labels, constant, spec.labels),
    )
    items = tuple(ItemValues(name, ids, tuple(map(float, values))) for name, values in columns.items())
    samples = [
        {"id": ids[i], "text": row["text"], "label": int(labels[i]), "predicted": int(predicted[i]), "nats": nats[i]}
        for i, row in enumerate(rows)
    ]
    return Result(metrics, items, samples)


def _metrics(prefix: str, labels: np.ndarray, predicted: np.ndarray, classes: int) -> list[Metric]:
    """Accuracy and both means of F1, with standard errors over texts."""
    by_text = {
        "accuracy": (predicted == labels).astype(np.float64),
        "macro_f1": f1.macro_by_text(labels, predicted, classes),
        "weighted_f1": f1.weighted_by_text(labels, predicted, classes),
    }
    return [mean(f"{prefix}{name}", values.tolist()) for name, values in by_text.items()]
