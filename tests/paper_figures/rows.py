"""A made-up study in the shape of the real one: a scale with four settings and every table the figures read.

The numbers are invented and smooth, with the shape the paper reports, so that a figure can be looked at before any
model is trained: `python tests/paper_figures/rows.py FOLDER` writes the tables.
"""

from __future__ import annotations

import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np

from replication.config import CPT, IFT, Cosine, Source, Trapezoid
from replication.results import RunRow, write_rows
from replication.scale import Scale, Setting
from replication.specs import Choice, Code, HeldOut, Maths

RANKS = (1, 4, 16)
ARMS = ("r1", "r4", "r16", "full")
POWER = {"r1": 0.15, "r4": 0.45, "r16": 0.8, "full": 1.0}
MODULES = {"q_proj": (128, 128), "k_proj": (128, 128), "v_proj": (128, 128), "o_proj": (128, 128)} | {
    "gate_proj": (352, 128), "up_proj": (352, 128), "down_proj": (128, 352)
}  # fmt: skip


def make_scale(name: str = "toy") -> Scale:
    source = Source(where="python:toy:documents")
    settings = (
        ("cpt_code", _setting("cpt", "code", "Code CPT", "toy_eval", "code_loss")),
        ("cpt_math", _setting("cpt", "math", "Maths CPT", "toy_maths", "math_loss")),
        ("ift_code", _setting("ift", "code", "Code IFT", "toy_eval", "code_loss")),
        ("ift_math", _setting("ift", "math", "Maths IFT", "toy_maths", "math_loss")),
    )
    evals = (
        Choice("stories", source), Choice("facts", source), Choice("which", source), Code("toy_eval", source),
        Maths("toy_maths", source), HeldOut("code_loss", source, 128), HeldOut("math_loss", source, 128),
        HeldOut("source_loss", source, 128),
    )  # fmt: skip
    return Scale(name, "toy-1m", settings, evals, ("stories", "facts", "which"), "source_loss", RANKS)


def write_tables(folder: Path, scale: Scale) -> tuple[Path, Path]:
    """All tables of a complete study; returns the analysis and the results folder."""
    rng = np.random.default_rng(7)
    analysis, results = folder / "analysis", folder / "results"
    tables = {
        "curves": _curves(scale, rng), "tradeoff": _tradeoff(scale, rng), "spectra": _spectra(scale, rng),
        "spectrum_lines": _spectrum_lines(), "diversity": _diversity(scale), "verdicts": verdicts(),
    }  # fmt: skip
    tables |= runpy.run_path(str(Path(__file__).with_name("sweep_rows.py")))["tables"](scale)
    for name, rows in tables.items():
        write_table(analysis / scale.name / f"{name}.jsonl", rows)
    write_rows(results / scale.name / "runs.jsonl", _runs(scale))
    return analysis, results


def write_table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def verdicts() -> list[dict]:
    """Six claims: three supported, one not, two undecided, with parts in two settings."""
    rows = []
    for claim, statement, parts in (
        ("C1", "In continued pretraining LoRA learns less than full fine-tuning at every rank.",
         [("full above every rank", "greater", .25, .16, .34), ("gap grows", "greater", .08, .03, .13)]),
        ("C2", "In instruction tuning low ranks fall behind and a high rank matches full fine-tuning.",
         [("low rank behind", "greater", .3, .2, .4), ("high rank matches", "equal", .01, -.06, .08)]),
        ("C3", "LoRA forgets less than full fine-tuning, and forgetting grows with training.",
         [("low rank forgets less", "greater", .09, .05, .13), ("grows with duration", "greater", .05, .03, .07)]),
        ("C4", "At equal learning LoRA forgets less on code.", [("front", "greater", -.05, -.08, -.02)]),
        ("C7", "Generations are most diverse from the base.", [("base above LoRA", "greater", 1.2, -.6, 3.0)]),
        ("C8", "The change is of high rank from the start.", [("above the LoRA ranks", "greater", 4.8, 4.4, 5.2)]),
    ):  # fmt: skip
        own = [
            _verdict(claim, name, setting, rule, (effect, low, high))
            for name, rule, effect, low, high in parts
            for setting in ("cpt_code", "cpt_math")
        ]
        answers = {row["answer"] for row in own}
        answer = next(a for a in ("not supported", "undecided", "supported") if a in answers)
        whole = _verdict(claim, "overall", "all", "all parts", None)
        rows += [*own, whole | {"statement": statement, "answer": answer, "p_against": 0.5}]
    return rows


