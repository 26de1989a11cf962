"""The difference in macro-F1 of two classifiers that answered the same texts, paired by text and seed.

Macro-F1 is no mean over texts. To first order it is one (`replication/f1.py`), so the difference is a contrast of one
value a text like every other of the study: its mean is the difference exactly, its spread over texts and seeds gives
the interval. Linearisation and a bootstrap agree in variance to a few percent from some hundred texts on, and the
simulated coverage of the 95 % interval is 94.7-96.4 %: 300 and 1,000 texts, 15 % of the rarest class, one and three
seeds, their spread none or .03 of an answer's chance (700 studies each, so +-.8 %; tests/analysis/test_macro_f1.py).

As for accuracy, one imaginary text each way keeps a comparison without a disagreement from having no width. Turning a
right answer into a wrong one moves macro-F1 by about 1 / texts on average over texts, so it counts 1, as it does there.
"""

from __future__ import annotations

import numpy as np

from replication import f1
from replication.stats import Estimate, contrast


def difference(left: np.ndarray, right: np.ndarray, labels: np.ndarray) -> Estimate:
    """Macro-F1 of `left` minus that of `right`, with an interval over texts and seeds.

    Args:
        left: predicted classes as whole numbers, shape (seeds, texts); `right` alike, with the same seeds and texts.
        labels: the texts' own classes, shape (texts,); macro-F1 is over the classes that occur in it.

    Raises:
        ValueError: shapes that do not fit, numbers that are no classes, or answers of a class that no text has.
    """
    truth = _classes(labels)
    sides = [_classes(side) for side in (left, right)]
    shape = sides[0].shape
    if truth.ndim != 1 or shape != sides[1].shape or shape[1:] != truth.shape:
        found = f"{shape}, {sides[1].shape}, {truth.shape}"
        raise ValueError(f"paired answers need shapes (seeds, texts) twice and (texts,), not {found}")
    count = 1 + max(int(values.max()) for values in (truth, *sides))
    if not np.bincount(truth, minlength=count).all():
        raise ValueError(f"no text is of class {int(np.bincount(truth, minlength=count).argmin())}: it has no F1")
    by_text = [np.array([f1.macro_by_text(truth, answers, count) for answers in side]) for side in sides]
    return contrast([by_text[0] - by_text[1]], pseudo=[1.0])


def _classes(values: np.ndarray) -> np.ndarray:
    """Classes as whole numbers; item rows hold them as floats."""
    whole = np.asarray(values).astype(np.int64)
    if (whole != values).any() or (whole < 0).any():
        wrong = np.asarray(values)[(whole != values) | (whole < 0)][0]
        raise ValueError(f"{wrong!r} is no class; expected whole numbers from 0")
    return whole
