"""The page as text, and its figures as data. tests/page looks at it with a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.record.run import Outcome, Run
from headrace.client.load.record.samples import NO_ANSWER, NO_SAMPLES, Samples
from headrace.client.load.report.page import figures, findings, time_figures
from headrace.client.load.report.page.drawing import Figure
from headrace.client.load.report.page.html_page import render_page
from headrace.client.load.report.page.series import PageContent, page_content
from headrace.client.terminal.usage_error import UsageError
from tests.page import simulated_runs


class Tags(HTMLParser):
    """The elements of a page, their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.found[-1:] not in (["script"], ["style"]):
            self.text += data


def open_loop(
    latency: list[float], wait: float = 0.0, code: dict[int, int] | None = None, rate: float = 100
) -> Outcome:
    """Requests at an even rate with these latencies in seconds, including `wait` before they were sent."""
    intended = np.arange(len(latency)) / rate
    codes = np.zeros(len(latency), np.int16)
    for at, each in (code or {}).items():
        codes[at] = each
    ended = intended + np.array(latency)
    part = (np.array(latency) - wait) / 4
    samples = Samples(intended, intended + wait, ended, codes, part * 0, part, part * 2, *np.zeros((4, len(latency))))
    seconds = len(latency) / rate
    return Outcome(Phase(OpenLoop(rate, rate), 0.0, seconds), len(latency), 0, seconds, samples)


def of(*outcomes: Outcome, name: str = "run.jsonl") -> Run:
    return Run(simulated_runs.SETTINGS, list(outcomes), name)


def lines(figure: Figure | None) -> list[dict[str, Any]]:
    assert figure is not None
    return figure.data


def all_groups(content: PageContent) -> list[str]:
    return [each.label for each in content.series]


# What the page is


def test_the_page_fetches_nothing() -> None:
    from plotly.offline import get_plotlyjs

    page = render_page(simulated_runs.compared())
    assert page.count(get_plotlyjs()) == 1
    ours = page.replace(get_plotlyjs(), "")
    assert not re.search(r"https?:|@import|url\(|import\s*\(|fetch\(", ours)
    tags = Tags(ours)
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(tags.found)
    assert not {"src", "href", "action", "srcset"} & {name for name, _ in tags.attributes}
    (policy,) = (value for name, value in tags.attributes if value.startswith("default-src"))
    assert policy.startswith("default-src 'none';")


def test_hostile_text_remains_text() -> None:
    from plotly.offline import get_plotlyjs

    page = render_page(simulated_runs.hostile()).replace(get_plotlyjs(), "")
    tags = Tags(page)
    assert tags.found.count("script") == 3
    assert "img" not in tags.found
    assert not {name for name, _ in tags.attributes if name.startswith("on")}
    assert "</script><script>alert(1)</script><img src=x onerror=alert(2)>" in tags.text
    (data,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert not re.search(r"[<>&\u2028]", data)


def test_the_error_without_plotly_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'headrace[report]'")):
        render_page([simulated_runs.failed()])


def test_plotly_is_imported_only_to_render_a_page() -> None:
    script = "import sys, headrace.client.load.report.page.html_page; print('plotly' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_the_page_shows_settings_and_warnings() -> None:
    text = Tags(render_page([simulated_runs.stalled()])).text
    for expected in (
        "resnet50 version 3",
        "localhost:8001",
        "headrace, stream",
        "2025-03-14 09:26 UTC",
        "headrace 0.1.0",
    ):
        assert expected in text
    assert "UNAVAILABLE" in text
    assert "the server is draining" in text
    assert "x FP32[1,3,224,224] random" in text


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(Outcome(Phase(OpenLoop(5, 5), 0.0, 1.0), 5, 5, 1.0), id="nothing was sent"),
        pytest.param(
            Outcome(Phase(ClosedLoop(1), 0.0, 1.0), 0, 0, 0.0, NO_SAMPLES, interrupted=True), id="no time passed"
        ),
        pytest.param(open_loop([0.001]), id="one request"),
        pytest.param(open_loop([0.0] * 9), id="no latency"),
        pytest.param(open_loop([0.5] * 9, code=dict.fromkeys(range(9), NO_ANSWER)), id="no answer"),
        pytest.param(replace(open_loop([0.5] * 9), phase=Phase(OpenLoop(9, 9), 0.0, None, 9)), id="a count"),
    ],
)
def test_a_page_is_rendered_from_very_little_data(outcome: Outcome) -> None:
    for measured in ([of(outcome)], [of(outcome), of(outcome)], [of(outcome, outcome)]):
        assert "Everything in numbers" in render_page(measured)


