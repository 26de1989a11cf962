"""The page says what the verdict rows say, holds everything inside, and hides no gap."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from paper_figures import report, verdict_cards

VOID = {"meta", "img", "rect", "line", "circle", "br"}


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
    return report.page(study.inputs, pictures={"fig1_learning": b"png"}, missing=[], reference=[])


def test_the_page_is_well_formed_and_needs_nothing_from_outside(page):
    checker = parsed(page)
    assert checker.wrong == []
    assert checker.open == []
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in checker.links)
    assert "<script" not in page
    assert "@import" not in page and "url(" not in page


def test_every_link_within_the_page_leads_somewhere(page):
    checker = parsed(page)
    assert {link[1:] for link in checker.links if link.startswith("#")} <= checker.ids


def test_the_headline_counts_the_claims(page):
    assert "Of the six claims asked, three hold, one does not hold and two stay undecided." in page


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["supported"] * 2, "Of the two claims asked, two hold."),
        (["not supported", "undecided"], "Of the two claims asked, one does not hold and one stays undecided."),
        ([], "No claim has been asked yet."),
    ],
)
def test_the_headline_leaves_out_what_did_not_happen(answers, words):
    assert verdict_cards.headline([{"part": "overall", "answer": answer} for answer in answers]) == words


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
    assert "<svg" not in page


def test_swept_runs_name_the_command_that_sweeps(study):
    run = dataclasses.replace(
        study.inputs.runs[0], study="cpt_code.learning_rates", run="cpt_code.learning_rates/full", seed=100
    )
    swept = dataclasses.replace(study.inputs, runs=[*study.inputs.runs, run])
    page = report.page(swept, pictures={}, missing=[], reference=[])
    assert "python -m experiments run learning_rates --scale toy" in page
    assert "57 training runs, 1 seed ·" in page  # the sweep's own seed is not one of the study's
