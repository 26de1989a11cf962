"""The page in a browser: its charts answer, its filters filter, and it loads nothing, on a desk, a phone and paper."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
from types import SimpleNamespace

import pytest
from PIL import Image

from paper_figures import report
from paper_figures import rows as table
from paper_figures.tables import amount

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARMS, SETTINGS = 4, 4


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium of the machine, or a reason for not having one."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: `pip install playwright`"
    )
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path (`apt-get install chromium`)")
    # As root, in a container, Chromium has no sandbox to offer.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(toy, tmp_path_factory):
    """A page of two scales on disk; the second has neither intervals nor runs, as printed scores have none."""
    folder = tmp_path_factory.mktemp("site")
    scale = toy.make_scale()
    analysis, results = toy.write_tables(folder, scale)
    inputs = table.load(scale, analysis=analysis, results=results)
    bare = [row | {"low": None, "high": None, "seeds": None} for row in inputs.tables["curves"]]
    second = dataclasses.replace(
        inputs, scale=dataclasses.replace(scale, name="printed"), runs=[], tables=inputs.tables | {"curves": bare}
    )
    picture = io.BytesIO()
    Image.new("RGB", (1350, 900), "white").save(picture, "PNG")
    pictures = {"fig1_learning": picture.getvalue(), "fig2_forgetting_facts": picture.getvalue()}
    path = folder / "report.html"
    path.write_text(report.page(inputs, pictures=pictures, missing=[], reference=[], others=[second]))
    return SimpleNamespace(address=path.as_uri(), inputs=inputs)


DEVICES = {
    "desk": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True},
    "without scripts": {"viewport": {"width": 1280, "height": 900}, "java_script_enabled": False},
}


@pytest.fixture(scope="module")
def devices(chromium):
    """One window per device, opened when first asked for; a new one costs as much as ten loads of the page."""
    windows = {}

    def window(name):
        if name not in windows:
            page = chromium.new_context(**DEVICES[name]).new_page()
            page.set_default_timeout(60_000)  # A shared machine may take its time.
            page.said, page.asked = [], []
            page.on("console", lambda message: page.said.append(message.text))
            page.on("pageerror", lambda error: page.said.append(str(error)))
            page.on("requestfailed", lambda request: page.said.append(f"failed: {request.url[:80]}"))
            page.on("request", lambda request: page.asked.append(request.url))
            windows[name] = page
        return windows[name]

    return window


@pytest.fixture
def visit(devices, site):
    """Loads the page afresh; afterwards nothing may have been said on the console or asked of the network."""
    loaded = []

    def opened(device="desk"):
        page = devices(device)
        page.said.clear()
        page.asked.clear()
        page.mouse.move(0, 0)
        page.goto(site.address)
        loaded.append(page)
        return page

    yield opened
    for page in loaded:
        assert page.said == []
        assert page.asked
        assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []


def mark(page, chart, arm, place):
    return page.locator(f"#{chart} .mark[data-arm={arm}]").nth(place)


def described(page):
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    return tip.inner_text()


def longest(inputs, arm="full", axis="learning"):
    rows = table.select(inputs.tables["curves"], study="cpt_code", arm=arm, axis=axis)
    return table.by_length(rows)[-1]


def test_pointing_at_a_mark_tells_its_run_rate_score_interval_and_seeds(visit, site):
    page, row = visit(), longest(site.inputs)
    mark(page, "curves", "full", 3).hover(force=True)
    words = described(page)
    assert words.startswith("full fine-tuning · Code CPT, toy\n400,000 tokens · rate 1e−3\n")
    assert f"{amount(row['value'])} [{amount(row['low'])}, {amount(row['high'])}]" in words
    assert f"base {amount(row['base'])}" in words
    assert "1 seed, 120 items" in words
    assert "run cpt_code/full-lr1e-3-400000-s0" in words


def test_a_score_without_interval_or_run_is_told_without(visit, site):
    page, row = visit(), longest(site.inputs)
    page.click("[data-key='scale printed']")
    page.click("[data-key='scale toy']")
    mark(page, "curves", "full", 3).hover(force=True)
    words = described(page)
    assert "full fine-tuning · Code CPT, printed" in words
    assert f"toy eval (pass@1): {amount(row['value'])}\n" in words
    assert "run " not in words and "seed" not in words


def test_the_trade_off_tells_both_scores_and_shows_the_sweep_when_asked(visit, site):
    page = visit()
    assert page.locator("#tradeoff .hollow").count() == 0
    page.check("[data-key=swept]")
    swept = [row for row in site.inputs.tables["tradeoff"] if row["swept"]]
    assert page.locator("#tradeoff .hollow").count() == len(swept)
    page.uncheck("[data-key=swept]")
    mark(page, "tradeoff", "full", 3).hover(force=True)
    row = next(r for r in site.inputs.tables["tradeoff"] if r["arm"] == "full" and r["length"] == 400_000)
    words = described(page)
    assert f"learnt {amount(row['learning'])} [" in words
    assert f"source score {amount(row['forgetting'])} [" in words
    assert f"source loss {amount(row['source_loss'])}" in words


def test_a_method_a_setting_and_a_scale_can_be_taken_away_and_brought_back(visit):
    page = visit()
    panels, lines = page.locator("#curves .panel"), page.locator("#curves g.arm")
    assert (panels.count(), lines.count()) == (SETTINGS, SETTINGS * ARMS)
    page.click("[data-key='arm toy r4']")
    assert page.locator(".panel [data-arm=r4]").count() == 0
    assert lines.count() == SETTINGS * (ARMS - 1)
    page.click("[data-key='arm toy r4']")
    page.click("[data-key='setting ift_math']")
    assert page.locator("[data-study=ift_math].panel").count() == 0
    assert panels.count() == SETTINGS - 1
    page.click("[data-key='scale printed']")
    assert panels.count() == 2 * (SETTINGS - 1)
    page.click("[data-key='scale toy']")
    assert page.locator("[data-of=toy]").count() == 0
    assert page.locator("[data-key='arm toy r4']").is_hidden()


def test_another_axis_shows_other_rows(visit, site):
    page, row = visit(), longest(site.inputs, arm="r1", axis="source_loss")
    page.select_option("[data-key=axis]", "source_loss")
    mark(page, "curves", "r1", 3).hover(force=True)
    assert f"source loss (nats per token): {amount(row['value'])} [" in described(page)


def test_marks_can_be_walked_by_keyboard_and_left_by_escape(visit):
    page = visit()
    page.locator("#curves .mark[tabindex='0']").first.focus()
    assert "LoRA r=1 · Code CPT" in described(page)
    page.keyboard.press("ArrowRight")
    assert "100,000 tokens" in described(page)
    page.keyboard.press("Escape")
    assert page.locator(".tip").is_hidden()
    assert page.locator("#curves .mark[tabindex='0']").count() == SETTINGS


def test_a_sign_of_the_matrix_tells_its_effect_and_leads_to_its_evidence(visit, site):
    page = visit()
    row = next(r for r in site.inputs.tables["verdicts"] if r["claim"] == "C1" and r["setting"] == "cpt_math")
    sign = page.locator(".matrix").first.locator("[data-label='Maths CPT'] .sign").first
    sign.hover()
    words = described(page)
    assert words.startswith(f"C1, {row['part']}: Maths CPT\n")
    assert f"{row['answer']}: +{row['effect']:.3f} [+{row['low']:.3f}, +{row['high']:.3f}] score" in words
    sign.click()
    line = page.locator("details.line:target")
    assert line.get_attribute("open") is not None
    assert row["evidence"] in line.inner_text()


def test_runs_can_be_filtered_and_sorted(visit, site):
    page = visit()
    page.fill("#run-filter", "cpt_math full")
    rows = page.locator("details.runs[open] tbody tr:visible")
    assert rows.count() == sum(r.study == "cpt_math" and r.rank is None for r in site.inputs.runs)
    assert page.locator("#run-count").inner_text() == f"{rows.count()} runs"
    button = page.locator("details.runs[open] th button", has_text="tokens")
    button.click()
    button.click()
    assert rows.first.locator("td").nth(2).inner_text() == "400,000"
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("tokens")


def test_on_paper_everything_is_unfolded_and_the_controls_are_gone(visit):
    page = visit()
    closed = page.locator("details:not([open])").count()
    assert closed > 0
    page.emulate_media(media="print")
    assert settled(page, lambda: page.locator("details:not([open])").count() == 0)
    assert page.locator("#curves svg").first.is_visible()
    assert page.locator("select").first.is_hidden()
    page.emulate_media(media="screen")
    assert settled(page, lambda: page.locator("details:not([open])").count() == closed)


def test_a_phone_scrolls_down_only_and_answers_a_tap(visit):
    page = visit("phone")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    mark(page, "curves", "full", 3).tap(force=True)
    assert "full fine-tuning · Code CPT" in described(page)
    box = page.locator(".tip").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(visit, scheme):
    page = visit()
    page.emulate_media(color_scheme=scheme, media="screen")
    paper = luminance(page, "body", "backgroundColor")
    assert (paper > 0.5) is (scheme == "light")
    for selector in ("body", ".quiet", "a", ".matrix thead th"):
        assert contrast(luminance(page, selector, "color"), paper) >= 4.5, selector
    for kind in ("supported", "not-supported", "undecided", "not-asked"):
        chip = f".chip.{kind}"
        assert contrast(luminance(page, chip, "color"), luminance(page, chip, "backgroundColor")) >= 4.5, kind


def test_without_scripts_the_figures_and_every_word_remain(visit):
    page = visit("without scripts")
    assert page.locator("#charts").is_hidden()
    assert page.get_by_text("The charts need JavaScript").is_visible()
    assert page.locator("#fig1_learning img").is_visible()
    assert page.locator(".matrix .sign").first.get_attribute("title").startswith("C1, full above every rank")


def settled(page, holds):
    """Whether something comes true within two seconds; the page forbids the scripts that would wait inside it."""
    for _ in range(40):
        if holds():
            return True
        page.wait_for_timeout(50)
    return False


def luminance(page, selector, style):
    """Relative luminance by WCAG 2, of the first such element."""
    words = page.locator(selector).first.evaluate(f"(each) => getComputedStyle(each).{style}")
    channels = [int(number) / 255 for number in words[words.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = max(one, other), min(one, other)
    return (high + 0.05) / (low + 0.05)
