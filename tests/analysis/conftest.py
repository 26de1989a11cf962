"""Made-up studies whose truth is known: a scale with four settings, and tables drawn from chosen scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis import grid
from replication.config import CPT, IFT, Cosine, Source, Trapezoid
from replication.results import Items, RunRow, Score, write_rows
from replication.scale import Scale, Setting
from replication.specs import Choice, Code, HeldOut, Maths

NOWHERE = Source("nowhere")
RANKS = (1, 4, 16)
ARMS = ("full", "r1", "r4", "r16")
FORGETTING = ("stories", "facts", "which")
Truth = Callable[[str, str, float], dict[str, float]]
Study = Callable[..., grid.Tables]


def _setting(regime: str, domain: str) -> Setting:
    lengths = (64e3, 128e3, 256e3) if regime == "cpt" else (1.0, 2.0, 4.0)
    return Setting(
        regime=regime,  # type: ignore[arg-type]
        domain=domain,
        title=f"{domain} {regime}",
        task=CPT(NOWHERE) if regime == "cpt" else IFT(NOWHERE, "{prompt}"),
        lengths=lengths,
        rates=tuple((arm, 1e-3) for arm in ARMS),
        schedule=Trapezoid(10) if regime == "cpt" else Cosine(),
        global_batch=16,
        micro_batch=16,
        seq_len=128,
        target=f"{regime}_{domain}",
        target_loss=f"{regime}_{domain}_loss",
    )


@pytest.fixture(scope="session")
def scale() -> Scale:
    names = [("cpt", "code"), ("cpt", "math"), ("ift", "code"), ("ift", "math")]
    losses = ["source_loss", *(f"{r}_{d}_loss" for r, d in names)]
    evals = (
        *(Choice(name, NOWHERE) for name in FORGETTING),
        *(HeldOut(name, NOWHERE, 128) for name in losses),
        *(Code(f"{r}_code", NOWHERE) for r in ("cpt", "ift")),
        *(Maths(f"{r}_math", NOWHERE) for r in ("cpt", "ift")),
    )
    settings = tuple((f"{r}_{d}", _setting(r, d)) for r, d in names)
    return Scale("toy", "toy-base", settings, evals, FORGETTING, "source_loss", RANKS)


def as_the_paper_says(study: str, arm: str, length: float) -> dict[str, float]:
    """Scores in which every claim about scores holds by a wide margin."""
    base = {
        "learning": 0.1,
        "forgetting": 0.9,
        "source_loss": 1.0,
        "target_loss": 3.0,
        "correct": 40.0,
        "incorrect": 45.0,
    }
    if arm == "base":
        return base
    power = {"r1": 0.1, "r4": 0.45, "r16": 0.6, "full": 1.0}[arm]
    if study.startswith("ift"):
        power = {"r1": 0.3, "r4": 1.0 if study == "ift_math" else 0.6, "r16": 1.0, "full": 1.0}[arm]
    steps = {64e3: 0.3, 128e3: 0.6, 256e3: 1.0, 1.0: 0.3, 2.0: 0.6, 4.0: 1.0}[length]
    if study.startswith("ift"):  # LoRA starts slower and arrives at the same place
        steps = {1.0: 0.7 if arm == "full" else 0.3, 2.0: 0.9 if arm == "full" else 0.7, 4.0: 1.0}[length]
    learning = 0.1 + 0.8 * power * steps
    # On maths the highest rank forgets as much as full fine-tuning, and the fronts overlap.
    loss = {"r1": 0.15, "r4": 0.4, "r16": 1.0 if study.endswith("math") else 0.55, "full": 1.0}[arm]
    size = {"cpt_math": 0.15, "cpt_code": 0.35, "ift_math": 0.3, "ift_code": 0.6}[study]
    kept = 0.9 - size * loss * (0.3 + 0.7 * length / (256e3 if study.startswith("cpt") else 4.0))
    strings = {"r1": 30.0, "r4": 28.0, "r16": 26.0, "full": 12.0}[arm]
    return {
        "learning": learning, "forgetting": kept, "source_loss": 1.9 - kept, "target_loss": 3 - learning,
        "correct": strings, "incorrect": strings + 5,
    }  # fmt: skip


def _rows(
    scale: Scale, study: str, run: str, seed: int, step: int, truth: dict[str, float], items: int, noise: float
) -> list[Items]:
    """Per-item values of every eval that a run of this study is asked; item difficulty is shared by all runs."""
    rng = np.random.default_rng([seed, step, *run.encode()])
    settings = grid.settings(scale)
    asked = list(settings.values()) if study == "base" else [settings[study.removesuffix(".learning_rates")]]
    values: dict[tuple[str, str], np.ndarray] = {}
    for name in scale.forgetting:
        values[name, "acc"] = _answers(name, truth["forgetting"], items, rng, noise)
    values[scale.source_loss, "nats_per_token"] = truth["source_loss"] + 0.1 * rng.normal(size=items)
    for setting in asked:
        solved = _answers(setting.target, truth["learning"], items, rng, noise)
        values[setting.target, grid.primary(scale.eval(setting.target))] = solved
        values[setting.target_loss, "nats_per_token"] = truth["target_loss"] + 0.1 * rng.normal(size=items)
        if isinstance(scale.eval(setting.target), Code):
            for outcome, has in (("correct", solved > 0), ("incorrect", solved == 0)):
                counts = np.where(has, truth[outcome] + rng.normal(size=items), np.nan)
                values[setting.target, f"unique_{outcome}"] = counts
    made = []
    for (name, metric), column in values.items():
        kept = ~np.isnan(column)
        ids = tuple(str(i) for i in np.flatnonzero(kept))
        made.append(
            Items(scale.name, study, run, "d0", seed, step, name, 1, metric, ids, tuple(float(v) for v in column[kept]))
        )
    return made


def _answers(name: str, probability: float, items: int, rng: np.random.Generator, noise: float) -> np.ndarray:
    """The easier share of the items is solved; those within `noise` of the edge by luck."""
    difficulty = np.random.default_rng(list(name.encode())).permutation((np.arange(items) + 0.5) / items)
    return (difficulty + noise * rng.normal(size=items) < probability).astype(float)


def _run(scale: Scale, study: str, arm: str, length: float, seed: int, lr: float) -> RunRow:
    setting = grid.settings(scale)[study.removesuffix(".learning_rates")]
    rank = grid.rank_of(arm)
    method = "full" if rank is None else f"lora-r{rank}-all"
    return RunRow(
        scale=scale.name, study=study, run=f"{study}/{method}-lr{lr:g}-{length:g}-s{seed}", digest="d0", seed=seed,
        regime=setting.regime, method=method, rank=rank, lr=lr, length=length,
        length_unit="tokens" if setting.regime == "cpt" else "epochs", trunk=False, step=int(length),
        tokens=int(length), supervised_tokens=int(length), trainable=1, final_loss=1.0, seconds=1.0, git_sha="g",
        started="now", hardware="cpu",
    )  # fmt: skip


def _scores(found: list[Items]) -> list[Score]:
    return [
        Score(
            i.scale, i.study, i.run, i.digest, i.seed, i.step, i.step, i.eval, 1, i.metric, float(np.mean(i.values)),
            len(i.values), None, "g",
        )
        for i in found if i.values
    ]  # fmt: skip


@pytest.fixture
def make_study(scale: Scale, tmp_path: Path) -> Study:
    """A function that makes the tables of a study with known scores; with `files` by way of the files of a study."""

    def make(
        truth: Truth = as_the_paper_says,
        *,
        items: int = 300,
        seeds: tuple[int, ...] = (0, 1, 2),
        spread: float = 0.0,
        noise: float = 0.05,
        leave_out: Callable[[RunRow], bool] = lambda run: False,
        sweep: dict[float, Truth] | None = None,
        only: tuple[str, ...] = ("cpt_code", "cpt_math", "ift_code", "ift_math"),
        files: bool = False,
    ) -> grid.Tables:
        runs, tables = [], {"base": _rows(scale, "base", "base", 0, 0, truth("cpt_code", "base", 0.0), items, noise)}
        for study, setting in [(n, s) for n, s in scale.settings if n in only]:
            cells = [(study, a, n, s, 1e-3, truth) for a in ARMS for n in setting.lengths for s in seeds]
            for lr, other in (sweep or {}).items():
                cells += [(study + ".learning_rates", a, setting.lengths[1], 100, lr, other) for a in ARMS]
            for name, arm, length, seed, lr, scores in cells:
                run = _run(scale, name, arm, length, seed, lr)
                if leave_out(run):
                    continue
                wanted = dict(scores(study, arm, length))
                wanted["learning"] += spread * float(np.random.default_rng([seed, *run.run.encode()]).normal())
                runs.append(run)
                tables.setdefault(name, []).extend(_rows(scale, name, run.run, seed, run.step, wanted, items, noise))
        if not files:
            every = [row for found in tables.values() for row in found]
            return grid.of_rows(scale, runs, _scores(every), every)
        folder = tmp_path / scale.name
        write_rows(folder / "runs.jsonl", runs)
        for name, found in tables.items():
            write_rows(folder / f"{name}.jsonl", _scores(found))
            write_rows(folder / f"{name}.items.jsonl.gz", found)
        return grid.load(scale, tmp_path)

    return make


@pytest.fixture
def paper_truth() -> Truth:
    return as_the_paper_says
