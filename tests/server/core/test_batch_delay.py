"""With a delay, tickets wait for others to run with: until a batch is full, or the first of them has waited so long."""

from __future__ import annotations

import math
from dataclasses import replace

from headrace.server.core.limits import Limits
from headrace.wire.errors import Internal
from tests.server.core.model_specs import many, step
from tests.server.core.scenario import Scenario, ask, batches

DELAY = 0.5


def delayed(slots: int = 1, *, direct: bool = True) -> Scenario:
    return Scenario(many(slots, direct=direct), step(), limits=Limits(batch_delay=DELAY))


def test_the_first_waits_for_others() -> None:
    world = delayed()
    client = world.client()
    begin = world.now
    ask(client, 1)
    assert world.settled().wake_at == begin + DELAY
    world.now += 0.25
    ask(client, 2)
    assert world.settled().wake_at == begin + DELAY
    assert world.passes(0.25) == [1, 2]
    assert world.batches == [[1, 2]]
    assert world.settled().wake_at == math.inf


def test_no_longer_than_the_delay() -> None:
    world = delayed()
    ask(world.client(), 1)
    assert world.passes(DELAY - 0.001) == []
    assert world.passes(0.001) == [1]


def test_a_full_batch_does_not_wait() -> None:
    world = delayed()
    alice, bob = world.client(), world.client()
    ask(alice, 1, 2)
    ask(bob, 11)
    assert world.starts() == []
    ask(bob, 12)
    assert world.starts() == [1, 11, 2, 12]
    assert world.batches == [[1, 11, 2, 12]]
    assert world.settled().wake_at == math.inf


def test_it_is_tickets_that_make_it_full() -> None:
    world = delayed()
    client = world.client()
    ask(client, 1, 2, rows=2)
    assert world.starts() == []
    ask(client, 3, 4, rows=2)
    assert world.starts() == [1, 2]


def test_priority_does_not_shorten_it() -> None:
    world = delayed()
    client = world.client()
    ask(client, 1)
    ask(client, 2, priority=9)
    assert world.passes(0.25) == []
    assert world.passes(0.25) == [2]
    world.end(2)
    assert world.starts() == [1]


def test_it_is_for_models_with_batches() -> None:
    world = delayed()
    client = world.client()
    client.infer(1)
    ask(client, 2)
    assert world.starts() == [1]


def test_it_begins_anew_when_all_have_started() -> None:
    world = delayed(slots=2)
    client = world.client()
    ask(client, 1)
    assert world.passes(2) == [1]
    ask(client, 2)
    assert world.settled().wake_at == world.now + DELAY
    assert world.passes(DELAY) == [2]


def test_it_begins_anew_when_all_were_cancelled() -> None:
    world = delayed()
    client = world.client()
    ask(client, 1)
    assert world.starts() == []
    client.cancel(1)
    assert world.settled().wake_at == math.inf
    assert world.passes(0.25) == []
    ask(client, 2)
    assert world.settled().wake_at == world.now + DELAY
    assert world.passes(0.25) == []
    assert world.passes(0.25) == [2]


def test_the_rest_of_a_full_queue_has_waited_since_the_first_came() -> None:
    world = delayed()
    client = world.client()
    ask(client, 1)
    world.now += 0.25
    ask(client, 2, 3, 4, 5)
    assert world.starts() == [1, 2, 3, 4]
    world.end(1)
    assert world.settled().wake_at == world.now + 0.25
    assert world.passes(0.25) == [5]


def test_a_full_queue_may_fill_all_slots() -> None:
    world = delayed(slots=2, direct=False)
    ask(world.client(), 1, 2, 3, 4)
    assert world.starts() == [1, 2, 3, 4]
    assert world.batches == [[1, 2], [3, 4]]


def test_when_it_is_over_while_all_slots_are_taken_nothing_waits_any_more() -> None:
    world = delayed()
    client = world.client()
    ask(client, 1, 2, 3, 4)
    assert world.starts() == [1, 2, 3, 4]
    ask(client, 5)
    assert world.starts() == []
    assert world.passes(DELAY) == []
    assert world.settled().wake_at == math.inf
    world.end(1)
    assert world.starts() == [5]


def test_each_model_has_its_own() -> None:
    world = Scenario(many(), replace(many(), name="other"), limits=Limits(batch_delay=DELAY))
    client = world.client()
    begin = world.now
    ask(client, 1)
    assert world.passes(0.25) == []
    client.infer(2, "other", x=(1,))
    assert world.settled().wake_at == begin + DELAY
    assert world.passes(0.25) == [1]
    assert world.settled().wake_at == begin + 0.25 + DELAY
    assert world.passes(0.25) == [2]


def test_a_deadline_may_come_first() -> None:
    world = delayed()
    client = world.client()
    ask(client, 1, timeout=0.25)
    ask(client, 2)
    assert world.settled().wake_at == world.now + 0.25
    assert world.passes(0.25) == []
    assert client.hears() == ["failed 1 DEADLINE_EXCEEDED"]
    assert world.passes(0.25) == [2]


def test_who_waits_for_a_source_is_queued_when_it_is_there() -> None:
    world = delayed()
    client = world.client()
    client.infer(1, keep=["z"])
    client.infer(2, "many", x="1.z")
    assert world.starts() == [1]
    world.now += 3
    world.end(1, z=1)
    assert world.settled().wake_at == world.now + DELAY
    assert world.passes(DELAY) == [2]


def test_those_of_a_batch_that_failed_have_waited() -> None:
    world = delayed()
    client = world.client()
    ask(client, 1, 2)
    assert world.passes(DELAY) == [1, 2]
    world.now += 0.1
    world.end(1, Internal("the batch failed"))
    assert batches(world) == [[1], [2]]


def test_without_one_nothing_waits() -> None:
    world = Scenario(many())
    ask(world.client(), 1)
    assert world.starts() == [1]
    assert world.settled().wake_at == math.inf
