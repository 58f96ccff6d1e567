import math

import numpy as np
import pytest

from headrace.client.load.attack import Part
from headrace.client.load.plan import Share
from headrace.client.load.run import OpenLoop, Phase
from headrace.client.load.samples import NO_ANSWER, Floats, Samples
from tests.client.load.virtual_time import FakeCaller, attacked, run, taking

EXACT = 1e-3
"""Virtual time passes by a microsecond for each turn of the loop."""


def steady(rate: float, seconds: float, warmup: float = 0.0) -> Phase:
    return Phase(OpenLoop(rate, rate), warmup, seconds)


def percentile(values: Floats, p: float) -> float:
    return float(np.percentile(values, p, method="inverted_cdf"))


def stalls_once(at: int, seconds: float) -> FakeCaller:
    return FakeCaller(lambda number: (seconds if number == at else 0.0, 0))


def test_requests_are_sent_when_they_are_due() -> None:
    part, samples = run(attacked(steady(100, 2), [taking(0.003)]))
    assert part == Part(planned=200, unsent=0, elapsed=2.0, messages={}, warmup_failures=0)
    assert samples.intended == pytest.approx([index / 100 for index in range(200)])
    assert samples.sent - samples.intended == pytest.approx(0, abs=EXACT)
    assert samples.ended - samples.sent == pytest.approx(0.003, abs=EXACT)
    assert set(samples.code) == {0}
    assert set(samples.queued) == {0.25}
    assert set(samples.running) == {0.5}
    assert np.isnan(samples.waiting).all()


def test_the_corrected_latency_shows_a_stall_that_the_service_time_hides() -> None:
    # At 1 s the caller stalls for 1.4 s, and nothing else can be sent: what was due then goes out at 2.4 s.
    part, samples = run(attacked(steady(100, 4), [stalls_once(100, 1.4)], window=1))
    assert (part.planned, part.unsent, samples.count) == (400, 0, 400)
    latency, service = samples.ended - samples.intended, samples.ended - samples.sent
    assert latency[100:240] == pytest.approx([1.4 - 0.01 * index for index in range(140)], abs=EXACT)
    assert latency[:100] == pytest.approx(0, abs=EXACT)
    assert latency[241:] == pytest.approx(0, abs=EXACT)
    assert service[100] == pytest.approx(1.4, abs=EXACT)
    assert np.delete(service, 100) == pytest.approx(0, abs=EXACT)
    # Of 400, p99 is the fifth from above.
    assert percentile(latency, 99) == pytest.approx(1.36, abs=EXACT)
    assert percentile(service, 99) == pytest.approx(0, abs=EXACT)


def test_with_room_the_plan_is_kept_through_a_stall() -> None:
    part, samples = run(attacked(steady(100, 4), [stalls_once(100, 1.4)], window=2))
    assert (part.planned, part.unsent) == (400, 0)
    assert samples.sent - samples.intended == pytest.approx(0, abs=EXACT)
    assert np.count_nonzero(samples.ended - samples.intended > EXACT) == 1


def test_a_rate_that_the_server_cannot_hold_is_not_lowered() -> None:
    # Two at a time of 20 ms each are 100/s, and 200/s are planned.
    caller = taking(0.02)
    part, samples = run(attacked(steady(200, 3), [caller], window=2))
    assert caller.most == 2
    assert (part.planned, part.unsent) == (600, 600 - samples.count)
    assert samples.count == pytest.approx(300, abs=2)
    latency = samples.ended - samples.intended
    assert latency[::2] == pytest.approx(
        [0.02 + 0.01 * index for index in range(math.ceil(samples.count / 2))], abs=0.01
    )
    assert part.elapsed == pytest.approx(3.02, abs=0.01)
    assert samples.sent.max() < 3.002


