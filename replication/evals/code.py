"""Programs completed from a prompt and executed against tests (HumanEval's columns), and how varied they are.

A row has `prompt`, `test` (defining `check`) and `entry_point`. What is executed:

    completion of the prompt itself (template "{prompt}")   prompt + completion + test + check(entry_point)
    answer to an instruction (any other template)           completion + test + check(entry_point)

pass@k of a problem with c of n samples right is 1 - C(n - c, k) / C(n, k), unbiased in k <= n (Chen et al. 2021).
Diversity is the paper's Figure 5: unique strings among the n samples of a problem, right and wrong ones apart;
a problem without right samples has no number of unique right ones and is left out of that mean. Every sample has one
outcome, so pass@1 and the shares assertion, exception, syntax, timeout and memory add up to 1.

Before anything is scored, the rows' canonical solutions must pass: a sandbox that fails them would count the
machine's troubles as the model's.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from functools import cache
from typing import Any

from replication.data.sources import documents
from replication.evals.generate import Completion, Generator, Sampling
from replication.evals.prompts import prompt_ids, prompt_text
from replication.evals.result import ItemValues, Result, item_ids, mean
from replication.evals.sandbox import Verdict, run_programs
from replication.specs import Code

FAILURES = ("assertion", "exception", "syntax", "timeout", "memory")
COLUMNS = ("prompt", "test", "entry_point")

Values = dict[str, float]


def score(spec: Code, generator: Generator, seed: int) -> Result:
    """pass@k, failures and diversity over `spec.samples` sampled programs per row."""
    rows = _proven_rows(spec)
    prompts = [prompt_ids(spec.template, row, generator.tokenizer) for row in rows]
    how = Sampling(
        n=spec.samples,
        temperature=spec.temperature,
        top_p=spec.top_p,
        max_tokens=spec.max_tokens,
        stop=spec.stop,
        seed=seed,
    )
    completions = generator.generate(prompts, how)
    programs = [
        [program(row, c.text, template=spec.template) for c in cs] for row, cs in zip(rows, completions, strict=True)
    ]
    verdicts = _execute({p for ps in programs for p in ps}, spec.timeout)
    graded = [(cs, [verdicts[p] for p in ps]) for cs, ps in zip(completions, programs, strict=True)]
    ids = item_ids(rows, "task_id")
    items = _items(ids, [_measure(*item) for item in graded])
    asked = [prompt_text(spec.template, row) for row in rows]
    samples = [_sample(name, text, *item) for name, text, item in zip(ids, asked, graded, strict=True)]
    return Result(tuple(mean(i.metric, i.values) for i in items), items, samples)


def program(row: dict[str, Any], completion: str, *, template: str = "{prompt}") -> str:
    """The source text that is executed for one completion."""
    start = row["prompt"] if template == "{prompt}" else ""
    return f"{start}{completion}\n{row['test']}\ncheck({row['entry_point']})"


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that k of n samples, drawn without replacement, hold a correct one.

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


@cache
def _proven_rows(spec: Code) -> list[dict[str, Any]]:
    """The rows of the source, once their canonical solutions (where given) have passed their own tests."""
    rows = list(documents(spec.source))
    for i, row in enumerate(rows):
        if missing := [c for c in COLUMNS if c not in row]:
            raise ValueError(f"{spec.name}: row {i} has no column {missing[0]!r}; it has {sorted(row)}")
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


def _measure(completions: list[Completion], verdicts: list[Verdict]) -> Values:
    """Every metric of one problem; those that do not exist for it are left out."""
    n = len(completions)
    outcomes: Counter[str] = Counter(v.outcome for v in verdicts)
    right = {c.text for c, v in zip(completions, verdicts, strict=True) if v.outcome == "passed"}
    wrong = {c.text for c, v in zip(completions, verdicts, strict=True) if v.outcome != "passed"}
    values = {f"pass@{k}": pass_at_k(n, outcomes["passed"], k) for k in (1, 10) if k <= n}
    values |= {failure: outcomes[failure] / n for failure in FAILURES}
    values["run_on"] = sum(c.finish == "length" for c in completions) / n
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


def _sample(name: str, asked: str, completions: list[Completion], verdicts: list[Verdict]) -> dict[str, Any]:
    """One problem: each different answer once, with how often it was given and what became of it."""
    counts = Counter(c.text for c in completions)
    fates = {c.text: v for c, v in zip(completions, verdicts, strict=True)}
    answers = [
        {"text": text, "count": count, "outcome": fates[text].outcome, "why": fates[text].detail}
        for text, count in counts.most_common()
    ]
    passed = sum(v.outcome == "passed" for v in verdicts)
    return {"id": name, "asked": asked, "answered": answers, "passed": passed, "samples": len(completions)}