def test_a_page_is_rendered_from_a_run_without_phases() -> None:
    assert "No request succeeded" in render_page([of()])


# Names and colours


@pytest.mark.parametrize(
    ("measured", "labels"),
    [
        ([of(open_loop([1.0]))], ["100/s"]),
        ([of(open_loop([1.0]), open_loop([1.0]))], ["100/s", "100/s (2)"]),
        ([of(open_loop([1.0]), name="a/one.jsonl"), of(open_loop([1.0]), name="two.v2.jsonl")], ["one", "two.v2"]),
        ([of(open_loop([1.0]), name="one.jsonl"), of(open_loop([1.0]), name="b/one.jsonl")], ["one", "one (2)"]),
        ([of(open_loop([1.0]), name=""), of(open_loop([1.0]), name="")], ["run 1", "run 2"]),
        (
            [of(open_loop([1.0]), open_loop([1.0], rate=5), name="a"), of(open_loop([1.0]), name="b")],
            ["a, 100/s", "a, 5/s", "b, 100/s"],
        ),
    ],
)
def test_each_series_has_a_unique_name(measured: list[Run], labels: list[str]) -> None:
    assert all_groups(page_content(measured)) == labels


def test_all_colours_differ() -> None:
    for count in (1, 2, 3, 6, 7, 30):
        sweep = page_content([of(*(open_loop([1.0]) for _ in range(count)))])
        side_by_side = page_content([of(open_loop([1.0])) for _ in range(count)])
        for content in (sweep, side_by_side):
            assert len(set(content.colours)) == count
            assert len(content.groups) == count


def test_phases_of_several_runs_are_coloured_by_run_and_grouped_by_load() -> None:
    content = page_content([simulated_runs.sweep(name="old.jsonl"), simulated_runs.sweep(3.0, "new.jsonl")])
    assert content.groups == ["old", "new"]
    assert [each.label for each in content.side_by_side][:3] == [
        "old, 1 in flight",
        "new, 1 in flight",
        "old, 2 in flight",
    ]
    assert [each.offset for each in content.series if each.run == 0] == [
        each.offset for each in content.series if each.run
    ]
    base = content.baseline(content.series[-1])
    assert base is content.series[5]


# Figures


def test_percentiles_are_at_the_right_place_on_the_axis() -> None:
    latency = [at / 1000 for at in range(1, 1001)]
    service, corrected = lines(figures.percentiles(page_content([of(open_loop(latency, wait=0.0005))])))
    points = dict(zip(np.round(corrected["x"], 6), corrected["y"], strict=True))
    assert {x: points[x] for x in (2, 10, 100, 1000)} == {2: 500, 10: 900, 100: 990, 1000: 999}
    assert corrected["y"][-1] == 1000
    assert (corrected["line"]["dash"], service["line"]["dash"]) == ("solid", "dash")
    assert dict(zip(np.round(service["x"], 6), service["y"], strict=True))[100] == 989.5


def test_a_closed_loop_has_no_service_time_of_its_own() -> None:
    assert [line["line"]["dash"] for line in lines(figures.percentiles(page_content([simulated_runs.sweep()])))] == [
        "solid"
    ] * 6


def test_failures_are_crosses_where_they_were_due() -> None:
    failing = dict.fromkeys(range(500, 510), 14) | {900: NO_ANSWER}
    content = page_content([of(open_loop([0.01] * 1000, code=failing))])
    *drawn, crosses = lines(time_figures.latency(content))
    assert {value for line in drawn for value in line["y"] if value is not None} == {10.0}
    assert sum(crosses["customdata"]) == 11
    assert sum(count for at, count in zip(crosses["x"], crosses["customdata"], strict=True) if 4.9 < at < 5.3) == 10
    assert crosses["marker"]["color"] == "@bad"
    assert crosses["text"][-1] == "1 not answered"
    assert all(text.endswith(" UNAVAILABLE") for text in crosses["text"][:-1])


def test_phases_follow_each_other_in_time() -> None:
    drawn = lines(time_figures.latency(page_content([of(open_loop([0.01] * 500), open_loop([0.02] * 500))])))
    first, second = (line for line in drawn if line["line"]["dash"] == "solid")
    assert max(first["x"]) < 5 < min(second["x"])
    assert set(second["y"]) == {20.0}


