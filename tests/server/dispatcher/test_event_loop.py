"""The event loop looks for messages a little longer before it sleeps."""

from __future__ import annotations

import math
import selectors
import socket
from collections.abc import Iterator

import pytest

from headrace.server.dispatcher.event_loop import PollingSelector
from tests.stopwatch import Stopwatch

Sockets = tuple[socket.socket, socket.socket]
Selected = list[tuple[selectors.SelectorKey, int]]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The timeouts with which the system was asked."""
    timeouts: list[float | None] = []
    select = selectors.DefaultSelector.select

    def recorded(self: selectors.DefaultSelector, timeout: float | None = None) -> Selected:
        timeouts.append(timeout)
        return select(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", recorded)
    return timeouts


def selecting(seconds: float, ours: socket.socket) -> PollingSelector:
    selector = PollingSelector(seconds)
    selector.register(ours, selectors.EVENT_READ)
    return selector


def test_a_ready_socket_is_found_at_once(sockets: Sockets, asked: list[float | None]) -> None:
    ours, theirs = sockets
    selector = selecting(10.0, ours)
    theirs.send(b"x")
    ((key, events),) = selector.select()
    assert (key.fileobj, events) == (ours, selectors.EVENT_READ)
    assert asked == [0]


def test_the_selector_polls_and_then_sleeps(sockets: Sockets, asked: list[float | None], stopwatch: Stopwatch) -> None:
    selector = selecting(0.1, sockets[0])
    stopwatch.start()
    assert selector.select(0.3) == []
    assert stopwatch.elapsed() >= 0.3
    assert stopwatch.ran() < 1
    *polls, sleep = asked
    assert len(polls) > 1
    assert set(polls) == {0}
    assert sleep is not None
    assert 0 < sleep <= 0.201


def test_the_selector_does_not_poll_longer_than_it_may_wait(sockets: Sockets, stopwatch: Stopwatch) -> None:
    selector = selecting(10.0, sockets[0])
    stopwatch.start()
    assert selector.select(0.01) == []
    assert stopwatch.ran() < 1


@pytest.mark.parametrize("seconds", [0.0, 10.0])
def test_the_selector_does_not_poll_when_told_not_to(
    sockets: Sockets, asked: list[float | None], seconds: float
) -> None:
    selector = selecting(seconds, sockets[0])
    if seconds:
        selector.watcher = Busy(polling=False)
    assert selector.select(0.01) == []
    assert asked == [0.01]


def test_every_second_look_is_skipped_while_the_loop_has_other_work(
    sockets: Sockets, asked: list[float | None]
) -> None:
    ours, theirs = sockets
    selector = selecting(10.0, ours)
    theirs.send(b"x")
    assert [len(selector.select(0)) for _ in range(5)] == [0, 1, 0, 1, 0]
    assert asked == [0, 0]


class Busy:
    """A `Watcher`. `heard`: how often it was quiet."""

    def __init__(self, idle_after: float = math.inf, *, polling: bool = True) -> None:
        self._idle_after = idle_after
        self._polling = polling
        self.heard = self.turns = 0

    def turn_begins(self) -> None:
        self.turns += 1

    def waits_for_clients(self) -> bool:
        return self._polling

    def idle_after(self) -> float:
        return self._idle_after

    def idle(self) -> None:
        self.heard += 1


@pytest.mark.parametrize("seconds", [0.0, 0.005, 10.0])
@pytest.mark.parametrize("timeout", [None, 10.0])
def test_the_watcher_is_told_that_the_loop_is_idle(
    sockets: Sockets, stopwatch: Stopwatch, seconds: float, timeout: float | None
) -> None:
    selector = selecting(seconds, sockets[0])
    selector.watcher = watcher = Busy(0.01)
    stopwatch.start()
    assert selector.select(timeout) == []
    assert stopwatch.elapsed() >= 0.01
    assert stopwatch.ran() < 1
    assert watcher.heard == 1


def test_the_loop_is_not_idle_when_a_message_comes_or_a_timer_is_due(sockets: Sockets) -> None:
    ours, theirs = sockets
    selector = selecting(10.0, ours)
    selector.watcher = watcher = Busy(0.01)
    assert selector.select(0.005) == []
    theirs.send(b"x")
    assert len(selector.select(10.0)) == 1
    selector.select(0)
    assert watcher.heard == 0


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_the_watcher_is_told_of_every_turn(sockets: Sockets, timeout: float) -> None:
    selector = selecting(0.0, sockets[0])
    selector.watcher = watcher = Busy()
    for turns in (1, 2, 3):
        selector.select(timeout)
        assert watcher.turns == turns
