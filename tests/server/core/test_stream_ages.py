"""Streams that are asked to move when they are old: when, which, and what becomes of their tickets. In virtual time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.server.core.limits import Limits
from headrace.server.core.stream_ends import AGAIN_SECONDS, GOLDEN, JITTER
from headrace.wire.errors import Unavailable
from tests.server.core.scenario import Client, Scenario

SECONDS = 100.0
FIRST = SECONDS * (1 - JITTER * GOLDEN)
"""The age of the first stream of a server."""


def world_with(grace: float = 30.0, seconds: float = SECONDS, keep_seconds: float = 1e6) -> Scenario:
    return Scenario(slots=2, limits=Limits(grace=grace, stream_seconds=seconds, keep_seconds=keep_seconds))


def asked(world: Scenario, client: Client) -> Client:
    """A client whose stream has just been asked to move."""
    assert world.after(FIRST) == []
    assert client.receives() == ["draining"]
    return client


@settings(max_examples=40)
@given(st.integers(1, 100), st.floats(1e-3, 1e7), st.integers(0, 10**6))
def test_streams_of_one_moment_are_asked_at_moments_spread_over_half_of_their_age(
    count: int, seconds: float, before: int
) -> None:
    """Any part of that half has its share of them, whatever the server has opened before."""
    world = world_with(seconds=seconds)
    world.core._stream_ends._opened = before
    began = world.now = 0.0
    clients = [world.client() for _ in range(count)]
    ages: list[float] = []
    while (due := world.settled().wake_at) < began + 2 * seconds and len(ages) < count:
        world.now = due
        world.settled()
        ages += [due - began for client in clients if client.receives() == ["draining"]]
    assert len(ages) == count
    assert all(seconds * (1 - JITTER) * (1 - 1e-9) <= age <= seconds * (1 + 1e-9) for age in ages)
    for part in range(10):
        low = seconds * (1 - JITTER) + seconds * JITTER * part / 10
        inside = sum(low <= age < low + seconds * JITTER / 10 for age in ages)
        assert abs(inside - count / 10) <= 3  # random moments would be off by the root of their number


def test_by_default_streams_do_not_age() -> None:
    world = Scenario()
    world.client()
    assert world.settled().wake_at == math.inf


def test_a_client_that_follows_loses_nothing() -> None:
    world = world_with()
    client = world.client()
    client.infer(1)
    assert world.starts() == [1]
    asked(world, client)
    client.infer(2)  # it was on its way
    client.half_close()
    assert world.runs() == [2]
    world.end(1)
    assert client.receives() == ["done 2", "done 1"]
    assert client.stream.ended
    assert world.settled().wake_at == math.inf


def test_a_client_that_does_not_follow_is_served_until_the_grace_period_is_over() -> None:
    world = world_with(grace=30)
    client = world.client()
    asked(world, client)
    assert world.after(29) == []
    assert not client.stream.ended
    client.infer(1)
    assert world.starts() == [1]
    assert world.after(1) == []
    client.infer(2)
    assert client.receives() == ["failed 2 UNAVAILABLE"]
    assert client.errors[2].retryable
    assert isinstance(client.errors[2], Unavailable)
    assert "open another" in client.errors[2].message
    assert world.after(1000) == []
    assert not client.stream.ended  # what is in flight goes on
    world.end(1)
    assert client.receives() == ["done 1"]
    assert client.stream.ended
    assert world.core.counts.rejected["draining"] == 1
    assert world.core.counts.asked_to_move == 1


def test_an_idle_stream_ends_after_the_grace_period() -> None:
    world = world_with(grace=30)
    client = asked(world, world.client())
    world.after(30)
    assert client.stream.ended
    assert not world.core.streams
    assert world.settled().wake_at == math.inf


def test_with_an_infinite_grace_period_a_stream_is_only_asked() -> None:
    world = world_with(grace=math.inf)
    client = asked(world, world.client())
    assert world.settled().wake_at == math.inf
    client.infer(1)
    assert world.runs() == [1]


@pytest.mark.parametrize("in_flight", [True, False])
def test_a_stream_that_keeps_what_cannot_be_made_again_is_left_alone(in_flight: bool) -> None:
    world = world_with()
    client = world.client()
    client.infer(1, keep=["y"])
    assert world.starts() == [1]
    if not in_flight:
        world.end(1)
        client.receives()
    for _ in range(30):
        assert world.after(SECONDS / 10) == []
        assert client.receives() == []
    if in_flight:
        world.end(1)
    client.release(1)
    client.receives()
    world.after(SECONDS / 10)
    assert client.receives() == ["draining"]


def test_a_stream_that_can_make_again_what_it_keeps_is_asked() -> None:
    world = world_with()
    client = world.client()
    world.core.open(client.stream, ordered=False, max_message_bytes=0, can_move=True)
    client.infer(1, keep=["y"])
    world.runs()
    client.receives()
    asked(world, client)
    client.vanish()
    assert world.core.accounts.keep.used == 0
    assert world.settled().wake_at == math.inf


def test_outputs_that_are_kept_after_the_question_still_count() -> None:
    """Its client does not know of moving: it would lose its state with the first Infer that is refused."""
    world = world_with(grace=30)
    client = asked(world, world.client())
    client.infer(1, keep=["y"])
    world.runs()
    client.receives()
    world.after(30)
    client.infer(2, x="take 1.y", keep=["y"])
    assert world.runs() == [2]
    assert client.receives() == ["done 2"]
    client.release(2)
    world.after(max(SECONDS / 10, AGAIN_SECONDS))
    assert client.stream.ended


@pytest.mark.parametrize("window", [0, 16])
def test_streams_of_other_protocols_do_not_age(window: int) -> None:
    """Nothing in them can say so."""
    world = world_with()
    client = world.client(unary=True, window=window)
    assert world.settled().wake_at == math.inf
    world.core.drain_stream(client.stream, world.now)
    assert client.receives() == []
    world.after(10 * SECONDS)
    assert not client.stream.ended


def test_one_stream_is_asked_and_the_others_are_not() -> None:
    world = world_with(seconds=0)
    one, other = world.client(), world.client()
    world.core.drain_stream(one.stream, world.now)
    world.core.drain_stream(one.stream, world.now)
    assert (one.receives(), other.receives()) == (["draining"], [])
    world.after(30)
    assert (one.stream.ended, other.stream.ended) == (True, False)


def test_a_server_that_stops_says_so_to_a_stream_that_was_asked_to_move() -> None:
    world = world_with()
    client = asked(world, world.client())
    client.infer(1)
    world.core.drain(world.now)
    client.infer(2)
    assert world.runs() == [1]
    assert client.receives() == ["draining", "failed 2 UNAVAILABLE", "done 1"]
    assert "the server is stopping" in client.errors[2].message
    assert client.stream.ended


def run_all(world: Scenario) -> None:
    for tag in tuple(world.running):
        if tag in world.running:
            world.end(tag)
    world.runs()


MOVES = st.lists(
    st.tuples(st.sampled_from(["infer", "chain", "run", "wait", "half-close", "open", "follow"]), st.integers(0, 3)),
    max_size=60,
)


@given(MOVES, st.sampled_from([0.0, 5.0, math.inf]), st.booleans())
def test_every_ticket_ends_once_whatever_is_asked_meanwhile(
    moves: list[tuple[str, int]], grace: float, can_move: bool
) -> None:
    """And none fails but those that are sent after the grace period."""
    world = world_with(grace, seconds=10.0)
    ends: dict[int, list[str]] = {}
    clients: list[Client] = []
    last: dict[Client, int] = {}

    def read() -> None:
        for client in clients:
            for line in client.receives():
                what, _, rest = line.partition(" ")
                if rest:
                    ends[int(rest.split()[0])].append(what)

    for move, number in moves:
        client = clients[number % len(clients)] if clients else None
        match move:
            case "open":
                clients.append(world.client())
                world.core.open(clients[-1].stream, ordered=False, max_message_bytes=0, can_move=can_move)
            case "infer" | "chain" if client is not None and not client.stream.half_closed and not client.stream.ended:
                tag = len(ends) + 1
                ends[tag] = []
                source = last.get(client)
                chained = move == "chain" and source in client.live
                if chained:
                    client.infer(tag, keep=["y"], x=f"take {source}.y")
                else:
                    client.infer(tag, keep=["y"])
                last[client] = tag
            case "run":
                run_all(world)
            case "wait":
                world.after(float(number))
            case "half-close" | "follow" if client is not None:
                if move == "half-close" or client.stream.asked_to_move:
                    client.half_close()
        read()
    run_all(world)
    read()
    assert all(len(each) == 1 for each in ends.values())
    failed = [error for client in clients for error in client.errors.values()]
    assert all(isinstance(error, Unavailable) and "asked to move" in error.message for error in failed)
    if grace == math.inf:
        assert not failed
