"""The view of a load test: on a terminal it shows how it goes, elsewhere nothing."""

from __future__ import annotations

import io
import time

from rich.console import Console

from headrace.client.load.live import Live
from headrace.client.load.run import ClosedLoop, Phase
from tests.client.load.test_progress import ended


def shown(*, terminal: bool) -> str:
    file = io.StringIO()
    with Live(2, Console(file=file, force_terminal=terminal, width=120)) as live:
        begin = time.perf_counter() - 30.5
        live.begun(0, Phase(ClosedLoop(4), 1, 60), begin)
        live.tick()
        live.begun(1, Phase(ClosedLoop(8), 1, 60), begin)
        live.add(ended(*[0.1] * 99))
        live.add(ended(0.1, code=14))
        live.tick()
    return file.getvalue()


def test_a_terminal_shows_phase_figures_and_time_left() -> None:
    text = shown(terminal=True)
    assert "2/2  8 in flight" in text
    assert "p50 10" in text
    assert "1 error" in text
    assert "0:29 left" in text


def test_elsewhere_nothing_is_written() -> None:
    assert shown(terminal=False) == ""


def test_nothing_is_shown_before_anything_has_begun() -> None:
    with Live(1, Console(file=io.StringIO(), force_terminal=True)) as live:
        live.add(ended(0.1))
        live.tick()
