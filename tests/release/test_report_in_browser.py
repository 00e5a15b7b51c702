"""The report in a real browser: contrast in both schemes, no sideways scrolling on a phone, keyboard, print."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.release.budgets import Budgets
from edgeq.release.gate import gate
from edgeq.release.release import Layer, Release
from edgeq.release.report_html import report_html

from .browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a headless browser")

# WCAG 2.2, 1.4.3: 4.5 to 1, or 3 to 1 for text of 24 pixels, or of 18.66 bold ones. Colours are composed over all
# backgrounds beneath; a text that is hidden is not read.
CONTRAST = """(() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [n[0] * scale, n[1] * scale, n[2] * scale, n.length > 3 ? n[3] : 1]; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]); };
  const found = [];
  let read = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = getComputedStyle(element);
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    if (["SCRIPT", "STYLE", "TITLE", "title"].includes(element.tagName) || style.visibility === "hidden") continue;
    if (style.clipPath !== "none" || style.position === "absolute" && element.offsetWidth <= 1) continue;
    const drawn = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const ground = behind(element), ink = over(parse(drawn), ground);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    read += 1;
    if (ratio < (large ? 3 : 4.5)) found.push(`${walker.currentNode.textContent.trim().slice(0, 30)} ${ratio}`);
  }
  return {read, found};
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module", params=["pass", "fail", "inconclusive"])
def page(request: pytest.FixtureRequest, make_release: Callable[..., Release], tmp_path_factory: object) -> Path:
    release = make_release()
    module = "features.3.conv.0.a_rather_long_name"
    rows = (*release.layers, *(Layer(f"layer{i}", "Conv", "w8a8", True, f"{module}{i}") for i in range(30)))
    release = replace(release, layers=rows)
    limits = {"pass": Budgets(), "fail": Budgets(size_bytes=10), "inconclusive": Budgets(accuracy_drop=0.002)}
    judged = gate(release, limits[request.param])
    assert judged.outcome.value == request.param
    path: Path = tmp_path_factory.mktemp("page") / "report.html"  # type: ignore[attr-defined]
    path.write_text(report_html(release, judged, against=(release, judged)), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_aa_asks_for(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, scheme=scheme)
    measured = browser.evaluate(CONTRAST)
    assert measured["read"] > 100
    assert measured["found"] == []


def test_the_two_schemes_differ(browser: Browser, page: Path) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        browser.open(page, scheme=scheme)
        grounds.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_the_page_never_scrolls_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_the_layers_are_sorted_and_filtered_by_keyboard_alone(browser: Browser, page: Path) -> None:
    browser.open(page)
    focused = "document.activeElement.textContent.trim() || document.activeElement.id"
    for _ in range(60):
        browser.press("Tab")
        if browser.evaluate(focused) == "layer-filter":
            break
    for character in "layer2":
        browser.press(character)
    assert browser.evaluate("document.getElementById('layer-count').textContent") == "11 of 33 layers"
    for _ in range(20):
        browser.press("Tab")
        if browser.evaluate(focused) == "Layer":
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.evaluate(outline) == "solid"
    first = "document.querySelector('#layer-table tbody tr:not([hidden]) th').dataset.key.slice(-2)"
    before = browser.evaluate(first)
    browser.press("Enter")
    browser.press("Enter")
    assert browser.evaluate("document.activeElement.closest('th').ariaSort") == "descending"
    assert (before, browser.evaluate(first)) == ("e2", "29")


def test_the_first_tab_skips_to_the_report(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert browser.evaluate("document.activeElement.offsetWidth") > 50


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.open(page)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") <= 12
