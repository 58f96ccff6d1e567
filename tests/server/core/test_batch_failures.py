"""A batch that fails runs again, each of its tickets alone: one of them may have been the cause."""

from __future__ import annotations

import pytest

from headrace.server.core.events import Done
from headrace.server.core.kept_outputs import MIN_CHARGE_BYTES
from headrace.server.core.transitions import SlotState
from headrace.wire.errors import Internal, InvalidArgument
from tests.server.core.model_specs import many, step
from tests.server.core.scenario import Scenario, batches, infer_many

FAILED = Internal("the batch failed")
ROW = 4096
"""Bytes of a row of the output `big`."""


def test_each_ticket_of_a_failed_batch_runs_again_alone_and_its_client_does_not_notice() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1, 2, 3)
    assert world.starts() == [1, 2, 3]
    world.end(2, FAILED)
    assert client.receives() == []
    for tag in (1, 2, 3):
        assert world.starts() == [tag]
        assert len(world.running[tag].parts) == 1
        world.end(tag)
    assert client.receives() == ["done 1", "done 2", "done 3"]
    assert world.starts() == []


def test_only_the_bad_ticket_of_a_failed_batch_fails() -> None:
    world = Scenario(many())
    alice, bob = world.client(), world.client()
    infer_many(alice, 1, 2)
    infer_many(bob, 11)
    alice.infer(3, "many", x=(1,), keep=["y"])
    alice.infer(4, "many", x="3.y")
    assert world.starts() == [1, 11, 2, 3]
    world.end(1, FAILED)
    for tag in (1, 11, 2, 3):
        assert world.starts() == [tag]
        world.end(tag, Internal("it again") if tag in (11, 3) else None)
    assert alice.receives() == ["done 1", "done 2", "failed 3 INTERNAL", "failed 4 FAILED_PRECONDITION"]
    assert bob.receives() == ["failed 11 INTERNAL"]
    assert bob.errors[11].message == "it again"
    assert world.core.accounts.queue.used == world.core.accounts.keep.used == 0


def test_parts_that_have_failed_by_themselves_fail_their_tickets_and_no_others() -> None:
    world = Scenario(many())
    alice, bob = world.client(), world.client()
    alice.infer(1, "many", x=(1,), keep=["y"])
    alice.infer(2, "many", x="1.y")
    alice.infer(3, "many", x=(1,), keep=["y"])
    bob.infer(11, "many", x=(1,), keep=["y"])
    bob.infer(12, "many", x=(1,))
    assert world.starts() == [1, 11, 3, 12]
    bob.cancel(12)
    bad = InvalidArgument("it is no image")
    world.end(1, failures={1: bad, 11: bad, 12: bad})
    assert alice.receives() == ["failed 1 INVALID_ARGUMENT", "failed 2 FAILED_PRECONDITION", "done 3"]
    assert bob.receives() == ["failed 12 CANCELLED", "failed 11 INVALID_ARGUMENT"]
    assert alice.errors[1].message == "it is no image"
    assert world.starts() == []
    alice.release(3)
    assert world.core.accounts.queue.used == world.core.accounts.keep.used == 0


def test_tickets_of_a_failed_batch_run_again_in_their_order_before_all_others_of_their_streams() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1, 2, 3)
    world.starts()
    infer_many(client, 4, 5, 6)
    world.end(1, FAILED)
    assert batches(world) == [[1], [2], [3], [4, 5, 6]]


def test_of_two_failed_batches_the_last_one_runs_again_first() -> None:
    world = Scenario(many(2, batch=2))
    client = world.client()
    infer_many(client, 1, 2, 3, 4, 5)
    assert world.starts() == [1, 2, 3, 4]
    world.end(1, FAILED)
    world.end(3, FAILED)
    assert world.starts() == [3, 4]
    assert world.batches == [[3], [4]]
    for tag in (3, 4):
        world.end(tag)
    assert batches(world) == [[1], [2], [5]]


