"""The page of `make bench`, in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.page.page import render_page
from tests.bench.simulated_history import simulated_run
from tests.page.browser import Browser, Page, Scheme

TITLES = ["add/multiply, 32 coroutines", "ModelInfer, 32 in flight", "Silero chain, 32 ahead"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "bench.html"
    runs = [simulated_run(at, TITLES, quiet=at % 3 > 0, ways=("here", "aio", "compiled")) for at in range(9)]
    file.write_text(render_page(runs), "utf-8")
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_every_plot_and_fits_its_window(
    browser: Browser, file: Path, width: int, scheme: Scheme, pictures: Path
) -> None:
    page = Page(browser, file, width, scheme)
    assert page.evaluate("document.querySelectorAll('.drawing .main-svg').length") > 0
    drawn = page.evaluate(
        "[...document.querySelectorAll('.drawing')].map(each => each.querySelectorAll('.point').length)"
    )
    assert drawn == [2 * 3 * 9] * len(TITLES)
    assert page.errors() == []
    assert page.requests() == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(pictures / f"bench-{width}-{scheme}.png")
