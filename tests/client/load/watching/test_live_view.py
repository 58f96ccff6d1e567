"""The view of a running load test: figures on a terminal, nothing elsewhere."""

from __future__ import annotations

import io
import time

from rich.console import Console

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.watching.live_view import LiveView
from tests.client.load.synthetic_runs import ended_samples


def live_view_output(*, terminal: bool) -> str:
    file = io.StringIO()
    with LiveView(2, Console(file=file, force_terminal=terminal, width=120)) as view:
        start = time.perf_counter() - 30.5
        view.start_phase(0, Phase(ClosedLoop(4), 1, 60), start)
        view.refresh()
        view.start_phase(1, Phase(ClosedLoop(8), 1, 60), start)
        view.add(ended_samples(*[0.1] * 99))
        view.add(ended_samples(0.1, code=14))
        view.refresh()
    return file.getvalue()


def test_a_terminal_shows_phase_figures_and_time_left() -> None:
    text = live_view_output(terminal=True)
    assert "2/2  8 in flight" in text
    assert "p50 10" in text
    assert "1 error" in text
    assert "0:29 left" in text


def test_a_search_counts_its_trials() -> None:
    file = io.StringIO()
    with LiveView(None, Console(file=file, force_terminal=True, width=120)) as view:
        view.start_phase(6, Phase(OpenLoop(141, 141), 1, 5), time.perf_counter())
        view.refresh()
    assert "trial 7  141/s" in file.getvalue()


def test_nothing_is_written_without_a_terminal() -> None:
    assert live_view_output(terminal=False) == ""


def test_samples_before_the_first_phase_are_ignored() -> None:
    with LiveView(1, Console(file=io.StringIO(), force_terminal=True)) as view:
        view.add(ended_samples(0.1))
        view.refresh()
