"""The figures show the rows they were given, and nothing else."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
from matplotlib.colors import to_hex
from PIL import Image

from paper_figures import (
    fig1_learning,
    fig2_forgetting,
    fig3_tradeoff,
    fig5_diversity,
    fig6_spectra,
    figS7_spectrum,
    lines,
    style,
)
from paper_figures import rows as table


def with_table(inputs, **tables):
    return dataclasses.replace(inputs, tables=inputs.tables | tables)


def drawn(module, inputs):
    """The figures of a module, by stem."""
    return {stem: picture.draw() for stem, picture in module.pictures(inputs).items()}


def drawn_line(axes, colour):
    """The one line of several points in that colour (whiskers have two points and no marker)."""
    found = [
        line for line in axes.lines if to_hex(line.get_color()) == colour and line.get_marker() not in ("None", "")
    ]
    assert len(found) == 1
    return found[0]


def test_figure_1_draws_exactly_the_values_of_its_rows(study):
    figure = drawn(fig1_learning, study.inputs)["fig1_learning"]
    assert [axes.get_title(loc="left")[3:] for axes in figure.axes] == [s.title for _, s in study.scale.settings]
    for axes, (name, setting) in zip(figure.axes, study.scale.settings, strict=True):
        for arm in table.arms(study.scale):
            rows = table.select(study.inputs.tables["curves"], study=name, arm=arm, axis="learning")
            line = drawn_line(axes, style.colour(arm, study.scale.ranks))
            assert list(line.get_ydata()) == [row["value"] for row in sorted(rows, key=lambda row: row["length"])]
            # Arms are moved apart by less than a tenth of a doubling.
            assert all(abs(x / n - 1) < 0.1 for x, n in zip(line.get_xdata(), setting.lengths, strict=True))


def test_intervals_are_drawn_from_low_to_high_and_only_where_a_row_has_one(study):
    curves = [
        row | {"low": None, "high": None} if row["arm"] == "full" else row for row in study.inputs.tables["curves"]
    ]
    axes = lines.draw(curves, study.scale, axis="learning").axes[0]
    spans = {(to_hex(w.get_color()), tuple(w.get_ydata())) for w in axes.lines if w.get_marker() == "None"}
    expected = {
        (style.colour(row["arm"], study.scale.ranks), (row["low"], row["high"]))
        for row in table.select(curves, study="cpt_code", axis="learning")
        if row["arm"] != "full"
    }
    assert expected <= spans
    assert style.INK not in {colour for colour, _ in spans}


def test_the_base_is_the_dashed_line_at_its_value(study):
    for axes in drawn(fig2_forgetting, study.inputs)["fig2_forgetting"].axes:
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in dashed] == [0.85]


def test_a_missing_cell_is_named_and_not_drawn(study):
    gone = {"study": "cpt_math", "arm": "r4", "length": 100_000.0}
    curves = [row for row in study.inputs.tables["curves"] if not gone.items() <= row.items()]
    inputs = with_table(study.inputs, curves=curves)
    assert fig1_learning.missing(inputs) == ["cpt_math r4 at 100k tokens"]
    line = drawn_line(drawn(fig1_learning, inputs)["fig1_learning"].axes[1], style.colour("r4", study.scale.ranks))
    assert [math.isnan(y) for y in line.get_ydata()] == [False, True, False, False]  # broken, not bridged


def test_a_complete_study_misses_nothing(study):
    modules = (fig1_learning, fig2_forgetting, fig3_tradeoff, fig5_diversity, fig6_spectra)
    assert [gap for module in modules for gap in module.missing(study.inputs)] == []


def test_diversity_expects_rows_only_where_programs_are_written(study):
    gaps = fig5_diversity.missing(with_table(study.inputs, diversity=[]))
    assert {gap.split(" ")[0] for gap in gaps} == {"cpt_code", "ift_code"}
    assert len(gaps) == 4 * (4 + 3)


def test_the_tradeoff_shows_every_point_hollow_if_it_was_swept(study):
    axes = drawn(fig3_tradeoff, study.inputs)["fig3_tradeoff"].axes[0]
    rows = table.select(study.inputs.tables["tradeoff"], study="cpt_code")
    points = {tuple(mark.get_offsets()[0]): len(mark.get_facecolor()) for mark in axes.collections}
    assert set(points) == {(row["forgetting"], row["learning"]) for row in rows}
    for row in rows:
        assert points[row["forgetting"], row["learning"]] == (0 if row["swept"] else 1)


def test_the_front_joins_exactly_the_points_marked_in_the_rows(study):
    axes = drawn(fig3_tradeoff, study.inputs)["fig3_tradeoff"].axes[0]
    steps = [line for line in axes.lines if line.get_drawstyle() == "steps-pre"]
    front = [row for row in table.select(study.inputs.tables["tradeoff"], study="cpt_code") if row["on_front"]]
    assert len(steps) == 1
    assert sorted(zip(*steps[0].get_data(), strict=True)) == sorted((r["forgetting"], r["learning"]) for r in front)


def test_losing_to_the_loss_axis_is_drawn_to_the_left(study):
    axes = drawn(fig3_tradeoff, study.inputs)["fig3_tradeoff_loss"].axes[0]
    assert axes.xaxis_inverted()


def test_spectra_stand_beside_the_noise_of_their_shape_and_the_lora_ranks(study):
    panel = next(
        a for a in drawn(fig6_spectra, study.inputs)["fig6_spectra"].axes if a.get_title(loc="left").startswith("up")
    )
    heights = {line.get_linestyle(): [] for line in panel.lines}
    for line in panel.lines:
        heights[line.get_linestyle()].append(line.get_ydata()[0])
    assert heights["--"] == [91.0]
    assert sorted(heights[":"]) == [1, 4, 16]
    lines = [line for line in panel.lines if line.get_linestyle() == "-"]
    assert len(lines) == 4  # one per checkpoint


def test_a_rank_lost_in_rounding_has_a_hollow_mark(study):
    panel = drawn(fig6_spectra, study.inputs)["fig6_spectra"].axes[0]
    faces = [[to_hex(face) for face in marks.get_facecolor()] for marks in panel.collections]
    assert [row.count(style.PAPER) for row in faces] == [1, 0, 0, 0]  # earliest checkpoint, first layer
    assert faces[0][0] == style.PAPER


def test_a_whole_spectrum_is_drawn_value_for_value(study):
    left, right = drawn(figS7_spectrum, study.inputs)["figS7_spectrum"].axes
    heights = {tuple(line.get_ydata()) for line in left.lines}
    assert {tuple(row["singular"]) for row in study.inputs.tables["spectrum_lines"]} <= heights
    assert figS7_spectrum.shares([2.0, 1.0, 1.0]) == pytest.approx([4 / 6, 5 / 6, 1.0])
    assert all(line.get_ydata()[-1] == pytest.approx(1.0) for line in right.lines if line.get_linestyle() != ":")


def test_arms_keep_their_colour_whatever_else_is_drawn(study):
    assert style.colour("full", (1, 4, 16)) == style.colour("full", (8,)) == style.INK
    shades = [style.colour(f"r{rank}", (1, 4, 16)) for rank in (1, 4, 16)]
    assert len({*shades, style.INK}) == 4
    luminance = [
        sum(w * int(s[i : i + 2], 16) for w, i in ((0.3, 1), (0.59, 3), (0.11, 5))) for s in [*shades, style.INK]
    ]
    assert luminance == sorted(luminance, reverse=True)  # also apart in grey print


def test_an_arm_the_scale_does_not_have_is_refused():
    with pytest.raises(ValueError, match="r7"):
        style.colour("r7", (1, 4, 16))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_any_number_of_settings_gets_a_panel_each(study, count):
    pairs = [(f"s{i}", study.scale.settings[i % 4][1]) for i in range(count)]
    scale = dataclasses.replace(study.scale, settings=tuple(pairs))
    first = table.select(study.inputs.tables["curves"], study="cpt_code", axis="learning")
    figure = lines.draw([row | {"study": name} for name, _ in pairs for row in first], scale, axis="learning")
    assert len(figure.axes) == count


def test_the_same_rows_give_the_same_bytes(study):
    once, again = (style.png(drawn(fig1_learning, study.inputs)["fig1_learning"]) for _ in range(2))
    assert once == again
    assert Image.open(io.BytesIO(once)).size[0] == round(style.PAGE * style.DPI)


def test_a_study_with_nothing_to_draw_draws_nothing_and_misses_everything(study):
    inputs = with_table(study.inputs, **{name: [] for name in study.inputs.tables})
    for module in (fig1_learning, fig2_forgetting, fig3_tradeoff, fig5_diversity, fig6_spectra, figS7_spectrum):
        assert module.pictures(inputs) == {}
    assert len(fig1_learning.missing(inputs)) == 4 * (4 + 4 + 3 + 3)