def test_requests_go_to_the_caller_with_the_fewest_in_flight() -> None:
    slow, quick = taking(0.5), taking(0.001)
    part, _ = run(attacked(steady(100, 2), [slow, quick], window=4))
    assert part.unsent == 0
    assert slow.most <= 4
    assert len(slow.calls) + len(quick.calls) == 200
    # The slow one gets one whenever it has none, as a tie is for who waited longest.
    assert len(slow.calls) == pytest.approx(4, abs=1)


def test_prepared_inputs_are_sent_in_turn() -> None:
    caller = taking(0.0)
    run(attacked(steady(100, 0.05), [caller]))
    assert [int(inputs["x"]) for inputs in caller.calls] == [0, 1, 2, 3, 4]


def test_the_warm_up_is_sent_and_not_recorded() -> None:
    caller = FakeCaller(lambda number: (0.001, 14 if number in (3, 7, 60) else 0))
    part, samples = run(attacked(steady(100, 1, warmup=0.5), [caller]))
    assert len(caller.calls) == 150
    assert samples.count == part.planned == 100
    assert samples.intended[0] == 0
    assert part.warmup_failures == 2
    assert part.messages == {14: "number 60 failed"}


def test_errors_are_recorded_each_and_the_first_of_each_kind_is_told() -> None:
    caller = FakeCaller(lambda number: (0.002, (0, 8, 14)[number % 3]))
    part, samples = run(attacked(steady(100, 0.6), [caller]))
    assert samples.code.tolist() == [0, 8, 14] * 20
    assert part.messages == {8: "number 1 failed", 14: "number 2 failed"}
    assert samples.sent - samples.intended == pytest.approx(0, abs=EXACT)


def test_requests_without_an_answer_are_recorded_when_patience_is_over() -> None:
    caller = FakeCaller(lambda number: (1e6 if number % 10 == 9 else 0.001, 0))
    part, samples = run(attacked(steady(100, 1), [caller], patience=2.0))
    unanswered = samples.where(samples.code == NO_ANSWER)
    assert unanswered.intended == pytest.approx([0.09 + 0.1 * index for index in range(10)])
    assert unanswered.sent == pytest.approx(unanswered.intended, abs=EXACT)
    assert unanswered.ended == pytest.approx(3.0, abs=0.02)
    assert (part.planned, part.unsent, samples.count) == (100, 0, 100)
    assert part.elapsed == 1.0  # nobody has answered later
    assert caller.in_flight == 0


def test_a_server_that_never_answers_leaves_the_rest_unsent() -> None:
    part, samples = run(attacked(steady(100, 1), [taking(1e6)], window=8, patience=1.0))
    assert (part.planned, part.unsent) == (100, 92)
    assert samples.code.tolist() == [NO_ANSWER] * 8


def test_late_answers_are_waited_for_within_patience() -> None:
    part, samples = run(attacked(steady(10, 1), [taking(3.0)], patience=5.0))
    assert samples.code.tolist() == [0] * 10
    assert part.elapsed == pytest.approx(3.9, abs=EXACT)


def test_patience_begins_at_the_end_of_the_plan() -> None:
    _, samples = run(attacked(steady(0.2, 5), [taking(4.5)], patience=0.1))
    assert samples.code.tolist() == [0]


def test_a_count_is_sent_entirely_when_it_takes_a_little_longer() -> None:
    # 100 at 100/s are 1 s; one at a time of 15 ms each they are 1.5 s.
    phase = Phase(OpenLoop(100, 100), 0.0, None, 100)
    part, samples = run(attacked(phase, [taking(0.015)], window=1, patience=2.0))
    assert (part.planned, part.unsent, samples.count) == (100, 0, 100)
    assert part.elapsed == pytest.approx(1.5, abs=EXACT)


def test_a_count_ends_when_patience_is_over() -> None:
    phase = Phase(OpenLoop(100, 100), 0.0, None, 100)
    part, samples = run(attacked(phase, [taking(0.1)], window=1, patience=2.05))
    assert (part.planned, samples.count, part.unsent) == (100, 31, 69)
    assert part.elapsed == pytest.approx(3.1, abs=EXACT)


