"""Unary calls that wait to be read: in order, a few at a time, and none that would come too late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.server.services.call import Answering
from headrace.server.services.gate import Gate
from headrace.server.transport.completion_queue import backlog as module
from headrace.server.transport.completion_queue.backlog import AT_ONCE, MIN_CALLS, Backlog
from headrace.server.transport.entrance import Door
from headrace.wire.errors import DeadlineExceeded, HeadraceError, ResourceExhausted, Unauthenticated

DOOR = Door(None, {})
STRANGER = "stranger"


@dataclass
class Clock:
    now: float = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """That by which waits are measured, and deadlines."""
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    monkeypatch.setattr(module, "time", lambda: clock.now)
    return clock


@dataclass
class Calls:
    """Calls of a backlog by their numbers, which `begun` and `refused` have."""

    clock: Clock
    most: int = 10_000
    longest_wait: float = 0.0
    begun: list[int] = field(default_factory=list)
    refused: dict[int, HeadraceError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rpc = Answering(lambda message, call: None, Gate(1, "full"))
        self.when_empty: set[Callable[[], None]] = set()
        self.backlog = Backlog(
            self._begin, self._refuse, self._client_of, self.most, lambda: self.longest_wait, self.when_empty
        )

    def arrive(self, number: int, timeout: float = 1e9, client: str = "a") -> None:
        details = SimpleNamespace(deadline=self.clock.now + timeout)
        arrival: Any = SimpleNamespace(number=number, call_details=details, client=client)
        self.backlog.arrived(arrival, self.rpc, DOOR)

    def fill(self) -> None:
        """Have as many calls read as may be: those below 0."""
        for number in range(-AT_ONCE, 0):
            self.arrive(number)
        assert len(self.begun) == AT_ONCE

    def keep_pace(self, seconds: float) -> None:
        """Handle calls at this pace, so that it is known, until nobody waits."""
        self.fill()
        for number in range(1000, 1000 + 2 * MIN_CALLS):
            self.arrive(number)
        for _ in range(2 * MIN_CALLS):
            self.clock.now += seconds
            self.backlog.handled(self.begun[-AT_ONCE])
        assert self.begun[-1] == 999 + 2 * MIN_CALLS

    def _begin(self, arrival: Any, _rpc: object, _door: object) -> None:
        self.begun.append(arrival.number)
        self.backlog.reads(arrival.number)

    def _client_of(self, arrival: Any, _door: object) -> Hashable:
        if arrival.client == STRANGER:
            raise Unauthenticated("who is that?")
        client: str = arrival.client
        return client

    def _refuse(self, arrival: Any, error: HeadraceError) -> None:
        self.refused[arrival.number] = error


async def test_calls_beyond_those_that_are_read_wait_and_come_in_order(clock: Clock) -> None:
    calls = Calls(clock)
    calls.fill()
    for number in range(40):
        calls.arrive(number)
    assert calls.begun == list(range(-AT_ONCE, 0))
    for number in range(-AT_ONCE, 0):
        calls.backlog.handled(number)
        calls.backlog.handled(number)  # once more does no harm
    assert calls.begun[AT_ONCE:] == list(range(AT_ONCE))
    for number in range(40):
        calls.backlog.handled(number)
    assert calls.begun[AT_ONCE:] == list(range(40))
    calls.arrive(99)
    assert calls.begun[-1] == 99, "nobody waits any more"
    assert not calls.refused


async def test_a_call_that_would_wait_beyond_its_deadline_is_refused_when_it_arrives(clock: Clock) -> None:
    calls = Calls(clock)
    calls.keep_pace(0.005)
    for number in range(40):
        calls.arrive(number)
    calls.arrive(50, timeout=0.1)
    calls.arrive(51, timeout=60.0)
    assert list(calls.refused) == [50]
    error = calls.refused[50]
    assert isinstance(error, ResourceExhausted)
    assert error.retryable
    assert "and its deadline is in 0.1" in error.message
    assert error.retry_after
    assert f"try again in {error.retry_after:.3f} s" in error.message
    assert calls.rpc.gate.overloaded == 1
    for number in (*calls.begun[-AT_ONCE:], *range(40)):
        calls.backlog.handled(number)
    assert calls.begun[-1] == 51


async def test_a_call_that_would_wait_for_longer_than_any_model_allows_is_refused(clock: Clock) -> None:
    calls = Calls(clock, longest_wait=0.2)
    calls.keep_pace(0.001)
    for number in range(300):
        calls.arrive(number)
    admitted = 300 - len(calls.refused)
    assert abs(admitted - (200 - AT_ONCE)) <= 1
    assert sorted(calls.refused) == list(range(admitted, 300)), "the later ones"
    assert "the limit is 0.2 s" in calls.refused[299].message


async def test_a_call_whose_time_is_over_is_not_read_any_more(clock: Clock) -> None:
    calls = Calls(clock)
    calls.fill()
    calls.arrive(0, timeout=0.01)
    calls.arrive(1)
    clock.now += 0.02
    calls.backlog.handled(-1)
    assert calls.begun[AT_ONCE:] == [1]
    assert isinstance(calls.refused[0], DeadlineExceeded)


async def test_a_call_that_has_waited_too_long_is_not_read_any_more(clock: Clock) -> None:
    calls = Calls(clock, longest_wait=0.01)
    calls.fill()
    calls.arrive(0)
    clock.now += 0.02
    calls.backlog.handled(-1)
    assert calls.begun[AT_ONCE:] == []
    assert "has waited" in calls.refused[0].message


async def test_a_pause_of_the_process_refuses_nobody(clock: Clock) -> None:
    calls = Calls(clock)
    calls.fill()
    for number in range(MIN_CALLS):
        calls.arrive(number, timeout=60.0)
    calls.backlog.handled(-1)
    clock.now += 0.5
    for number in range(-AT_ONCE, 0):
        calls.backlog.handled(number)
    for number in range(100, 200):  # at the pace of so far, they would wait for a minute or more
        calls.arrive(number, timeout=30.0)
    assert not calls.refused


async def test_messages_that_do_not_come_keep_nobody_waiting(clock: Clock) -> None:
    calls = Calls(clock)
    calls.fill()
    assert not calls.when_empty, "nobody waits"
    for number in range(3 * AT_ONCE):
        calls.arrive(number)
    for times in range(1, 4):
        (all_is_handled,) = calls.when_empty
        all_is_handled()
        assert calls.begun[AT_ONCE:] == list(range(times * AT_ONCE))
    assert not calls.when_empty
    calls.arrive(99)
    calls.backlog.handled(-1)  # a message that comes late makes no room, and does no harm
    assert calls.begun[-1] == 3 * AT_ONCE - 1
    calls.backlog.handled(3 * AT_ONCE - 1)
    assert calls.begun[-1] == 99


async def test_how_long_a_request_may_wait_is_asked_again(clock: Clock) -> None:
    calls = Calls(clock, longest_wait=0.2)
    calls.keep_pace(0.001)
    for number in range(300):
        calls.arrive(number)
    assert calls.refused
    calls.longest_wait, calls.refused = 0.0, {}
    clock.now += module.BOUND_SECONDS
    calls.arrive(300)
    assert not calls.refused


async def test_no_more_calls_wait_than_may(clock: Clock) -> None:
    calls = Calls(clock, most=3)
    calls.fill()
    for number in range(5):
        calls.arrive(number)
    assert sorted(calls.refused) == [3, 4]
    assert isinstance(calls.refused[3], ResourceExhausted)


async def test_clients_take_turns(clock: Clock) -> None:
    calls = Calls(clock)
    calls.fill()
    for number in range(100):
        calls.arrive(number)
    calls.arrive(200, client="b")
    calls.arrive(201, client="b")
    calls.arrive(300, client="c")
    for number in range(-AT_ONCE, -AT_ONCE + 7):
        calls.backlog.handled(number)
    assert calls.begun[AT_ONCE:] == [0, 200, 300, 1, 201, 2, 3]


async def test_a_client_waits_only_as_long_as_its_turns_take(clock: Clock) -> None:
    calls = Calls(clock)
    calls.keep_pace(0.005)
    for number in range(1000):
        calls.arrive(number)
    calls.arrive(2000, timeout=0.2)
    calls.arrive(3000, timeout=0.2, client="b")
    assert list(calls.refused) == [2000], "the other one has a turn after one more"


async def test_a_client_with_few_calls_is_not_kept_out_by_one_with_many(clock: Clock) -> None:
    calls = Calls(clock, most=6)
    calls.fill()
    for number in range(7):
        calls.arrive(number)
    assert [*calls.refused] == [6]
    for number in (10, 11, 12, 13):
        calls.arrive(number, client="b")
    assert [*calls.refused] == [6, 5, 4, 12, 13], "the newest of the other, until it has less than twice as many"
    assert calls.rpc.gate.overloaded == 5


async def test_whoever_may_not_call_does_not_wait(clock: Clock) -> None:
    calls = Calls(clock, most=1)
    calls.fill()
    calls.arrive(0, client=STRANGER)
    calls.arrive(1)
    assert {number: type(error) for number, error in calls.refused.items()} == {0: Unauthenticated}
    assert calls.rpc.gate.overloaded == 0


async def test_many_calls_that_are_too_late_are_refused_in_several_turns(clock: Clock) -> None:
    calls = Calls(clock)
    calls.fill()
    for number in range(200):
        calls.arrive(number, timeout=0.01)
    calls.arrive(200)
    clock.now += 0.02
    calls.backlog.handled(-1)
    assert len(calls.refused) == module.TURN_REFUSALS
    for _ in range(200):
        await asyncio.sleep(0)  # a turn of the loop
    assert len(calls.refused) == 200
    assert calls.begun[-1] == 200


async def test_at_the_end_nobody_waits(clock: Clock) -> None:
    calls = Calls(clock)
    calls.fill()
    for number in range(40):
        calls.arrive(number)
    calls.backlog.close()
    assert calls.begun[AT_ONCE:] == list(range(40))
    assert f"{AT_ONCE + 40} being read, 0 wait" in repr(calls.backlog)
