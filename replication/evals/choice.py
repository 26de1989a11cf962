"""Multiple choice by log-likelihood, and partial evaluation: the one score behind the forgetting axis.

A question (`forms.py` makes it of a row) has several options, each a context and its continuation. Either the context
is the same and the continuations are the answers (HellaSwag, ARC, MMLU), or the continuation is the same behind
contexts that differ (WinoGrande). Three scores, all reported:

    acc        sum of the log-probabilities of the continuation's tokens      (lm-evaluation-harness `acc`)
    acc_norm   the same per character of the continuation, less the one space it begins with   (its `acc_norm`)
    acc_token  the same per token                                             (llm-foundry: lowest perplexity)

Token boundaries follow lm-evaluation-harness: trailing spaces of the context move to the continuation, and the
continuation's tokens are those of context + continuation behind the context's. Where a token straddles the
boundary for one choice, all choices of the item are scored from the last token they have in common, so that no
choice is excused from a token. (lm-eval takes the context's own tokens there, and what is left of the others. Not
one of the 47,389 options of HellaSwag, ARC-Challenge and WinoGrande has such a token in the three tokenizers tried:
GPT-NeoX, stories260K, pocket.)

Worked examples precede a question as lm-eval lays them out: each with its right answer, an empty line between.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from replication.data.sources import documents
from replication.evals import forms, shots
from replication.evals.forms import Question
from replication.evals.generate import Generator
from replication.evals.result import ItemValues, Result, item_ids, mean
from replication.specs import Choice

METRICS = ("acc", "acc_norm", "acc_token")
# lm-eval's tasks of these forms have no test split, which changes how it draws (see shots.examples).
SPARE = ("hellaswag", "winogrande")
# Items tokenised in one call: all texts of a call lie in memory with their offsets and masks.
TOKENISED = 256

Pair = tuple[list[int], list[int]]
Texts = list[tuple[str, str]]

_LOG = logging.getLogger(__name__)


def score(spec: Choice, generator: Generator, seed: int) -> Result:
    """Accuracy on every row of the source. Nothing is drawn but the examples: `seed` is taken for one signature."""
    rows = list(documents(spec.source))
    ids = item_ids(rows)
    questions = [_question(spec, row, i) for i, row in enumerate(rows)]
    texts = option_texts(spec, rows, questions)
    pairs, cut = _fit(spec, ids, list(_encoded(texts, generator.tokenizer)), generator.context)
    found = iter(generator.logprobs([pair for item in pairs for pair in item]))
    logprobs = [list(islice(found, len(item))) for item in pairs]
    samples = [_grade(*item) for item in zip(ids, questions, logprobs, strict=True)]
    metrics: tuple[str, ...] = METRICS
    if spec.too_long == "cut":
        samples = [sample | {"truncated": int(was)} for sample, was in zip(samples, cut, strict=True)]
        metrics = (*METRICS, "truncated")
    items = tuple(ItemValues(m, ids, tuple(float(s[m]) for s in samples)) for m in metrics)
    return Result(tuple(mean(i.metric, i.values) for i in items), items, samples)


def encode_pairs(texts: Sequence[tuple[str, str]], tokenizer: Any) -> list[Pair]:
    """Token ids of each (context, continuation) of one item, split at the boundary.

    An empty context becomes the beginning-of-text token, or end-of-text where the tokenizer has none.

    Raises:
        ValueError: an empty context, and the tokenizer has neither.
    """
    return next(_encoded([list(texts)], tokenizer))


# ---------------------------------------------------------------- texts


def _question(spec: Choice, row: dict[str, Any], place: int) -> Question:
    where = f"{spec.name}: row {place}"
    question = forms.question(spec.form, row, where)
    if not all(continuation.strip() for continuation in question.continuations):
        raise ValueError(f"{where} has an empty continuation; every choice needs text")
    return question


def option_texts(spec: Choice, rows: list[dict[str, Any]], questions: list[Question]) -> list[Texts]:
    """The options of each question as texts: preamble, worked examples and context; continuation."""
    drawn: list[list[dict[str, Any]]] = [[] for _ in rows]
    if spec.shots is not None:
        drawn = shots.examples(spec.shots, rows, spare=spec.form in SPARE)
    made = []
    for question, examples in zip(questions, drawn, strict=True):
        solved = [forms.question(spec.form, row, f"{spec.name}: an example").solved() for row in examples]
        before = question.preamble + "".join(f"{text}\n\n" for text in solved)
        made.append([(before + c, d) for c, d in zip(question.contexts, question.continuations, strict=True)])
    return made


# ---------------------------------------------------------------- tokens


def _encoded(items: list[Texts], tokenizer: Any) -> Iterator[list[Pair]]:
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    for first in range(0, len(items), TOKENISED):
        moved = [[_move_spaces(*text) for text in item] for item in items[first : first + TOKENISED]]
        ids = _tokens(
            [text for item in moved for context, option in item for text in (context, context + option)], tokenizer
        )
        for item in moved:
            contexts, wholes = [ids[c] for c, _ in item], [ids[c + d] for c, d in item]
            common = [_common(a, b) for a, b in zip(contexts, wholes, strict=True)]
            if len({context for context, _ in item}) == 1:
                common = [min(common)] * len(common)
            if start is None and not all(common):
                raise ValueError(
                    "an empty context needs a beginning-of-text or end-of-text token; the tokenizer has none"
                )
            # One list for all options of a context: those of a data set would be a third of its memory.
            prefixes = {tuple(whole[:cut]): whole[:cut] or [start] for whole, cut in zip(wholes, common, strict=True)}
            yield [(prefixes[tuple(w[:cut])], w[cut:]) for w, cut in zip(wholes, common, strict=True)]


def _tokens(texts: list[str], tokenizer: Any) -> dict[str, list[int]]:
    """Token ids of each different text."""
    different = list(dict.fromkeys(texts))
    return dict(zip(different, map(list, tokenizer(different)["input_ids"]), strict=True))


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _common(context: list[int], whole: list[int]) -> int:
    """Tokens at the start of `whole` that are the context's; at least one is left to predict."""
    same = 0
    while same < min(len(context), len(whole) - 1) and context[same] == whole[same]:
        same += 1
    return same


