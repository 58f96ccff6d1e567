"""Kept outputs: who holds them, what they cost, how long they stay."""

from __future__ import annotations

import gc
import math
import weakref

from headrace.server.core.events import Done
from headrace.server.core.kept_outputs import MIN_CHARGE_BYTES
from headrace.server.core.limits import Limits
from headrace.server.core.state import Ticket
from headrace.wire.errors import ResourceExhausted
from tests.server.core.model_specs import model, port
from tests.server.core.scenario import Client, Scenario

KILO = 256
"""Elements of 1,024 bytes."""


def wide(slots: int = 1) -> Scenario:
    """give: one static output of 4 KiB, one dynamic; small budgets."""
    spec = model("give", [port(0, "x", 4)], [port(0, "s", 4 * KILO), port(1, "d", None)], slots=slots)
    take = model("take", [port(0, "x", None)], [port(0, "y", 4)], slots=slots)
    return Scenario(spec, take, limits=Limits(keep_bytes=8 << 10, keep_bytes_total=12 << 10, keep_seconds=10))


def kept(client: Client, tag: int) -> list[str]:
    """The outputs that a Done says are kept."""
    done = client.events[tag]
    assert isinstance(done, Done)
    return [each.name for each, _ in done.kept]


class TestHolders:
    def test_an_output_released_before_its_ticket_ends_is_kept_for_those_that_refer_to_it(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y", "z"])
        client.infer(2, x="1.y", outputs=["y"])
        client.release(1)
        assert world.starts() == [1]
        assert world.part(1).keep == (0,)
        world.end(1)
        assert world.starts() == [2]
        assert client.receives() == ["done 1"]
        assert kept(client, 1) == []
        assert client.live == {2}
        assert world.core.accounts.keep.used == MIN_CHARGE_BYTES
        world.end(2)
        assert client.receives() == ["done 2"]
        assert world.core.accounts.keep.used == 0

    def test_an_output_without_holders_is_not_kept_when_its_run_ends(self) -> None:
        world = wide()
        client = world.client()
        client.infer(1, "give", keep=["s", "d"])
        assert world.starts() == [1]
        client.release(1, "s")
        assert world.core.accounts.keep.used == (4 << 10) + MIN_CHARGE_BYTES
        world.end(1)
        assert client.receives() == ["done 1"]
        assert kept(client, 1) == ["d"]
        assert world.core.accounts.keep.used == MIN_CHARGE_BYTES

    def test_an_output_is_freed_by_its_last_holder(self) -> None:
        world = Scenario(slots=2)
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.infer(2, x="1.y")
        client.infer(3, x="1.y")
        client.fetch(4, "1.y")
        client.release(1)
        assert world.starts() == [2, 3]
        world.end(2)
        world.end(3)
        assert world.core.accounts.keep.used == MIN_CHARGE_BYTES
        assert client.receives() == ["done 1", "fetched 4", "done 2", "done 3"]
        assert world.core.accounts.keep.used == 0
        assert client.live == set()

    def test_a_run_that_stops_holds_its_sources_until_the_runtime_lets_go(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.infer(2, x="take 1.y")
        assert world.starts() == [2]
        client.cancel(2)
        assert client.receives() == ["done 1", "failed 2 CANCELLED"]
        assert client.live == set()
        assert world.core.accounts.keep.used == MIN_CHARGE_BYTES
        assert world.starts() == []
        assert world.stopping == [2]
        world.end(2)
        assert world.core.accounts.keep.used == 0

    def test_outputs_are_released_by_any_name_some_or_all(self) -> None:
        world = Scenario()
        client = world.client()
        for tag in (1, 2, 3, 4):
            client.infer(tag, keep=["y", "z"])
        world.runs()
        client.receives()
        client.release(1, "yes")
        client.release(2, "y", "z", "nothing")
        client.release(3)
        client.release(4, "nothing")
        client.release(99)
        assert client.live == {1, 4}
        assert world.core.accounts.keep.used == 3 * MIN_CHARGE_BYTES
        client.release(1, "yes")
        client.release(1, "z")
        assert client.live == {4}
        assert client.receives() == []

    def test_a_tag_is_free_when_its_end_was_received_and_nothing_is_kept(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.release(1)
        client.infer(1)
        client.receives()
        client.infer(1)
        world.runs()
        assert client.receives() == ["done 1"]
        assert "tag 1 is live" in client.errors[0].message

    def test_a_freed_output_is_gone_at_once(self) -> None:
        """Not when the garbage collector comes by, and not with the event that says so."""
        gc.collect()
        gc.disable()
        try:
            world = Scenario(slots=2)
            client = world.client(ordered=True)
            client.infer(1)
            client.infer(2, keep=["y"], outputs=["z"])
            client.infer(3, x="2.y")
            assert world.starts() == [1, 2]
            world.end(2)
            kept = weakref.ref(client.stream.tickets[2].own[0].tensor)
            client.release(2)
            assert world.starts() == [3]
            world.end(3)
            assert kept() is None
            world.end(1)
            assert client.receives() == ["done 1", "done 2", "done 3"]
            client.events.clear()
            assert [each for each in gc.get_objects() if isinstance(each, Ticket)] == []
            client.infer(4)
            client.infer(5, keep=["y"], outputs=["z"])
            assert world.starts() == [4, 5]
            world.end(5)
            kept = weakref.ref(client.stream.tickets[5].own[0].tensor)
            (event,) = [ticket.event for ticket in client.stream.turns if ticket.event is not None]
            assert isinstance(event, Done)
            sent = weakref.ref(event.sent[0])
            del event
            client.vanish()
            assert kept() is None
            assert sent() is None
        finally:
            gc.enable()


class TestQuota:
    def test_static_outputs_are_charged_when_the_run_starts(self) -> None:
        world = wide()
        client = world.client()
        client.infer(1, "give", keep=["s"])
        assert world.core.accounts.keep.used == 0
        world.starts()
        assert client.stream.keep.used == world.core.accounts.keep.used == 4 << 10
        world.end(1)
        assert client.stream.keep.used == world.core.accounts.keep.used == 4 << 10

    def test_a_ticket_whose_outputs_do_not_fit_the_quota_fails_and_never_waits(self) -> None:
        world = wide(slots=3)
        client = world.client()
        for tag in (1, 2, 3):
            client.infer(tag, "give", keep=["s"])
        client.infer(4, "take", x="3.s")
        client.infer(5, "give")
        assert world.starts() == [1, 2, 5]
        assert client.receives() == ["failed 3 RESOURCE_EXHAUSTED", "failed 4 FAILED_PRECONDITION"]
        error = client.errors[3]
        assert isinstance(error, ResourceExhausted)
        assert error.retryable
        assert "output 's' of ticket 3 takes 4096 bytes" in error.message
        assert "8192 of 8192" in error.message
        assert "output 's' of ticket 3" in client.errors[4].message
        assert client.stream.keep.used == 8 << 10

    def test_kept_outputs_are_charged_to_a_quota_of_the_server_too(self) -> None:
        world = wide(slots=4)
        alice, bob = world.client(), world.client()
        for tag in (1, 2):
            alice.infer(tag, "give", keep=["s"])
            bob.infer(tag + 10, "give", keep=["s"])
        assert world.starts() == [1, 11, 2]
        assert bob.receives() == ["failed 12 RESOURCE_EXHAUSTED"]
        alice.vanish()
        assert world.core.accounts.keep.used == 12 << 10
        world.starts()
        world.end(1)
        world.end(2)
        assert world.core.accounts.keep.used == bob.stream.keep.used == 4 << 10

    def test_a_ticket_that_does_not_fit_is_not_charged_in_part(self) -> None:
        world = wide()
        client = world.client()
        client.infer(1, "give", keep=["d"])
        assert world.starts() == [1]
        world.end(1, d=5 * KILO)
        client.infer(2, "give", keep=["d", "s"])
        assert world.starts() == []
        assert client.receives() == ["done 1", "failed 2 RESOURCE_EXHAUSTED"]
        assert client.stream.keep.used == world.core.accounts.keep.used == 5 << 10

    def test_dynamic_outputs_are_charged_when_the_run_has_ended(self) -> None:
        world = wide()
        client = world.client()
        client.infer(1, "give", keep=["d"])
        client.infer(2, "take", x="1.d")
        client.fetch(3, "1.d")
        assert world.starts() == [1]
        assert world.core.accounts.keep.used == MIN_CHARGE_BYTES
        world.end(1, d=9 * KILO)
        assert client.receives() == [
            "failed 1 RESOURCE_EXHAUSTED",
            "failed 2 FAILED_PRECONDITION",
            "failed 3 NOT_FOUND",
        ]
        assert "output 'd' of ticket 1 takes 9216 bytes" in client.errors[1].message
        assert client.errors[1].retryable
        assert world.core.accounts.keep.used == 0
        client.infer(1, "give", keep=["d", "s"])
        assert world.starts() == [1]
        world.end(1, d=4 * KILO)
        assert client.receives() == ["done 1"]
        assert world.core.accounts.keep.used == 8 << 10

    def test_small_outputs_are_charged_a_minimum(self) -> None:
        world = wide()
        client = world.client()
        for tag in range(1, 10):
            client.infer(tag, "give", keep=["d"])
            world.starts()
            if tag < 9:
                world.end(tag, d=0)
        assert "failed 9 RESOURCE_EXHAUSTED" in client.receives()
        assert world.core.accounts.keep.used == 8 * MIN_CHARGE_BYTES

    def test_outputs_of_a_stopping_run_are_charged_until_it_has_ended(self) -> None:
        world = wide()
        client = world.client()
        client.infer(1, "give", keep=["s"])
        world.starts()
        client.cancel(1)
        client.receives()
        assert client.live == set()
        assert world.core.accounts.keep.used == 4 << 10
        world.end(1)
        assert world.core.accounts.keep.used == 0


class TestKeepTime:
    def world(self) -> tuple[Scenario, Client]:
        world = Scenario(slots=2, limits=Limits(keep_seconds=10))
        client = world.client()
        client.infer(1, keep=["y", "z"])
        world.runs()
        client.receives()
        return world, client

    def test_the_keep_time_runs_from_the_end_of_the_ticket(self) -> None:
        world, client = self.world()
        assert world.settled().wake_at == world.now + 10
        world.after(9.9)
        assert client.live == {1}
        world.after(0.1)
        assert client.live == set()
        assert world.core.accounts.keep.used == 0
        assert world.settled().wake_at == math.inf

    def test_the_keep_time_runs_from_the_last_use_of_each_output(self) -> None:
        world, client = self.world()
        world.after(6)
        client.fetch(2, "1.y")
        assert client.receives() == ["fetched 2"]
        world.after(6)
        assert [each.port.name for each in client.stream.tickets[1].own.values()] == ["y"]
        world.after(4)
        assert client.live == set()

    def test_the_keep_time_does_not_run_while_an_output_is_used(self) -> None:
        world, client = self.world()
        client.infer(2, x="1.y")
        assert world.starts() == [2]
        world.after(60)
        assert [each.port.name for each in client.stream.tickets[1].own.values()] == ["y"]
        world.end(2)
        world.after(9.9)
        client.infer(3, x="1.y")
        world.runs()
        assert client.receives() == ["done 2", "done 3"]
        world.after(10)
        assert client.live == set()

    def test_an_unsent_end_does_not_stop_the_keep_time(self) -> None:
        world = Scenario(limits=Limits(keep_seconds=10))
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        world.after(10)
        client.fetch(2, "1.y")
        assert client.receives() == ["done 1", "failed 2 NOT_FOUND"]
        assert client.live == set()


class TestFetch:
    def test_a_fetch_waits_for_a_source_in_flight_and_may_be_repeated(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.fetch(2, "1.yes")
        client.fetch(3, "1.y", (1, 3))
        assert world.starts() == [1]
        assert client.receives() == []
        world.end(1)
        assert client.receives() == ["done 1", "fetched 2", "fetched 3"]
        client.fetch(2, "1.y")
        assert client.receives() == ["fetched 2"]

    def test_a_fetch_counts_in_the_window_and_kept_outputs_do_not(self) -> None:
        world = Scenario(limits=Limits(window=2))
        client = world.client()
        client.infer(1, keep=["y"])
        world.runs()
        client.receives()
        client.fetch(2, "1.y")
        client.fetch(3, "1.y")
        client.fetch(4, "1.y")
        assert client.receives() == ["fetched 2", "fetched 3", "failed 4 RESOURCE_EXHAUSTED"]
        assert client.errors[4].retryable

    def test_a_fetch_of_what_is_not_there_gives_not_found(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.fetch(2, "9.y")
        client.fetch(3, "3.y")
        client.fetch(4, "1.z")
        client.fetch(5, "1.nothing")
        client.release(1)
        client.fetch(6, "1.y")
        assert client.receives() == [f"failed {tag} NOT_FOUND" for tag in (2, 3, 4, 5, 6)]
        for tag, source in ((2, "'y' of ticket 9"), (4, "'z' of ticket 1"), (5, "'nothing'"), (6, "'y' of ticket 1")):
            assert source in client.errors[tag].message

    def test_a_fetch_of_bad_slices_fails(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.fetch(2, "1.y", (0, 5))
        client.fetch(3, "1.y", *[(0, 1)] * 33)
        assert client.receives() == ["failed 3 INVALID_ARGUMENT"]
        assert "more than 32 slices" in client.errors[3].message
        world.runs()
        for tag, bounds in enumerate([(-1, 2), (3, 2), (0, 5), (5, 5)], start=10):
            client.fetch(tag, "1.y", bounds)
        client.fetch(20, "1.y", (0, 1), (0, 1))
        client.fetch(21, "1.y", (4, 4))
        received = client.receives()
        assert received == [
            "done 1",
            *(f"failed {tag} INVALID_ARGUMENT" for tag in (2, 10, 11, 12, 13, 20)),
            "fetched 21",
        ]
        assert "slice 0:5 does not lie inside axis 0 of size 4" in client.errors[2].message
        assert client.live == {1}


def test_a_use_that_fails_at_its_start_renews_the_keep_time() -> None:
    """The output's old entry among the deadlines lies in the past by then, and must not wake anybody at once."""
    world = Scenario(limits=Limits(keep_bytes=1024, keep_seconds=10))
    client = world.client()
    client.infer(1, keep=["y"])
    assert world.runs() == [1]
    client.infer(2)
    assert world.starts() == [2]
    client.infer(3, x="1.y", keep=["y"])
    assert world.after(20) == []
    world.end(2)
    decision = world.decide()
    assert client.receives() == ["done 1", "done 2", "failed 3 RESOURCE_EXHAUSTED"]
    assert not decision.starts
    assert decision.wake_at == world.now + 10
