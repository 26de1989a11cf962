"""The page says what the verdict rows say, holds everything inside, and hides no gap."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from analysis import verdict_table as terminal
from paper_figures import charts, inline, report, run_table, verdict_cards, verdict_table

VOID = {"meta", "img", "rect", "line", "circle", "br", "link", "input"}
DOT = Image.new("RGB", (4, 3), "white")


class Balance(HTMLParser):
    """Collects tags that are closed in the wrong order, and all attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.links, self.ids, self.text = [], [], [], set(), []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.links += [value for key, value in attrs if key in ("href", "src", "srcset")]
        if "id" in named:
            self.ids.add(named["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def parsed(page):
    checker = Balance()
    checker.feed(page)
    return checker


@pytest.fixture
def page(study):
    return report.page(study.inputs, pictures={"fig1_learning": png(DOT)}, missing=[], reference=[])


def png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def rows_of(page):
    """The rows inside the page: what a browser would read, by scale."""
    text = re.search(r"<script type='application/json' id='chart-data'>(.*?)</script>", page, re.DOTALL).group(1)
    return {scale["name"]: scale for scale in json.loads(text)["scales"]}


def with_verdicts(study, change):
    """The study's inputs with `change` made to each verdict row."""
    return changed(study.inputs, change)


def changed(inputs, change):
    rows = [row | change(row) for row in inputs.tables["verdicts"]]
    return dataclasses.replace(inputs, tables=inputs.tables | {"verdicts": rows})


def test_the_page_is_well_formed_and_needs_nothing_from_outside(page):
    checker = parsed(page)
    assert checker.wrong == []
    assert checker.open == []
    assert all(link == "data:," or link.startswith(("#", "data:image/png;base64,")) for link in checker.links)
    assert "<script src" not in page and "fetch(" not in page
    assert "@import" not in page and "url(" not in page
    assert "default-src 'none'" in page


def test_every_link_within_the_page_leads_somewhere(page):
    checker = parsed(page)
    assert {link[1:] for link in checker.links if link.startswith("#")} <= checker.ids


def test_the_headline_counts_the_claims(page):
    assert "Of the six claims, three hold, one does not hold and two are undecided." in page


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["supported"] * 2, "Of the two claims, two hold."),
        (["not supported", "undecided"], "Of the two claims, one does not hold and one is undecided."),
        ([], "No claim has been asked yet."),
    ],
)
def test_the_headline_leaves_out_what_did_not_happen(answers, words):
    rows = [{"part": "overall", "answer": answer, "p_against": 0.4} for answer in answers]
    assert verdict_cards.headline(rows) == words


UNASKED = {"effect": None, "low": None, "high": None, "p": None, "p_against": None, "answer": "undecided"}


def test_a_claim_without_a_part_that_could_be_asked_is_not_called_undecided(study):
    inputs = with_verdicts(study, lambda row: UNASKED if row["claim"] == "C7" else {})
    page = report.page(inputs, pictures={}, missing=[], reference=[])
    assert "three hold, one does not hold, one is undecided and one is not asked in this study." in page
    card = page[page.index("id='claim-c7'") : page.index("id='claim-c8'")]
    # The claim, and its part in two settings.
    assert card.count("<span class='chip not-asked'>– not asked</span>") == 3
    assert "undecided" not in card
    assert verdict_table.matrix(inputs, {}).count("class='sign not-asked'") == 2


def test_other_numbers_that_cannot_ask_a_follow_up_stand_nowhere_beside_it(study):
    own = with_verdicts(study, lambda row: {"family": "follow-up" if row["claim"] == "C8" else "paper"})
    other = dataclasses.replace(
        changed(own, lambda row: UNASKED if row["claim"] in ("C7", "C8") else {}),
        scale=dataclasses.replace(study.scale, name="printed"),
    )
    beside = re.findall(r"data-label='overall, printed'>(.*?)</td>", verdict_table.matrix(own, {}, [other]))
    assert beside[-2:] == ["<span class='chip not-asked'>– not asked</span>", ""]
    cards = verdict_cards.cards(own.tables["verdicts"], other.tables["verdicts"], {})
    c7, c8 = (cards[cards.index(f"id='claim-{name}'") :].partition("</article>")[0] for name in ("c7", "c8"))
    # The claim, and its part in two settings.
    assert c7.count("class='reference'") == 3
    assert "class='reference'" not in c8


