"""Word error rate of greedy transcripts, raw and normalised, and the loss on the reference transcripts.

    errors of a clip = fewest words to replace, leave out or put in to turn the reference into the transcript
    wer              = errors of all clips / words of all references

which is over 1 where a model writes many words that nobody said. The item values are errors_i / (mean words of a
reference), so that their mean is the corpus's word error rate to the last digit and paired tests need no weights;
`nats_per_token` is built the same way.

Raw words are split at white space and nothing else is done to them. Normalised ones went through Whisper's own
normaliser: the English one for an English transcript of a model that brings its table of spellings (normalizer.json),
else the basic one, which takes out case, punctuation, accents of combining marks, and brackets. The English one writes
number words as digits ("three five" is one word, "35"), so it must not grade strings of digits. The basic one takes out
the vowel signs of Devanagari too, which are combining marks, and so breaks its words apart: published normalised rates
of Hindi are of that kind, and the raw rate is the one to judge such languages by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from replication.data import audio, transcripts
from replication.data.sources import documents
from replication.evals import transcriber
from replication.evals.result import ItemValues, Result, item_ids, mean
from replication.evals.transcriber import Conventions, Transcriber
from replication.specs import Words

Normaliser = Callable[[str], str]


def score(spec: Words, reader: Transcriber, seed: int) -> Result:
    """Transcribe every clip of the source. Nothing is drawn: `seed` is taken for the sake of one signature."""
    rows = list(documents(spec.source))
    names = item_ids(rows)
    _check(rows, spec)
    tokenizer, extractor, asked = reader.tokenizer(), reader.extractor(), reader.conventions(spec.language)
    reads, labels = _given(rows, names, tokenizer, asked, spec)
    model = reader.merged()
    answers: list[str] = []
    losses: list[float] = []
    counts: list[int] = []
    cut = spec.too_long == "cut"
    for features in transcriber.batches(rows, extractor, names=names, size=spec.batch, cut=cut):
        own = slice(len(answers), len(answers) + len(features))
        summed, tokens = transcriber.nats(model, features, reads[own], labels[own])
        losses += summed
        counts += tokens
        written = transcriber.write(model, features, asked, max_tokens=spec.max_tokens)
        answers += [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in written]
        if reader.watch:
            reader.watch(len(answers), len(rows))
    found = graded(rows, names, answers, losses, counts, normaliser(tokenizer, spec.language))
    return _with_truncated(found, rows, names, extractor) if cut else found


def normaliser(tokenizer: Any, language: str | None) -> Normaliser:
    """Whisper's normaliser for a language and a model's tokenizer."""
    spellings = getattr(tokenizer, "english_spelling_normalizer", None)
    if spellings and (language or "english").lower() in ("english", "en"):
        return EnglishTextNormalizer(spellings)
    return BasicTextNormalizer()


def errors(reference: Sequence[str], answer: Sequence[str]) -> int:
    """Fewest words to replace, leave out or put in to turn the reference into the answer (Levenshtein, 1966)."""
    row = list(range(len(answer) + 1))
    for i, word in enumerate(reference, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(answer, start=1):
            best = min(before + (word != other), row[j] + 1, row[j - 1] + 1)
            before, row[j] = row[j], best
    return row[-1]


def item_shares(totals: Sequence[float], sizes: Sequence[int], *, what: str) -> list[float]:
    """Totals over the mean size, whose mean is the sum of totals over the sum of sizes.

    Raises:
        ValueError: there is nothing to divide by.
    """
    if not sum(sizes):
        raise ValueError(f"the references hold no {what}; there is nothing to grade")
    return [total * len(sizes) / sum(sizes) for total in totals]


def graded(
    rows: Sequence[dict[str, Any]],
    names: tuple[str, ...],
    answers: list[str],
    losses: list[float],
    counts: list[int],
    normalise: Normaliser,
) -> Result:
    """Metrics, items and samples from the answers, the nats of every reference and the tokens that those are of."""
    references = [row["text"] for row in rows]
    raw, words = _compared(references, answers, lambda text: text)
    plain, plain_words = _compared(references, answers, normalise)
    values = {
        "wer": item_shares(raw, words, what="words"),
        "wer_normalised": item_shares(plain, plain_words, what="words once they are normalised"),
        "nats_per_token": item_shares(losses, counts, what="tokens"),
    }
    columns = {
        "id": names, "asked": [f"{count} words of speech" for count in words], "answered": answers,
        "reference": references, "errors": raw, "errors_normalised": plain, "nats": losses,
    }  # fmt: skip
    samples = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert all(math.isfinite(value) for column in values.values() for value in column)
    metrics = tuple(mean(metric, column) for metric, column in values.items())
    return Result(
        metrics, tuple(ItemValues(metric, names, tuple(column)) for metric, column in values.items()), samples
    )


def _with_truncated(result: Result, rows: Sequence[dict[str, Any]], names: tuple[str, ...], extractor: Any) -> Result:
    """The result with the share of clips of which only the beginning was heard."""
    heard = extractor.n_samples / extractor.sampling_rate
    values = [float(audio.seconds(row["audio"]) > heard) for row in rows]
    items = (*result.items, ItemValues("truncated", names, tuple(values)))
    return Result((*result.metrics, mean("truncated", values)), items, result.samples)


def _check(rows: Sequence[dict[str, Any]], spec: Words) -> None:
    for i, row in enumerate(rows):
        for column in ("audio", "text"):
            if row.get(column) is None:
                raise ValueError(f"{spec.name}: clip {i} has no {column!r}; it has {sorted(row)}: set Source.columns")


def _given(
    rows: Sequence[dict[str, Any]], names: Sequence[str], tokenizer: Any, asked: Conventions, spec: Words
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the decoder reads and is asked when it is given the references, both (clips, positions)."""
    prompt = asked.prompt
    length = len(prompt) + spec.max_tokens
    encoded = [
        transcripts.encode(tokenizer, row["text"], prompt, name=name, length=length)
        for row, name in zip(rows, names, strict=True)
    ]
    longest = max(count for _, count in encoded) - 1
    pairs = [transcripts.shifted(ids, count, len(prompt)) for ids, count in encoded]
    reads, labels = (torch.from_numpy(np.stack([pair[i][:longest] for pair in pairs])) for i in (0, 1))
    return reads, labels


def _compared(references: list[str], answers: list[str], normalise: Normaliser) -> tuple[list[int], list[int]]:
    """Errors and reference words of every clip."""
    pairs = [(normalise(r).split(), normalise(a).split()) for r, a in zip(references, answers, strict=True)]
    return [errors(*pair) for pair in pairs], [len(reference) for reference, _ in pairs]
