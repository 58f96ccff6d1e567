"""The parts of a page about searches, repetitions, objectives, the server and the time of day."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop
from headrace.client.load.record.run import Run
from headrace.client.load.record.samples import Floats
from headrace.client.load.report.conditions import missed_objectives, parse_objective
from headrace.client.load.report.delays import unanswered_waits
from headrace.client.load.report.distribution import histogram
from headrace.client.load.report.page import findings, search_figure, server_figure, time_figures
from headrace.client.load.report.page.drawing import Figure, duration_axis, round_steps
from headrace.client.load.report.page.histogram import latency_histogram
from headrace.client.load.report.page.html_page import render_page
from headrace.client.load.report.page.series import page_content
from headrace.client.load.report.rate_search import found_rate
from headrace.client.load.report.summary import summarise
from headrace.client.terminal.usage_error import UsageError
from tests.client.load.synthetic_runs import failed, outcome, overloaded, run, samples, searched, stalled, steady
from tests.page import simulated_runs


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def texts(axis: dict[str, Any]) -> list[str]:
    return [str(text) for text in axis["ticktext"]]


@given(st.lists(st.floats(0, 1e4), max_size=200))
def test_every_duration_is_in_one_bin(durations: list[float]) -> None:
    bins = histogram([np.array(durations)])
    assert sum(each.requests for each in bins) == len(durations)
    assert all(one.high == other.low for one, other in pairwise(bins))
    assert all(each.low < each.high for each in bins)
    if durations:
        assert bins[0].low <= max(min(durations), 1e-6)
        assert bins[-1].high >= max(durations)


@given(st.floats(1e-3, 1e7), st.integers(3, 10))
def test_axis_steps_are_round_and_few(top: float, most: int) -> None:
    steps = round_steps(top, most)
    assert 1 < len(steps) <= most + 1
    assert steps[0] == 0
    assert steps[-1] <= top * (1 + 1e-9)


def test_an_axis_says_seconds_from_one_second_on() -> None:
    assert {"200 ms", "500 ms", "1 s", "2 s", "5 s"} < set(texts(duration_axis([100.0, 6_100.0])))
    assert texts(duration_axis([1000.0, 6_100.0])) == ["0 ms", "2 s", "4 s", "6 s"]
    assert duration_axis([3.0, 9.0])["ticksuffix"] == " ms"


def test_no_page_has_a_thousand_milliseconds() -> None:
    page = render_page([run(stalled())], [parse_objective("p99<1s")]).split('<script type="application/json"')[0]
    assert "1.31&nbsp;s" in page
    assert "1,310" not in page
    assert "1.31 <small>s</small>" in page


def test_a_search_is_a_mark_for_each_trial_and_a_line_through_the_middle() -> None:
    content = page_content([searched()])
    found = found_rate(searched())
    assert found is not None
    line, held, fails = drawn(search_figure.search(content)).data
    assert len(held["x"]) + len(fails["x"]) == len(found.judged)
    assert line["x"] == [each.rate for each in found.tried]
    assert max(value for value in held["y"]) < 20 < min(fails["y"])
    assert [each.load for each in content.best_phases] == ["283/s"]
    assert findings.headline(content) == "p99 < 20 ms holds up to 283/s and fails at 295/s."


def test_the_time_of_a_search_is_that_of_the_rates_at_its_limit() -> None:
    content = page_content([searched()])
    assert [(each.load, each.offset) for each in content.timed] == [("283/s", 0.0), ("295/s", content.timed[1].offset)]
    assert content.timed[1].offset == pytest.approx(10, abs=0.1)
    assert "ticktext" not in drawn(time_figures.latency(content)).layout["xaxis"]


def test_a_trial_without_a_value_is_above_all_others_and_not_on_the_line() -> None:
    content = page_content([run(steady(), failed(), failed(), search="p99<20ms")])
    line, held, fails = drawn(search_figure.search(content)).data
    assert line["y"] == [None, pytest.approx(4.0)]
    assert min(fails["y"]) > max(held["y"])
    assert "0 % answered" in fails["text"][0]
    assert "The server" not in render_page([run(failed(), search="p99<20ms")])


def test_repetitions_are_one_in_the_headline_and_the_cards() -> None:
    before, after = simulated_runs.repeated()
    content = page_content([before, after])
    assert [each.label for each in content.best_phases] == ["before", "after"]
    assert [each.load for each in content.best_phases] == ["3 times 400/s"] * 2
    assert content.best_phases[0].outcome.samples.count == sum(each.samples.count for each in before.outcomes)
    assert findings.headline(content).startswith("after against before: p99 is ")
    page = render_page([before, after])
    assert "Means, and where the true ones are" in page
    assert "after was not measured like before: streams 3, not 2." in page
    assert "Means, and where" not in render_page([run(steady())])


def test_noise_is_named_and_has_no_colour() -> None:
    random = np.random.default_rng(1)

    def noisy(name: str, scale: float) -> Run:
        latencies = scale * random.gamma(4, 0.001, 3000)
        return run(outcome(OpenLoop(300, 300), samples(np.arange(3000) / 300, latencies)), name=name)

    same = page_content([noisy("a", 1.0), noisy("b", 1.04)])
    assert "(within noise)" in findings.headline(same)
    other = page_content([noisy("a", 1.0), noisy("b", 1.5)])
    assert "(within noise)" not in findings.headline(other)


def test_objectives_are_lines_and_verdicts() -> None:
    objectives = [parse_objective("p99<1s"), parse_objective("errors<1%"), parse_objective("service.p50<1ms")]
    content = page_content([run(stalled())], objectives)
    assert content.limits == [1.0]
    for figure in (time_figures.latency(content), latency_histogram(content)):
        (line,) = drawn(figure).layout["shapes"]
        assert 1000 in (line.get("y0"), line.get("x0"))
    page = render_page([run(stalled())], objectives)
    assert '<b class="bad">missed</b> <span>p99 &lt; 1&nbsp;s: 1.311&nbsp;s</span>' in page
    assert '<b class="good">met</b> <span>errors &lt; 1&nbsp;%: 0&nbsp;%</span>' in page


def test_missed_objectives_are_sentences() -> None:
    objectives = [parse_objective("p99<1s"), parse_objective("errors<1%")]
    assert missed_objectives(objectives, [summarise(stalled()), summarise(steady())]) == [
        "p99 is 1.311 s, and should be < 1 s (100/s)"
    ]
    assert missed_objectives(objectives, [summarise(failed())]) == [
        "p99 is unknown, and should be < 1 s (10/s)",
        "errors is 100 %, and should be < 1 % (10/s)",
    ]
    with pytest.raises(UsageError, match=r"^--sla 'p99' is not a condition; examples: p99<20ms"):
        parse_objective("p99")


def test_the_time_of_day_is_below_the_time_of_the_run() -> None:
    axis = drawn(time_figures.latency(page_content([simulated_runs.watched()]))).layout["xaxis"]
    assert (
        texts(axis)
        == ["0 s<br>23:49:55", "10 s<br>23:50:05", "20 s<br>23:50:15", "30 s<br>23:50:25"][: len(texts(axis))]
    )
    assert "ticktext" not in drawn(time_figures.latency(page_content([run(steady())]))).layout["xaxis"]


def test_the_time_of_day_jumps_between_phases_as_the_clock_did() -> None:
    first, second = steady(), steady()
    first.began, second.began = 86_400.0, 86_400.0 + 12
    axis = drawn(time_figures.latency(page_content([run(first, second)]))).layout["xaxis"]
    assert [text[-8:] for text in texts(axis)] == ["00:00:00", "00:00:05", "00:00:12", "00:00:17", "00:00:22"]


def test_the_server_is_shown_if_it_said_anything() -> None:
    content = page_content([simulated_runs.watched()])
    flying, queued, running, memory = drawn(server_figure.server_load(content)).data
    assert (max(flying["y"]), max(queued["y"]), max(running["y"])) == (166, 158, 8)
    assert memory["yaxis"] == "y2"
    assert memory["customdata"][0] == "380 MiB"
    assert findings.server_load(content) == "Up to 166 tickets in flight, and 438 MiB of memory"
    assert server_figure.server_load(page_content([run(steady())])) is None


def test_a_lower_bound_never_meets_an_upper_limit() -> None:
    """A request that was lost after 2 ms might have taken any time."""
    measured = samples(np.arange(200) / 10, 0.004, code=[0] * 180 + [14] * 20)
    summary = summarise(outcome(OpenLoop(10, 10), measured))
    objectives = [parse_objective(text) for text in ("p99<20ms", "p99>1ms", "p99>1s", "p50<20ms", "p99.9<20ms")]
    assert missed_objectives(objectives, [summary]) == [
        "p99 is at least 4 ms, and should be < 20 ms (10/s)",
        "p99 is at least 0.004 s, and should be > 1 s (10/s)",
        "p99.9 is unknown, and should be < 20 ms (10/s)",
    ]
    page = render_page([run(outcome(OpenLoop(10, 10), measured))], objectives)
    assert re.search(r"<th scope=.row.>p99</th><td>≥4\W", page)


def test_repetitions_are_drawn_with_what_none_of_them_sent() -> None:
    (each,) = page_content([run(overloaded(), overloaded(), repeat=2)]).best_phases
    assert each.outcome.unsent == 2 * overloaded().unsent
    assert _count(unanswered_waits(each.outcome)) == 2 * _count(unanswered_waits(overloaded()))


def test_a_page_of_too_few_requests_has_no_percentile_it_does_not_know() -> None:
    few = run(*(steady(ClosedLoop(at), count=count) for at, count in ((1, 9), (2, 99), (4, 50))))
    page = render_page([few], [parse_objective("p99<20ms")])
    assert "of too few requests" in page


def _count(chunks: Iterable[Floats]) -> int:
    return sum(map(len, chunks))