def test_the_page_counts_comparisons_as_the_terminal_does(study):
    inputs = with_verdicts(study, lambda row: UNASKED if row["part"] == "gap grows" else {})
    verdicts = inputs.tables["verdicts"]
    shown = html.unescape(verdict_table.legend(verdicts))
    printed = " ".join(terminal.table(verdicts).split())
    # Nine parts in two settings, one part not asked: 16 times one in forty.
    assert "Of 18 parts 16 could be asked; were none true, chance would support 0.4." in shown
    for words in (r"Of \d+ parts .*? chance would support [\d.]+", r"\d+ are supported.*? leaves \d+ and \d+"):
        (said,) = re.findall(words, printed)
        assert said in shown


def test_every_verdict_row_is_on_the_page_with_its_words(study, page):
    text = " ".join(parsed(page).text)
    for row in study.inputs.tables["verdicts"]:
        assert row["evidence"] in text
        assert row["statement"] in text


def test_words_from_rows_cannot_become_markup(study):
    row = study.inputs.tables["verdicts"][0] | {"evidence": "<b>bold</b> & more"}
    inputs = dataclasses.replace(
        study.inputs, tables=study.inputs.tables | {"verdicts": [row, *study.inputs.tables["verdicts"]]}
    )
    page = report.page(inputs, pictures={}, missing=[], reference=[])
    assert "<b>bold</b> & more" not in page
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in page


def test_the_drawn_interval_is_to_scale():
    row = {"answer": "supported", "effect": 0.5, "low": 0.25, "high": 1.0, "smallest_effect": 0.0, "unit": ""}
    drawn = verdict_cards.effect_line(row, (0.0, 1.0))
    zero, bar = re.findall(r"x1='([\d.]+)' x2='([\d.]+)'", drawn)
    dot = float(re.search(r"cx='([\d.]+)'", drawn).group(1))
    left, right = (float(v) for v in bar)
    assert float(zero[0]) == 8.0
    # 0, 1/4, 1/2 and 1 of a line 224 long that starts at 8.
    assert (left, dot, right) == (8 + 56, 8 + 112, 8 + 224)


def test_limits_hold_zero_every_interval_and_the_smallest_effect():
    rows = [{"effect": 0.2, "low": 0.1, "high": 0.3, "smallest_effect": 0.5}, {"effect": None}]
    low, high = verdict_cards.limits(rows)
    assert low < -0.5
    assert high > 0.5


def test_the_reference_stands_beside_the_own_verdict(study):
    other = [
        row | {"seeds": 3, "answer": "undecided"} for row in study.inputs.tables["verdicts"] if row["claim"] == "C1"
    ]
    page = report.page(study.inputs, pictures={}, missing=[], reference=other)
    assert page.count("reference (3 seeds): undecided") == 1
    assert page.count("Reference collection, 3 seeds: undecided") == len(other) - 1
    assert "Reference collection" not in report.page(study.inputs, pictures={}, missing=[], reference=[])


def test_missing_cells_are_listed_on_the_page(study, page):
    gaps = report.page(study.inputs, pictures={}, missing=["fig1: cpt_code r4 at 50k tokens"], reference=[])
    assert "fig1: cpt_code r4 at 50k tokens" in gaps
    assert "The study has 1 gap." in gaps
    assert "The study has" not in page


