"""The report in a real browser (`make test-page`). The screenshots are for people to look at."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from headrace.client.load.record.run import Run
from headrace.client.load.report.conditions import parse_objective
from headrace.client.load.report.page.html_page import render_page
from tests.page import simulated_runs
from tests.page.browser import Browser, Page, Scheme

DESK, PHONE = 1280, 390
TIME_COLUMNS = ["Latency percentiles", "Latency histogram", "Latency over time"]
RATES = "Rate and throughput over time"
SWEEP = "Throughput against concurrency"
WHERE = "Where the time went"

PAGES: dict[str, tuple[Callable[[], list[Run]], list[str]]] = {
    "stalled": (lambda: [simulated_runs.stalled()], [*TIME_COLUMNS, RATES, WHERE]),
    "overloaded": (lambda: [simulated_runs.overloaded()], [*TIME_COLUMNS, RATES, WHERE]),
    "sweep": (lambda: [simulated_runs.sweep()], [*TIME_COLUMNS, SWEEP, WHERE]),
    "compared": (simulated_runs.compared, [*TIME_COLUMNS, RATES, WHERE]),
    "sweeps": (
        lambda: [simulated_runs.sweep(name="old.jsonl"), simulated_runs.sweep(4.0, "new.jsonl")],
        [*TIME_COLUMNS, SWEEP, WHERE],
    ),
    "failed": (lambda: [simulated_runs.failed()], ["Latency over time", RATES]),
    "search": (
        lambda: [simulated_runs.search()],
        ["Highest rate that holds", *TIME_COLUMNS, RATES, WHERE],
    ),
    "repeated": (simulated_runs.repeated, [*TIME_COLUMNS, RATES, WHERE]),
    "watched": (lambda: [simulated_runs.watched()], [*TIME_COLUMNS, RATES, "The server", WHERE]),
    "hostile": (simulated_runs.hostile, [*TIME_COLUMNS, RATES, WHERE]),
}

OBJECTIVES = [parse_objective("p99<40ms"), parse_objective("errors<1%")]

DRAWN = """[...document.querySelectorAll("figure.plot")].map(figure => [
  figure.querySelector(".kicker").textContent,
  [...figure.querySelectorAll(".scatterlayer path.js-line, .scatterlayer path.point, .barlayer .point path")]
    .filter(path => { const box = path.getBoundingClientRect(); return box.width + box.height > 4; }).length,
])"""
# For each text in a row of labels and headings of a plot: its ends, and those of the plot.
TEXTS = """[...document.querySelectorAll(".drawing")].flatMap(drawing =>
  ["g.xaxislayer-above", "g.yaxislayer-above", "g.infolayer"].flatMap(row =>
    [...drawing.querySelectorAll(row + " text")].filter(text => text.getBoundingClientRect().width).map(text => {
      const box = text.getBoundingClientRect(), all = drawing.getBoundingClientRect();
      return [drawing.id + " " + row, text.textContent, box.left, box.right, box.top, box.bottom, all.left, all.right];
    })))"""
LUMINANCE = """((element, property) => {
  const [r, g, b] = getComputedStyle(element)[property].match(/[\\d.]+/g).slice(0, 3)
    .map(each => each / 255).map(each => each <= .04045 ? each / 12.92 : ((each + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
})"""


@pytest.fixture(scope="module", params=PAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def file(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / f"{name}.html"
    file.write_text(render_page(PAGES[name][0](), OBJECTIVES), "utf-8")
    return file


@pytest.fixture(params=(DESK, PHONE), scope="module")
def page(request: pytest.FixtureRequest, browser: Browser, file: Path) -> Page:
    return Page(browser, file, request.param)


def test_the_page_shows_every_plot_without_errors_or_requests(page: Page, name: str, file: Path) -> None:
    drawn = page.evaluate(DRAWN)
    assert [title for title, _ in drawn] == PAGES[name][1]
    assert all(count > 0 for _, count in drawn), drawn
    assert page.errors() == []
    assert page.requests() == [file.as_uri()]


def test_plotly_accepts_all_figures(page: Page) -> None:
    # Settings of a hidden axis count as "unused", and colours are still names here.
    unknown = """Object.values(JSON.parse(document.getElementById("figures").textContent))
      .flatMap(({data, layout}) => Plotly.validate(data, layout) || [])
      .filter(each => each.code !== "unused" && !/color$/.test(each.path.at(-1))).map(each => each.msg)"""
    assert page.evaluate(unknown) == []


def test_the_page_fits_its_window(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = """[...document.querySelectorAll("main *")].filter(each => !each.closest(".scroll, .series, svg")
      && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"""
    assert page.evaluate(outside) == []


def test_labels_do_not_overlap_or_leave_their_plot(page: Page) -> None:
    texts = page.evaluate(TEXTS)
    assert texts
    for _, text, left, right, *_, first, last in texts:
        assert first - 8 <= left, text
        assert right <= last + 8, text
    for (row, text, *box), (other_row, other, *other_box) in pairwise(texts):
        assert row != other_row or not _overlap(box, other_box), (row, text, other)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_in_light_and_dark(page: Page, name: str, scheme: Scheme, pictures: Path) -> None:
    page.media("", scheme)
    page.settle()
    ground = page.evaluate(f"{LUMINANCE}(document.body, 'backgroundColor')")
    surface = page.evaluate(f"{LUMINANCE}(document.querySelector('.card'), 'backgroundColor')")
    ink = page.evaluate(f"{LUMINANCE}(document.body, 'color')")
    label = page.evaluate(f"{LUMINANCE}(document.querySelector('.xtick text'), 'fill')")
    assert (ground < 0.05) if scheme == "dark" else (ground > 0.85)
    assert _contrast(ink, ground) > 7
    assert _contrast(label, surface) > 4.5
    page.screenshot(pictures / f"{name}-{page.evaluate('innerWidth')}-{scheme}.png")


def test_printed_pages_are_light_and_plots_fit_on_them(browser: Browser, file: Path, name: str, pictures: Path) -> None:
    page = Page(browser, file, DESK, "dark")
    page.media("print", "dark")
    page.resize(680)
    page.settle()
    assert page.evaluate(f"{LUMINANCE}(document.body, 'backgroundColor')") == 1
    assert page.evaluate(f"{LUMINANCE}(document.querySelector('.xtick text'), 'fill')") < 0.2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    widths = page.evaluate("[...document.querySelectorAll('.drawing .main-svg')].map(each => each.clientWidth)")
    assert widths
    assert all(600 < width < 680 for width in widths)
    page.media("", "dark")
    page.pdf(pictures / f"{name}.pdf")
    assert page.errors() == []


def test_a_button_hides_a_run_and_shows_it_again(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "compared.html"
    file.write_text(render_page(simulated_runs.compared()), "utf-8")
    page = Page(browser, file, DESK)
    lines = "document.querySelectorAll('#plot-0 path.js-line').length"
    press = "document.querySelector('button[data-series=s1]').click()"
    assert page.evaluate(lines) == 4
    page.evaluate(press)
    assert page.evaluate(lines) == 2
    page.evaluate(press)
    assert page.evaluate(lines) == 4


def test_hostile_names_are_displayed_as_text(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(render_page(simulated_runs.hostile()), "utf-8")
    page = Page(browser, file, DESK)
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    assert page.evaluate("document.querySelectorAll('img, main b b, main svg b, main a, svg a').length") == 0
    assert "<img src=x onerror=alert(2)>" in page.evaluate("document.querySelector('h1').textContent")
    assert "script><img s" in page.evaluate("document.querySelector('#plot-4 .infolayer').textContent")


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def _overlap(box: list[Any], other: list[Any]) -> bool:
    left, right, top, bottom, *_ = box
    other_left, other_right, other_top, other_bottom, *_ = other
    return bool(
        min(right, other_right) - max(left, other_left) > 0 and min(bottom, other_bottom) - max(top, other_top) > 2
    )
