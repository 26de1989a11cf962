"""Word problems answered greedily, graded by the number they end in (GSM8K's columns: question, answer).

A question may come behind worked examples, as lm-evaluation-harness asks it: each example rendered as the question,
a space, its answer, an empty line.

Two extractions, as in lm-evaluation-harness's gsm8k task, because the choice between them decides scores
(a right answer that runs on to another number is lost to the second):

    strict     the first number after "#### "
    flexible   the last number of the text

Both are compared as strings after commas, dollar signs and a final full stop are removed. `run_on` is the share of
answers that never stopped. All three are always measured; `spec.metric` says which counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from replication.data.sources import documents
from replication.evals import shots
from replication.evals.generate import Generator, Sampling
from replication.evals.prompts import Answer, answer, fit, prompt_ids, prompt_text, require_text
from replication.evals.result import ItemValues, Result, item_ids, mean
from replication.specs import Maths

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")

METRICS = ("strict", "flexible", "run_on")

Rows = list[dict[str, Any]]


def score(spec: Maths, generator: Generator, seed: int) -> Result:
    """Exact match on every row of the source, one greedy answer each. Nothing is drawn but the examples."""
    rows = list(documents(spec.source))
    golds, ids = _golds(spec, rows), item_ids(rows)
    before = _before(spec, rows)
    asked = [b + prompt_text(spec.template, row) for b, row in zip(before, rows, strict=True)]
    prompts, shortened = fit(
        [
            prompt_ids(spec.template, row, generator.tokenizer, before=b)
            for b, row in zip(before, rows, strict=True)
        ],
        ids,
        name=spec.name,
        context=generator.context,
        max_tokens=spec.max_tokens,
        too_long=spec.too_long,
    )  # fmt: skip
    found = generator.generate(prompts, Sampling(max_tokens=spec.max_tokens, stop=spec.stop, seed=seed))
    samples = grade(spec, ids, golds, [answer(completion) for (completion,) in found])
    samples = [{"id": s["id"], "asked": a} | s for a, s in zip(asked, samples, strict=True)]
    return result(samples, shortened if spec.too_long == "cut" else None)


def grade(spec: Maths, ids: Sequence[str], golds: Sequence[str], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """One sample row per item: what was generated, what was taken from it, and whether it is right."""
    return [
        {"id": i} | _grade(gold, given, spec.cut or spec.stop)
        for i, gold, given in zip(ids, golds, answers, strict=True)
    ]


def result(samples: list[dict[str, Any]], shortened: Sequence[bool] | None = None) -> Result:
    """The metrics of graded samples; `truncated` is measured where prompts may be shortened."""
    ids = tuple(sample["id"] for sample in samples)
    items = [ItemValues(m, ids, tuple(float(s[m]) for s in samples)) for m in METRICS]
    if shortened is not None:
        items.append(ItemValues("truncated", ids, tuple(float(short) for short in shortened)))
    return Result(tuple(mean(i.metric, i.values) for i in items), tuple(items), samples)


def examples_text(template: str, examples: Sequence[dict[str, Any]]) -> str:
    """The worked examples before a question, as lm-evaluation-harness lays them out."""
    return "".join(f"{prompt_text(template, row)} {row['answer']}\n\n" for row in examples)


def strict_answer(text: str) -> str | None:
    """The first number after "#### ", normalised.

    >>> strict_answer("so she has 1,200 left.\\n#### 1,200.")
    '1200'
    """
    found = STRICT.search(text)
    return None if found is None else normalise(found.group(1))


def flexible_answer(text: str) -> str | None:
    """The last number of the text, normalised."""
    found = [whole or digits for whole, digits in FLEXIBLE.findall(text)]
    return normalise(found[-1]) if found else None


def normalise(answer: str) -> str:
    """What is compared: no commas, no dollar signs, nothing before "#### ", no final full stop."""
    answer = re.sub(r"(?s).*#### ", "", answer.replace(",", "").replace("$", ""))
    return re.sub(r"\.$", "", answer)


def _golds(spec: Maths, rows: Rows) -> list[str]:
    """The right answer of each row; a column that holds no number would score every model 0."""
    require_text(rows, ("answer",), spec.name)
    golds = [normalise(row["answer"]) for row in rows]
    for i, gold in enumerate(golds):
        if not re.fullmatch(r"-?[0-9.]*[0-9][0-9.]*", gold.strip()):
            raise ValueError(
                f"{spec.name}: row {i} has {rows[i]['answer'][-40:]!r} in column 'answer'; expected it to end in "
                '"#### " and a number, or to be a number'
            )
    return golds


def _before(spec: Maths, rows: Rows) -> list[str]:
    """The worked examples of each question, as text."""
    if spec.shots is None:
        return [""] * len(rows)
    drawn = shots.examples(spec.shots, rows)
    for examples in drawn:
        require_text(examples, ("answer",), f"{spec.name} (examples)")
    return [examples_text(spec.template, examples) for examples in drawn]


def _grade(gold: str, given: Answer, cuts: Sequence[str]) -> dict[str, Any]:
    text = given.cut(cuts)
    strict, flexible = strict_answer(text), flexible_answer(text)
    return {
        "answered": text,
        "generated": given.fields(),
        "gold": gold,
        "extracted": strict,
        "extracted_flexible": flexible,
        "strict": int(strict == gold),
        "flexible": int(flexible == gold),
        "run_on": int(given.ran_on(cuts)),
        "why": _why(strict, flexible, gold),
    }


def _why(strict: str | None, flexible: str | None, gold: str) -> str:
    if strict == gold:
        return "right"
    if strict is None:
        return "no '#### ', last number right" if flexible == gold else "no '#### '"
    return "wrong number"
