"""With a delay, tickets wait until a batch is full, or until the first of them has waited for the delay."""

from __future__ import annotations

import math
from dataclasses import replace

from headrace.server.core.limits import Limits
from headrace.wire.errors import Internal
from tests.server.core.model_specs import many, step
from tests.server.core.scenario import Scenario, batches, infer_many

DELAY = 0.5


def delayed(slots: int = 1, *, direct: bool = True) -> Scenario:
    return Scenario(many(slots, direct=direct), step(), limits=Limits(batch_delay=DELAY))


def test_a_batch_that_is_not_full_waits_for_the_delay() -> None:
    world = delayed()
    client = world.client()
    begin = world.now
    infer_many(client, 1)
    assert world.settled().wake_at == begin + DELAY
    world.now += 0.25
    infer_many(client, 2)
    assert world.settled().wake_at == begin + DELAY
    assert world.after(0.25) == [1, 2]
    assert world.batches == [[1, 2]]
    assert world.settled().wake_at == math.inf


def test_the_first_ticket_of_a_batch_waits_no_longer_than_the_delay() -> None:
    world = delayed()
    infer_many(world.client(), 1)
    assert world.after(DELAY - 0.001) == []
    assert world.after(0.001) == [1]


def test_a_full_batch_does_not_wait() -> None:
    world = delayed()
    alice, bob = world.client(), world.client()
    infer_many(alice, 1, 2)
    infer_many(bob, 11)
    assert world.starts() == []
    infer_many(bob, 12)
    assert world.starts() == [1, 11, 2, 12]
    assert world.batches == [[1, 11, 2, 12]]
    assert world.settled().wake_at == math.inf


def test_a_batch_is_full_by_its_number_of_tickets_not_by_their_rows() -> None:
    world = delayed()
    client = world.client()
    infer_many(client, 1, 2, rows=2)
    assert world.starts() == []
    infer_many(client, 3, 4, rows=2)
    assert world.starts() == [1, 2]


def test_priority_does_not_shorten_the_delay() -> None:
    world = delayed()
    client = world.client()
    infer_many(client, 1)
    infer_many(client, 2, priority=9)
    assert world.after(0.25) == []
    assert world.after(0.25) == [2]
    world.end(2)
    assert world.starts() == [1]


def test_the_delay_concerns_only_models_with_batches() -> None:
    world = delayed()
    client = world.client()
    client.infer(1)
    infer_many(client, 2)
    assert world.starts() == [1]


def test_the_delay_begins_anew_after_all_queued_tickets_have_started() -> None:
    world = delayed(slots=2)
    client = world.client()
    infer_many(client, 1)
    assert world.after(2) == [1]
    infer_many(client, 2)
    assert world.settled().wake_at == world.now + DELAY
    assert world.after(DELAY) == [2]


def test_the_delay_begins_anew_after_all_queued_tickets_were_cancelled() -> None:
    world = delayed()
    client = world.client()
    infer_many(client, 1)
    assert world.starts() == []
    client.cancel(1)
    assert world.settled().wake_at == math.inf
    assert world.after(0.25) == []
    infer_many(client, 2)
    assert world.settled().wake_at == world.now + DELAY
    assert world.after(0.25) == []
    assert world.after(0.25) == [2]


def test_what_a_full_batch_leaves_in_the_queue_has_waited_since_the_first_ticket_came() -> None:
    world = delayed()
    client = world.client()
    infer_many(client, 1)
    world.now += 0.25
    infer_many(client, 2, 3, 4, 5)
    assert world.starts() == [1, 2, 3, 4]
    world.end(1)
    assert world.settled().wake_at == world.now + 0.25
    assert world.after(0.25) == [5]


def test_a_full_queue_may_fill_all_slots() -> None:
    world = delayed(slots=2, direct=False)
    infer_many(world.client(), 1, 2, 3, 4)
    assert world.starts() == [1, 2, 3, 4]
    assert world.batches == [[1, 2], [3, 4]]


def test_tickets_whose_delay_is_over_start_as_soon_as_a_slot_is_free() -> None:
    world = delayed()
    client = world.client()
    infer_many(client, 1, 2, 3, 4)
    assert world.starts() == [1, 2, 3, 4]
    infer_many(client, 5)
    assert world.starts() == []
    assert world.after(DELAY) == []
    assert world.settled().wake_at == math.inf
    world.end(1)
    assert world.starts() == [5]


def test_each_model_has_a_delay_of_its_own() -> None:
    world = Scenario(many(), replace(many(), name="other"), limits=Limits(batch_delay=DELAY))
    client = world.client()
    begin = world.now
    infer_many(client, 1)
    assert world.after(0.25) == []
    client.infer(2, "other", x=(1,))
    assert world.settled().wake_at == begin + DELAY
    assert world.after(0.25) == [1]
    assert world.settled().wake_at == begin + 0.25 + DELAY
    assert world.after(0.25) == [2]


def test_the_delay_of_a_model_comes_before_that_of_all() -> None:
    prompt, patient = replace(many(), name="prompt", batch_delay=0.0), replace(many(), name="patient", batch_delay=2.0)
    world = Scenario(many(), prompt, patient, limits=Limits(batch_delay=DELAY))
    client = world.client()
    begin = world.now
    client.infer(1, "patient", x=(1,))
    client.infer(2, "prompt", x=(1,))
    infer_many(client, 3)
    assert world.starts() == [2]
    assert world.after(DELAY) == [3]
    assert world.settled().wake_at == begin + 2
    assert world.after(2 - DELAY) == [1]


def test_a_model_with_a_delay_does_not_coalesce_and_others_do() -> None:
    """The loop being idle releases what waits for others to arrive, and not what waits for its delay."""
    patient = replace(many(direct=True), name="patient", batch_delay=2.0)
    world = Scenario(many(direct=True), patient, limits=Limits(coalesce=True))
    client = world.client()
    client.infer(1, "patient", x=(1,))
    assert world.starts() == []
    assert not world.settled().waits_for_idle
    assert world.idle() == []
    assert world.after(2) == [1]


def test_a_deadline_may_pass_before_the_delay_is_over() -> None:
    world = delayed()
    client = world.client()
    infer_many(client, 1, timeout=0.25)
    infer_many(client, 2)
    assert world.settled().wake_at == world.now + 0.25
    assert world.after(0.25) == []
    assert client.receives() == ["failed 1 DEADLINE_EXCEEDED"]
    assert world.after(0.25) == [2]


def test_a_ticket_that_waits_for_a_source_is_queued_when_the_source_is_done() -> None:
    world = delayed()
    client = world.client()
    client.infer(1, keep=["z"])
    client.infer(2, "many", x="1.z")
    assert world.starts() == [1]
    world.now += 3
    world.end(1, z=1)
    assert world.settled().wake_at == world.now + DELAY
    assert world.after(DELAY) == [2]


def test_tickets_of_a_failed_batch_do_not_wait_again() -> None:
    world = delayed()
    client = world.client()
    infer_many(client, 1, 2)
    assert world.after(DELAY) == [1, 2]
    world.now += 0.1
    world.end(1, Internal("the batch failed"))
    assert batches(world) == [[1], [2]]


def test_without_a_delay_no_ticket_waits() -> None:
    world = Scenario(many())
    infer_many(world.client(), 1)
    assert world.starts() == [1]
    assert world.settled().wake_at == math.inf
