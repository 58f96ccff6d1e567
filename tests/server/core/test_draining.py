"""Draining: say so, refuse new Infers, finish the rest; after the grace period what is left fails."""

from __future__ import annotations

import math

import pytest

from headrace.server.core.events import Draining
from headrace.server.core.limits import Limits
from headrace.wire.errors import Unavailable
from tests.server.core.scenario import Scenario


def world_with(grace: float = 30.0) -> Scenario:
    return Scenario(slots=2, limits=Limits(grace=grace, keep_seconds=300))


def test_a_draining_server_says_so_and_refuses_only_new_infers() -> None:
    world = world_with()
    client = world.client()
    client.infer(1, keep=["y", "z"])
    world.runs()
    client.infer(2)
    assert world.starts() == [2]
    world.core.drain(world.now)
    client.infer(3)
    client.fetch(4, "1.y")
    client.release(1, "y")
    client.cancel(2)
    assert client.receives() == ["done 1", "draining", "failed 3 UNAVAILABLE", "fetched 4", "failed 2 CANCELLED"]
    assert isinstance(client.errors[3], Unavailable)
    assert client.errors[3].retryable
    assert not client.stream.ended
    client.release(1)
    assert client.stream.ended


def test_a_draining_server_finishes_what_is_in_flight_including_waiting_tickets() -> None:
    world = world_with()
    client = world.client()
    client.infer(1, keep=["y"])
    client.infer(2, x="take 1.y")
    world.core.drain(world.now)
    assert world.runs() == [1, 2]
    assert client.receives() == ["draining", "done 1", "done 2"]
    assert client.stream.ended


def test_an_idle_stream_ends_when_it_has_been_told() -> None:
    world = world_with()
    client = world.client()
    world.core.drain(world.now)
    assert client.stream in world.settled().changed
    assert not client.stream.ended
    assert client.receives() == ["draining"]
    assert client.stream.ended
    assert client.stream in world.settled().changed
    assert not world.core.streams


@pytest.mark.parametrize("how", ["release", "expiry", "half-close", "vanish"])
def test_a_draining_stream_with_kept_outputs_ends_when_they_are_gone(how: str) -> None:
    world = Scenario(limits=Limits(grace=100, keep_seconds=10))
    client = world.client()
    client.infer(1, keep=["y"])
    world.runs()
    world.core.drain(world.now)
    assert client.receives() == ["done 1", "draining"]
    assert not client.stream.ended
    match how:
        case "release":
            client.release(1)
        case "expiry":
            world.after(10)
        case "half-close":
            client.half_close()
        case _:
            client.vanish()
    assert client.stream.ended
    assert world.core.accounts.keep.used == 0


def test_after_the_grace_period_what_is_left_fails() -> None:
    world = world_with(grace=30)
    client = world.client()
    client.infer(1, keep=["y"])
    world.runs()
    client.infer(2, keep=["y"])
    client.infer(3, x="2.y")
    client.fetch(4, "2.y")
    client.infer(5)
    client.infer(6)
    assert world.starts() == [2, 5]
    world.core.drain(world.now)
    assert client.receives() == ["done 1", "draining"]
    assert world.settled().wake_at == world.now + 30
    world.after(29)
    assert client.receives() == []
    assert world.after(1) == []
    assert sorted(client.receives()) == [f"failed {tag} UNAVAILABLE" for tag in (2, 3, 4, 5, 6)]
    for tag in (2, 3, 4, 5, 6):
        assert client.errors[tag].retryable
        assert client.errors[tag].message == "the server has stopped"
    assert sorted(world.stopping) == [2, 5]
    assert client.stream.ended
    assert world.settled().wake_at == math.inf
    assert client.live == set()
    world.end(2)
    world.end(5)
    assert world.core.accounts.keep.used == world.core.accounts.queue.used == 0


def test_after_the_grace_period_nothing_is_kept() -> None:
    world = world_with(grace=30)
    client = world.client()
    client.infer(1, keep=["y"])
    world.runs()
    world.core.drain(world.now)
    assert client.receives() == ["done 1", "draining"]
    world.now += 30
    assert world.settled().changed == (client.stream,)
    assert client.stream.ended
    assert client.receives() == []
    assert client.live == set()
    assert world.core.accounts.keep.used == 0


