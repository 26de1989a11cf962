"""The figures of the sweeps, intruders, optimisers and verdicts show the rows they were given."""

from __future__ import annotations

import dataclasses

import pytest
from matplotlib.colors import to_hex

from experiments import paper, scales
from paper_figures import (
    captions,
    catalogue,
    fig4_regularisation,
    fig7_modules,
    figS1_rates,
    intruder_scaling,
    intruders,
    published,
    rank_over_noise,
    style,
    sweep_lines,
    tables,
    verdict_matrix,
)
from paper_figures import rows as table


def test_every_picture_has_a_caption_and_rows(study):
    pictures = catalogue.pictures(study.inputs)
    assert len(pictures) > 25
    for stem, picture in pictures.items():
        assert captions.caption(stem, study.inputs), stem
        assert any(picture.rows.values()), stem


def test_no_text_is_smaller_than_seven_points(study):
    for stem, picture in catalogue.pictures(study.inputs).items():
        if stem in ("fig7_modules", "artefact", "verdict_matrix", "figS10_throughput"):
            figure = picture.draw()
            assert figure.get_figwidth() <= style.PAGE
            sizes = [text.get_fontsize() for text in figure.findobj(match=lambda a: hasattr(a, "get_fontsize"))]
            assert min(sizes) >= style.SMALL, stem


def test_variants_are_named_in_words():
    assert sweep_lines.spoken("nogate-a2-adamw") == "no gate, α=2, AdamW"
    assert sweep_lines.spoken("wd4.2e-4") == "weight decay 4.2e-4"
    assert sweep_lines.parts("wd8.4e-4") == ("wd8.4e-4",)
    assert sweep_lines.spoken("", "all") == "all"


def test_the_ring_is_at_the_chosen_rate_of_each_arm(study):
    rows = table.select(study.inputs.tables["sweeps"], study="cpt_code", sweep="learning_rates", axis="learning")
    axes = figS1_rates.pictures(study.inputs)["figS1_rates"].draw().axes[0]
    rings = {tuple(mark.get_offsets()[0]) for mark in axes.collections}
    assert rings == {(row["lr"], row["value"]) for row in rows if row["chosen"]}


def test_regularisation_gives_every_variant_a_colour_and_full_fine_tuning_ink(study):
    left, _ = fig4_regularisation.pictures(study.inputs)["fig4_regularisation"].draw().axes
    lines = [line for line in left.lines if line.get_marker() == "^"]
    wanted = table.select(study.inputs.tables["sweeps"], sweep="regularisation", axis="learning")
    colours = {to_hex(line.get_color()) for line in lines}
    assert len(lines) == len(colours) == len({row["variant"] for row in wanted}) == 5
    (ink,) = [line for line in lines if to_hex(line.get_color()) == style.INK]
    assert sorted(ink.get_ydata()) == sorted(row["value"] for row in table.select(wanted, variant=""))
    drawn = sorted(value for line in lines for value in line.get_ydata())
    assert drawn == sorted(row["value"] for row in wanted)


def test_every_rate_has_a_tick_and_the_ring_says_what_chose_it(study):
    figure = figS1_rates.pictures(study.inputs)["figS1_rates"].draw()
    rows = table.select(study.inputs.tables["sweeps"], study="cpt_code", sweep="learning_rates", axis="learning")
    assert list(figure.axes[0].get_xticks()) == sorted({row["lr"] for row in rows})
    assert "chosen: lowest held-out target loss" in [text.get_text() for text in figure.legends[0].texts]


def test_scaled_intruders_have_a_line_per_arm_and_marks_for_other_seeds(study):
    rows = study.inputs.tables["intruder_scaling"]
    again = [row | {"seed": 1, "run": row["run"] + "-again"} for row in rows if row["factor"] in (0.5, 1.0)]
    inputs = dataclasses.replace(study.inputs, tables=study.inputs.tables | {"intruder_scaling": [*rows, *again]})
    figure = intruder_scaling.pictures(inputs)["intruder_scaling"].draw()
    axes = figure.axes[0]
    own = table.select(rows, study=rows[0]["study"], axis="learning")
    assert list(axes.get_xticks()) == sorted({row["factor"] for row in own})
    drawn = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    lines = [line for line in drawn if line.get_linestyle() != "None"]
    assert len(lines) == len({(row["run"], row["direction"]) for row in own})
    marks = [value for line in drawn if line.get_linestyle() == "None" for value in line.get_ydata()]
    assert sorted(marks) == sorted(row["change"] for row in own if row["factor"] == 0.5)
    assert "other seeds" in [text.get_text() for text in figure.legends[0].texts]


def test_modules_have_a_panel_per_rank_and_a_line_per_choice(study):
    figure = fig7_modules.pictures(study.inputs)["fig7_modules"].draw()
    assert len(figure.axes) == len(study.scale.ranks)
    assert {axes.get_ylim() for axes in figure.axes} == {figure.axes[0].get_ylim()}
    for axes in figure.axes:
        assert len([line for line in axes.lines if line.get_marker() not in ("None", "")]) == 3


