"""What happens to the tickets of a batch when one of them, or all of them, end before their run does."""

from __future__ import annotations

from collections.abc import Callable

from headrace.server.core.kept_outputs import MIN_CHARGE_BYTES
from headrace.server.core.limits import Limits
from headrace.server.core.transitions import SlotState
from tests.server.core.model_specs import many
from tests.server.core.scenario import Client, Scenario, batches, infer_many

ROW = 4096
"""Bytes of a row of the output `big`."""


def slots(world: Scenario) -> list[SlotState]:
    return world.core.models.find("many").slots


class TestOneTicketOfABatch:
    """Ends alone: its result is dropped, and the run goes on for the others."""

    def check(self, world: Scenario, client: Client, ended: str, end: Callable[[], object]) -> None:
        client.infer(1, "many", x=(1,), outputs=["y"], timeout=1)
        client.infer(2, "many", x=(1,), outputs=["y"], keep=["y"])
        assert world.starts() == [1, 2]
        assert world.batches == [[1, 2]]
        end()
        assert client.receives() == [ended]
        assert world.starts() == []
        assert world.stopping == []
        assert slots(world) == [SlotState.RUNNING]
        assert world.core.accounts.queue.used == 8
        world.end(2)
        assert client.receives() == ["done 2"]
        assert slots(world) == [SlotState.FREE]
        assert world.core.accounts.queue.used == 0
        assert client.live == {2}

    def test_one_ticket_of_a_batch_is_cancelled_and_the_others_go_on(self) -> None:
        world = Scenario(many())
        client = world.client()
        self.check(world, client, "failed 1 CANCELLED", lambda: client.cancel(1))

    def test_one_ticket_of_a_batch_misses_its_deadline_and_the_others_go_on(self) -> None:
        world = Scenario(many())
        client = world.client()
        self.check(world, client, "failed 1 DEADLINE_EXCEEDED", lambda: world.after(1))

    def test_one_client_of_a_batch_vanishes_and_the_others_go_on(self) -> None:
        world = Scenario(many())
        alice, bob = world.client(), world.client()
        infer_many(alice, 1, 2)
        infer_many(bob, 11, rows=2)
        assert world.starts() == [1, 11, 2]
        assert world.batches == [[1, 11, 2]]
        alice.vanish()
        assert world.starts() == []
        assert world.stopping == []
        assert world.core.accounts.queue.used == 16
        world.end(11)
        assert bob.receives() == ["done 11"]
        assert world.core.accounts.queue.used == 0

    def test_what_an_ended_ticket_of_a_batch_was_to_keep_is_charged_until_the_run_ends(self) -> None:
        world = Scenario(many())
        client = world.client()
        client.infer(1, "many", x=(1,), keep=["y"])
        infer_many(client, 2)
        client.infer(3, "many", x="1.y")
        world.starts()
        client.cancel(1)
        assert client.receives() == ["failed 1 CANCELLED", "failed 3 FAILED_PRECONDITION"]
        assert world.core.accounts.keep.used == MIN_CHARGE_BYTES
        world.end(2)
        assert world.core.accounts.keep.used == 0
        assert client.receives() == ["done 2"]

    def test_the_source_of_an_ended_ticket_of_a_batch_is_held_until_the_run_ends(self) -> None:
        world = Scenario(many())
        client = world.client()
        client.infer(1, "many", x=(1,), keep=["y"])
        batches(world)
        client.infer(2, "many", x="take 1.y")
        infer_many(client, 3)
        world.starts()
        client.cancel(2)
        assert world.core.accounts.keep.used == MIN_CHARGE_BYTES
        world.end(3)
        assert world.core.accounts.keep.used == 0


class TestAllTicketsOfABatch:
    def test_a_batch_is_stopped_when_its_last_ticket_has_ended(self) -> None:
        world = Scenario(many())
        alice, bob, carol = world.client(), world.client(), world.client()
        infer_many(alice, 1)
        infer_many(bob, 11, timeout=1)
        infer_many(carol, 21)
        assert world.starts() == [1, 11, 21]
        assert world.batches == [[1, 11, 21]]
        alice.cancel(1)
        carol.vanish()
        assert world.starts() == []
        assert world.stopping == []
        assert world.after(1) == []
        assert world.stopping == [1, 11, 21]
        assert slots(world) == [SlotState.STOPPING]
        assert alice.receives() + bob.receives() == ["failed 1 CANCELLED", "failed 11 DEADLINE_EXCEEDED"]
        infer_many(alice, 2)
        assert world.starts() == []
        assert world.core.accounts.queue.used == 16
        world.end(11)
        assert world.core.accounts.queue.used == 4
        assert world.starts() == [2]
        assert world.stopping == [1, 11, 21]

    def test_a_batch_that_has_ended_by_itself_is_not_stopped(self) -> None:
        world = Scenario(many())
        client = world.client()
        infer_many(client, 1, 2)
        world.starts()
        client.cancel(1)
        client.cancel(2)
        world.end(1)
        assert world.starts() == []
        assert world.stopping == []

    def test_all_tickets_of_a_batch_end_when_the_server_stops(self) -> None:
        world = Scenario(many(), limits=Limits(grace=5))
        client = world.client()
        infer_many(client, 1, 2)
        world.starts()
        world.core.drain(world.now)
        assert world.after(5) == []
        assert client.receives() == ["draining", "failed 2 UNAVAILABLE", "failed 1 UNAVAILABLE"]
        assert world.stopping == [1, 2]


