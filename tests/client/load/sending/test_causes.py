"""Why requests are late or never sent, in virtual time: the seconds of each cause are known."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.client.load.planning.phases import ClosedLoop, OpenLoop, Phase
from headrace.client.load.record.run import Outcome
from headrace.client.load.record.samples import NO_ANSWER
from headrace.client.load.report.delays import Delay
from headrace.client.load.report.summary import Summary, summarise
from tests.client.load.virtual_time import FakeCaller, caller_taking, run_virtual_phase, run_virtually

MILLISECOND = 1e-3


def measured(phase: Phase, *callers: FakeCaller, window: int = 64, patience: float = 5.0) -> tuple[Outcome, Summary]:
    result, samples = run_virtually(run_virtual_phase(phase, callers, window=window, patience=patience))
    tails = () if result.tail is None else (result.tail,)
    outcome = Outcome(phase, result.planned, result.unsent, result.elapsed, samples, result.messages, tails=tails)
    return outcome, summarise(outcome)


def at_rate(rate: float, seconds: float) -> Phase:
    return Phase(OpenLoop(rate, rate), 0.0, seconds)


def words(summary: Summary) -> str:
    return "; ".join(summary.warnings)


def assert_delay(delay: Delay, requests: int, seconds: float, *, rel: float) -> None:
    assert delay.requests == requests
    assert delay.seconds == pytest.approx(seconds, rel=rel)


def test_a_stall_behind_a_small_window_is_the_windows() -> None:
    """100/s, four at a time. The requests from 1 s on take until 2.4 s: those due meanwhile wait for room."""
    caller = FakeCaller(lambda number: (2.4 - number / 100 if 100 <= number < 104 else 0.001, 0))
    outcome, summary = measured(at_rate(100, 4), caller, window=4)
    assert (summary.sent, summary.unsent) == (400, 0)
    waiting = np.arange(1.04, 2.4, 0.01)
    assert summary.late == pytest.approx(len(waiting), abs=12)  # and while it catches up
    assert summary.delays.window.requests == summary.late
    # Until room is made at 2.4 s, and the little time in which the backlog is sent, four at a time and 1 ms each.
    assert summary.delays.window.seconds == pytest.approx(sum(2.4 - waiting + 0.00025 * np.arange(136)), rel=0.05)
    assert summary.delays.processor.seconds < 0.005 * summary.delays.window.seconds
    assert "client" not in words(summary)
    assert outcome.samples.window.max() == pytest.approx(1.36, abs=MILLISECOND)


def test_twice_the_capacity_is_the_windows_also_for_what_is_never_sent() -> None:
    """200/s are planned, and four at a time of 40 ms each make 100/s."""
    _, summary = measured(at_rate(200, 5), caller_taking(0.04), window=4)
    assert summary.planned == 1000
    assert summary.sent == pytest.approx(502, abs=2)
    assert summary.delays.window.requests == summary.late + summary.unsent
    # The request at t is sent at 2t as long as there is time for it.
    late, unsent = np.arange(0, 2.5, 0.005), np.arange(2.5, 5, 0.005)
    assert summary.delays.window.seconds == pytest.approx(late.sum() + (5 - unsent).sum(), rel=0.02)
    assert summary.delays.processor.seconds < MILLISECOND
    assert words(summary).count("the window was full") == 1
    assert "the server handled only 99.4/s of the planned 200/s" in words(summary)
    assert "client" not in words(summary)


def test_waiting_for_a_new_connection_is_the_connections() -> None:
    """100/s; from 1 s to 2 s there is no connection, and what is due meanwhile waits for one."""
    _, summary = measured(at_rate(100, 3), FakeCaller(lambda _: (0.001, 0), down=(1.0, 2.0)), window=256)
    assert (summary.sent, summary.late) == (300, 100)
    assert_delay(summary.delays.connection, 100, sum(1 - at / 100 for at in range(100)), rel=0.001)
    assert (summary.delays.window.requests, summary.delays.processor.requests) == (0, 0)
    assert "100 requests had no connection to the server, for 505 ms on average" in words(summary)
    assert summary.breakdown is not None
    assert summary.breakdown.connection == pytest.approx(50.5 / 300, rel=0.001)


def test_a_window_full_of_requests_without_a_connection_is_the_connections() -> None:
    """As above, but there is room for ten only: the others wait for room, behind those that wait for a connection."""
    _, summary = measured(at_rate(100, 3), FakeCaller(lambda _: (0.001, 0), down=(1.0, 2.0)), window=10)
    assert summary.delays.connection.requests >= 95
    assert summary.delays.connection.seconds == pytest.approx(50.5, rel=0.03)
    assert summary.delays.window.seconds + summary.delays.processor.seconds < 1.0
    assert "client" not in words(summary)


def test_what_never_gets_a_connection_is_never_sent() -> None:
    """100/s; from 1 s on, there is no connection, and room for ten: ten are taken up, the others are not."""
    outcome, summary = measured(at_rate(100, 3), FakeCaller(down=(1.0, 1e6)), window=10, patience=1.0)
    assert (summary.sent, summary.unsent, summary.late) == (100, 200, 0)
    assert (outcome.unsent, outcome.samples.count) == (190, 110)
    assert summary.no_answer == 10
    assert np.isnan(outcome.samples.sent[outcome.samples.code == NO_ANSWER]).all()
    assert summary.rate_sent == pytest.approx(100 / 3)
    assert summary.plan_kept == pytest.approx(100 / 3)
    # Ten until patience ends at 4 s; the others until sending ended at 3 s.
    expected = sum(4 - 1 - at / 100 for at in range(10)) + sum(3 - 1 - at / 100 for at in range(10, 200))
    assert_delay(summary.delays.connection, 200, expected, rel=0.005)


def test_a_client_whose_processor_is_too_slow_is_blamed() -> None:
    """500/s are planned, but sending takes 4 ms of the processor each: it can send 250/s."""
    _, summary = measured(at_rate(500, 4), FakeCaller(lambda _: (0.001, 0), work=0.004))
    assert summary.rate_sent == pytest.approx(250, rel=0.05)
    delays = summary.delays
    assert delays.processor.requests == summary.late + summary.unsent
    assert delays.processor.seconds > 100 * (delays.window.seconds + delays.connection.seconds)
    assert "this client was too slow" in words(summary)
    assert "this client sent only 2" in words(summary)
    assert "server" not in words(summary)


def test_a_client_too_busy_to_read_answers_is_not_saved_by_a_full_window() -> None:
    """As above with a window of two: there is never room, but only because this client has not read the answers."""
    _, summary = measured(at_rate(500, 4), FakeCaller(lambda _: (0.0001, 0), work=0.004), window=2)
    assert summary.delays.processor.seconds > 5 * summary.delays.window.seconds
    assert "this client was too slow" in words(summary)
    assert "the window was full" not in words(summary)


def test_a_short_pause_of_a_client_is_not_put_down_to_the_window() -> None:
    """A pause of 0.3 s of the processor, of a collection of garbage for example, with room all the time."""

    def script(number: int) -> tuple[float, int]:
        caller.work = 0.3 if number == 99 else 0.0  # for the next request
        return 0.001, 0

    caller = FakeCaller(script)
    _, summary = measured(at_rate(100, 3), caller)
    assert summary.late == pytest.approx(30, abs=2)
    assert_delay(summary.delays.processor, summary.late, 0.3 * 30 / 2, rel=0.1)
    assert "this client was too slow" in words(summary)


def test_a_closed_loop_without_a_connection_does_not_blame_the_client() -> None:
    _, summary = measured(Phase(ClosedLoop(4), 0.0, 3.0), FakeCaller(lambda _: (0.1, 0), down=(1.0, 2.0)))
    assert summary.late == 4
    assert_delay(summary.delays.connection, 4, 4.0, rel=0.1)
    assert "client" not in words(summary)


def test_the_backlog_of_the_warmup_is_not_part_of_what_is_measured() -> None:
    """200/s, but the server can do 100/s: at the end of the warm-up, a hundred of its requests have not been sent."""
    caller = caller_taking(0.04)
    outcome, summary = measured(Phase(OpenLoop(200, 200), 1.0, 2.0), caller, window=4)
    assert summary.planned == 400
    assert summary.sent == pytest.approx(200, abs=4)
    assert outcome.samples.sent.min() <= 0.04 + MILLISECOND
    assert len(caller.calls) == pytest.approx(summary.sent + 100, abs=4)
