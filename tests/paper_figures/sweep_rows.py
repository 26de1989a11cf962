"""Made-up rows of the tables beyond the main comparison: sweeps, capacity, cost, samples, intruders, optimisers.

The numbers are invented and smooth, in the shape the sources report. Loaded by path, as `rows.py` is.
"""

from __future__ import annotations

import math

import numpy as np

from replication.scale import Scale

# Arm, variants and the share of the full gain that each reaches, by sweep.
REGULARISED = {"": 1.0, "wd4.2e-4": 0.97, "wd8.4e-4": 0.9, "ad0.05": 0.98, "ad0.1": 0.93}
MODULES = {"": 1.0, "mlp": 0.93, "attention": 0.6}
ALPHAS = {"": 1.0, "a16": 0.95, "a2": 0.75}
MATCHED = {("r16", "attention", 65_536): 0.6, ("r12", "mlp", 67_968): 0.9, ("r7", "", 68_320): 0.92}


def tables(scale: Scale) -> dict[str, list[dict]]:
    """Every table, by name."""
    rng = np.random.default_rng(11)
    return {
        "sweeps": sweeps(scale, rng), "capacity": capacity(scale, rng), "throughput": throughput(),
        "pass_at_k": pass_at_k(scale), "texts": [], "intruders": intruders(scale, rng),
        "max_cosines": max_cosines(scale), "intruder_scaling": scaling(scale), "artefact": artefact(scale, rng),
    }  # fmt: skip


def sweeps(scale: Scale, rng: np.random.Generator) -> list[dict]:
    rows = []
    for study, setting in scale.settings:
        for arm, best in (("full", 6e-4), *((f"r{r}", 4e-3) for r in scale.ranks)):
            for step in range(-2, 3):
                share = _power(arm, scale) * math.exp(-0.4 * step**2)
                point = {"lr": best * 2.0**step, "length": setting.lengths[1], "chosen": step == 0}
                rows += _axes(study, setting, "learning_rates", arm, "", share, rng, point)
    return rows + _one_setting(scale, rng)


def _one_setting(scale: Scale, rng: np.random.Generator) -> list[dict]:
    study, setting = next((n, s) for n, s in scale.settings if s.regime == "ift")
    rows, top = [], f"r{max(scale.ranks)}"
    for place, length in enumerate(setting.lengths):
        grown = 0.5 + 0.5 * place / (len(setting.lengths) - 1)
        point = {"lr": 6e-4, "length": length}
        for variant, part in REGULARISED.items():
            own = point | {"own": not variant}
            rows += _axes(study, setting, "regularisation", "full", variant, part * grown, rng, own)
        for rank in scale.ranks:
            for variant, part in MODULES.items():
                share = part * grown * _power(f"r{rank}", scale)
                rows += _axes(study, setting, "modules", f"r{rank}", variant, share, rng, point | {"own": not variant})
    for step in range(-2, 2):
        for variant, part in ALPHAS.items():
            share = part * math.exp(-0.3 * step**2)
            point = {"lr": 4e-3 * 2.0**step, "length": setting.lengths[1], "chosen": step == 0}
            rows += _axes(study, setting, "alpha", top, variant, share, rng, point)
        for arm, variant, part in (("full", "", 1.0), ("full", "adamw", 0.9), ("r4", "nogate-a2", 0.7),
                                   ("r4", "nogate-a2-adamw", 0.6)):  # fmt: skip
            rate = (6e-4 if arm == "full" else 4e-3) * 2.0**step
            point = {"lr": rate, "length": setting.lengths[1], "chosen": step == 0}
            rows += _axes(study, setting, "optimiser", arm, variant, part * math.exp(-0.3 * step**2), rng, point)
    for (arm, variant, size), part in MATCHED.items():
        for step in (0, 1):
            point = {"lr": 4e-3 * 2.0**step, "length": max(setting.lengths), "chosen": step == 0, "trainable": size}
            rows += _axes(study, setting, "matched", arm, variant, part - 0.1 * step, rng, point)
    return rows


def _axes(study, setting, sweep, arm, variant, share, rng, point) -> list[dict]:
    axes = {"learning": ("pass@1", 0.11, 0.6), "forgetting": ("acc", 0.85, -0.3)}
    axes |= {"target_loss": ("nats_per_token", 1.4, -0.8), "source_loss": ("nats_per_token", 0.35, 0.9)}
    rows = []
    for axis, (metric, base, gain) in axes.items():
        value = base + gain * share + 0.01 * rng.standard_normal()
        rows.append({
            "study": study, "sweep": sweep, "arm": arm, "variant": variant,
            "rank": None if arm == "full" else int(arm[1:]), "trainable": 10_000,
            "length_unit": "tokens" if setting.regime == "cpt" else "epochs", "axis": axis, "metric": metric,
            "value": value, "low": value - 0.04, "high": value + 0.04, "seeds": 3, "n": 100, "base": base,
            "chosen": True, "own": False,
        } | point)  # fmt: skip
    return rows


def capacity(scale: Scale, rng: np.random.Generator) -> list[dict]:
    rows = []
    for study, setting in scale.settings:
        for rank in scale.ranks:
            for place, length in enumerate(setting.lengths):
                ratio = 3.0 * 2**place / rank
                gap = 0.2 * max(0.0, math.log10(ratio)) + 0.02 * rng.standard_normal()
                rows.append({
                    "study": study, "arm": f"r{rank}", "rank": rank, "length": length, "trainable": 10_000 * rank,
                    "bits_low": 10_000 * rank, "bits": 20_000 * rank, "dataset_tokens": 1e5, "dataset_bits": 1e5,
                    "ratio": ratio, "learning": 0.5, "gap_to_full": gap, "low": gap - 0.06, "high": gap + 0.06,
                })  # fmt: skip
    return rows