def test_streams_take_turns_with_the_tickets_of_a_failed_batch() -> None:
    world = Scenario(many(batch=4))
    alice, bob, carol = world.client(), world.client(), world.client()
    infer_many(alice, 1)
    infer_many(bob, 11, 12)
    infer_many(alice, 2)
    assert world.starts() == [1, 11, 2, 12]
    infer_many(carol, 21)
    infer_many(bob, 13, 14)
    world.end(1, FAILED)
    # Carol and Bob were queued, Alice comes last.
    assert batches(world) == [[21], [11], [1], [12], [2], [13, 14]]


def test_streams_with_no_other_queued_ticket_take_their_turns_in_the_order_of_the_failed_batch() -> None:
    world = Scenario(many(batch=4))
    alice, bob, carol = world.client(), world.client(), world.client()
    infer_many(carol, 21)
    infer_many(alice, 1)
    infer_many(bob, 11)
    assert world.starts() == [21, 1, 11]
    world.end(1, FAILED)
    assert batches(world) == [[21], [1], [11]]


def test_tickets_of_a_failed_batch_run_again_at_the_priority_they_have_by_now() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1)
    client.infer(2, "many", x=(1,), keep=["y"])
    infer_many(client, 3)
    assert world.starts() == [1, 2, 3]
    infer_many(client, 4, priority=1)
    client.infer(5, "many", x="2.y", priority=2)
    world.end(1, FAILED)
    assert batches(world) == [[2], [5], [4], [1], [3]]


def test_tickets_that_ended_during_a_failed_batch_do_not_run_again() -> None:
    world = Scenario(many())
    alice, bob = world.client(), world.client()
    alice.infer(1, "many", x=(1,), keep=["y"])
    batches(world)
    alice.infer(2, "many", x="take 1.y")
    infer_many(alice, 3)
    infer_many(bob, 11)
    assert world.starts() == [2, 11, 3]
    alice.cancel(2)
    bob.vanish()
    assert (world.core.accounts.keep.used, world.core.accounts.queue.used) == (MIN_CHARGE_BYTES, 8)
    world.end(3, FAILED)
    assert (world.core.accounts.keep.used, world.core.accounts.queue.used) == (0, 4)
    assert batches(world) == [[3]]
    assert alice.receives() == ["done 1", "failed 2 CANCELLED", "done 3"]
    assert alice.live == set()
    assert world.stopping == []


def test_no_ticket_of_a_stopped_batch_runs_again() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1, 2)
    world.starts()
    client.cancel(1)
    client.cancel(2)
    world.starts()
    assert world.stopping == [1, 2]
    world.end(1, FAILED)
    assert world.starts() == []
    assert world.core.models.find("many").slots == [SlotState.FREE]
    assert client.receives() == ["failed 1 CANCELLED", "failed 2 CANCELLED"]
    assert world.core.accounts.queue.used == 0


def test_what_tickets_of_a_failed_batch_were_to_keep_is_not_charged_while_they_wait() -> None:
    world = Scenario(many())
    client, other = world.client(), world.client()
    for tag in (1, 2):
        client.infer(tag, "many", x=(1,), keep=["y", "big"])
    world.starts()
    assert world.core.accounts.keep.used == 4 * MIN_CHARGE_BYTES
    client.release(2, "big")
    infer_many(other, 11, priority=1)
    world.end(1, FAILED)
    assert world.core.accounts.keep.used == 0
    assert world.starts() == [11]
    assert world.core.accounts.keep.used == 0
    world.end(11)
    assert world.starts() == [1]
    assert world.core.accounts.keep.used == 2 * MIN_CHARGE_BYTES
    world.end(1, y=1, big=1)
    assert world.core.accounts.keep.used == MIN_CHARGE_BYTES + ROW
    assert world.starts() == [2]
    assert world.part(2).keep == (0,)
    world.end(2)
    assert client.receives() == ["done 1", "done 2"]
    done = client.events[2]
    assert isinstance(done, Done)
    assert [each.name for each, _ in done.kept] == ["y"]


