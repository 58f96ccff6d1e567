"""The selector that waits for the completion queue. What asyncio does on it is in tests/polling."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from headrace.server.transport.completion_queue.selector import MAX_EVENTS, CompletionQueueSelector
from headrace.server.transport.completion_queue.server import CompletionQueueTransport
from tests.server.transport.completion_queue.loops import transport_and_loop

IN_TIME = 5.0
"""Seconds in which everything here is done, however busy the machine is."""


@pytest.fixture
def transport() -> Iterator[CompletionQueueTransport]:
    with transport_and_loop() as (transport, _):
        yield transport


def test_a_wake_up_that_there_is_no_memory_for_is_not_the_last(
    transport: CompletionQueueTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpcio drops the event, and raises MemoryError."""
    selector, lost = transport.selector, list[object]()
    poll = selector.queue.poll

    def lossy(deadline: float) -> object:
        event = poll(deadline)
        if not lost and event.tag is not None:
            lost.append(event.tag)
            raise MemoryError
        return event

    monkeypatch.setattr(selector, "_poll", lossy)
    for _ in range(2):
        selector.wake()
        began = time.monotonic()
        assert selector.select(IN_TIME) == []
        assert time.monotonic() - began < IN_TIME
    assert lost


def test_no_poll_waits_so_long_that_a_clock_that_is_set_back_could_prolong_it(
    transport: CompletionQueueTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpcio compares a deadline with the time of day again after 0.2 s, and not before."""
    asked: list[float] = []
    selector = transport.selector
    poll = selector.queue.poll

    def recorded(deadline: float) -> object:
        asked.append(deadline - time.time())
        return poll(deadline)

    monkeypatch.setattr(selector, "_poll", recorded)
    began = time.monotonic()
    selector.select(0.5)
    assert time.monotonic() - began >= 0.498
    assert len(asked) >= 3
    assert max(asked) < 0.2


def test_a_flood_of_events_does_not_keep_the_loop_from_its_other_work(transport: CompletionQueueTransport) -> None:
    """Each turn handles so many, and asyncio then does what is due."""
    selector = transport.selector
    waker = selector._waker
    handled = 0

    def again(_event: object) -> None:
        nonlocal handled
        handled += 1
        waker._call.start_server_batch((), again)

    for _ in range(10):
        waker._call.start_server_batch((), again)
    assert selector.select(10.0) == []
    assert 0 < handled <= MAX_EVENTS


def test_a_callback_that_fails_is_logged_and_the_next_one_is_called(
    transport: CompletionQueueTransport, caplog: pytest.LogCaptureFixture
) -> None:
    call, called = transport.selector._waker._call, list[object]()

    def fail(_event: object) -> None:
        raise ValueError("of a callback")

    call.start_server_batch((), fail)
    call.start_server_batch((), called.append)
    while not called:
        transport.selector.select(1.0)
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("of a callback",)
    ]


def test_an_idle_loop_tells_its_watcher(transport: CompletionQueueTransport) -> None:
    class Watcher:
        heard = turns = 0

        def turn_begins(self) -> None:
            self.turns += 1

        def waits_for_clients(self) -> bool:
            return True

        def idle_after(self) -> float:
            return 0.01

        def idle(self) -> None:
            self.heard += 1

    selector: CompletionQueueSelector = transport.selector
    selector.watcher = watcher = Watcher()
    began = time.monotonic()
    assert selector.select(None) == []
    assert time.monotonic() - began < IN_TIME
    assert (watcher.heard, watcher.turns) == (1, 1)
    selector.wake()
    selector.select(None)
    assert (watcher.heard, watcher.turns) == (1, 2)
