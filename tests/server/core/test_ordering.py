"""The order in which ends come: as they complete, or, in an ordered stream, as they were submitted."""

from __future__ import annotations

from headrace.server.core.limits import Limits
from tests.server.core.scenario import Scenario


def test_ends_come_as_tickets_complete() -> None:
    world = Scenario(slots=3)
    client = world.client()
    for tag in (1, 2, 3):
        client.infer(tag)
    world.starts()
    for tag in (3, 1, 2):
        world.end(tag)
    assert client.receives() == ["done 3", "done 1", "done 2"]


def test_the_ends_of_an_ordered_stream_come_as_its_infers_were_submitted() -> None:
    world = Scenario(slots=3)
    client = world.client(ordered=True)
    for tag in (3, 1, 2):
        client.infer(tag)
    world.starts()
    world.end(2)
    world.end(1)
    assert client.receives() == []
    world.end(3)
    assert client.receives() == ["done 3", "done 1", "done 2"]


def test_failures_in_an_ordered_stream_wait_their_turn_too() -> None:
    world = Scenario(slots=1)
    client = world.client(ordered=True)
    client.infer(1, keep=["y"])
    client.infer(2, tensors=[])
    client.infer(3, timeout=1)
    client.infer(4, x="1.z")
    client.infer(5)
    client.cancel(5)
    assert world.starts() == [1]
    world.after(1)
    assert client.receives() == []
    assert client.stream.in_flight == 5
    world.end(1)
    assert client.receives() == [
        "done 1",
        "failed 2 INVALID_ARGUMENT",
        "failed 3 DEADLINE_EXCEEDED",
        "failed 4 FAILED_PRECONDITION",
        "failed 5 CANCELLED",
    ]


def test_fetched_refusals_and_failures_without_a_ticket_never_wait_their_turn() -> None:
    world = Scenario(limits=Limits(window=3))
    client = world.client(ordered=True)
    client.infer(1, keep=["y"])
    world.runs()
    client.receives()
    client.infer(2)
    client.infer(3, tensors=[])
    client.fetch(4, "1.y")
    client.infer(5)
    client.infer(0)
    client.fetch(3, "1.y")
    assert client.receives() == [
        "fetched 4",
        "failed 5 RESOURCE_EXHAUSTED",
        "failed 0 INVALID_ARGUMENT",
        "failed 0 INVALID_ARGUMENT",
    ]
    client.fetch(6, "9.y")
    assert client.receives() == ["failed 6 NOT_FOUND"]
    world.runs()
    assert client.receives() == ["done 2", "failed 3 INVALID_ARGUMENT"]


def test_a_source_that_waits_for_its_turn_is_done() -> None:
    world = Scenario(slots=2)
    client = world.client(ordered=True)
    client.infer(1)
    client.infer(2, keep=["y"])
    assert world.starts() == [1, 2]
    world.end(2)
    client.infer(3, x="2.y")
    client.fetch(4, "2.y")
    assert world.starts() == [3]
    assert client.receives() == ["fetched 4"]


def test_a_ticket_that_waits_for_its_turn_is_in_flight_and_has_ended() -> None:
    world = Scenario(slots=2, limits=Limits(window=2))
    client = world.client(ordered=True)
    client.infer(1)
    client.infer(2)
    assert world.starts() == [1, 2]
    world.end(2)
    client.cancel(2)
    client.infer(3)
    assert client.receives() == ["failed 3 RESOURCE_EXHAUSTED"]
    world.end(1)
    assert client.receives() == ["done 1", "done 2"]


def test_open_is_legal_only_as_the_first_command() -> None:
    world = Scenario()
    client = world.client(ordered=True)
    world.core.open(client.stream, False, 0)
    assert client.receives() == ["failed 0 INVALID_ARGUMENT"]
    assert "Open" in client.errors[0].message
    assert client.stream.ordered


def test_an_illegal_open_changes_nothing() -> None:
    world = Scenario()
    client = world.client()
    world.core.open(client.stream, True, 100)
    assert client.receives() == ["failed 0 INVALID_ARGUMENT"]
    assert "max_message_bytes is 100" in client.errors[0].message
    assert not client.stream.ordered
    assert client.stream.max_message_bytes == 4 << 20
    client.infer(1)
    world.runs()
    assert client.receives() == ["done 1"]
