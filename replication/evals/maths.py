"""Word problems answered greedily, graded by the number they end in (GSM8K's columns: question, answer).

Two extractions, as in lm-evaluation-harness's gsm8k task, because the choice between them decides scores
(a right answer that runs on to another number is lost to the second):

    strict     the first number after "#### "
    flexible   the last number of the text

Both are compared as strings after commas, dollar signs and a final full stop are removed. `run_on` is the share of
answers that never stopped.
"""

from __future__ import annotations

import re
from typing import Any

from replication.data.sources import documents
from replication.evals.generate import Completion, Generator, Sampling
from replication.evals.prompts import prompt_ids, prompt_text
from replication.evals.result import ItemValues, Result, item_ids, mean
from replication.specs import Maths

STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")

METRICS = ("strict", "flexible", "run_on")


def score(spec: Maths, generator: Generator, seed: int) -> Result:
    """Exact match on every row of the source, one greedy answer each. Nothing is drawn."""
    rows = list(documents(spec.source))
    prompts = [prompt_ids(spec.template, row, generator.tokenizer) for row in rows]
    answers = generator.generate(prompts, Sampling(max_tokens=spec.max_tokens, stop=spec.stop, seed=seed))
    graded = [_grade(row, answer) for row, (answer,) in zip(rows, answers, strict=True)]
    asked = [prompt_text(spec.template, row) for row in rows]
    samples = [{"id": i, "asked": a} | g for i, a, g in zip(item_ids(rows), asked, graded, strict=True)]
    ids = tuple(sample["id"] for sample in samples)
    items = tuple(ItemValues(m, ids, tuple(float(s[m]) for s in samples)) for m in METRICS)
    return Result(tuple(mean(i.metric, i.values) for i in items), items, samples)


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


def _grade(row: dict[str, Any], answer: Completion) -> dict[str, Any]:
    gold = normalise(str(row["answer"]))
    strict, flexible = strict_answer(answer.text), flexible_answer(answer.text)
    return {
        "answered": answer.text,
        "gold": gold,
        "extracted": strict,
        "extracted_flexible": flexible,
        "finish": answer.finish,
        "strict": int(strict == gold),
        "flexible": int(flexible == gold),
        "run_on": int(answer.finish == "length"),
        "why": _why(strict, flexible, gold),
    }


def _why(strict: str | None, flexible: str | None, gold: str) -> str:
    if strict == gold:
        return "right"
    if strict is None:
        return "no '#### ', last number right" if flexible == gold else "no '#### '"
    return "wrong number"
