"""How streams end: the client half-closes, or vanishes."""

from __future__ import annotations

import math

from headrace.server.core.events import Done
from tests.server.core.scenario import Scenario


class TestHalfClose:
    def test_half_closing_ends_a_stream_with_nothing_in_flight(self) -> None:
        world = Scenario()
        client = world.client()
        client.half_close()
        assert client.stream.ended
        assert client.stream in world.settled().changed
        assert not world.core.streams

    def test_half_closing_finishes_what_is_in_flight_including_waiting_tickets(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, x="1.y", keep=["z"], outputs=["y"])
        client.fetch(3, "2.z")
        client.half_close()
        assert world.runs() == [1, 2]
        assert not client.stream.ended
        assert client.receives() == ["done 1", "done 2", "fetched 3"]
        assert client.stream.ended
        assert world.core.accounts.keep.used == 0

    def test_a_half_closed_stream_does_not_end_before_its_last_event_is_taken(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(0)
        client.half_close()
        assert not client.stream.ended
        assert client.receives() == ["failed 0 INVALID_ARGUMENT"]
        assert client.stream.ended

    def test_half_closing_frees_the_kept_outputs_that_no_ticket_needs(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y", "z"])
        client.infer(2, keep=["y"])
        client.infer(3, keep=["y"])
        assert world.starts() == [1]
        world.end(1)
        client.infer(4, x="1.y")
        assert world.core.accounts.keep.used == 2048
        assert world.starts() == [2]
        client.half_close()
        assert world.core.accounts.keep.used == 1024 + 1024
        world.end(2)
        assert world.core.accounts.keep.used == 1024
        assert world.runs() == [3, 4]
        assert world.core.accounts.keep.used == 0
        assert client.receives() == ["done 1", "done 2", "done 3", "done 4"]
        for tag in (2, 3):
            done = client.events[tag]
            assert isinstance(done, Done)
            assert done.kept == []
        assert client.stream.ended

    def test_half_closing_an_ordered_stream_keeps_its_order(self) -> None:
        world = Scenario(slots=2)
        client = world.client(ordered=True)
        client.infer(1)
        client.infer(2)
        client.half_close()
        world.starts()
        world.end(2)
        assert client.receives() == []
        assert not client.stream.ended
        world.end(1)
        assert client.receives() == ["done 1", "done 2"]
        assert client.stream.ended

    def test_half_closing_twice_or_after_the_end_is_harmless(self) -> None:
        world = Scenario()
        client = world.client()
        client.half_close()
        client.half_close()
        client.vanish()
        client.vanish()
        assert client.stream.ended
        assert client.receives() == []


class TestVanish:
    def test_a_vanished_client_has_all_its_tickets_cancelled_without_events(self) -> None:
        world = Scenario()
        client, other = world.client(), world.client()
        client.infer(1, keep=["y"], outputs=["y"])
        world.runs()
        client.infer(2, x="1.y", timeout=5)
        client.infer(3, keep=["y"], timeout=5)
        client.infer(4, x="3.y")
        client.fetch(5, "1.y")
        client.fetch(6, "3.y")
        assert world.starts() == [2]
        other.infer(11)
        client.vanish()
        assert client.stream.ended
        assert client.live == set()
        assert client.stream.in_flight == 0
        assert client.receives() == []
        assert world.core.accounts.queue.used == 16
        assert world.core.accounts.keep.used == 1024
        assert world.settled().wake_at == math.inf
        assert world.stopping == [2]
        world.end(2)
        assert world.core.accounts.keep.used == 0
        assert world.starts() == [11]

    def test_a_client_may_vanish_while_a_frame_is_being_written(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, outputs=["y"])
        world.runs()
        assert len(world.take(client.stream)) == 1
        client.vanish()
        world.core.flushed(client.stream)
        assert client.stream.unsent_bytes == 0

    def test_a_client_may_vanish_while_tickets_wait_for_their_turn(self) -> None:
        world = Scenario(slots=2)
        client = world.client(ordered=True)
        client.infer(1)
        client.infer(2, outputs=["y"])
        assert world.starts() == [1, 2]
        world.end(2)
        client.vanish()
        assert client.live == set()
        world.starts()
        assert world.stopping == [1]
        world.end(1)
        assert world.core.accounts.queue.used == 0

    def test_the_slots_of_a_vanished_client_are_free_as_soon_as_the_runtime_lets_go(self) -> None:
        world = Scenario(slots=2)
        client, other = world.client(), world.client()
        for tag in (1, 2, 3):
            client.infer(tag)
        other.infer(11)
        assert world.starts() == [1, 11]
        client.vanish()
        other.infer(12)
        assert world.starts() == []
        world.end(1)
        assert world.starts() == [12]


class TestUnary:
    def test_a_unary_call_is_a_stream_with_a_window_of_one_and_without_hello(self) -> None:
        world = Scenario()
        client = world.client(unary=True)
        assert client.receives() == []
        client.infer(1, outputs=["y"])
        client.infer(2)
        assert world.runs() == [1]
        assert client.receives() == ["failed 2 RESOURCE_EXHAUSTED", "done 1"]
        client.half_close()
        assert client.stream.ended
        assert not world.core.streams


def test_hello_says_the_limits() -> None:
    world = Scenario()
    stream = world.core.open_stream()
    (hello,) = world.take(stream)
    limits = world.core.limits
    assert (hello.window, hello.max_message_bytes) == (limits.window, limits.max_message_bytes)  # type: ignore[union-attr]
    assert (hello.keep_bytes, hello.keep_seconds) == (limits.keep_bytes, limits.keep_seconds)  # type: ignore[union-attr]


def test_the_core_and_its_parts_show_their_load() -> None:
    world = Scenario()
    client = world.client()
    client.infer(1, keep=["y"], outputs=["y"])
    client.infer(2, x="1.y")
    assert repr(client.stream.tickets[2]) == "<Ticket 2 waiting, 1 missing, keeps 0>"
    world.starts()
    world.end(1)
    assert repr(client.stream.tickets[1].own[0]) == "<KeptOutput y of 1, 2 holders, 1024 bytes>"
    assert repr(client.stream) == (
        "<Stream 2 of 1024 in flight, 2 live, keeps 1024 bytes, 1 events with 16 bytes unsent>"
    )
    assert world.starts() == [2]
    assert repr(world.core) == (
        "<Core 1 streams, <Execution 1>, <Accounts 5136 of 4294967296 bytes: "
        "queue 0, unsent 32, keep 1024, tickets 2048, definitions 2032, caches 0, sequences 0>>"
    )
