import numpy as np
import pytest

from headrace.client.load.attack import Part
from headrace.client.load.calling import Answer
from headrace.client.load.plan import Share
from headrace.client.load.run import ClosedLoop, Phase
from headrace.client.load.samples import NO_ANSWER, Times
from tests.client.load.virtual_time import FakeCaller, attacked, now, run, taking

EXACT = 1e-3


def closed(concurrency: int, *, seconds: float | None = None, count: int | None = None, warmup: float = 0.0) -> Phase:
    return Phase(ClosedLoop(concurrency), warmup, seconds, count)


def test_as_many_are_in_flight_as_was_asked_for() -> None:
    callers = [taking(0.1) for _ in range(3)]
    part, samples = run(attacked(closed(7, seconds=1.05), callers))
    assert [caller.most for caller in callers] == [3, 2, 2]
    assert samples.count == part.planned == 7 * 11
    assert part.unsent == 0
    assert samples.intended[::7] == pytest.approx([0.1 * index for index in range(11)], abs=EXACT)
    assert samples.sent == pytest.approx(samples.intended, abs=EXACT)
    assert part.elapsed == pytest.approx(1.1, abs=EXACT)


def test_a_phase_with_a_duration_lasts_so_long() -> None:
    part, samples = run(attacked(closed(1, seconds=1), [taking(0.3)]))
    assert samples.intended == pytest.approx([0, 0.3, 0.6, 0.9], abs=EXACT)
    assert part.elapsed == pytest.approx(1.2, abs=EXACT)


def test_a_count_is_made_exactly() -> None:
    caller = taking(0.1)
    part, samples = run(attacked(closed(4, count=10), [caller]))
    assert part._replace(elapsed=0) == Part(10, 0, 0, {}, 0)
    assert part.elapsed == pytest.approx(0.3, abs=EXACT)
    assert len(caller.calls) == samples.count == 10


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_processes_make_the_count_together(concurrency: int) -> None:
    phase = closed(concurrency, count=10)
    parts = [run(attacked(phase, [taking(0.1)], share=Share(index, 4))) for index in range(4)]
    assert sum(part.planned for part, _ in parts) == sum(samples.count for _, samples in parts) == 10


def test_the_warm_up_is_as_concurrent_and_not_recorded_nor_counted() -> None:
    caller = FakeCaller(lambda number: (0.1, 14 if number == 2 else 0))
    part, samples = run(attacked(closed(2, count=6, warmup=1), [caller]))
    assert samples.count == part.planned == 6
    assert samples.intended.min() >= 0
    assert len(caller.calls) == 6 + 20
    assert (part.warmup_failures, part.messages) == (1, {})


def test_failures_at_once_are_recorded_each_and_not_repeated_at_full_speed() -> None:
    caller = FakeCaller(lambda number: (0.0, 14))
    part, samples = run(attacked(closed(3, seconds=1.05), [caller]))
    assert samples.count == 3 * 11
    assert samples.intended[::3] == pytest.approx([0.1 * index for index in range(11)], abs=EXACT)
    assert samples.ended - samples.intended == pytest.approx(0, abs=EXACT)
    assert part.messages == {14: "number 0 failed"}


def test_a_failure_that_took_long_is_followed_at_once() -> None:
    _, samples = run(attacked(closed(1, seconds=1.1), [FakeCaller(lambda number: (0.2, 4))]))
    assert samples.intended == pytest.approx([0.2 * index for index in range(6)], abs=EXACT)


def test_requests_without_an_answer_are_recorded_when_patience_is_over() -> None:
    caller = FakeCaller(lambda number: (1e6 if number == 5 else 0.1, 0))
    part, samples = run(attacked(closed(2, seconds=1), [caller], patience=3))
    unanswered = samples.where(samples.code == NO_ANSWER)
    assert unanswered.intended == pytest.approx([0.2], abs=EXACT)
    assert unanswered.ended == pytest.approx([4.0], abs=EXACT)
    assert samples.count == part.planned
    assert part.elapsed == pytest.approx(1.0, abs=EXACT)


def test_a_caller_that_never_suspends_does_not_stop_the_loop() -> None:
    class Immediate(FakeCaller):
        async def call(self, inputs: object) -> Answer:
            self.calls.append({})
            return Answer(now(), now(), 0, "", Times())

    caller = Immediate()
    part, samples = run(attacked(closed(2, seconds=0.001), [caller]))
    assert samples.count == part.planned == len(caller.calls) > 100
    assert np.all(samples.intended <= 0.0011)


@pytest.mark.parametrize("phase", [closed(4, seconds=60), closed(4, count=10**9)])
def test_when_it_is_stopped_nothing_more_is_sent(phase: Phase) -> None:
    part, samples = run(attacked(phase, [taking(0.1)], stop_after=0.95))
    assert part.planned == samples.count == 40
    assert set(samples.code) == {0}
    assert part.elapsed == pytest.approx(1.0, abs=EXACT)


def test_when_it_is_stopped_before_it_has_begun() -> None:
    caller = taking(0.1)
    part, samples = run(attacked(closed(4, seconds=60), [caller], stop_after=-0.5))
    assert part == Part(0, 0, 0.0, {}, 0)
    assert not caller.calls
    assert samples.count == 0
