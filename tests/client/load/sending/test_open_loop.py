"""An open loop in virtual time: what is sent when, what is recorded, and what is left unsent."""

import math

import numpy as np
import pytest

from headrace.client.load.planning.phases import OpenLoop, Phase
from headrace.client.load.planning.schedule import Share
from headrace.client.load.record.samples import NO_ANSWER, Floats, Samples
from headrace.client.load.sending.run_phase import ShareResult
from tests.client.load.virtual_time import FakeCaller, caller_taking, run_virtual_phase, run_virtually

TOLERANCE_SECONDS = 1e-3
"""In virtual time, each turn of the loop takes a microsecond."""


def open_loop(rate: float, seconds: float, warmup: float = 0.0) -> Phase:
    return Phase(OpenLoop(rate, rate), warmup, seconds)


def percentile(values: Floats, p: float) -> float:
    return float(np.percentile(values, p, method="inverted_cdf"))


def stalls_once(at: int, seconds: float) -> FakeCaller:
    return FakeCaller(lambda number: (seconds if number == at else 0.0, 0))


def test_requests_are_sent_when_they_are_due() -> None:
    result, samples = run_virtually(run_virtual_phase(open_loop(100, 2), [caller_taking(0.003)]))
    assert result == ShareResult(planned=200, unsent=0, elapsed=2.0, messages={}, warmup_failures=0)
    assert samples.intended == pytest.approx([index / 100 for index in range(200)])
    assert samples.sent - samples.intended == pytest.approx(0, abs=TOLERANCE_SECONDS)
    assert samples.ended - samples.sent == pytest.approx(0.003, abs=TOLERANCE_SECONDS)
    assert set(samples.code) == {0}
    assert set(samples.queued) == {0.25}
    assert set(samples.running) == {0.5}
    assert np.isnan(samples.waiting).all()


def test_the_corrected_latency_shows_a_stall_that_the_service_time_hides() -> None:
    # At 1 s the caller stalls for 1.4 s and nothing else can be sent: requests due meanwhile are sent at 2.4 s.
    result, samples = run_virtually(run_virtual_phase(open_loop(100, 4), [stalls_once(100, 1.4)], window=1))
    assert (result.planned, result.unsent, samples.count) == (400, 0, 400)
    latency, service = samples.ended - samples.intended, samples.ended - samples.sent
    assert latency[100:240] == pytest.approx([1.4 - 0.01 * index for index in range(140)], abs=TOLERANCE_SECONDS)
    assert latency[:100] == pytest.approx(0, abs=TOLERANCE_SECONDS)
    assert latency[241:] == pytest.approx(0, abs=TOLERANCE_SECONDS)
    assert service[100] == pytest.approx(1.4, abs=TOLERANCE_SECONDS)
    assert np.delete(service, 100) == pytest.approx(0, abs=TOLERANCE_SECONDS)
    # Of 400, p99 is the fifth largest.
    assert percentile(latency, 99) == pytest.approx(1.36, abs=TOLERANCE_SECONDS)
    assert percentile(service, 99) == pytest.approx(0, abs=TOLERANCE_SECONDS)


def test_a_plan_is_kept_through_a_stall_if_the_window_allows() -> None:
    result, samples = run_virtually(run_virtual_phase(open_loop(100, 4), [stalls_once(100, 1.4)], window=2))
    assert (result.planned, result.unsent) == (400, 0)
    assert samples.sent - samples.intended == pytest.approx(0, abs=TOLERANCE_SECONDS)
    assert np.count_nonzero(samples.ended - samples.intended > TOLERANCE_SECONDS) == 1


def test_a_rate_that_overloads_the_server_is_not_lowered() -> None:
    # Two at a time, of 20 ms each, make 100/s, but 200/s are planned.
    caller = caller_taking(0.02)
    result, samples = run_virtually(run_virtual_phase(open_loop(200, 3), [caller], window=2))
    assert caller.most_in_flight == 2
    assert (result.planned, result.unsent) == (600, 600 - samples.count)
    assert samples.count == pytest.approx(300, abs=2)
    latency = samples.ended - samples.intended
    assert latency[::2] == pytest.approx(
        [0.02 + 0.01 * index for index in range(math.ceil(samples.count / 2))], abs=0.01
    )
    assert result.elapsed == pytest.approx(3.02, abs=0.01)
    assert samples.sent.max() < 3.002