class TestQuotas:
    def world(self) -> Scenario:
        return Scenario(many(), limits=Limits(keep_bytes=2 * MIN_CHARGE_BYTES, max_message_bytes=1 << 20))

    def test_a_ticket_whose_outputs_do_not_fit_the_quota_is_left_out_of_its_batch(self) -> None:
        world = self.world()
        alice, bob = world.client(), world.client()
        alice.infer(1, "many", x=(1,), keep=["y"])
        alice.infer(2, "many", x=(1,), keep=["y", "big"])
        alice.infer(3, "many", x=(1,), keep=["y"])
        bob.infer(11, "many", x=(1,), keep=["y"])
        assert world.starts() == [1, 11, 3]
        assert world.batches == [[1, 11, 3]]
        assert alice.receives() == ["failed 2 RESOURCE_EXHAUSTED"]
        assert alice.errors[2].retryable
        assert world.core.accounts.keep.used == 3 * MIN_CHARGE_BYTES
        world.end(1)
        assert alice.receives() + bob.receives() == ["done 1", "done 3", "done 11"]

    def test_the_rows_of_a_ticket_that_is_left_out_are_not_given_to_another(self) -> None:
        world = self.world()
        client = world.client()
        infer_many(client, 1, rows=2)
        for tag in (2, 3):
            client.infer(tag, "many", x=(1,), keep=["y", "big"])
        infer_many(client, 4)
        assert world.starts() == [1, 2]
        assert world.batches == [[1, 2]]
        world.end(1, big=0)
        assert world.starts() == [4]
        assert client.receives() == ["failed 3 RESOURCE_EXHAUSTED", "done 1", "done 2"]

    def test_a_batch_whose_tickets_all_fail_takes_no_slot(self) -> None:
        world = self.world()
        client = world.client()
        client.infer(1, "many", x=(1,), keep=["y", "big"])
        assert world.starts() == [1]
        world.end(1, big=0, y=0)
        client.receives()
        for tag in (2, 3):
            client.infer(tag, "many", x=(2,), keep=["y"])
        infer_many(client, 4, 5)
        assert world.starts() == [4, 5]
        assert world.batches == [[4, 5]]
        assert client.receives() == ["failed 2 RESOURCE_EXHAUSTED", "failed 3 RESOURCE_EXHAUSTED"]
        assert slots(world) == [SlotState.RUNNING]

    def test_a_ticket_of_a_batch_whose_outputs_are_too_large_to_keep_fails_alone(self) -> None:
        world = Scenario(many(), limits=Limits(keep_bytes=2 * ROW + MIN_CHARGE_BYTES))
        client = world.client(max_message=64 << 10)
        client.infer(1, "many", x=(1,), keep=["big"])
        client.infer(2, "many", x=(1,), keep=["big"])
        client.infer(3, "many", x=(1,), keep=["big"])
        client.infer(4, "many", x=(1,))
        assert world.starts() == [1, 2, 3, 4]
        world.end(1)
        assert client.receives() == ["done 1", "done 2", "failed 3 RESOURCE_EXHAUSTED", "done 4"]
        assert world.core.accounts.keep.used == 2 * ROW

    def test_a_ticket_of_a_batch_whose_outputs_fit_no_message_fails_alone(self) -> None:
        world = Scenario(many(batch=20))
        client = world.client(max_message=64 << 10)
        for tag, rows in ((1, 1), (2, 17), (3, 2)):
            client.infer(tag, "many", x=(rows,), outputs=["big"])
        assert world.starts() == [1, 2, 3]
        assert world.batches == [[1, 2, 3]]
        world.end(1)
        assert client.receives() == ["done 1", "failed 2 RESOURCE_EXHAUSTED", "done 3"]
        assert not client.errors[2].retryable