def test_planned_sent_and_answered_rates_are_separate_lines() -> None:
    planned, sent, answered = lines(time_figures.rates(page_content([simulated_runs.overloaded()])))
    assert (planned["y"], planned["x"]) == ([200, 2000], [0, 15])
    assert max(sent["x"]) < 15 < max(answered["x"])
    assert 900 < max(answered["y"]) < 1100
    assert sent["y"][-2] < 1200


def test_an_interrupted_ramp_ends_where_it_was_interrupted() -> None:
    outcome = simulated_runs.open_loop(100, 300, 4, simulated_runs.Queue(8, 1.0))
    half = outcome.samples.select(outcome.samples.intended < 2)
    stopped = Outcome(Phase(OpenLoop(100, 300), 0.0, 4.0), half.count, 0, 2.0, half, interrupted=True)
    planned, *_ = lines(time_figures.rates(page_content([of(stopped)])))
    assert planned["x"] == [0, pytest.approx(2)]
    assert planned["y"] == [100, pytest.approx(200)]


def test_a_sweep_shows_throughput_and_latency() -> None:
    content = page_content([simulated_runs.sweep()])
    throughput, p50, p99 = lines(figures.sweep(content))
    assert throughput["x"] == p99["x"] == [1, 2, 4, 8, 16, 32]
    assert throughput["y"] == [each.summary.throughput for each in content.series]
    assert [text for text in throughput["text"] if text] == ["1,290/s"]
    assert (p50["yaxis"], p99["yaxis"]) == ("y2", "y2")
    assert p99["y"][-1] == pytest.approx(30.05, rel=0.02)


@pytest.mark.parametrize(
    "run", [simulated_runs.stalled(), of(simulated_runs.closed_loop(4, 1, simulated_runs.Queue(2, 3.0)))]
)
def test_a_single_concurrency_is_not_a_sweep(run: Run) -> None:
    assert figures.sweep(page_content([run])) is None


def test_bars_add_up_to_the_latency() -> None:
    drawn = lines(figures.time_breakdown(page_content([of(open_loop([0.010] * 100, wait=0.002))])))
    assert {part["name"]: part["x"] for part in drawn} == {
        "client": [pytest.approx(2)],
        "network": [pytest.approx(2)],
        "queue": [pytest.approx(2)],
        "inference": [pytest.approx(4)],
    }


def test_a_server_that_reports_no_times_is_a_single_bar() -> None:
    outcome = open_loop([0.010] * 100, wait=0.002)
    nothing = np.full(100, np.nan)
    outcome.samples = replace(outcome.samples, waiting=nothing, queued=nothing, running=nothing)
    drawn = lines(figures.time_breakdown(page_content([of(outcome)])))
    assert [(part["name"], round(part["x"][0], 6)) for part in drawn] == [("client", 2.0), ("network and server", 8.0)]


# Words


def test_findings_describe_a_stall() -> None:
    content = page_content([simulated_runs.stalled()])
    assert findings.headline(content).startswith("The plan of 200/s was not kept, as the window was full: ")
    assert re.fullmatch(
        r"p99 is at least 1\.2\d s; service time would show [23]\d(\.\d)? ms", findings.percentiles(content)
    )
    assert re.fullmatch(
        r"The slowest request took 1\.4\d? s, 7\.\d+ s into the run; 40 requests failed", findings.latency(content)
    )


def test_findings_describe_a_plan_that_was_kept() -> None:
    content = page_content([of(open_loop([0.010] * 500))])
    assert findings.headline(content) == "The plan of 100/s was kept, half within 10 ms and 99 % within 10 ms."
    assert findings.percentiles(content) == "99 % of the requests took up to 10 ms"
    assert findings.rates(content) == "The planned rate was sent and answered"
    assert findings.time_breakdown(content) == "Inference is the largest part of the time: 50 %"


def test_findings_compare_two_runs() -> None:
    content = page_content([of(open_loop([0.010] * 500), name="a"), of(open_loop([0.012] * 500), name="b")])
    assert findings.headline(content) == "b against a: p99 is 20 % higher, throughput is the same."
    assert findings.percentiles(content) == "p99 is 10 ms in a and 12 ms in b"
    page = render_page([of(open_loop([0.010] * 500), name="a"), of(open_loop([0.012] * 500), name="b")])
    assert '<small class="bad">+20 %</small>' in page


def test_findings_describe_a_sweep() -> None:
    content = page_content([simulated_runs.sweep()])
    assert findings.sweep(content) == "Highest throughput: 1,290/s at 16 in flight"
    assert re.fullmatch(
        r"Largest part of the time: inference at 1 in flight \(\d+ %\) and queue at 32 in flight \(\d+ %\)",
        findings.time_breakdown(content),
    )