def test_requests_go_to_the_caller_with_the_fewest_in_flight() -> None:
    slow, quick = caller_taking(0.5), caller_taking(0.001)
    result, _ = run_virtually(run_virtual_phase(open_loop(100, 2), [slow, quick], window=4))
    assert result.unsent == 0
    assert slow.most_in_flight <= 4
    assert len(slow.calls) + len(quick.calls) == 200
    # The slow caller gets a request whenever it has none, as it has then been idle for longest.
    assert len(slow.calls) == pytest.approx(4, abs=1)


def test_sets_of_inputs_are_sent_in_turn() -> None:
    caller = caller_taking(0.0)
    run_virtually(run_virtual_phase(open_loop(100, 0.05), [caller]))
    assert [int(inputs["x"]) for inputs in caller.calls] == [0, 1, 2, 3, 4]


def test_the_warmup_is_sent_but_not_recorded() -> None:
    caller = FakeCaller(lambda number: (0.001, 14 if number in (3, 7, 60) else 0))
    result, samples = run_virtually(run_virtual_phase(open_loop(100, 1, warmup=0.5), [caller]))
    assert len(caller.calls) == 150
    assert samples.count == result.planned == 100
    assert samples.intended[0] == 0
    assert result.warmup_failures == 2
    assert result.messages == {14: "number 60 failed"}


def test_all_errors_are_recorded_with_the_first_message_of_each_code() -> None:
    caller = FakeCaller(lambda number: (0.002, (0, 8, 14)[number % 3]))
    result, samples = run_virtually(run_virtual_phase(open_loop(100, 0.6), [caller]))
    assert samples.code.tolist() == [0, 8, 14] * 20
    assert result.messages == {8: "number 1 failed", 14: "number 2 failed"}
    assert samples.sent - samples.intended == pytest.approx(0, abs=TOLERANCE_SECONDS)


def test_unanswered_requests_are_recorded_when_patience_runs_out() -> None:
    caller = FakeCaller(lambda number: (1e6 if number % 10 == 9 else 0.001, 0))
    result, samples = run_virtually(run_virtual_phase(open_loop(100, 1), [caller], patience=2.0))
    unanswered = samples.select(samples.code == NO_ANSWER)
    assert unanswered.intended == pytest.approx([0.09 + 0.1 * index for index in range(10)])
    assert unanswered.sent == pytest.approx(unanswered.intended, abs=TOLERANCE_SECONDS)
    assert unanswered.ended == pytest.approx(3.0, abs=0.02)
    assert (result.planned, result.unsent, samples.count) == (100, 0, 100)
    assert result.elapsed == 1.0  # no answer came later
    assert caller.in_flight == 0


def test_a_server_that_never_answers_leaves_the_rest_unsent() -> None:
    result, samples = run_virtually(run_virtual_phase(open_loop(100, 1), [caller_taking(1e6)], window=8, patience=1.0))
    assert (result.planned, result.unsent) == (100, 92)
    assert samples.code.tolist() == [NO_ANSWER] * 8


def test_late_answers_are_awaited_until_patience_runs_out() -> None:
    result, samples = run_virtually(run_virtual_phase(open_loop(10, 1), [caller_taking(3.0)], patience=5.0))
    assert samples.code.tolist() == [0] * 10
    assert result.elapsed == pytest.approx(3.9, abs=TOLERANCE_SECONDS)


def test_patience_starts_at_the_end_of_the_plan() -> None:
    _, samples = run_virtually(run_virtual_phase(open_loop(0.2, 5), [caller_taking(4.5)], patience=0.1))
    assert samples.code.tolist() == [0]


def test_a_count_is_sent_completely_even_if_it_takes_a_little_longer() -> None:
    # 100 at 100/s take 1 s; one at a time, of 15 ms each, they take 1.5 s.
    phase = Phase(OpenLoop(100, 100), 0.0, None, 100)
    result, samples = run_virtually(run_virtual_phase(phase, [caller_taking(0.015)], window=1, patience=2.0))
    assert (result.planned, result.unsent, samples.count) == (100, 0, 100)
    assert result.elapsed == pytest.approx(1.5, abs=TOLERANCE_SECONDS)


def test_a_count_ends_when_patience_runs_out() -> None:
    phase = Phase(OpenLoop(100, 100), 0.0, None, 100)
    result, samples = run_virtually(run_virtual_phase(phase, [caller_taking(0.1)], window=1, patience=2.05))
    assert (result.planned, samples.count, result.unsent) == (100, 31, 69)
    assert result.elapsed == pytest.approx(3.1, abs=TOLERANCE_SECONDS)