def _verdict(claim: str, part: str, setting: str, rule: str, effect: tuple[float, float, float] | None) -> dict:
    value, low, high = effect or (None, None, None)
    answer = "undecided"
    if low is not None and high is not None and rule == "greater":
        answer = "supported" if low > 0 else "not supported" if high < 0 else "undecided"
    unit = {"C7": "strings per problem", "C8": "doublings"}.get(claim, "score")
    return {
        "claim": claim, "part": part, "setting": setting, "statement": f"The statement of {part}.",
        "source": "v2 section 4.1, Figure 1", "answer": answer, "unit": unit, "rule": rule,
        "smallest_effect": None if effect is None else 1.0 if unit != "score" else 0.03, "counts": part != "gap grows",
        "effect": value, "low": low, "high": high, "n_items": 120, "seeds": 1, "mde": None if effect is None else 0.05,
        "p": None if effect is None else 0.01, "p_against": None if effect is None else 0.5,
        "holm": answer != "undecided", "covers": "items", "missing": 0,
        "evidence": f"In {part}: 0.70 < 0.45 & more, over 120 items and 1 seed.",
        "would_change": "Three seeds with the opposite sign.",
    }  # fmt: skip


def _setting(regime: str, domain: str, title: str, target: str, target_loss: str) -> Setting:
    cpt = regime == "cpt"
    source = Source(where=f"python:toy:{domain}")
    task = CPT(source) if cpt else IFT(source, "{prompt}\n")
    lengths = (50_000.0, 100_000.0, 200_000.0, 400_000.0) if cpt else (1.0, 2.0, 4.0)
    rates = tuple((arm, 1e-3 if arm == "full" else 3e-3) for arm in ARMS)
    schedule = Trapezoid(10) if cpt else Cosine()
    return Setting(regime, domain, title, task, lengths, rates, schedule, 16, 8, 128, target, target_loss)


def _share(arm: str, length: float, lengths: tuple[float, ...]) -> float:
    return POWER[arm] * (
        0.35 + 0.65 * math.log2(2 * length / min(lengths)) / math.log2(2 * max(lengths) / min(lengths))
    )


def _curves(scale: Scale, rng: np.random.Generator) -> list[dict]:
    rows = []
    for study, s in scale.settings:
        axes = {
            "learning": (0.11, 0.6, "pass@1" if s.domain == "code" else "strict"),
            "forgetting": (0.85, -0.3, "acc"),
        }
        axes |= {"target_loss": (1.4, -0.8, "nats_per_token"), "source_loss": (0.35, 0.9, "nats_per_token")}
        axes |= {name: (0.85, -0.2 - 0.1 * i, "acc") for i, name in enumerate(scale.forgetting)}
        for arm in ARMS:
            for length in s.lengths:
                for axis, (base, gain, metric) in axes.items():
                    value = base + gain * _share(arm, length, s.lengths) + 0.01 * rng.standard_normal()
                    rows.append({
                        "study": study, "arm": arm, "rank": _rank(arm), "length": length,
                        "length_unit": "tokens" if s.regime == "cpt" else "epochs", "tokens": int(length), "axis": axis,
                        "metric": metric, "value": value, "low": value - 0.04, "high": value + 0.04, "seeds": 1,
                        "n": 120, "base": base,
                    })  # fmt: skip
    return rows


def _tradeoff(scale: Scale, rng: np.random.Generator) -> list[dict]:
    rows = []
    for study, s in scale.settings:
        rows.append({
            "study": study, "arm": "base", "rank": None, "length": 0.0, "lr": None, "swept": False, "learning": 0.11,
            "learning_low": 0.08, "learning_high": 0.14, "forgetting": 0.85, "forgetting_low": 0.82,
            "forgetting_high": 0.88, "source_loss": 0.35, "on_front": False,
        })  # fmt: skip
        for arm in ARMS:
            points = [(length, False, 1.0) for length in s.lengths] + [(max(s.lengths), True, f) for f in (0.3, 3.0)]
            for length, swept, factor in points:
                share = _share(arm, length, s.lengths)
                learning = 0.11 + 0.6 * share * (0.7 if swept else 1) + 0.01 * rng.standard_normal()
                forgetting = 0.85 - 0.3 * share * factor**0.4
                rows.append({
                    "study": study, "arm": arm, "rank": _rank(arm), "length": length, "lr": 1e-3 * factor,
                    "swept": swept, "learning": learning, "learning_low": learning - 0.04,
                    "learning_high": learning + 0.04, "forgetting": forgetting, "forgetting_low": forgetting - 0.03,
                    "forgetting_high": forgetting + 0.03, "source_loss": 0.35 + 0.9 * share, "on_front": False,
                })  # fmt: skip
        mine = [row for row in rows if row["study"] == study]
        for row in mine:
            row["on_front"] = not any(
                o["learning"] > row["learning"] and o["forgetting"] > row["forgetting"] for o in mine
            )
    return rows


