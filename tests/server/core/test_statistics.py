"""What a model has done, in exact numbers: seconds here are sums of powers of two."""

from __future__ import annotations

from dataclasses import replace

from headrace.server.core.engine_api import End, Ended
from headrace.server.core.limits import Limits
from headrace.server.core.statistics import Statistics
from headrace.wire.errors import Internal
from tests.server.core.model_specs import many, outputs_of, step
from tests.server.core.scenario import Scenario, infer_many

TIMES = (0.125, 0.5, 0.25)


def of(world: Scenario, name: str = "step") -> Statistics:
    return world.core.models.find(name).statistics


def test_a_model_that_has_not_run_has_no_statistics() -> None:
    statistics = of(Scenario())
    assert (statistics.inferences, statistics.executions, statistics.last, statistics.batches) == (0, 0, None, {})
    for total in (statistics.success, statistics.fail, statistics.queue):
        assert total == (0, 0)
    for total in (statistics.input, statistics.infer, statistics.output):
        assert total == (0, 0)


def test_an_inference_counts_with_its_times() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    assert world.after(2) == [1]
    world.now += 1
    world.end(1, times=TIMES)
    statistics = of(world)
    assert (statistics.inferences, statistics.executions, statistics.last) == (1, 1, 103)
    assert (statistics.success, statistics.fail, statistics.queue) == ((1, 3), (0, 0), (1, 2))
    assert (statistics.input, statistics.infer, statistics.output) == ((1, 0.125), (1, 0.5), (1, 0.25))
    assert statistics.batches == {1: (1, *TIMES)}
    assert of(world, "add").inferences == 0


def test_waiting_for_a_source_counts_as_queueing() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, "add", a="1.y")
    world.starts()
    world.now += 4
    world.end(1)
    assert world.after(1) == [2]
    world.now += 2
    world.end(2)
    assert (of(world, "add").queue, of(world, "add").success) == ((1, 5), (1, 7))
    assert (of(world).queue, of(world).success, of(world).last) == ((1, 0), (1, 4), 104)


def test_the_tickets_of_a_batch_count_as_one_execution() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1)
    world.now += 1
    infer_many(client, 2)
    infer_many(client, 3, rows=2)
    assert world.after(1) == [1, 2, 3]
    assert world.batches == [[1, 2, 3]]
    world.now += 4
    world.end(1, times=TIMES)
    infer_many(client, 4)
    world.starts()
    world.end(4, times=(1, 2, 3))
    statistics = of(world, "many")
    assert (statistics.inferences, statistics.executions, statistics.last) == (4, 2, 106)
    assert (statistics.queue, statistics.success) == ((4, 2 + 1 + 1), (4, 6 + 5 + 5))
    assert statistics.input == (4, 3 * 0.125 + 1)
    assert statistics.infer == (4, 3 * 0.5 + 2)
    assert statistics.output == (4, 3 * 0.25 + 3)
    assert statistics.batches == {1: (1, 1, 2, 3), 3: (1, *TIMES)}


def test_a_ticket_that_left_a_batch_still_counts_in_its_size() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 11, 12, 13)
    world.starts()
    world.end(11)
    infer_many(client, 1, 2, 3)
    world.starts()
    world.now += 1
    client.cancel(2)
    world.now += 1
    world.end(1, times=TIMES)
    statistics = of(world, "many")
    assert (statistics.inferences, statistics.executions) == (5, 2)
    assert (statistics.success, statistics.fail, statistics.infer) == ((5, 4), (1, 1), (5, 1))
    assert statistics.batches == {3: (2, *TIMES)}


def test_a_batch_that_fails_is_not_an_execution() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1, 2)
    world.starts()
    world.now += 1
    world.end(1, Internal("the batch failed"))
    assert world.after(1) == [1]
    world.now += 1
    world.end(1, Internal("the run failed"))
    assert world.starts() == [2]
    world.now += 4
    world.end(2, times=TIMES)
    statistics = of(world, "many")
    assert (statistics.success, statistics.queue, statistics.fail) == ((1, 7), (1, 3), (1, 3))
    assert (statistics.inferences, statistics.executions, statistics.batches) == (1, 1, {1: (1, *TIMES)})


def test_failures_are_counted() -> None:
    world = Scenario(limits=Limits(keep_bytes=2048))
    alice, bob = world.client(), world.client()
    alice.infer(1, keep=["z"])  # runs, and takes too much
    alice.infer(2, timeout=2)  # is late
    alice.infer(3, keep=["y"])  # is cancelled while it runs
    alice.infer(4, x="3.y")  # for want of it
    alice.infer(5)  # fails
    bob.infer(11)  # no other ticket waits for it
    alice.infer(6, tensors=[b"bad"])
    alice.infer(7, priority=10)
    alice.fetch(8, "3.y")
    assert world.starts() == [1]
    assert world.after(2) == []
    world.end(1, times=TIMES, z=1000)
    bob.vanish()
    assert world.after(1) == [3]
    world.now += 1
    alice.cancel(3)
    world.now += 4
    world.end(3, Internal("the run was cancelled"))
    assert world.starts() == [5]
    world.end(5, Internal("the run failed"))
    statistics = of(world)
    assert statistics.fail == (6, 2 + 2 + 4 + 4 + 8 + 2)
    assert (statistics.success, statistics.queue, statistics.executions) == ((0, 0), (0, 0), 0)
    assert (statistics.inferences, statistics.last, statistics.batches) == (0, None, {})
    assert [event for event in alice.receives() if "done" in event] == []


def test_followers_count_as_executions_of_their_own() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y")
    assert world.starts() == [1]
    first = world.running.pop(1)
    sent, kept = outputs_of(first.parts[0])
    ends = [End(Ended(first, [sent], [kept], (1, 1, 1)), None, world.now + 1)]
    second = world.core.follower(ends[0].ended)
    assert second is not None
    ends.append(End(Ended(second, [[]], [[]], (1, 2, 3)), None, world.now + 4))
    assert world.core.ended_in_place(ends) == ends
    statistics = of(world)
    assert (statistics.queue, statistics.success, statistics.last) == ((2, 1), (2, 5), 104)
    assert statistics.batches == {1: (2, 2, 3, 4)}


def test_a_model_that_is_loaded_again_starts_from_zero() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1)
    assert world.starts() == [1]
    old = of(world)
    world.core.models.add(replace(step()))
    world.end(1, times=TIMES)
    assert old.inferences == 1
    assert of(world).inferences == 0
    assert of(world).batches == {}