def test_tickets_of_a_failed_batch_can_be_cancelled_and_miss_their_deadlines_while_they_wait() -> None:
    world = Scenario(many())
    client = world.client()
    infer_many(client, 1)
    infer_many(client, 2, 3, timeout=2)
    infer_many(client, 4)
    world.starts()
    world.end(1, FAILED)
    assert world.starts() == [1]
    assert world.core.accounts.queue.used == 16
    client.cancel(2)
    assert world.core.accounts.queue.used == 12
    assert world.after(2) == []
    assert world.core.accounts.queue.used == 8
    world.end(1)
    assert batches(world) == [[4]]
    assert client.receives() == ["failed 2 CANCELLED", "failed 3 DEADLINE_EXCEEDED", "done 1", "done 4"]
    assert world.stopping == []


def test_one_ticket_of_a_failed_batch_can_be_cancelled_while_it_runs_again() -> None:
    world = Scenario(many())
    client = world.client()
    client.infer(1, "many", x=(1,), keep=["y"])
    infer_many(client, 2, 3)
    world.starts()
    world.end(1, FAILED)
    assert world.starts() == [1]
    client.cancel(1)
    assert world.starts() == []
    assert world.stopping == [1]
    assert world.core.models.find("many").slots == [SlotState.STOPPING]
    assert (world.core.accounts.keep.used, world.core.accounts.queue.used) == (MIN_CHARGE_BYTES, 12)
    world.end(1, FAILED)
    assert (world.core.accounts.keep.used, world.core.accounts.queue.used) == (0, 8)
    assert batches(world) == [[2], [3]]
    assert client.receives() == ["failed 1 CANCELLED", "done 2", "done 3"]
    assert client.live == set()


def test_the_sources_of_a_failed_batch_are_still_held() -> None:
    world = Scenario(many())
    client = world.client()
    client.infer(1, "many", x=(1,), keep=["y"])
    batches(world)
    tensor = client.stream.tickets[1].own[0].tensor
    client.infer(2, "many", x="take 1.y")
    infer_many(client, 3)
    world.starts()
    world.end(2, FAILED)
    assert world.starts() == [2]
    assert [*world.part(2).references] == [tensor]
    world.end(2)
    assert world.core.accounts.keep.used == 0


def test_an_ordered_stream_gets_the_ends_of_a_failed_batch_in_order() -> None:
    world = Scenario(many(2, batch=2))
    client = world.client(ordered=True)
    infer_many(client, 1, 2, 3, 4)
    assert world.starts() == [1, 2, 3, 4]
    world.end(1, FAILED)
    world.end(3)
    assert client.receives() == []
    assert batches(world) == [[1], [2]]
    assert client.receives() == ["done 1", "done 2", "done 3", "done 4"]


def test_a_run_of_one_ticket_fails_and_does_not_run_again() -> None:
    world = Scenario(many(), step())
    client = world.client()
    infer_many(client, 1)
    client.infer(2)
    assert sorted(world.starts()) == [1, 2]
    world.end(1, FAILED)
    world.end(2, FAILED)
    assert client.receives() == ["failed 1 INTERNAL", "failed 2 INTERNAL"]


@pytest.mark.parametrize("slots_of_model", [1, 3])
def test_tickets_of_a_failed_batch_never_share_a_run_again(slots_of_model: int) -> None:
    world = Scenario(many(slots_of_model))
    client, other = world.client(), world.client()
    infer_many(client, 1, 2)
    world.starts()
    infer_many(other, 11, 12, 13)
    world.end(1, FAILED)
    found = batches(world)
    assert [1] in found
    assert [2] in found
    assert sorted(tag for tags in found for tag in tags) == [1, 2, 11, 12, 13]
