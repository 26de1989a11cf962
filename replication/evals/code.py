"""Programs completed from a prompt and executed against tests (HumanEval's columns), and how varied they are.

A row has `prompt`, `test` (defining `check`) and `entry_point`. What is executed:

    completion of the prompt itself (template "{prompt}")   prompt + completion + test + check(entry_point)
    answer to an instruction (any other template)           completion + test + check(entry_point)

The prompt is executed as it was asked: conventions strip it (bigcode: of all white space; evalplus: and end it with
one line break) or leave it, and a completion continues what was asked. The completion ends at the first of `spec.cut`,
wherever its generation ended.

pass@k of a problem with c of n samples right is 1 - C(n - c, k) / C(n, k), unbiased in k <= n (Chen et al. 2021).
Diversity is the paper's Figure 5: unique strings among the n samples of a problem, right and wrong ones apart;
a problem without right samples has no number of unique right ones and is left out of that mean. Every sample has one
outcome, so pass@1 and the shares assertion, exception, syntax, timeout and memory add up to 1.

Before anything is asked, the rows' canonical solutions must pass: a sandbox that fails them would count the
machine's troubles as the model's.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from replication.data.sources import documents
from replication.evals.generate import Generator, Sampling
from replication.evals.prompts import Answer, answer, fit, prompt_ids, prompt_text, require_text
from replication.evals.result import ItemValues, Result, item_ids, mean
from replication.evals.sandbox import Verdict, run_programs
from replication.specs import Code

FAILURES = ("assertion", "exception", "syntax", "timeout", "memory")
COLUMNS = ("prompt", "test", "entry_point")
# From this many samples on, pass@k is a curve (the paper's Figure S9: 1, 2, 4, ..., 256), not a few numbers.
CURVE_FROM = 100

Values = dict[str, float]
Rows = list[dict[str, Any]]


def score(spec: Code, generator: Generator, seed: int) -> Result:
    """pass@k, failures and diversity over `spec.samples` sampled programs per row."""
    rows = [asked_as(spec, row) for row in proven_rows(spec)]
    ids = item_ids(rows, "task_id")
    prompts, shortened = fit(
        [prompt_ids(spec.template, row, generator.tokenizer) for row in rows],
        ids,
        name=spec.name,
        context=generator.context,
        max_tokens=spec.max_tokens,
        too_long=spec.too_long,
    )
    how = Sampling(
        n=spec.samples,
        temperature=spec.temperature,
        top_p=spec.top_p,
        max_tokens=spec.max_tokens,
        stop=spec.stop,
        seed=seed,
    )
    answers = [[answer(c) for c in found] for found in generator.generate(prompts, how)]
    result = grade(spec, rows, answers)
    asked = [
        {"id": s["id"], "asked": prompt_text(spec.template, row), "prompt_tokens": len(p)} | s
        for s, row, p in zip(result.samples, rows, prompts, strict=True)
    ]
    if spec.too_long == "error":
        return Result(result.metrics, result.items, asked)
    cut = ItemValues("truncated", ids, tuple(float(short) for short in shortened))
    return Result((*result.metrics, mean(cut.metric, cut.values)), (*result.items, cut), asked)


def grade(spec: Code, rows: Rows, answers: list[list[Answer]]) -> Result:
    """Execute the answers to each row and measure.

    Args:
        rows: with the prompts as they were asked (`asked_as`).
        answers: `spec.samples` for each row.
    """
    cuts = spec.cut or spec.stop
    texts = [[given.cut(cuts) for given in found] for found in answers]
    programs = [
        [program(row, t, template=spec.template) for t in found] for row, found in zip(rows, texts, strict=True)
    ]
    verdicts = _execute({p for ps in programs for p in ps}, spec.timeout)
    judged = [[verdicts[p] for p in ps] for ps in programs]
    ids = item_ids(rows, "task_id")
    measured = [
        _measure(ts, vs, [given.ran_on(cuts) for given in found])
        for ts, vs, found in zip(texts, judged, answers, strict=True)
    ]
    items = _items(ids, measured)
    samples = [_sample(*item) for item in zip(ids, answers, judged, strict=True)]
    return Result(tuple(mean(i.metric, i.values) for i in items), items, samples)


def asked_as(spec: Code, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its prompt as the spec asks it."""
    if spec.prompt == "as_is":
        return row
    return row | {"prompt": row["prompt"].strip() + ("\n" if spec.prompt == "stripped_line" else "")}


