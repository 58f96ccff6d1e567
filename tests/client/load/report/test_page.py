"""The page as text, and the figures in it as data. tests/page looks at it with a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from headrace.client.load.report import figures, findings, time_figures
from headrace.client.load.report.drawing import Figure
from headrace.client.load.report.page import html
from headrace.client.load.report.series import Shown, shown
from headrace.client.load.run import ClosedLoop, OpenLoop, Outcome, Phase, Run
from headrace.client.load.samples import EMPTY, NO_ANSWER, Samples
from headrace.client.terminal.usage_error import UsageError
from tests.page import runs


class Tags(HTMLParser):
    """The elements of a page, their attributes, and its text outside of scripts and styles."""

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
    """Requests at an even rate with these latencies in seconds, of which they waited to be sent for so long."""
    intended = np.arange(len(latency)) / rate
    codes = np.zeros(len(latency), np.int16)
    for at, each in (code or {}).items():
        codes[at] = each
    ended = intended + np.array(latency)
    part = (np.array(latency) - wait) / 4
    samples = Samples(intended, intended + wait, ended, codes, part * 0, part, part * 2)
    seconds = len(latency) / rate
    return Outcome(Phase(OpenLoop(rate, rate), 0.0, seconds), len(latency), 0, seconds, samples)


def of(*outcomes: Outcome, name: str = "run.jsonl") -> Run:
    return Run(runs.SETTINGS, list(outcomes), name)


def lines(figure: Figure | None) -> list[dict[str, Any]]:
    assert figure is not None
    return figure.data


def all_groups(what: Shown) -> list[str]:
    return [each.label for each in what.series]


# What the page is


def test_fetches_nothing() -> None:
    from plotly.offline import get_plotlyjs

    page = html(runs.compared())
    assert page.count(get_plotlyjs()) == 1
    ours = page.replace(get_plotlyjs(), "")
    assert not re.search(r"https?:|@import|url\(|import\s*\(|fetch\(", ours)
    tags = Tags(ours)
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(tags.found)
    assert not {"src", "href", "action", "srcset"} & {name for name, _ in tags.attributes}
    (policy,) = (value for name, value in tags.attributes if value.startswith("default-src"))
    assert policy.startswith("default-src 'none';")


def test_hostile_text_stays_text() -> None:
    from plotly.offline import get_plotlyjs

    page = html(runs.hostile()).replace(get_plotlyjs(), "")
    tags = Tags(page)
    assert tags.found.count("script") == 3
    assert "img" not in tags.found
    assert not {name for name, _ in tags.attributes if name.startswith("on")}
    assert "</script><script>alert(1)</script><img src=x onerror=alert(2)>" in tags.text
    (data,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert not re.search(r"[<>&\u2028]", data)


def test_plotly_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'headrace[report]'")):
        html([runs.failed()])


def test_plotly_is_imported_only_for_a_page() -> None:
    script = "import sys, headrace.client.load.report.page; print('plotly' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_tells_what_was_measured_and_the_figures() -> None:
    text = Tags(html([runs.stalled()])).text
    for told in ("resnet50 version 3", "localhost:8001", "headrace, stream", "2025-03-14 09:26 UTC", "headrace 0.1.0"):
        assert told in text
    assert "UNAVAILABLE" in text
    assert "the server is draining" in text
    assert "x FP32[1,3,224,224] random" in text


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(Outcome(Phase(OpenLoop(5, 5), 0.0, 1.0), 5, 5, 1.0), id="nothing was sent"),
        pytest.param(Outcome(Phase(ClosedLoop(1), 0.0, 1.0), 0, 0, 0.0, EMPTY, interrupted=True), id="no time passed"),
        pytest.param(open_loop([0.001]), id="one request"),
        pytest.param(open_loop([0.0] * 9), id="no latency"),
        pytest.param(open_loop([0.5] * 9, code=dict.fromkeys(range(9), NO_ANSWER)), id="no answer"),
        pytest.param(replace(open_loop([0.5] * 9), phase=Phase(OpenLoop(9, 9), 0.0, None, 9)), id="a count"),
    ],
)
def test_shows_what_little_there_is(outcome: Outcome) -> None:
    for measured in ([of(outcome)], [of(outcome), of(outcome)], [of(outcome, outcome)]):
        assert "Everything in numbers" in html(measured)


def test_a_run_without_phases_is_a_page_too() -> None:
    assert "No request succeeded" in html([of()])


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
def test_each_series_has_a_name_of_its_own(measured: list[Run], labels: list[str]) -> None:
    assert all_groups(shown(measured)) == labels


def test_each_colour_is_another_one() -> None:
    for count in (1, 2, 3, 6, 7, 30):
        sweep = shown([of(*(open_loop([1.0]) for _ in range(count)))])
        side_by_side = shown([of(open_loop([1.0])) for _ in range(count)])
        for what in (sweep, side_by_side):
            assert len(set(what.colours)) == count
            assert len(what.groups) == count


def test_phases_of_several_runs_are_told_apart_by_run_and_stand_together() -> None:
    what = shown([runs.sweep(name="old.jsonl"), runs.sweep(3.0, "new.jsonl")])
    assert what.groups == ["old", "new"]
    assert [each.label for each in what.side_by_side][:3] == [
        "old, 1 in flight",
        "new, 1 in flight",
        "old, 2 in flight",
    ]
    assert [each.offset for each in what.series if each.run == 0] == [each.offset for each in what.series if each.run]
    base = what.base(what.series[-1])
    assert base is what.series[5]


# Figures


def test_percentiles_stand_on_the_axis_where_they_belong() -> None:
    latency = [at / 1000 for at in range(1, 1001)]
    service, corrected = lines(figures.percentiles(shown([of(open_loop(latency, wait=0.0005))])))
    points = dict(zip(np.round(corrected["x"], 6), corrected["y"], strict=True))
    assert {x: points[x] for x in (2, 10, 100, 1000)} == {2: 500, 10: 900, 100: 990, 1000: 999}
    assert corrected["y"][-1] == 1000
    assert (corrected["line"]["dash"], service["line"]["dash"]) == ("solid", "dash")
    assert dict(zip(np.round(service["x"], 6), service["y"], strict=True))[100] == 989.5


def test_a_closed_loop_has_no_service_time_of_its_own() -> None:
    assert [line["line"]["dash"] for line in lines(figures.percentiles(shown([runs.sweep()])))] == ["solid"] * 6


def test_failures_are_no_latencies_but_crosses_where_they_were_due() -> None:
    failing = dict.fromkeys(range(500, 510), 14) | {900: NO_ANSWER}
    what = shown([of(open_loop([0.01] * 1000, code=failing))])
    *drawn, crosses = lines(time_figures.latency(what))
    assert {value for line in drawn for value in line["y"] if value is not None} == {10.0}
    assert sum(crosses["customdata"]) == 11
    assert sum(count for at, count in zip(crosses["x"], crosses["customdata"], strict=True) if 4.9 < at < 5.3) == 10
    assert crosses["marker"]["color"] == "@bad"


def test_phases_follow_each_other_in_time() -> None:
    drawn = lines(time_figures.latency(shown([of(open_loop([0.01] * 500), open_loop([0.02] * 500))])))
    first, second = (line for line in drawn if line["line"]["dash"] == "solid")
    assert max(first["x"]) < 5 < min(second["x"])
    assert set(second["y"]) == {20.0}


def test_rates_tell_plan_and_deed_apart() -> None:
    planned, sent, answered = lines(time_figures.rates(shown([runs.overloaded()])))
    assert (planned["y"], planned["x"]) == ([200, 2000], [0, 15])
    assert max(sent["x"]) < 15 < max(answered["x"])
    assert 900 < max(answered["y"]) < 1100
    assert sent["y"][-2] < 1200


def test_an_interrupted_ramp_ends_where_it_was_interrupted() -> None:
    outcome = runs.open_loop(100, 300, 4, runs.Queue(8, 1.0))
    half = outcome.samples.where(outcome.samples.intended < 2)
    stopped = Outcome(Phase(OpenLoop(100, 300), 0.0, 4.0), half.count, 0, 2.0, half, interrupted=True)
    planned, *_ = lines(time_figures.rates(shown([of(stopped)])))
    assert planned["x"] == [0, pytest.approx(2)]
    assert planned["y"] == [100, pytest.approx(200)]


def test_a_sweep_is_throughput_and_its_cost() -> None:
    what = shown([runs.sweep()])
    throughput, p50, p99 = lines(figures.sweep(what))
    assert throughput["x"] == p99["x"] == [1, 2, 4, 8, 16, 32]
    assert throughput["y"] == [each.summary.throughput for each in what.series]
    assert [text for text in throughput["text"] if text] == ["1,290/s"]
    assert (p50["yaxis"], p99["yaxis"]) == ("y2", "y2")
    assert p99["y"][-1] == pytest.approx(30.05, rel=0.02)


@pytest.mark.parametrize("run", [runs.stalled(), of(runs.closed_loop(4, 1, runs.Queue(2, 3.0)))])
def test_one_concurrency_is_no_sweep(run: Run) -> None:
    assert figures.sweep(shown([run])) is None


def test_bars_add_up_to_the_latency() -> None:
    drawn = lines(figures.where(shown([of(open_loop([0.010] * 100, wait=0.002))])))
    assert {part["name"]: part["x"] for part in drawn} == {
        "client": [pytest.approx(2)],
        "network": [pytest.approx(2)],
        "queue": [pytest.approx(2)],
        "inference": [pytest.approx(4)],
    }


def test_a_server_that_tells_nothing_is_not_split() -> None:
    outcome = open_loop([0.010] * 100, wait=0.002)
    nothing = np.full(100, np.nan)
    outcome.samples = replace(outcome.samples, waiting=nothing, queued=nothing, running=nothing)
    drawn = lines(figures.where(shown([of(outcome)])))
    assert [(part["name"], round(part["x"][0], 6)) for part in drawn] == [("client", 2.0), ("network and server", 8.0)]


# Words


def test_words_of_a_stall() -> None:
    what = shown([runs.stalled()])
    assert findings.whole(what).startswith("The plan of 200/s did not hold: ")
    assert re.fullmatch(r"p99 is 1,2\d\d ms; service time would say [23]\d(\.\d)? ms", findings.percentiles(what))
    assert re.fullmatch(
        r"The slowest took 1,4\d\d ms, 7\.\d+ s into the run; 40 requests failed", findings.latency(what)
    )


def test_words_of_a_plan_that_held() -> None:
    what = shown([of(open_loop([0.010] * 500))])
    assert findings.whole(what) == "The plan of 100/s held, half within 10 ms and 99 % within 10 ms."
    assert findings.percentiles(what) == "99 % of the requests took up to 10 ms"
    assert findings.rates(what) == "The planned rate was sent and answered"
    assert findings.where(what) == "Inference is the largest part of the time: 50 %"


def test_words_of_two_runs() -> None:
    what = shown([of(open_loop([0.010] * 500), name="a"), of(open_loop([0.012] * 500), name="b")])
    assert findings.whole(what) == "b against a: p99 is 20 % higher, throughput is the same."
    assert findings.percentiles(what) == "p99 is 10 ms in a and 12 ms in b"
    page = html([of(open_loop([0.010] * 500), name="a"), of(open_loop([0.012] * 500), name="b")])
    assert '<small class="bad">+20 %</small>' in page


def test_words_of_a_sweep() -> None:
    what = shown([runs.sweep()])
    assert findings.sweep(what) == "The most throughput: 1,290/s at 16 in flight"
    assert re.fullmatch(
        r"The largest part: inference at 1 in flight \(\d+ %\) and queue at 32 in flight \(\d+ %\)",
        findings.where(what),
    )
