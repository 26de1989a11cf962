"""The paper's own published scores as a scale, so that its claims can be judged by the code that judges ours.

The tables S1 to S13 and the base's line in the figures become runs and scores. What the paper does not print is not
made up: a run here (`Ran`) has no digest, seconds or loss, and no score has per-item values. Standard errors are those
of chance in the items alone, from the sizes of the benchmarks:

    HumanEval     sqrt(p (1 - p) / 164), an upper bound: each of 164 problems has 50 samples
    GSM8K, MMLU   sqrt(p (1 - p) / n), greedy answers, right or wrong
    forgetting    mean of three benchmarks, each taken to lie at the mean: sqrt(sum p (1 - p) / n_i) / 3
    MT-bench      none: the paper speaks of one standard error over its 160 data points and does not print it

One run per condition, no seeds: intervals say what other items might have given, not what other runs might.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from experiments import paper
from experiments import paper_settings as said
from experiments.paper_scale import PAPER
from replication.config import Source
from replication.results import Score
from replication.scale import Setting
from replication.specs import Choice

# The mean of three benchmarks as one eval: the paper prints no more of it.
FORGETTING = "forgetting"
# MMLU's test split (hendrycks/test); MT-bench's 80 questions have two turns (v2 section 4.4).
MMLU_ITEMS, MT_BENCH_POINTS = 14_042, 160
METRICS = {"humaneval": "pass@1", "gsm8k": "strict", FORGETTING: "acc", "mmlu": "acc", "mt_bench": "points"}
BASE = "base"

SCALE = replace(
    PAPER,
    name="reported",
    evals=(
        *(e for e in PAPER.evals if e.name in ("humaneval", "gsm8k")),
        Choice("mmlu", PAPER.eval("mmlu").source, form="letters"),
        Choice(FORGETTING, Source("printed: the mean of HellaSwag, ARC-Challenge and WinoGrande")),
    ),
    forgetting=(FORGETTING,),
    sweep_rates=(),
    ablations=(),
    printed=True,
)


@dataclass(frozen=True)
class Ran:
    """A run of the paper: what its tables say about it, under the names that our own runs have."""

    study: str
    run: str
    seed: int
    method: str
    rank: int | None
    lr: float
    length: float
    length_unit: str
    trunk: bool
    step: int
    tokens: int
    variant: str = ""


def runs() -> tuple[Ran, ...]:
    """Every run of the paper's tables; of the mix, one an arm, which was scored on its way."""
    made = []
    for name, setting in SCALE.settings:
        lengths = setting.lengths if setting.separate else setting.lengths[-1:]
        made += [_run(name, setting, arm, length) for arm, _ in setting.rates for length in lengths]
    return tuple(made)


def scores() -> list[Score]:
    """Every score of the paper's tables, and the base's once."""
    found: dict[tuple[str, int, str], Score] = {}
    for row in paper.REPORTED:
        made = _score(row)
        found.setdefault((made.run, made.step, made.eval), made)
    return list(found.values())


def source(study: str, method: str, length: float, quantity: str) -> str:
    """Where the paper prints a score; "" where it prints none."""
    row = paper.reported(study, method, length, quantity)  # type: ignore[arg-type]
    return "" if row is None else row.source


def stderr(value: float, quantity: str) -> float | None:
    """Chance in the items as above; None where the paper's sizes do not give it."""
    if quantity == FORGETTING:
        return math.sqrt(sum(value * (1 - value) / paper.ITEMS[name] for name in paper.FORGETTING)) / 3
    return None if quantity == "mt_bench" else math.sqrt(value * (1 - value) / items(quantity))


def items(quantity: str) -> int:
    """How many items a score is the mean of."""
    others = {FORGETTING: sum(paper.ITEMS[n] for n in paper.FORGETTING), "mmlu": MMLU_ITEMS}
    return (others | paper.ITEMS | {"mt_bench": MT_BENCH_POINTS})[quantity]


def _run(name: str, setting: Setting, arm: str, length: float) -> Ran:
    rank = None if arm == "full" else int(arm.removeprefix("r"))
    step, tokens = _place(name, setting, length)
    return Ran(
        study=name,
        run=_named(name, setting, arm, length),
        seed=0,
        method="full" if rank is None else f"lora-r{rank}-all",
        rank=rank,
        lr=setting.rate(arm),
        length=length,
        length_unit="tokens" if setting.regime == "cpt" else "epochs",
        trunk=False,
        step=step,
        tokens=tokens,
    )


def _score(row: paper.Reported) -> Score:
    setting = dict(SCALE.settings)[row.setting]
    step, tokens = _place(row.setting, setting, row.length)
    base = row.method == BASE
    return Score(
        scale=SCALE.name,
        study=BASE if base else row.setting,
        run=BASE if base else _named(row.setting, setting, row.method, row.length),
        digest="",
        seed=0,
        step=step,
        tokens=tokens,
        eval=row.quantity,
        eval_version=1,
        metric=METRICS[row.quantity],
        value=row.value,
        n=items(row.quantity),
        stderr=stderr(row.value, row.quantity),
        git_sha="",
    )


def _named(name: str, setting: Setting, arm: str, length: float) -> str:
    """One name for the whole run where it was scored on its way."""
    if not setting.separate:
        return f"{name}/{arm}"
    return f"{name}/{arm}-{length / 1e9:g}B" if setting.regime == "cpt" else f"{name}/{arm}-ep{length:g}"


def _place(name: str, setting: Setting, length: float) -> tuple[int, int]:
    """Step and trained positions at a length, from the batches of `paper_settings.py`."""
    batch = setting.global_batch * setting.seq_len
    if setting.regime == "cpt":
        step = round(length / batch)
    else:
        hyper = said.HYPER[name]  # type: ignore[index]
        per_sequence = hyper.per_sequence.value if hyper.per_sequence else 1
        step = round(length * hyper.documents.value / (per_sequence * setting.global_batch))
    return step, step * batch
