"""How models share the processor: by weight, the highest priority first, and never idle while a run could start."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.server.core.sharing import OVERLAP
from tests.line_counter import lines_run
from tests.server.core.shared_processor import Model, Run, SharedProcessor

SECONDS = 8.0


def p99(model: Model) -> float:
    return sorted(model.latencies)[len(model.latencies) * 99 // 100]


@st.composite
def busy_models(draw: st.DrawFn) -> tuple[int, list[Model]]:
    """A processor, and models each of which could use all of it."""
    threads = draw(st.sampled_from([1, 2, 4]))
    models = []
    for _ in range(draw(st.integers(1, 6))):
        streams = draw(st.sampled_from([each for each in (1, 2, 4) if each <= threads]))
        work = draw(st.sampled_from([0.01, 0.03, 0.1, 0.2]))
        weight = draw(st.integers(1, 10))
        models.append(Model(work, streams=streams, threads=threads // streams, weight=weight))
    return threads, models


@given(busy_models())
@settings(max_examples=40)
def test_each_busy_model_has_its_share_by_weight(drawn: tuple[int, list[Model]]) -> None:
    """No two differ by more than the runs that each of them has in progress take."""
    threads, models = drawn
    world = SharedProcessor(threads, models)
    world.run(SECONDS)
    assert world.idle == 0
    assert sum(model.had for model in models) == pytest.approx(threads * SECONDS)
    most = max(4 * threads * model.work / model.spec.weight for model in models)
    shares = [model.had / model.spec.weight for model in models]
    assert max(shares) - min(shares) <= 2 * most


@st.composite
def any_models(draw: st.DrawFn) -> tuple[int, list[Model]]:
    """Some always busy, some asking now and then; narrow and wide ones, at several priorities."""
    threads = draw(st.sampled_from([1, 2, 3, 4]))
    models = [
        Model(
            draw(st.sampled_from([0.01, 0.02, 0.1, 0.3])),
            streams=draw(st.integers(1, threads)),
            threads=draw(st.integers(1, threads)),
            slots=draw(st.integers(0, 9)),
            weight=draw(st.sampled_from([1, 1, 2, 100])),
            priority=draw(st.sampled_from([0, 0, 0, 1, 3])),
            asks=draw(st.sampled_from([0, 0, 0.05, 1])),
        )
        for _ in range(draw(st.integers(1, 8)))
    ]
    return threads, models


@given(any_models())
@settings(max_examples=40)
def test_nothing_is_idle_while_a_run_could_start_and_no_model_waits_for_ever(drawn: tuple[int, list[Model]]) -> None:
    threads, models = drawn
    world = SharedProcessor(threads, models)
    world.run(SECONDS)
    assert world.idle == 0
    widest = max(model.spec.threads for model in models)
    alone = max(model.spec.streams * model.spec.threads for model in models)  # nobody waits beside it
    assert world.most <= max(alone, threads + 2 * max(widest, OVERLAP * threads))
    while not all(model.latencies for model in models):
        # A turn for one of eight models, three seconds of waiting for priority 3.
        assert world.now < 8 * 4
        world.run(1)


def test_a_short_run_does_not_wait_for_long_ones_however_many_models_are_busy() -> None:
    for busy in (1, 2, 10, 100):
        tiny = Model(0.001, streams=2, asks=0.1)
        world = SharedProcessor(2, [tiny, *(Model(0.01, streams=2) for _ in range(busy))])
        world.run(2)  # until it knows how long they take
        tiny.latencies.clear()
        world.run(SECONDS)
        # Four runs compute on two threads at most.
        assert p99(tiny) <= 2.1e-3


def test_a_model_with_much_to_do_does_not_use_the_reserve_to_get_more_than_its_share() -> None:
    tiny, large = Model(0.001, streams=2), Model(0.01, streams=2, weight=99)
    world = SharedProcessor(2, [tiny, large])
    world.run(SECONDS)
    assert tiny.had / (2 * SECONDS) == pytest.approx(0.01, abs=0.002)


def test_a_model_of_a_higher_priority_starts_at_the_next_end_and_gets_all_that_it_can_use() -> None:
    def latency(priority: int) -> float:
        """Of a model that asks for more than its share."""
        asking = Model(0.02, streams=2, asks=0.06, priority=priority)
        world = SharedProcessor(2, [asking, *(Model(0.01, streams=2) for _ in range(10))])
        world.run(1)  # until it knows how long they take
        asking.latencies.clear()
        world.run(SECONDS)
        return p99(asking)

    assert latency(1) <= 0.045
    assert latency(0) >= 1
    first, other = Model(0.01, streams=2, priority=1), Model(0.01, streams=2, weight=1000)
    world = SharedProcessor(2, [first, other])
    world.run(SECONDS)
    assert first.had >= 0.97 * 2 * SECONDS
    # Waiting raises a priority, so each second the other one has a turn.
    assert len(other.latencies) >= SECONDS / 2


def test_a_model_that_was_idle_catches_up_on_nothing() -> None:
    early, late = Model(0.01, streams=2), Model(0.01, streams=2, asks=SECONDS)
    world = SharedProcessor(2, [early, late])
    world.run(SECONDS - 0.1)
    had = early.had
    late.asks = 0
    world._next.clear()
    world._ask(late, 5)
    world._decide()
    world.run(1)
    assert early.had - had >= 0.5


def test_one_run_more_computes_than_the_processor_can_while_several_models_are_busy() -> None:
    """So that it is not idle while a run hands over to the next."""
    for weight in (1, 3, 100):
        world = SharedProcessor(2, [Model(0.01, streams=2, weight=weight), Model(0.01, streams=2)])
        world.run(0.1)
        world.fewest = world.most
        world.run(SECONDS)
        # A heavy model has more runs that wait for its own streams instead.
        assert (world.fewest, world.most) == ((3, 3) if weight == 1 else (2, 3))


def test_one_model_alone_uses_all_of_its_slots() -> None:
    alone = Model(0.01, streams=2, slots=16)
    SharedProcessor(2, [alone])
    assert len(alone.running) == 16


def test_a_choice_costs_as_much_with_a_thousand_models_that_wait_as_with_ten() -> None:
    def counted(models: int) -> int:
        world = SharedProcessor(2, [Model(0.01, streams=2) for _ in range(models)])
        world.run(1)
        running = [model for model in world.models if model.running]

        def turns() -> None:
            now = world.now
            for _ in range(20):
                now += 0.005
                model = running.pop()
                run = model.running.pop()
                world.processor.ended(model.share, run.expected, now)
                world.processor.wait(model, now)
                while (chosen := world.processor.choose(now)) is not None:
                    started = Run(chosen, now, world.processor.started(chosen.share, now))
                    chosen.running.append(started)
                    running.append(chosen)
                    world.processor.wait(chosen, now)

        return lines_run(turns)

    assert counted(1000) <= 1.2 * counted(10)
