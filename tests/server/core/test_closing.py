"""How streams end: half-closed, vanished."""

from __future__ import annotations

import math

from headrace.server.core.events import Done
from tests.server.core.scenario import Scenario


class TestHalfClose:
    def test_ends_a_stream_that_has_nothing_in_flight(self) -> None:
        world = Scenario()
        client = world.client()
        client.half_close()
        assert client.stream.ended
        assert client.stream in world.settled().changed
        assert world.core.streams == ()

    def test_finishes_what_is_in_flight_waiting_tickets_included(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y"])
        client.infer(2, x="1.y", keep=["z"], outputs=["y"])
        client.fetch(3, "2.z")
        client.half_close()
        assert world.runs() == [1, 2]
        assert not client.stream.ended
        assert client.hears() == ["done 1", "done 2", "fetched 3"]
        assert client.stream.ended
        assert world.core.keep.used == 0

    def test_does_not_end_before_the_last_event_was_taken(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(0)
        client.half_close()
        assert not client.stream.ended
        assert client.hears() == ["failed 0 INVALID_ARGUMENT"]
        assert client.stream.ended

    def test_frees_at_once_what_nobody_needs(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, keep=["y", "z"])
        client.infer(2, keep=["y"])
        client.infer(3, keep=["y"])
        assert world.starts() == [1]
        world.end(1)
        client.infer(4, x="1.y")
        assert world.core.keep.used == 2048
        assert world.starts() == [2]
        client.half_close()
        assert world.core.keep.used == 1024 + 1024
        world.end(2)
        assert world.core.keep.used == 1024
        assert world.runs() == [3, 4]
        assert world.core.keep.used == 0
        assert client.hears() == ["done 1", "done 2", "done 3", "done 4"]
        for tag in (2, 3):
            done = client.events[tag]
            assert isinstance(done, Done)
            assert done.kept == []
        assert client.stream.ended

    def test_of_an_ordered_stream(self) -> None:
        world = Scenario(slots=2)
        client = world.client(ordered=True)
        client.infer(1)
        client.infer(2)
        client.half_close()
        world.starts()
        world.end(2)
        assert client.hears() == []
        assert not client.stream.ended
        world.end(1)
        assert client.hears() == ["done 1", "done 2"]
        assert client.stream.ended

    def test_twice_and_after_the_end(self) -> None:
        world = Scenario()
        client = world.client()
        client.half_close()
        client.half_close()
        client.vanish()
        client.vanish()
        assert client.stream.ended
        assert client.hears() == []


class TestVanish:
    def test_cancels_everything_and_tells_nobody(self) -> None:
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
        assert client.hears() == []
        assert world.core.queue.used == 16
        assert world.core.keep.used == 1024
        assert world.settled().wake_at == math.inf
        assert world.stopping == [2]
        world.end(2)
        assert world.core.keep.used == 0
        assert world.starts() == [11]

    def test_with_a_frame_under_way(self) -> None:
        world = Scenario()
        client = world.client()
        client.infer(1, outputs=["y"])
        world.runs()
        assert len(world.take(client.stream)) == 1
        client.vanish()
        world.core.flushed(client.stream)
        assert client.stream.unsent_bytes == 0

    def test_with_tickets_that_wait_for_their_turn(self) -> None:
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
        assert world.core.queue.used == 0

    def test_leaves_the_slots_to_others_as_soon_as_the_runtime_lets_go(self) -> None:
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
    def test_a_call_is_a_stream_with_a_window_of_one_that_says_no_hello(self) -> None:
        world = Scenario()
        client = world.client(unary=True)
        assert client.hears() == []
        client.infer(1, outputs=["y"])
        client.infer(2)
        assert world.runs() == [1]
        assert client.hears() == ["failed 2 RESOURCE_EXHAUSTED", "done 1"]
        client.half_close()
        assert client.stream.ended
        assert world.core.streams == ()


def test_hello_says_the_limits() -> None:
    world = Scenario()
    stream = world.core.open_stream()
    (hello,) = world.take(stream)
    limits = world.core.limits
    assert (hello.window, hello.max_message_bytes) == (limits.window, limits.max_message_bytes)  # type: ignore[union-attr]
    assert (hello.keep_bytes, hello.keep_seconds) == (limits.keep_bytes, limits.keep_seconds)  # type: ignore[union-attr]


def test_a_server_shows_its_load() -> None:
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
        "<Core 1 streams, <Execution 1>, kept <Quota 1024 of 1073741824>, queued <Quota 0 of 1073741824>>"
    )