def _fit(
    spec: Choice, ids: Sequence[str], items: list[list[Pair]], context: int
) -> tuple[list[list[Pair]], list[bool]]:
    """Pairs that fit into the model's context, and which items lost the beginning of a prompt for it.

    The last token is only predicted: context + 1 tokens fit. What is cut is cut for each option by itself, as lm-eval
    does, so the options of an item may lose different numbers of tokens.
    """
    longest = [max(len(prefix) + len(option) for prefix, option in item) for item in items]
    cut = [tokens > context + 1 for tokens in longest]
    if not any(cut):
        return items, cut
    first = cut.index(True)
    found = (
        f"{spec.name}: item {ids[first]!r} has {longest[first]} tokens; the model's context has room for {context + 1}"
    )
    if spec.too_long == "error":
        raise ValueError(
            f'{found} ({sum(cut)} of {len(cut)} items are too long); give fewer examples, or set too_long="cut" to '
            "drop the beginning of such prompts, as lm-evaluation-harness does"
        )
    for name, item in zip(ids, items, strict=True):
        option = max(len(option) for _, option in item)
        if option > context:
            raise ValueError(
                f"{spec.name}: item {name!r} has a choice of {option} tokens; the model's context is {context}"
            )
    _LOG.warning("%s: %d of %d items lost the beginning of their prompt to fit", spec.name, sum(cut), len(cut))
    return [[(prefix[-(context + 1 - len(option)) :], option) for prefix, option in item] for item in items], cut


# ---------------------------------------------------------------- scores


def _grade(name: str, question: Question, logprobs: list[list[float]]) -> dict[str, Any]:
    sums, tokens = [math.fsum(values) for values in logprobs], [len(values) for values in logprobs]
    characters = [len(continuation.removeprefix(" ")) for continuation in question.continuations]
    scaled = {"acc": np.array(sums), "acc_norm": np.array(sums) / characters, "acc_token": np.array(sums) / tokens}
    answers = {metric: int(np.argmax(values)) for metric, values in scaled.items()}
    partial = len(set(question.contexts)) > 1
    return {
        "id": name,
        "asked": question.continuations[0] if partial else question.contexts[0],
        "choices": list(question.contexts if partial else question.continuations),
        "gold": question.gold,
        "answered": answers["acc"],
        "logprobs": [round(value, 6) for value in sums],
        "tokens": tokens,
        **{metric: int(answer == question.gold) for metric, answer in answers.items()},
    }