def program(row: dict[str, Any], completion: str, *, template: str = "{prompt}") -> str:
    """The source text that is executed for one completion."""
    start = row["prompt"] if template == "{prompt}" else ""
    return f"{start}{completion}\n{row['test']}\ncheck({row['entry_point']})"


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that k of n samples, drawn without replacement, hold a correct one.

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {correct} right ones in {n} samples; expected 1 <= k <= n and right ones <= n")
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def budgets(n: int) -> tuple[int, ...]:
    """The k of pass@k that n samples are reported at: 1, 10, 100; from 100 samples on also powers of two, and n.

    >>> budgets(50), budgets(256)
    ((1, 10), (1, 2, 4, 8, 10, 16, 32, 64, 100, 128, 256))
    """
    known = {k for k in (1, 10, 100) if k <= n}
    if n >= CURVE_FROM:
        known |= {2**i for i in range(n.bit_length())} | {n}
    return tuple(sorted(known))


@cache
def proven_rows(spec: Code) -> Rows:
    """The rows of the source, once their canonical solutions (where given) have passed their own tests.

    Raises:
        ValueError: a column is missing or holds something else than text.
        RuntimeError: a canonical solution fails.
    """
    rows = list(documents(spec.source))
    require_text(rows, COLUMNS, spec.name)
    solved = [row for row in rows if row.get("canonical_solution")]
    programs = [program(row, row["canonical_solution"]) for row in solved]
    verdicts = _execute(set(programs), spec.timeout)
    failed = [
        f"{row.get('task_id')}: {verdicts[p].outcome}" for row, p in zip(solved, programs, strict=True)
        if verdicts[p].outcome != "passed"
    ]  # fmt: skip
    if failed:
        raise RuntimeError(
            f"{spec.name}: {len(failed)} of {len(solved)} canonical solutions fail in the sandbox ({failed[0]}); "
            "mend the sandbox or the data before any score counts"
        )
    return rows


def _execute(programs: set[str], timeout: float) -> dict[str, Verdict]:
    """A verdict per program: equal programs run once."""
    listed = sorted(programs)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return dict(zip(listed, run_programs(listed, timeout=timeout, workers=workers), strict=True))


def _measure(texts: Sequence[str], verdicts: Sequence[Verdict], ran_on: Sequence[bool]) -> Values:
    """The metrics of one problem's executed texts; those that do not exist for it are left out."""
    n = len(texts)
    outcomes: Counter[str] = Counter(v.outcome for v in verdicts)
    right = {t for t, v in zip(texts, verdicts, strict=True) if v.outcome == "passed"}
    wrong = {t for t, v in zip(texts, verdicts, strict=True) if v.outcome != "passed"}
    values = {f"pass@{k}": pass_at_k(n, outcomes["passed"], k) for k in budgets(n)}
    values |= {failure: outcomes[failure] / n for failure in FAILURES}
    values["run_on"] = sum(ran_on) / n
    values["share_unique"] = len(right | wrong) / n
    if right:
        values["unique_correct"] = float(len(right))
    if wrong:
        values["unique_incorrect"] = float(len(wrong))
    return values


def _items(ids: tuple[str, ...], measured: list[Values]) -> tuple[ItemValues, ...]:
    names = list(dict.fromkeys(name for values in measured for name in values))
    items = []
    for name in names:
        having = [(i, values[name]) for i, values in zip(ids, measured, strict=True) if name in values]
        items.append(ItemValues(name, tuple(i for i, _ in having), tuple(v for _, v in having)))
    return tuple(items)


def _sample(name: str, answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """One problem: each different generation once, with how often it came and what became of it."""
    counts = Counter(answers)
    fates = dict(zip(answers, verdicts, strict=True))
    listed = [
        given.fields() | {"count": count, "outcome": fates[given].outcome, "why": fates[given].detail}
        for given, count in counts.most_common()
    ]
    passed = sum(v.outcome == "passed" for v in verdicts)
    return {"id": name, "answered": listed, "passed": passed, "samples": len(answers)}
