"""What the page says; how it looks is for `make test-page`."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.bench.page.page import render_page
from tests.bench.simulated_history import simulated_run


def plots(page: str) -> list[dict[str, Any]]:
    match = re.search(r'id="figures">(.*?)</script>', page)
    assert match
    return list(json.loads(match[1]).values())


def test_a_page_has_a_plot_for_each_ratio_with_the_runs_that_have_it() -> None:
    history = [
        simulated_run(0, ["first", "second"]),
        simulated_run(1, ["second"], quiet=False),
        simulated_run(2, ["first", "second"], ways=("here", "other")),
    ]
    page = render_page(history)
    first, second = plots(page)
    lines = {(line["name"], line.get("yaxis", "y")): line for line in second["data"]}
    assert set(lines) == {(way, axis) for way in ("here", "other") for axis in ("y", "y2")}
    assert lines["here", "y"]["y"] == [2.06, 2.36, 2.66]
    assert lines["here", "y"]["marker"]["symbol"] == ["circle", "circle-open", "circle"]
    assert lines["other", "y"]["x"] == [2]
    assert len(first["data"][0]["x"]) == 2
    assert "2 of 2 ratios reached what they must, 0 of them the aim" in page
    assert "The machine was noisy" not in page


def test_a_noisy_run_and_runs_on_other_machines_are_told() -> None:
    elsewhere = simulated_run(0, ["first"]) | {"machine": {"processor": "another", "cores": 64}}
    page = render_page([elsewhere, simulated_run(1, ["first"], quiet=False)])
    assert "The machine was noisy in the newest run" in page
    assert ">reached?</b>" in page
    assert "1 run on other machines left out, as their figures cannot be compared" in page
    assert plots(page)[0]["data"][0]["y"] == [2.36]


def test_names_are_displayed_as_text() -> None:
    page = render_page([simulated_run(0, ["</script><img src=x>"], ways=("<b>way",))])
    assert "<img src=x>" not in page
    assert "<b>way" not in page
