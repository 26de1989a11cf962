"""Intruder dimensions: leading directions of the tuned matrix that the base does not have (Shuttleworth et al., 2024).

Three pictures. Counts against the threshold: a direction is an intruder if its cosine to every direction of the base
is below epsilon, so counts rise with epsilon for anything; the controls say how fast they rise for nothing. Dashed
grey are random directions, dotted the base plus noise of the same size. Then the largest cosines themselves, and the
counts against what was forgotten.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures import rows as table
from paper_figures import style
from paper_figures.picture import Picture
from paper_figures.rows import Inputs, Row
from replication.scale import Scale, Setting

STEM = "intruders"
NEEDS = ("intruders", "max_cosines")

# The paper of the intruders looks at the ten leading directions; its k sweep is at this threshold.
TOP, EPSILON = 10, 0.5


def pictures(inputs: Inputs) -> dict[str, Picture]:
    """Counts by threshold, largest cosines, and counts by forgetting."""
    scale, found = inputs.scale, {}
    rows = [row for row in inputs.tables["intruders"] if row["study"] in dict(scale.settings)]
    top = table.select(rows, k=_nearest({row["k"] for row in rows}, TOP))
    counts = [row for row in top if row["length"] == _longest(top, row["study"])]
    if counts:
        found[STEM] = Picture({"intruders": counts}, partial(draw, counts, scale))
    cosines = [row for row in inputs.tables["max_cosines"] if row["study"] in dict(scale.settings)]
    if cosines:
        found[f"{STEM}_cosines"] = Picture({"max_cosines": cosines}, partial(draw_cosines, cosines, scale))
    at = table.select(top, epsilon=_nearest({row["epsilon"] for row in top}, EPSILON))
    against = [row for row in at if row.get("forgetting") is not None]
    if against:
        found[f"{STEM}_forgetting"] = Picture({"intruders": against}, partial(draw_forgetting, against, scale))
    return found


def missing(inputs: Inputs) -> list[str]:
    """Arms without intruder counts, in the settings that have some."""
    rows = inputs.tables["intruders"]
    present = {(row["study"], row["arm"]) for row in rows}
    studies = [study for study, _ in inputs.scale.settings if table.select(rows, study=study)]
    return [f"{s} {arm} is not counted" for s in studies for arm in table.arms(inputs.scale) if (s, arm) not in present]


def draw(rows: list[Row], scale: Scale) -> Figure:
    """Intruders per matrix against epsilon after the longest training; one line per seed, controls beside."""
    settings = _settings(rows, scale)
    with style.look():
        figure, panels = style.panels(len(settings), height=2.1)
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            own = table.select(rows, study=study)
            for run in sorted({row["run"] for row in own}):
                _line(axes, sorted(table.select(own, run=run), key=lambda row: row["epsilon"]), scale)
            style.title(axes, place, setting.title)
            axes.set_xlabel("threshold ε on the largest cosine")
            axes.set_ylabel(f"intruders of the top {own[0]['k']}")
        arms = [arm for arm in table.arms(scale)[::-1] if table.select(rows, arm=arm)]
        style.legend(figure, [*style.arms(arms, scale.ranks), *_controls(), *style.seeds(rows)])
        return style.finish(figure)


def draw_cosines(rows: list[Row], scale: Scale) -> Figure:
    """Quantiles of the largest cosine, tuned against its two controls; one row of panels per setting."""
    settings = _settings(rows, scale)
    with style.look():
        figure, panels = style.panels(len(settings), height=2.1)
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            own = table.select(rows, study=study)
            for arm in table.arms(scale):
                for kind, look in _KINDS.items():
                    line = sorted(table.select(own, arm=arm, kind=kind), key=lambda row: row["level"])
                    tint = style.MUTED if kind == "random" else style.colour(arm, scale.ranks)
                    axes.plot([r["value"] for r in line], [r["level"] for r in line], color=tint, **look)
            style.title(axes, place, setting.title)
            axes.set_xlim(0, 1.02)
            axes.set_xlabel("largest cosine to the base")
            axes.set_ylabel("share of directions below")
        arms = [arm for arm in table.arms(scale)[::-1] if table.select(rows, arm=arm)]
        style.legend(figure, [*style.arms(arms, scale.ranks), *_controls()])
        return style.finish(figure)


def draw_forgetting(rows: list[Row], scale: Scale) -> Figure:
    """Each run's intruders per matrix against what is left of the base's abilities."""
    settings = _settings(rows, scale)
    with style.look():
        figure, panels = style.panels(len(settings), height=2.1)
        for place, (axes, (study, setting)) in enumerate(zip(panels, settings, strict=True)):
            own = table.select(rows, study=study)
            for row in own:
                axes.scatter(
                    row["per_matrix"], row["forgetting"], s=_area(row["length"], setting), linewidth=0.5, alpha=0.9,
                    marker=style.marker(row["arm"], scale.ranks), color=style.colour(row["arm"], scale.ranks),
                    edgecolor=style.PAPER, zorder=3,
                )  # fmt: skip
            style.title(axes, place, setting.title)
            axes.set_xlabel(f"intruders of the top {own[0]['k']} at ε={own[0]['epsilon']:g}")
            axes.set_ylabel("source evals (acc)")
        arms = [arm for arm in table.arms(scale)[::-1] if table.select(rows, arm=arm)]
        style.legend(figure, style.arms(arms, scale.ranks))
        return style.finish(figure)


# Tuned, and the two things that a direction of no meaning would be.
_KINDS: dict[str, dict[str, Any]] = {
    "tuned": {"linewidth": 1.3, "linestyle": "-", "zorder": 4},
    "matched": {"linewidth": 1.1, "linestyle": ":", "zorder": 3},
    "random": {"linewidth": 1.0, "linestyle": "--", "zorder": 2},
}


def _line(axes: Axes, rows: list[Row], scale: Scale) -> None:
    arm, across = rows[0]["arm"], [row["epsilon"] for row in rows]
    tint = style.colour(arm, scale.ranks)
    axes.plot(
        across, [row["per_matrix"] for row in rows], color=tint, marker=style.marker(arm, scale.ranks), markersize=3.6,
        linewidth=1.1, zorder=4,
    )  # fmt: skip
    axes.plot(across, [row["matched"] for row in rows], color=tint, **_KINDS["matched"])
    axes.plot(across, [row["random"] for row in rows], color=style.MUTED, **_KINDS["random"])


def _controls() -> list[Line2D]:
    return [
        Line2D([], [], color=style.MUTED, linestyle=":", linewidth=1.1, label="base + noise of equal size"),
        Line2D([], [], color=style.MUTED, linestyle="--", linewidth=1.0, label="random directions"),
    ]


def _settings(rows: list[Row], scale: Scale) -> list[tuple[str, Setting]]:
    return [(study, setting) for study, setting in scale.settings if table.select(rows, study=study)]


def _longest(rows: list[Row], study: str) -> float:
    return max(row["length"] for row in table.select(rows, study=study))


def _nearest(values: set[Any], wanted: float) -> Any:
    return min(values, key=lambda value: (abs(value - wanted), value), default=None)


def _area(length: float, setting: Setting) -> float:
    place = sorted(setting.lengths).index(length) if length in setting.lengths else 0
    return 10.0 + 34.0 * place / max(1, len(setting.lengths) - 1)
