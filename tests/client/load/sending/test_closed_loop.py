"""A closed loop in virtual time: how many requests are in flight, and which are recorded."""

import numpy as np
import pytest

from headrace.client.load.callers.caller import Answer
from headrace.client.load.callers.departure import Departure
from headrace.client.load.planning.phases import ClosedLoop, Phase
from headrace.client.load.planning.schedule import Share
from headrace.client.load.record.samples import NO_ANSWER, ServerTimes
from headrace.client.load.sending.run_phase import ShareResult
from tests.client.load.virtual_time import FakeCaller, caller_taking, now, run_virtual_phase, run_virtually

TOLERANCE_SECONDS = 1e-3


def closed_loop(
    concurrency: int, *, seconds: float | None = None, count: int | None = None, warmup: float = 0.0
) -> Phase:
    return Phase(ClosedLoop(concurrency), warmup, seconds, count)


def test_the_concurrency_is_spread_over_the_callers() -> None:
    callers = [caller_taking(0.1) for _ in range(3)]
    result, samples = run_virtually(run_virtual_phase(closed_loop(7, seconds=1.05), callers))
    assert [caller.most_in_flight for caller in callers] == [3, 2, 2]
    assert samples.count == result.planned == 7 * 11
    assert result.unsent == 0
    assert samples.intended[::7] == pytest.approx([0.1 * index for index in range(11)], abs=TOLERANCE_SECONDS)
    assert samples.sent == pytest.approx(samples.intended, abs=TOLERANCE_SECONDS)
    assert result.elapsed == pytest.approx(1.1, abs=TOLERANCE_SECONDS)


def test_a_phase_with_a_duration_sends_until_it_is_over() -> None:
    result, samples = run_virtually(run_virtual_phase(closed_loop(1, seconds=1), [caller_taking(0.3)]))
    assert samples.intended == pytest.approx([0, 0.3, 0.6, 0.9], abs=TOLERANCE_SECONDS)
    assert result.elapsed == pytest.approx(1.2, abs=TOLERANCE_SECONDS)


def test_exactly_the_given_count_is_sent() -> None:
    caller = caller_taking(0.1)
    result, samples = run_virtually(run_virtual_phase(closed_loop(4, count=10), [caller]))
    assert result._replace(elapsed=0) == ShareResult(10, 0, 0, {}, 0)
    assert result.elapsed == pytest.approx(0.3, abs=TOLERANCE_SECONDS)
    assert len(caller.calls) == samples.count == 10


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_processes_send_the_count_together(concurrency: int) -> None:
    phase = closed_loop(concurrency, count=10)
    results = [
        run_virtually(run_virtual_phase(phase, [caller_taking(0.1)], share=Share(index, 4))) for index in range(4)
    ]
    assert sum(result.planned for result, _ in results) == sum(samples.count for _, samples in results) == 10


def test_the_warmup_has_the_same_concurrency_and_is_not_recorded() -> None:
    caller = FakeCaller(lambda number: (0.1, 14 if number == 2 else 0))
    result, samples = run_virtually(run_virtual_phase(closed_loop(2, count=6, warmup=1), [caller]))
    assert samples.count == result.planned == 6
    assert samples.intended.min() >= 0
    assert len(caller.calls) == 6 + 20
    assert (result.warmup_failures, result.messages) == (1, {})


def test_immediate_failures_are_all_recorded_but_not_repeated_at_full_speed() -> None:
    caller = FakeCaller(lambda number: (0.0, 14))
    result, samples = run_virtually(run_virtual_phase(closed_loop(3, seconds=1.05), [caller]))
    assert samples.count == 3 * 11
    assert samples.intended[::3] == pytest.approx([0.1 * index for index in range(11)], abs=TOLERANCE_SECONDS)
    assert samples.ended - samples.intended == pytest.approx(0, abs=TOLERANCE_SECONDS)
    assert result.messages == {14: "number 0 failed"}


def test_a_slow_failure_is_followed_by_the_next_request_at_once() -> None:
    _, samples = run_virtually(run_virtual_phase(closed_loop(1, seconds=1.1), [FakeCaller(lambda number: (0.2, 4))]))
    assert samples.intended == pytest.approx([0.2 * index for index in range(6)], abs=TOLERANCE_SECONDS)


def test_unanswered_requests_are_recorded_when_patience_runs_out() -> None:
    caller = FakeCaller(lambda number: (1e6 if number == 5 else 0.1, 0))
    result, samples = run_virtually(run_virtual_phase(closed_loop(2, seconds=1), [caller], patience=3))
    unanswered = samples.select(samples.code == NO_ANSWER)
    assert unanswered.intended == pytest.approx([0.2], abs=TOLERANCE_SECONDS)
    assert unanswered.ended == pytest.approx([4.0], abs=TOLERANCE_SECONDS)
    assert samples.count == result.planned
    assert result.elapsed == pytest.approx(1.0, abs=TOLERANCE_SECONDS)


def test_a_caller_that_never_suspends_does_not_block_the_event_loop() -> None:
    class Immediate(FakeCaller):
        async def call(self, inputs: object, departure: Departure) -> Answer:
            self.calls.append({})
            return Answer(now(), now(), 0, "", ServerTimes())

    caller = Immediate()
    result, samples = run_virtually(run_virtual_phase(closed_loop(2, seconds=0.001), [caller]))
    assert samples.count == result.planned == len(caller.calls) > 100
    assert np.all(samples.intended <= 0.0011)


@pytest.mark.parametrize("phase", [closed_loop(4, seconds=60), closed_loop(4, count=10**9)])
def test_nothing_more_is_sent_after_a_stop(phase: Phase) -> None:
    result, samples = run_virtually(run_virtual_phase(phase, [caller_taking(0.1)], stop_after=0.95))
    assert result.planned == samples.count == 40
    assert set(samples.code) == {0}
    assert result.elapsed == pytest.approx(1.0, abs=TOLERANCE_SECONDS)


def test_a_phase_that_is_stopped_before_it_starts_is_empty() -> None:
    caller = caller_taking(0.1)
    result, samples = run_virtually(run_virtual_phase(closed_loop(4, seconds=60), [caller], stop_after=-0.5))
    assert result == ShareResult(0, 0, 0.0, {}, 0)
    assert not caller.calls
    assert samples.count == 0
