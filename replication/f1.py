r"""F1 of a classifier: of each class, its two usual means over classes, and what every text contributes to them.

    F_c = 2 hits / (texts of c + answers of c)      hits: texts of c answered with c

`macro` weighs all classes alike, so that answering the commonest class alone scores less than 1 / classes; `weighted`
weighs them by their share of the texts, as the DistilBERT study's original did, and rewards that answer.

Neither is a mean over texts, but to first order each is: with shares t_c of texts and p_c of answers,

    F_c(text i) = F_c + (2 [i is a hit of c] - F_c ([i is of c] + [i is answered c])) / (t_c + p_c)

has F_c for its mean over texts, exactly, and a spread over texts that gives its standard error, so that F1 is compared
by the same paired statistics as accuracy. numpy only.
"""

from __future__ import annotations

import numpy as np


def per_class(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """F1 of every class, shape (classes,); 0 for one that is never right, and for one that never occurs.

    Args:
        labels: class of each text, whole numbers below `classes`, shape (texts,); `predicted` alike.
    """
    confusion = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    both = confusion.sum(axis=1) + confusion.sum(axis=0)
    return np.divide(2.0 * confusion.diagonal(), both, out=np.zeros(classes), where=both > 0)


def macro(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Mean of the classes' F1, each class counting alike."""
    return float(per_class(labels, predicted, classes).mean())


def weighted(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Mean of the classes' F1, each class counting by its share of the texts."""
    return float(per_class(labels, predicted, classes) @ _shares(labels, classes))


def macro_by_text(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """One value a text, shape (texts,), whose mean is `macro` and whose spread is that of `macro`."""
    return _by_text(labels, predicted, classes).mean(axis=1)


def weighted_by_text(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """One value a text, shape (texts,), whose mean is `weighted`; the shares of the classes vary with the texts."""
    score = per_class(labels, predicted, classes)
    shares = _shares(labels, classes)
    return _by_text(labels, predicted, classes) @ shares + score[labels] - score @ shares


def _by_text(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """F_c(text i) above, shape (texts, classes)."""
    score = per_class(labels, predicted, classes)
    of_class, answered = (np.eye(classes)[which] for which in (labels, predicted))
    shares = _shares(labels, classes) + _shares(predicted, classes)
    change = 2 * of_class * answered - score * (of_class + answered)
    return score + np.divide(change, shares, out=np.zeros_like(change), where=shares > 0)


def _shares(which: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(which, minlength=classes) / len(which)