def test_intruder_counts_stand_beside_both_controls(study):
    axes = intruders.pictures(study.inputs)["intruders"].draw().axes[0]
    rows = [r for r in table.select(study.inputs.tables["intruders"], study="cpt_code", k=10) if r["length"] == 4e5]
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    for run in {row["run"] for row in rows}:
        line = sorted(table.select(rows, run=run), key=lambda row: row["epsilon"])
        for field in ("per_matrix", "matched", "random"):
            assert tuple(row[field] for row in line) in drawn


def test_rank_over_noise_is_the_ratio_of_its_row(study):
    axes = rank_over_noise.pictures(study.inputs)["rank_over_noise"].draw().axes[0]
    rows = table.select(study.inputs.tables["spectra"], study="cpt_code")
    drawn = sorted(float(y) for marks in axes.collections for _, y in marks.get_offsets())
    assert drawn == pytest.approx(sorted(row["rank90"] / row["rank90_noise"] for row in rows))


def test_the_matrix_has_a_cell_for_every_verdict_and_no_more(study):
    rows = [row for row in study.inputs.tables["verdicts"] if row["part"] != "overall"]
    axes = verdict_matrix.pictures(study.inputs)["verdict_matrix"].draw().axes[0]
    colours = [to_hex(patch.get_facecolor()) for patch in axes.patches]
    assert sorted(colours) == sorted(verdict_matrix.LOOK[row["answer"]] for row in rows)


def test_a_part_without_an_effect_is_a_dash_and_no_question_mark(study):
    rows = [row for row in study.inputs.tables["verdicts"] if row["claim"] == "C7" and row["part"] != "overall"]
    drawn = verdict_matrix.draw([row | {"effect": None} for row in rows], study.scale)
    cells = [text.get_text() for text in drawn.axes[0].texts]
    assert cells.count("–") == len(rows)
    assert "?" not in cells
    assert {to_hex(patch.get_facecolor()) for patch in drawn.axes[0].patches} == {style.PAPER}


def test_names_of_the_matrix_are_whole_and_stay_on_the_page(study):
    part = "the size of the change goes with forgetting after all"
    long = {"part": part, "unit": "share of full fine-tuning's speed"}
    rows = [row | long for row in study.inputs.tables["verdicts"] if row["claim"] == "C7" and row["part"] != "overall"]
    figure = verdict_matrix.draw(rows, study.scale)
    figure.canvas.draw()
    (name,) = [text for text in figure.axes[0].texts if "change" in text.get_text()]
    assert name.get_text().replace("\n", " ") == f"{part} (of full's speed)"
    (claim,) = [text for text in figure.axes[0].texts if text.get_text() == "C7"]
    assert claim.get_window_extent().x0 >= 0
    assert name.get_window_extent().x0 > claim.get_window_extent().x1


def test_signs_and_numbers_of_ten_columns_do_not_touch(study):
    first = next(row for row in study.inputs.tables["verdicts"] if row["part"] != "overall")
    rows = [
        first | {"setting": setting, "holm": False, "answer": "supported", "effect": -0.14}
        for setting in ("cpt_code", "cpt_math", "ift_code", "ift_math", "cpt", "ift", "code", "math", "all", "more")
    ]
    figure = verdict_matrix.draw(rows, study.scale)
    figure.canvas.draw()
    signs = [text for text in figure.axes[0].texts if text.get_text() == "✓"]
    numbers = [text for text in figure.axes[0].texts if text.get_text() == "−.14†"]
    assert len(signs) == len(numbers) == 10
    for sign, number in zip(signs, numbers, strict=True):
        assert sign.get_window_extent().x1 < number.get_window_extent().x0


def test_a_long_matrix_is_cut_between_claims():
    rows = [{"claim": f"C{i}", "part": f"p{j}", "setting": "all"} for i in range(12) for j in range(9)]
    pages = verdict_matrix.pages(rows)
    assert [row for page in pages for row in page] == rows
    assert len(pages) == 3
    assert not any({r["claim"] for r in a} & {r["claim"] for r in b} for a in pages for b in pages if a is not b)


def test_the_papers_values_stand_behind_the_scale_that_has_its_lengths():
    found = published.values(scales.load("paper"), "cpt_code", "learning")
    assert found["full", 20e9] == 0.263
    assert published.values(scales.load("paper"), "ift_math", "forgetting")["r16", 16] == 0.596


def test_the_papers_values_are_not_beside_other_questions_or_lengths(study):
    for study_name, _ in study.scale.settings:
        assert published.values(study.scale, study_name, "learning") == {}
    reported = dataclasses.replace(scales.load("paper"), name=table.REPORTED)
    assert published.values(reported, "cpt_code", "learning") == {}  # its rows are the paper's values


def test_memory_tables_agree_with_the_paper_to_its_digits():
    first = tables.memory_tables()[0]
    assert first.columns == ("optimiser", "1 GPU", "8 GPUs", "16 GPUs", "32 GPUs", "64 GPUs")
    assert first.rows[1][1] == "15.12 (paper 15.12)"
    for item in tables.memory_tables():
        for cell in (cell for row in item.rows for cell in row[1:]):
            ours, _, theirs = cell.rstrip(")").partition(" (paper ")
            assert float(ours) == pytest.approx(float(theirs), rel=0.01)
    assert len(paper.MEMORY) == sum(len(row) - 1 for item in tables.memory_tables() for row in item.rows)