def test_one_seed_is_said_and_three_are_not_doubted(study, page):
    three = [row | {"covers": "items and seeds"} for row in study.inputs.tables["verdicts"]]
    inputs = dataclasses.replace(study.inputs, tables=study.inputs.tables | {"verdicts": three})
    assert "One seed." in page
    assert "One seed." not in report.page(inputs, pictures={}, missing=[], reference=[])


def test_one_seed_among_three_is_counted_and_not_said_of_all(study):
    first, *others = study.inputs.tables["verdicts"]
    mixed = [first | {"covers": "items", "part": "x", "effect": 0.1}, *(r | {"covers": "both"} for r in others)]
    inputs = dataclasses.replace(study.inputs, tables=study.inputs.tables | {"verdicts": mixed})
    page = report.page(inputs, pictures={}, missing=[], reference=[])
    assert "One seed." not in page
    assert re.search(r"1 of \d+ comparisons rest on one seed", page)


def test_every_run_is_listed_with_its_digest_rate_and_time(study, page):
    text = parsed(page).text
    assert text.count("3fa9c1e2") == len(study.inputs.runs)
    assert text.count("30 s") == len(study.inputs.runs)
    assert "python -m experiments run cpt_code --scale toy --seeds 1" in text


def test_a_verdict_without_a_number_says_so(study):
    bare = [
        row | {"effect": None, "low": None, "high": None, "mde": None, "covers": None}
        for row in study.inputs.tables["verdicts"]
    ]
    inputs = dataclasses.replace(study.inputs, tables=study.inputs.tables | {"verdicts": bare})
    page = report.page(inputs, pictures={}, missing=[], reference=[])
    assert "no number" in page
    assert "<svg class='effect" not in page


def test_swept_runs_name_the_command_that_sweeps(study):
    run = dataclasses.replace(
        study.inputs.runs[0], study="cpt_code.learning_rates", run="cpt_code.learning_rates/full", seed=100
    )
    swept = dataclasses.replace(study.inputs, runs=[*study.inputs.runs, run])
    page = report.page(swept, pictures={}, missing=[], reference=[])
    assert "python -m experiments run learning_rates --scale toy" in page
    assert "57 training runs, 1 seed ·" in page  # the sweep's own seed is not one of the study's


def test_the_charts_hold_every_row_with_its_rate_and_run(study, page):
    toy = rows_of(page)["toy"]
    assert len(toy["curves"]["rows"]) == len(study.inputs.tables["curves"])
    assert len(toy["tradeoff"]["rows"]) == len(study.inputs.tables["tradeoff"])
    curves = [dict(zip(toy["curves"]["columns"], row, strict=True)) for row in toy["curves"]["rows"]]
    source = study.inputs.tables["curves"][0]
    assert curves[0]["value"] == pytest.approx(source["value"], rel=1e-5)
    assert (curves[0]["arm"], curves[0]["lr"], curves[0]["run"]) == ("r1", 3e-3, "cpt_code/lora-r1-all-lr1e-3-50000-s0")


def test_seeds_of_a_point_are_one_name_and_other_studies_are_no_part_of_it(study):
    first = study.inputs.runs[0]
    second = dataclasses.replace(first, run=first.run.replace("-s0", "-s1"), seed=1)
    trunk = dataclasses.replace(first, run="cpt_code/trunk-s0", trunk=True)
    adamw = dataclasses.replace(first, run="cpt_code/adamw-s0", variant="adamw")
    inputs = dataclasses.replace(study.inputs, runs=[*study.inputs.runs, second, trunk, adamw])
    found = charts.data(inputs)["curves"]
    place = found["columns"].index("run")
    assert found["rows"][0][place] == f"{first.run}, -s1"


def test_rows_cannot_end_the_script_they_stand_in(study):
    row = study.inputs.tables["curves"][0] | {"metric": "</script><b>&<!--"}
    inputs = dataclasses.replace(study.inputs, tables=study.inputs.tables | {"curves": [row]})
    page = report.page(inputs, pictures={}, missing=[], reference=[])
    assert page.count("</script>") == 4  # The data and three scripts.
    assert rows_of(page)["toy"]["curves"]["rows"][0][4] == "</script><b>&<!--"
    assert parsed(page).wrong == []


