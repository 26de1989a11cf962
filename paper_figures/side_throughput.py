"""Side study: throughput. What each optimisation makes of the speed of a step, full fine-tuning beside LoRA.

Supervised tokens per second over those of the reference of the same seed (a document a row, padded); all arms train on
the same documents at every step. Small marks are seeds, large ones their mean, which is also written. A filled mark has
the proof: as many weights trained and moved as in the reference, a gradient in every group, and its losses. A cross is
an arm without it; LoRA+ is hollow, for it goes another way on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import throughput
from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row

STEM = "side_throughput"
NEEDS = ("side_throughput",)
SPEED = "supervised_tokens_per_s"
METHODS = {"full": ("Full fine-tuning", style.INK), "lora": ("LoRA r=16", "#d1405f")}
# From the top; those that need a GPU stand only where they were run.
WORDS = {
    "trimmed": "padded to the longest", "packed": "packed", "compile": "torch.compile", "cut": "loss without logits",
    "liger": "liger's modules", "kernels": "liger and loss", "fused": "AdamW in one kernel",
    "loop": "AdamW tensor by tensor", "plus": "LoRA+", "all": "all together", "allkernels": "all, liger, not compiled",
}  # fmt: skip
GPU = ("liger", "kernels", "allkernels")
# Nats: on the pocket model rounding in fp32 stayed below 3e-7 over 20 steps; that of bf16 is 2**16 times as coarse.
SAME = {"fp32": 1e-4, "bf16": 2e-2}
BELOW = 0.22  # of a row's height: where the seeds are drawn, under the mean's mark


class Arm(NamedTuple):
    """Speeds over the reference's by seed, and why the arm has no proof; "" where it has."""

    word: str
    ratios: tuple[float, ...]
    doubt: str


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """One figure of two panels."""
    rows = inputs.tables["side_throughput"]
    if not rows:
        return {}
    return {STEM: Picture({"side_throughput": rows}, partial(draw, rows, same=SAME[inputs.scale.precision]))}


def missing(inputs: Inputs) -> list[str]:
    """The arms of the study without a speed."""
    timed = {row["arm"] for row in inputs.tables["side_throughput"] if row["metric"] == SPEED}
    wanted = [f"{m}-{word}" for m in METHODS for word in WORDS if word not in GPU and (m, word) != ("full", "plus")]
    return [f"arm {arm}" for arm in [*METHODS, *wanted] if arm not in timed]


def arms(rows: Sequence[Row], method: str, *, same: float) -> list[Arm]:
    """The arms of a method that were run, against its reference, in the order of the figure.

    Args:
        same: how far an arm's losses may be from its reference's, nats.
    """
    costs = _costs(rows)
    base = costs.get(method, {})
    found = []
    for word in WORDS:
        own = {seed: c for seed, c in costs.get(f"{method}-{word}", {}).items() if seed in base}
        if own:
            ratios = tuple(c[SPEED] / base[seed][SPEED] for seed, c in sorted(own.items()))
            found.append(Arm(word, ratios, _doubt(f"{method}-{word}", own, base, same)))
    return found


def draw(rows: list[Row], *, same: float) -> Figure:
    """A panel for each method, a row for each arm; `same` as for `arms`."""
    with style.look():
        figure, panels = style.panels(len(METHODS), columns=2, height=3.0)
        drawn = [arms(rows, method, same=same) for method in METHODS]
        widest = max((r for arm in [*drawn[0], *drawn[1]] for r in arm.ratios), default=1.0)
        for place, (axes, (method, (words, tint)), own) in enumerate(zip(panels, METHODS.items(), drawn, strict=True)):
            _panel(axes, own, tint)
            axes.set_xlim(0, max(1.0, widest) * 1.22)
            axes.set_xlabel(f"speed over the reference's\n(1 = {_speed(rows, method)} supervised tokens/s)")
            style.title(axes, place, words)
        style.legend(figure, [*_handles(), style.seed_and_data(rows)])
        return style.finish(figure)


def _panel(axes: Axes, own: Sequence[Arm], tint: str) -> None:
    style.baseline(axes, 1.0, across=False)
    for place, arm in enumerate(own):
        axes.plot(arm.ratios, [place + BELOW] * len(arm.ratios), "o", color=tint, markersize=2.6, alpha=0.6, zorder=3)
        mean = fmean(arm.ratios)
        kind = {"": ("o", tint), "another trajectory": ("o", style.PAPER)}.get(arm.doubt, ("X", style.PAPER))
        axes.plot([mean], [place], kind[0], color=tint, markerfacecolor=kind[1], markersize=6, zorder=4)
        axes.annotate(
            f"{mean:.2f}", (max(mean, *arm.ratios), place), xytext=(6, 0), textcoords="offset points", va="center",
            fontsize=style.SMALL,
        )  # fmt: skip
    axes.set_yticks(range(len(own)), [WORDS[arm.word] for arm in own])
    axes.set_ylim(len(own) - 0.4, -0.6)


def _costs(rows: Sequence[Row]) -> dict[str, dict[int, dict[str, float]]]:
    """The costs of every run, by arm and seed."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for row in table.select(list(rows), eval="run"):
        found.setdefault(row["arm"], {}).setdefault(row["seed"], {})[row["metric"]] = row["value"]
    return {arm: {seed: c for seed, c in own.items() if SPEED in c} for arm, own in found.items()}


def _doubt(
    arm: str, own: Mapping[int, Mapping[str, float]], base: Mapping[int, Mapping[str, float]], same: float
) -> str:
    """Why an arm's speed is none of training the same; "" where it is."""
    for seed, cost in own.items():
        if cost.get("moved") != cost.get("tensors") or cost.get("least_gradient_norm", 1.0) <= 0:
            return "did not train"
        if cost.get("trainable") != base[seed].get("trainable"):
            return "other weights"
    if throughput.reference(arm) is None:
        return "another trajectory"
    for seed, cost in own.items():
        deviation = cost.get("loss_deviation", abs(cost["final_loss"] - base[seed]["final_loss"]))
        if deviation > same:
            return "other losses"
    return ""


def _speed(rows: Sequence[Row], method: str) -> str:
    speeds = [row["value"] for row in rows if (row["arm"], row["metric"]) == (method, SPEED)]
    return f"{median(speeds):,.0f}" if speeds else "not run"


def _handles() -> list[Line2D]:
    kinds = (
        ("o", style.MUTED, "same losses"), ("o", style.PAPER, "another trajectory"), ("X", style.PAPER, "no proof"),
    )  # fmt: skip
    return [
        Line2D([], [], linestyle="none", marker=mark, color=style.MUTED, markerfacecolor=fill, markersize=6, label=text)
        for mark, fill, text in kinds
    ]
