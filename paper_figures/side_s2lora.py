"""Side study: Sparsely Shared LoRA. Errors against trained weights, and which matrices keep how much rank.

Down and left is better: fewer errors with fewer trained weights. Sharing generalises better if the marks of S2-LoRA
lie lower among the others in the panel of the unheard speaker than in that of the speakers trained on. Small marks are
seeds, large ones their mean; the dashed line is the recogniser before it is adapted.

The second figure has a row per kind of matrix: small marks are layers and seeds, the large one their mean. The two
methods agree where their large marks go left and right together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row

STEM = "side_s2lora"
NEEDS = ("side_s2lora",)
RANKS = "s2lora_ranks"
PANELS = (("test", "In domain"), ("unseen", "Out of domain"), ("source", "What it knew"))


class Look(NamedTuple):
    """Name, colour and marker of an arm; hollow marks are S2-LoRA's variants.

    `beside` moves an arm along the axis, so that those of equally many weights stand beside each other.
    """

    name: str
    colour: str
    marker: str
    hollow: bool = False
    beside: float = 1.0


_OURS = "#7a5bb8"
ARMS = {
    "s2lora": Look("S2-LoRA", _OURS, "D"),
    "s2lora-dense": Look("S2-LoRA, not sparse", _OURS, "s", hollow=True, beside=0.86),
    "s2lora-sparser": Look("S2-LoRA, sparser", _OURS, "v", hollow=True, beside=1.16),
    "adalora": Look("AdaLoRA", "#d1405f", "o", beside=1.08),
    "lora": Look("LoRA", "#e79a35", "P", beside=0.92),
    "vera": Look("VeRA", "#287a8c", "X"),
    "bitfit": Look("BitFit", "#4c9a67", "<"),
    "full": Look("full fine-tuning", style.INK, "^"),
}


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """Errors against trained weights, and the learned ranks where they were read."""
    rows, ranks = inputs.tables["side_s2lora"], inputs.tables.get(RANKS, [])
    both = {row["arm"] for row in ranks} >= {"s2lora", "adalora"}
    made = {STEM: Picture({"side_s2lora": rows}, partial(draw, rows))} if rows else {}
    return made | ({f"{STEM}_ranks": Picture({RANKS: ranks}, partial(draw_ranks, ranks))} if both else {})


def missing(inputs: Inputs) -> list[str]:
    """The arms of the study without a score."""
    scored = {row["arm"] for row in inputs.tables["side_s2lora"] if row["eval"] == "test"}
    return [f"arm {arm}" for arm in ARMS if arm not in scored]


def draw(rows: list[Row]) -> Figure:
    """A panel for each group of speakers, all on the same scale of weights."""
    with style.look():
        figure, panels = style.panels(len(PANELS), columns=len(PANELS), height=2.5)
        for place, (axes, (group, words)) in enumerate(zip(panels, PANELS, strict=True)):
            own = table.select(rows, eval=group, metric="wer")
            for arm in ARMS:
                _points(axes, table.select(own, arm=arm), _trained(rows, arm), ARMS[arm])
            style.baseline(axes, next((row["value"] for row in own if row["arm"] == "base"), None))
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.set_xlabel("trained weights")
            axes.set_ylabel("word error rate" if not place else "")
            style.title(axes, place, words)
        present = [arm for arm in ARMS if table.select(rows, arm=arm)]
        base = style.handle("base", (), text="before adaptation")
        style.legend(figure, [*(_handle(ARMS[arm]) for arm in present), base, style.seed_and_data(rows)])
        return style.finish(figure)


def _trained(rows: list[Row], arm: str) -> float | None:
    found = table.select(rows, arm=arm, eval="run", metric="trainable")
    return found[0]["value"] if found else None


def _points(axes: Axes, rows: Sequence[Row], x: float | None, look: Look) -> None:
    values = [row["value"] for row in rows]
    if not values or x is None:
        return
    x *= look.beside
    axes.plot([x] * len(values), values, look.marker, color=look.colour, markersize=2.6, alpha=0.6, zorder=3)
    axes.plot([x], [fmean(values)], look.marker, **_style(look), zorder=4)


def _style(look: Look) -> dict[str, Any]:
    face = style.PAPER if look.hollow else look.colour
    return {"color": look.colour, "markersize": 6.2, "markerfacecolor": face, "markeredgewidth": 1.2}


def _handle(look: Look) -> Line2D:
    return Line2D([], [], linestyle="none", marker=look.marker, label=look.name, **_style(look))


# ---------------------------------------------------------------- ranks


def draw_ranks(rows: list[Row]) -> Figure:
    """A row per kind of matrix, encoder first; both methods side by side in it."""
    kinds = sorted({_kind(row["module"]) for row in rows}, key=_order)
    with style.look():
        figure, (axes,) = style.panels(1, width=4.6, height=0.2 * len(kinds) + 0.6)
        for shift, arm in ((-0.17, "s2lora"), (0.17, "adalora")):
            for place, kind in enumerate(kinds):
                own = [row for row in rows if row["arm"] == arm and _kind(row["module"]) == kind]
                _row(axes, [row["rank"] for row in own], place + shift, ARMS[arm])
        most = max(row["of"] for row in rows)
        axes.set_yticks(range(len(kinds)), [kind.replace(".", " ") for kind in kinds])
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        axes.set_xlim(-0.3, most + 0.3)
        axes.set_xlabel(f"coefficients that are not zero, of {most}")
        style.legend(figure, [_handle(ARMS["s2lora"]), _handle(ARMS["adalora"]), style.note("small: a layer and seed")])
        return style.finish(figure)


def _row(axes: Axes, ranks: Sequence[int], height: float, look: Look) -> None:
    if ranks:
        axes.plot(ranks, [height] * len(ranks), look.marker, color=look.colour, markersize=2.4, alpha=0.35, zorder=3)
        axes.plot([fmean(ranks)], [height], look.marker, **_style(look), zorder=4)


def _kind(module: str) -> str:
    """The matrix without its layer: `encoder.self_attn.q_proj`."""
    return ".".join(part for part in module.split(".") if not part.isdigit() and part != "layers")


def _order(kind: str) -> tuple[int, int, str]:
    blocks = ("encoder.self_attn", "encoder.fc", "decoder.self_attn", "decoder.encoder_attn", "decoder.fc")
    words = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
    block = next((i for i, start in enumerate(blocks) if kind.startswith(start)), len(blocks))
    return block, next((i for i, word in enumerate(words) if kind.endswith(word)), len(words)), kind