def test_a_scale_without_curves_has_no_charts(study):
    bare = dataclasses.replace(study.inputs, tables=study.inputs.tables | {"curves": [], "tradeoff": []})
    assert charts.section(bare) == ""
    assert "href='#explore'" not in report.page(bare, pictures={}, missing=[], reference=[])


def test_other_scales_stand_beside_with_anchors_of_their_own(study):
    other = dataclasses.replace(study.inputs, scale=dataclasses.replace(study.scale, name="printed"), runs=[])
    page = report.page(study.inputs, pictures={}, missing=[], reference=[], others=[other])
    names = re.findall(r" id='([^']*)'", page)
    assert len(names) == len(set(names))
    assert list(rows_of(page)) == ["toy", "printed"]
    assert "overall, printed" in page
    assert "The same claims, scale “printed”" in page
    assert "printed/curves.jsonl" in page


def test_the_matrix_has_a_sign_for_every_comparison_and_claims_of_others_apart(study):
    inputs = with_verdicts(study, lambda row: {"family": "follow-up" if row["claim"] == "C8" else "paper"})
    drawn = verdict_table.matrix(inputs, {"cpt_code": "Code CPT"})
    parts = [row for row in inputs.tables["verdicts"] if row["part"] != "overall"]
    assert drawn.count("class='sign ") == len(parts)
    assert sum(kind in drawn for kind in ("Claims of the paper", "Claims of the follow-ups")) == 2
    assert drawn.index("Claims of the follow-ups") > drawn.index(">C7<")
    assert verdict_cards.headline(inputs.tables["verdicts"]) == (
        "Of the five claims of the paper, two hold, one does not hold and two are undecided. "
        "Of the one claim of its follow-ups, one holds."
    )


def test_answers_that_many_comparisons_make_doubtful_are_marked(study):
    inputs = with_verdicts(study, lambda row: {"p": 0.0004, "holm": row["claim"] != "C1", "family": "paper"})
    verdicts = inputs.tables["verdicts"]
    held = [row for row in verdicts if row["answer"] != "undecided" and row["part"] != "overall"]
    doubtful = [row for row in held if row["claim"] == "C1"]
    assert verdict_table.matrix(inputs, {}).count("unsure") == len(doubtful) > 0
    words = html.unescape(verdict_table.legend(verdicts))
    refuted = [row for row in held if row["answer"] == "not supported"]
    supported = len(held) - len(refuted)
    left = f"{supported - len(doubtful)} and {len(refuted)}"
    assert f"{supported} are supported, {len(refuted)} refuted; Holm's correction over all leaves {left}" in words
    page = report.page(inputs, pictures={}, missing=[], reference=[])
    assert "does not stand after Holm" in page and "p &lt; 0.001" in page


def test_a_picture_in_the_page_is_smaller_and_looks_the_same():
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    drawn = np.stack(
        [np.tile(ramp, (300, 1)), np.full((300, 400), 90, np.uint8), np.tile(ramp[::-1], (300, 1))], axis=2
    )
    noisy = drawn + np.random.default_rng(0).integers(0, 3, drawn.shape, dtype=np.uint8)
    full = png(Image.fromarray(noisy))
    small = inline.smaller(full)
    assert len(small) < len(full) / 2
    with Image.open(io.BytesIO(small)) as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    # A palette of 128 along a ramp of 256: each colour is at most two steps from its neighbour's, plus the noise.
    assert np.abs(shown - noisy.astype(int)).mean() < 8


def test_cells_of_the_run_table_sort_by_number(study):
    drawn = run_table.markup(study.inputs)
    assert "data-value='400000.0'>400k tokens<" in drawn
    assert "data-value='30.0'>30 s<" in drawn
