"""Figures of requests that are worked on some at a time: those of all requests at once, in memory with a bound."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.load.planning.phases import OpenLoop
from headrace.client.load.record import samples as samples_module
from headrace.client.load.record.run import Outcome, ServerMeans, Tail
from headrace.client.load.record.samples import NEVER_SENT, NO_ANSWER, Sample, SampleCollector, ServerTimes, Waits
from headrace.client.load.report import ranking
from headrace.client.load.report.chunked import split_at
from headrace.client.load.report.confidence import COMPARED_FIGURES, part_values
from headrace.client.load.report.csv_table import write_csv
from headrace.client.load.report.distribution import histogram
from headrace.client.load.report.error_times import error_times
from headrace.client.load.report.page.series import page_content
from headrace.client.load.report.ranking import extent, values_at
from headrace.client.load.report.summary import curve, summarise
from headrace.client.load.report.timeline import time_buckets
from tests.client.load.synthetic_runs import outcome, run

CHUNK = 7
SECONDS = st.integers(0, 3_000_000).map(lambda micros: micros / 1e6)


@st.composite
def requests(draw: st.DrawFn) -> Sample:
    """A request of any kind: answered, failed, without an answer, or never sent."""
    due, wait, service = draw(SECONDS), draw(SECONDS), draw(SECONDS)
    code = draw(st.sampled_from([0, 0, 0, 0, 1, 4, 8, 14, NO_ANSWER]))
    sent = NEVER_SENT if code and draw(st.booleans()) else due + wait
    times = draw(st.sampled_from([ServerTimes(), ServerTimes(0.0, service / 8, service / 2)]))
    waits = Waits(*(wait / part for part in draw(st.permutations((2, 4, 8, 16)))))
    return Sample(due, sent, due + wait + service, code, times, waits)


@st.composite
def phases(draw: st.DrawFn) -> Outcome:
    collector = SampleCollector()
    for each in draw(st.lists(requests(), max_size=120)):
        collector.add(each)
    measured = collector.take()
    tails = draw(st.sampled_from([(), (Tail(3, 0, 1, 7.5, 10.0, 0.5, 0.25, 0.0),)]))
    server = draw(st.sampled_from([None, ServerMeans(3, 0.01, 0.02)]))
    load = OpenLoop(10, 10, draw(st.sampled_from(["uniform", "poisson"])))
    return outcome(load, measured, tails=tails, unsent=26 if tails else 0, server=server)


def figures(phase: Outcome) -> dict[str, Any]:
    table = io.StringIO()
    write_csv([run(phase)], table)
    (series,) = page_content([run(phase)]).series
    return {
        "summary": summarise(phase),
        "curve": curve(phase),
        "timeline": time_buckets(phase),
        "errors": error_times(phase),
        "histogram": histogram(series.latencies),
        "parts": [part_values(phase, figure) for figure in COMPARED_FIGURES],
        "csv": table.getvalue(),
    }


def assert_alike(one: Any, other: Any) -> None:
    """Equal, but for the rounding error of sums that are added up in another order."""
    assert type(one) is type(other)
    if is_dataclass(one):
        for field in fields(one):
            assert_alike(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        assert_alike(list(one.values()), list(other.values()))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, its in zip(one, other, strict=True):
            assert_alike(mine, its)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-12, abs=1e-12)
    else:
        assert one == other


@given(phases())
def test_chunks_of_seven_requests_give_the_figures_of_one_chunk(phase: Outcome) -> None:
    whole = figures(phase)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples_module, "CHUNK_SAMPLES", CHUNK)
        patch.setattr(ranking, "SORTED_AT_ONCE", CHUNK)
        patch.setattr(ranking, "BINS", 1 << 9)
        patch.setattr("headrace.client.load.report.csv_table.ROWS_AT_ONCE", CHUNK)
        assert_alike(figures(phase), whole)


@given(
    st.lists(st.lists(st.floats(-1e300, 1e300) | st.sampled_from([0.0, -0.0, 1.0]), max_size=20), max_size=10),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from([256, 4096]),
)
def test_every_rank_has_the_value_that_sorting_gives(parts: list[list[float]], at_once: int, bins: int) -> None:
    chunks = [np.array(part, np.float64) for part in parts]
    ordered = np.sort(np.concatenate([np.empty(0), *chunks]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "SORTED_AT_ONCE", at_once)
        patch.setattr(ranking, "BINS", bins)
        assert values_at(chunks, range(len(ordered)), extent(chunks)) == ordered.tolist()


@given(st.lists(st.lists(st.integers(0, 5), max_size=9), max_size=9), st.data())
def test_rows_are_split_as_a_stable_order_splits_them(parts: list[list[int]], data: st.DataObject) -> None:
    values = [np.array(part, np.float64) for part in parts]
    rows = [np.arange(len(part)) + 100 * at for at, part in enumerate(parts)]
    numbers, whole = (np.concatenate([np.empty(0), *each]) for each in (rows, values))
    at = data.draw(st.integers(0, len(whole)))
    first, last = split_at(rows, values, at)
    order = np.argsort(whole, kind="stable")
    for found, expected in ((first, order[:at]), (last, order[at:])):
        chosen = [row[mask] for row, mask in found]
        assert np.concatenate([np.empty(0), *chosen]).tolist() == sorted(numbers[expected].tolist())


REPORT = """
import resource, sys
import numpy as np
from headrace.client.load.planning.phases import OpenLoop, Phase
from headrace.client.load.record.run import Outcome
from headrace.client.load.record.samples import Samples
from headrace.client.load.record.spool import SampleSpool
from headrace.client.load.report.page.html_page import render_page
from headrace.client.load.report.summary import summarise
from headrace.client.load.report.text.text_report import print_report
from tests.client.load.synthetic_runs import run, steady
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
random, spool, count = np.random.default_rng(1), SampleSpool(), int(sys.argv[1])
render_page([run(steady())])
for start in range(0, count, 50_000):
    due = np.arange(start, start + 50_000) / 5000
    latency, zero = random.lognormal(-5, 0.7, len(due)), np.zeros(len(due))
    code = np.where(random.random(len(due)) < 1e-3, 14, 0).astype(np.int16)
    spool.add(Samples(due, due + latency / 9, due + latency, code, zero, latency / 3, latency / 2, *[zero] * 4))
before = peak()
phase = Outcome(Phase(OpenLoop(5000, 5000), 1.0, count / 5000), count, 0, count / 5000 + 1, spool.take())
assert summarise(phase).latency.p99 > 0.03
render_page([run(phase)])
print(peak() - before)
"""


def test_the_report_of_a_million_requests_takes_little_memory() -> None:
    """As arrays they are 82 MB, and several times that while they are sorted. The report takes what chunks take."""
    ended = subprocess.run([sys.executable, "-c", REPORT, "1000000"], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 30_000


def test_there_is_nothing_at_no_rank() -> None:
    assert values_at([np.array([math.inf])], [], extent([])) == []