def test_a_phase_lasts_as_long_as_it_was_planned() -> None:
    result, samples = run_virtually(run_virtual_phase(open_loop(0.5, 3), [caller_taking(0.0)]))
    assert result.elapsed == 3.0
    assert samples.intended.tolist() == [0, 2]


def test_a_request_that_is_due_at_the_very_end_is_sent() -> None:
    result, samples = run_virtually(run_virtual_phase(open_loop(1, 1.0000011), [caller_taking(0.0)]))
    assert (result.planned, result.unsent, samples.count) == (2, 0, 2)


def test_a_phase_that_starts_late_sends_what_was_due_late() -> None:
    result, samples = run_virtually(run_virtual_phase(open_loop(100, 1), [caller_taking(0.0)], late=0.3))
    assert (result.planned, result.unsent, samples.count) == (100, 0, 100)
    assert samples.sent[:31] == pytest.approx(0.3, abs=TOLERANCE_SECONDS)
    assert samples.intended[:31] == pytest.approx([index / 100 for index in range(31)])
    assert samples.sent[31:] == pytest.approx(samples.intended[31:], abs=TOLERANCE_SECONDS)


@pytest.mark.parametrize("stop_after", [0.505, 0.5051])
def test_only_requests_due_before_a_stop_count_as_planned(stop_after: float) -> None:
    result, samples = run_virtually(
        run_virtual_phase(open_loop(100, 60), [caller_taking(0.004)], stop_after=stop_after)
    )
    assert (result.planned, result.unsent, samples.count) == (51, 0, 51)
    assert result.elapsed == pytest.approx(stop_after, abs=TOLERANCE_SECONDS)


def test_requests_due_but_not_sent_before_a_stop_are_unsent() -> None:
    result, samples = run_virtually(
        run_virtual_phase(open_loop(100, 60), [caller_taking(10.0)], window=5, patience=30, stop_after=0.505)
    )
    assert (result.planned, result.unsent) == (51, 46)
    assert samples.code.tolist() == [NO_ANSWER] * 5
    assert samples.ended == pytest.approx(1.505, abs=TOLERANCE_SECONDS)  # one second of patience is enough


def test_a_stop_shortens_the_wait_for_answers() -> None:
    result, samples = run_virtually(
        run_virtual_phase(open_loop(100, 1), [caller_taking(1e6)], window=100, patience=1000, stop_after=1.5)
    )
    assert (result.planned, result.unsent, samples.count) == (100, 0, 100)
    assert samples.ended == pytest.approx(2.5, abs=TOLERANCE_SECONDS)
    assert result.elapsed == 1.0


@pytest.mark.parametrize("stop_after", [-0.1, -0.3])
def test_a_stop_during_the_warmup_leaves_an_empty_plan(stop_after: float) -> None:
    result, samples = run_virtually(
        run_virtual_phase(open_loop(100, 60, warmup=0.5), [caller_taking(0.0)], stop_after=stop_after)
    )
    assert result == ShareResult(0, 0, 0.0, {}, 0)
    assert samples.count == 0


def test_processes_follow_the_plan_together() -> None:
    phase = Phase(OpenLoop(100, 300, "poisson"), 0.2, 1.0)
    results = [
        run_virtually(run_virtual_phase(phase, [caller_taking(0.001)], share=Share(index, 3))) for index in range(3)
    ]
    whole, samples = run_virtually(run_virtual_phase(phase, [caller_taking(0.001)]))
    assert sum(result.planned for result, _ in results) == whole.planned
    together = np.sort(np.concatenate([own.intended for _, own in results]))
    assert together.tolist() == samples.intended.tolist()


def test_samples_can_be_taken_while_the_phase_runs() -> None:
    seen: list[Samples] = []
    result, rest = run_virtually(run_virtual_phase(open_loop(100, 1), [caller_taking(0.0)], drained=seen))
    counts = [samples.count for samples in seen]
    assert counts[:3] == [10, 10, 10]
    assert sum(counts) + rest.count == result.planned == 100


def test_a_caller_with_a_bug_ends_the_phase() -> None:
    with pytest.raises(ExceptionGroup) as error:
        run_virtually(run_virtual_phase(open_loop(100, 60), [FakeCaller(lambda number: (0.0, 1 // (5 - number)))]))
    assert error.group_contains(ZeroDivisionError)