def test_a_phase_lasts_as_long_as_it_was_planned() -> None:
    part, samples = run(attacked(steady(0.5, 3), [taking(0.0)]))
    assert part.elapsed == 3.0
    assert samples.intended.tolist() == [0, 2]


def test_what_is_due_at_the_very_end_is_sent() -> None:
    part, samples = run(attacked(steady(1, 1.0000011), [taking(0.0)]))
    assert (part.planned, part.unsent, samples.count) == (2, 0, 2)


def test_when_it_begins_late_everything_due_is_sent_late() -> None:
    part, samples = run(attacked(steady(100, 1), [taking(0.0)], late=0.3))
    assert (part.planned, part.unsent, samples.count) == (100, 0, 100)
    assert samples.sent[:31] == pytest.approx(0.3, abs=EXACT)
    assert samples.intended[:31] == pytest.approx([index / 100 for index in range(31)])
    assert samples.sent[31:] == pytest.approx(samples.intended[31:], abs=EXACT)


@pytest.mark.parametrize("stop_after", [0.505, 0.5051])
def test_when_it_is_stopped_only_what_was_due_until_then_is_planned(stop_after: float) -> None:
    part, samples = run(attacked(steady(100, 60), [taking(0.004)], stop_after=stop_after))
    assert (part.planned, part.unsent, samples.count) == (51, 0, 51)
    assert part.elapsed == pytest.approx(stop_after, abs=EXACT)


def test_when_it_is_stopped_what_was_due_and_not_sent_stays_unsent() -> None:
    part, samples = run(attacked(steady(100, 60), [taking(10.0)], window=5, patience=30, stop_after=0.505))
    assert (part.planned, part.unsent) == (51, 46)
    assert samples.code.tolist() == [NO_ANSWER] * 5
    assert samples.ended == pytest.approx(1.505, abs=EXACT)  # one second of patience is enough


def test_when_it_is_stopped_while_it_waits_for_answers() -> None:
    part, samples = run(attacked(steady(100, 1), [taking(1e6)], window=100, patience=1000, stop_after=1.5))
    assert (part.planned, part.unsent, samples.count) == (100, 0, 100)
    assert samples.ended == pytest.approx(2.5, abs=EXACT)
    assert part.elapsed == 1.0


@pytest.mark.parametrize("stop_after", [-0.1, -0.3])
def test_when_it_is_stopped_in_the_warm_up_nothing_was_planned(stop_after: float) -> None:
    part, samples = run(attacked(steady(100, 60, warmup=0.5), [taking(0.0)], stop_after=stop_after))
    assert part == Part(0, 0, 0.0, {}, 0)
    assert samples.count == 0


def test_processes_keep_the_plan_together() -> None:
    phase = Phase(OpenLoop(100, 300, "poisson"), 0.2, 1.0)
    parts = [run(attacked(phase, [taking(0.001)], share=Share(index, 3))) for index in range(3)]
    whole, samples = run(attacked(phase, [taking(0.001)]))
    assert sum(part.planned for part, _ in parts) == whole.planned
    together = np.sort(np.concatenate([own.intended for _, own in parts]))
    assert together.tolist() == samples.intended.tolist()


def test_samples_are_there_as_they_come() -> None:
    seen: list[Samples] = []
    part, rest = run(attacked(steady(100, 1), [taking(0.0)], drained=seen))
    counts = [samples.count for samples in seen]
    assert counts[:3] == [10, 10, 10]
    assert sum(counts) + rest.count == part.planned == 100


def test_a_caller_with_a_bug_ends_the_phase() -> None:
    with pytest.raises(ExceptionGroup) as error:
        run(attacked(steady(100, 60), [FakeCaller(lambda number: (0.0, 1 // (5 - number)))]))
    assert error.group_contains(ZeroDivisionError)