def test_after_the_grace_period_an_ordered_stream_ends_in_order() -> None:
    world = world_with(grace=1)
    client = world.client(ordered=True)
    client.infer(1, keep=["y"])
    client.infer(2, x="1.y")
    client.infer(3)
    world.starts()
    world.end(3)
    world.core.drain(world.now)
    world.after(1)
    assert client.receives() == ["draining", "failed 1 UNAVAILABLE", "failed 2 UNAVAILABLE", "done 3"]
    assert client.stream.ended


def test_draining_twice_does_not_restart_the_grace_period() -> None:
    world = world_with(grace=2)
    client = world.client()
    client.infer(1)
    world.starts()
    world.core.drain(world.now)
    world.after(1)
    world.core.drain(world.now)
    world.after(1)
    assert client.receives() == ["draining", "failed 1 UNAVAILABLE"]


def test_a_grace_period_of_zero_ends_at_once() -> None:
    world = world_with(grace=0)
    client = world.client()
    client.infer(1)
    world.starts()
    world.core.drain(world.now)
    world.starts()
    assert client.receives() == ["draining", "failed 1 UNAVAILABLE"]


def test_a_stream_that_is_opened_while_draining_is_told_and_ends() -> None:
    world = world_with()
    world.core.drain(world.now)
    stream = world.core.open_stream()
    hello, draining = world.take(stream)
    assert type(hello).__name__ == "Hello"
    assert isinstance(draining, Draining)
    assert draining.grace == 30
    assert stream.ended


def test_a_unary_call_gets_no_draining_event() -> None:
    world = world_with()
    early, idle = world.client(unary=True), world.client(unary=True)
    early.infer(1)
    world.core.drain(world.now)
    late = world.client(unary=True)
    idle.infer(2)
    late.infer(3)
    assert idle.receives() == ["failed 2 UNAVAILABLE"]
    assert late.receives() == ["failed 3 UNAVAILABLE"]
    assert world.runs() == [1]
    assert early.receives() == ["done 1"]


def test_a_stream_of_another_protocol_ends_when_it_has_been_answered() -> None:
    world = world_with()
    client = world.client(unary=True, ordered=True, window=4)
    client.infer(1)
    client.infer(2)
    world.core.drain(world.now)
    assert world.runs() == [1, 2]
    assert not client.stream.ended
    assert client.receives() == ["done 1", "done 2"]
    assert client.stream.ended


class TestAnotherProtocol:
    """Its streams have no Draining, and so end without a word when they have nothing in flight."""

    def test_an_idle_stream_of_another_protocol_ends_at_once(self) -> None:
        world = world_with()
        client = world.client(unary=True, window=4)
        world.core.drain(world.now)
        assert client.stream.ended
        assert not client.stream.half_closed
        assert client.stream in world.settled().changed
        assert not world.core.streams

    def test_a_stream_of_another_protocol_ends_when_what_was_read_is_answered(self) -> None:
        world = world_with()
        client = world.client(unary=True, window=4)
        client.infer(1)
        world.core.drain(world.now)
        client.infer(2)
        assert client.receives() == ["failed 2 UNAVAILABLE"]
        assert not client.stream.ended
        assert world.runs() == [1]
        assert client.receives() == ["done 1"]
        assert client.stream.ended

    def test_a_stream_of_another_protocol_that_is_opened_while_draining_has_ended(self) -> None:
        world = world_with()
        world.core.drain(world.now)
        assert world.client(unary=True, window=4).stream.ended

    def test_after_the_grace_period_what_is_left_of_another_protocol_fails(self) -> None:
        world = world_with(grace=1)
        client = world.client(unary=True, window=4)
        client.infer(1)
        world.starts()
        world.core.drain(world.now)
        world.after(1)
        assert client.receives() == ["failed 1 UNAVAILABLE"]
        assert client.stream.ended


def test_a_grace_period_may_be_infinite() -> None:
    world = Scenario(limits=Limits(grace=math.inf, keep_seconds=math.inf))
    client = world.client()
    client.infer(1, keep=["y"])
    world.runs()
    world.core.drain(world.now)
    assert client.receives() == ["done 1", "draining"]
    world.after(1e9)
    assert not client.stream.ended
    client.release(1)
    assert client.stream.ended