def _spectra(scale: Scale, rng: np.random.Generator) -> list[dict]:
    rows = []
    for study, s in scale.settings:
        for place, length in enumerate(s.lengths):
            for layer in range(4):
                for module, (down, across) in MODULES.items():
                    noise = 65.0 if down == across else 91.0
                    rows.append({
                        "study": study, "run": f"{study}/full-lr1e-3-x{place}-s0", "arm": "full", "rank": None,
                        "seed": 0,
                        "length": length, "step": 100, "tokens": int(length * (1 if s.regime == "cpt" else 1e5)),
                        "layer": layer, "module": module, "rows": down, "cols": across, "which": "change",
                        "rank90": int(noise * (0.35 + 0.08 * place + 0.05 * layer) + rng.integers(0, 4)),
                        "rank90_noise": noise, "floor_ratio": 0.4 if place == 0 and layer == 0 else 0.01,
                    })  # fmt: skip
    return rows


def _spectrum_lines() -> list[dict]:
    rows = []
    for study, arm, which, length, size in (
        ("base", "base", "base", 0.0, 30.0), ("cpt_code", "full", "change", 50_000.0, 1.0),
        ("cpt_code", "full", "change", 400_000.0, 3.0), ("cpt_code", "full", "tuned", 400_000.0, 31.0),
        ("cpt_code", "r16", "change", 400_000.0, 2.0),
    ):  # fmt: skip
        count = 16 if arm == "r16" else 128
        rows.append({
            "study": study, "run": f"{study}/{arm}", "arm": arm, "rank": 16 if arm == "r16" else None, "seed": 0,
            "length": length, "step": 100, "tokens": int(length), "layer": 3, "module": "q_proj", "which": which,
            "rows": 128, "cols": 128, "singular": [size * math.exp(-4 * i / count) for i in range(count)],
            "noise": [size * 0.4 * (1 - i / 129) for i in range(128)],
        })  # fmt: skip
    return rows


def _diversity(scale: Scale) -> list[dict]:
    rows = []
    for study, s in scale.settings:
        if s.domain != "code":
            continue
        for arm in ("base", *ARMS):
            for length in (0.0,) if arm == "base" else s.lengths:
                share = 0.0 if arm == "base" else _share(arm, length, s.lengths)
                for outcome, top in (("correct", 14.0), ("incorrect", 38.0)):
                    unique = top * (1 - 0.6 * share)
                    rows.append({
                        "study": study, "arm": arm, "length": length, "outcome": outcome, "unique": unique,
                        "low": unique - 1.5, "high": unique + 1.5, "problems": 60 + int(40 * share), "samples": 50,
                        "seeds": 1,
                    })  # fmt: skip
    return rows


def _runs(scale: Scale) -> list[RunRow]:
    rows = []
    for study, s in scale.settings:
        for arm in ARMS:
            for length in s.lengths:
                method = "full" if arm == "full" else f"lora-{arm}-all"
                rows.append(RunRow(
                    scale=scale.name, study=study, run=f"{study}/{method}-lr1e-3-{length:g}-s0", digest="3fa9c1e2",
                    seed=0,
                    regime=s.regime, method=method, rank=_rank(arm), lr=s.rate(arm), length=length,
                    length_unit="tokens" if s.regime == "cpt" else "epochs", trunk=False, step=100, tokens=int(length),
                    supervised_tokens=int(length), trainable=1_000_000 if arm == "full" else 10_000 * (_rank(arm) or 0),
                    final_loss=0.5, seconds=30.0, git_sha="0123456789abcdef", started="2026-11-22T07:00:00+00:00",
                    hardware="2 CPU cores",
                ))  # fmt: skip
    return rows


def _rank(arm: str) -> int | None:
    return None if arm == "full" else int(arm[1:])


if __name__ == "__main__":
    write_tables(Path(sys.argv[1]), make_scale())