def throughput() -> list[dict]:
    rows = []
    for place, arm in enumerate(("r8", "r32", "r128", "r512", "full")):
        for batch in (1, 2, 4, 8, 16):
            speed = 4000 * batch**0.4 * (1.0 if arm == "full" else 0.85 - 0.04 * place)
            rows.append({
                "arm": arm, "rank": None if arm == "full" else int(arm[1:]), "batch": batch, "seq_len": 512,
                "tokens_per_s": speed, "low": speed * 0.97, "high": speed * 1.03,
                "peak_memory_gb": (8 if arm == "full" else 4 + 0.2 * place) + 0.5 * batch,
                "hardware": "one made-up GPU", "repeats": 3,
            })  # fmt: skip
    return rows


def pass_at_k(scale: Scale) -> list[dict]:
    rows = []
    for study, setting in scale.settings:
        if setting.domain != "code":
            continue
        for arm in ("base", "full", *(f"r{r}" for r in scale.ranks)):
            first = 0.1 if arm == "base" else 0.2 + 0.5 * _power(arm, scale)
            for length in (0.0,) if arm == "base" else setting.lengths:
                for k in (1, 2, 4, 8, 16, 32, 50):
                    value = 1 - (1 - first) ** (1 + math.log2(k) * 0.4)
                    rows.append({
                        "study": study, "eval": setting.target, "arm": arm, "length": length, "k": k, "value": value,
                        "low": value - 0.05, "high": min(1.0, value + 0.05), "samples": 50, "temperature": 0.8,
                        "seeds": 1, "n": 100,
                    })  # fmt: skip
    return rows


def intruders(scale: Scale, rng: np.random.Generator) -> list[dict]:
    rows = []
    for study, setting in scale.settings:
        for arm in ("full", *(f"r{r}" for r in scale.ranks)):
            for place, length in enumerate(setting.lengths):
                for k in (5, 10):
                    for epsilon in (0.1, 0.3, 0.5, 0.7, 0.9):
                        most = 0.2 if arm == "full" else 0.9
                        own = k * most * epsilon**2 * (0.5 + 0.2 * place) * (0.9 + 0.2 * rng.random())
                        rows.append({
                            "study": study, "run": f"{study}/{arm}-{length:g}-s0", "arm": arm, "rank": None, "seed": 0,
                            "length": length, "epsilon": epsilon, "k": k, "count": int(28 * own), "per_matrix": own,
                            "random": k * min(1.0, max(0.0, 3 * (epsilon - 0.25))), "matched": 0.3 * own,
                            "matrices": 28, "forgetting": 0.9 - 0.1 * own / k, "learning": 0.4, "source_loss": 0.5,
                        })  # fmt: skip
    return rows


def max_cosines(scale: Scale) -> list[dict]:
    rows = []
    study, setting = scale.settings[0]
    for arm in ("full", f"r{max(scale.ranks)}"):
        for kind, least in (("tuned", 0.4 if arm != "full" else 0.8), ("random", 0.2), ("matched", 0.75)):
            for level in np.linspace(0, 1, 21):
                top = 0.35 if kind == "random" else 1.0
                rows.append({
                    "study": study, "run": f"{study}/{arm}", "arm": arm, "seed": 0, "length": max(setting.lengths),
                    "kind": kind, "level": round(float(level), 3), "value": least + (top - least) * float(level) ** 0.5,
                })  # fmt: skip
    return rows


def scaling(scale: Scale) -> list[dict]:
    rows = []
    study, setting = next((n, s) for n, s in scale.settings if s.regime == "ift")
    for arm in ("full", *(f"r{r}" for r in scale.ranks)):
        for direction, size in (("intruder", 0.1), ("neighbour", 0.02)):
            for factor in (0.0, 0.3, 0.5, 0.7, 1.0):
                for axis, sign in (("learning", -0.4), ("forgetting", 1.0), ("source_loss", -2.0)):
                    change = sign * size * (1 - factor) * _power(arm, scale)
                    rows.append({
                        "study": study, "run": f"{study}/{arm}-s0", "arm": arm, "seed": 0,
                        "length": max(setting.lengths), "direction": direction, "factor": factor, "axis": axis,
                        "value": 0.6 + change, "change": change, "low": change - 0.02, "high": change + 0.02,
                    })  # fmt: skip
    return rows


def artefact(scale: Scale, rng: np.random.Generator) -> list[dict]:
    rows = []
    study, setting = scale.settings[0]
    for optimiser, height, rate in (("lionw", 0.6, 1.2e-3), ("adamw", 0.5, 2e-3), ("sgd", 0.2, 1.0)):
        for seed in (0, 1, 2):
            for place, length in enumerate(setting.lengths):
                share = height + 0.05 * place + 0.01 * rng.standard_normal()
                rows.append({
                    "study": study, "optimiser": optimiser, "lr": rate, "seed": seed, "length": length,
                    "target_loss": 1.4 - 0.2 * place + 0.02 * rng.standard_normal(), "learning": 0.2 * place,
                    "rank90_share": share, "effective_share": 0.9 * share, "stable_rank": 40 * share, "frobenius": 3.0,
                })  # fmt: skip
    return rows


def _power(arm: str, scale: Scale) -> float:
    if arm == "full":
        return 1.0
    place = sum(rank <= int(arm[1:]) for rank in scale.ranks) / len(scale.ranks)
    return 0.2 + 0.7 * place
