"""Unary calls of inference that have arrived, and of which few are read at a time.

Where models run in place, the event loop is the limit, and what it cannot do yet waits in front of it. Left to gRPC,
calls would wait where nobody sees for how long: each would be read in its turn, when its deadline is about to pass, and
most answers would come too late. So every call is accepted at once, which takes little, and waits here. Whoever would
wait longer than its deadline allows, or than any model lets a request wait, is refused when it arrives, and nobody is
read too late.

Clients take turns, as they do where tickets wait for a model, so that whoever makes most calls does not get all of the
time. How long a call would wait follows from how many have their turns before it, and from the pace at which calls are
read while others wait.

Nobody waits for a message that has not come: once the loop has handled all that has, more calls are read, however many
are open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from time import monotonic, time
from typing import Any

from headrace.server.core.queue_bounds import MIN_RETRY_SECONDS
from headrace.server.core.turns import Turns
from headrace.server.services.call import Answering
from headrace.server.transport.completion_queue.cython_layer import Event
from headrace.server.transport.entrance import Door
from headrace.server.transport.options import TOO_MANY_CALLS
from headrace.wire.errors import DeadlineExceeded, HeadraceError, ResourceExhausted

AT_ONCE = 16
"""Calls whose message is being read. One that is read a moment before its deadline has these before it."""
BOUND_SECONDS = 0.1
"""For how long it is taken for true how long a request may wait: models come and go."""
MARGIN = 1.25
"""By how much the time before a deadline has to exceed the wait: one that is as long as expected would be too long for
every second call."""
TURN_REFUSALS = 32
"""Calls that are refused in a row before something else has its turn."""
MEMORY = 255 / 256
"""What is left of each call's part in the pace when the next one has been handled."""
MIN_CALLS = 64
"""Calls without which the pace is not known: a process that is stopped for a moment must not refuse everybody."""

_NOWHERE: dict[Any, None] = {}
"""A call that waits is never passed over: its client has nothing to read yet."""


class Waiting:
    """A call that waits. For `Turns` it is a ticket, the only one of its stream, so that calls stay in order."""

    __slots__ = ("arrival", "door", "owner", "passed_over", "ready", "rpc")
    priority = 0
    rows = 0
    backpressured = False

    def __init__(self, arrival: Event, rpc: Answering, door: Door, owner: Hashable, now: float) -> None:
        self.arrival = arrival
        self.rpc = rpc
        self.door = door
        self.owner = owner
        self.ready = now
        self.passed_over = _NOWHERE

    @property
    def stream(self) -> Waiting:
        return self

    @property
    def oldest_infer(self) -> Waiting:
        return self


class Pace:
    """How fast calls are handled while others wait: the seconds between the ends of two of them."""

    __slots__ = ("_calls", "_last", "_total")

    def __init__(self) -> None:
        self._total = self._calls = 0.0
        self._last = -1.0
        """When a call was handled while others waited; negative if nobody has waited since."""

    @property
    def seconds(self) -> float:
        """For a call; 0 while it is not known."""
        return self._total / self._calls if self._calls >= MIN_CALLS else 0.0

    def handled(self, now: float) -> None:
        """A call was handled while others wait."""
        if self._last >= 0.0:
            self._total = self._total * MEMORY + (now - self._last)
            self._calls = self._calls * MEMORY + 1.0
        self._last = now

    def interrupted(self) -> None:
        """Nobody waits any more."""
        self._last = -1.0

    def __repr__(self) -> str:
        return f"<Pace {self.seconds * 1e3:.3f} ms a call>"


class Backlog:
    """`begin` begins to read a call, and `refuse` ends it with an error. At most `most` wait.

    `client_of` says whose call it is, and raises what it ends with if that client may not make it.

    `longest_wait` says how many seconds a request may wait, whatever its model; 0 for any time. While calls wait,
    `when_empty` has a function to be called whenever all that has come is handled.
    """

    def __init__(
        self,
        begin: Callable[[Event, Answering, Door], None],
        refuse: Callable[[Event, HeadraceError], None],
        client_of: Callable[[Event, Door], Hashable],
        most: int,
        longest_wait: Callable[[], float],
        when_empty: set[Callable[[], None]],
    ) -> None:
        self._begin = begin
        self._refuse = refuse
        self._client_of = client_of
        self._most = most
        self._longest_wait = longest_wait
        self._bound, self._bound_until = 0.0, -1.0
        """What `longest_wait` has said, and until when that counts."""
        self._when_empty, self._on_empty = when_empty, self._all_handled
        self._loop = asyncio.get_running_loop()
        self._reading: set[object] = set()
        """Calls whose message may have come."""
        self._waiting: Turns[Waiting] = Turns()
        self._pace = Pace()
        self._begins = self._goes_on = False

    def arrived(self, arrival: Event, rpc: Answering, door: Door) -> None:
        """A call has arrived: it is read at once, waits, or is refused."""
        if self._waiting.queued or len(self._reading) >= AT_ONCE:
            self._wait(arrival, rpc, door)
        else:
            self._begin(arrival, rpc, door)

    def reads(self, call: object) -> None:
        """The message of a call is being read, until it is `handled`."""
        self._reading.add(call)

    def handled(self, call: object) -> None:
        """The message of a call was handled, or will not be. Harmless when repeated."""
        self._reading.discard(call)
        if self._waiting.queued and not self._begins:
            self._pace.handled(monotonic())
            self._begin_some()

    def close(self) -> None:
        """Nobody waits any more: all are read, which a server that stops refuses."""
        self._begins = True
        while self._waiting.queued:
            (each,) = self._waiting.take(1, 0.0)
            self._begin(each.arrival, each.rpc, each.door)
        self._when_empty.discard(self._on_empty)

    def _wait(self, arrival: Event, rpc: Answering, door: Door) -> None:
        now = monotonic()
        if now >= self._bound_until:
            self._bound, self._bound_until = self._longest_wait(), now + BOUND_SECONDS
        try:
            client = self._client_of(arrival, door)
        except HeadraceError as error:
            self._refuse(arrival, error)
            return
        too_long = self._too_long(arrival, client)
        if too_long is None:
            self._waiting.push(Waiting(arrival, rpc, door, client, now))
            self._when_empty.add(self._on_empty)
        else:
            self._overload(arrival, rpc, too_long)

    def _too_long(self, arrival: Event, client: Hashable) -> HeadraceError | None:
        """Why a call may not wait."""
        wait = (self._waiting.ahead(0, client) + len(self._reading)) * self._pace.seconds
        if wait > self._bound > 0.0:
            return _refused(f"a call would wait {wait:.3f} s to be read, and the limit is {self._bound:g} s", wait)
        left = arrival.call_details.deadline - time()
        if wait * MARGIN > left:
            return _refused(f"a call would wait {wait:.3f} s to be read, and its deadline is in {left:.3f} s", wait)
        if self._waiting.queued >= self._most and not self._has_made_room(client):
            return ResourceExhausted(TOO_MANY_CALLS)
        return None

    def _has_made_room(self, client: Hashable) -> bool:
        """Refuse a call of a client that has at least twice as many, if there is one."""
        other = self._waiting.least_entitled(0, client)
        if other is None:
            return False
        self._waiting.remove(other)
        self._overload(other.arrival, other.rpc, ResourceExhausted(TOO_MANY_CALLS))
        return True

    def _overload(self, arrival: Event, rpc: Answering, error: HeadraceError) -> None:
        rpc.gate.overloaded += 1
        self._refuse(arrival, error)

    def _begin_some(self) -> None:
        """Read calls that wait, as many as may be read at once."""
        now, refusals = monotonic(), 0
        self._begins = True
        try:
            while self._waiting.queued and len(self._reading) < AT_ONCE and refusals < TURN_REFUSALS:
                (each,) = self._waiting.take(1, now)
                error = self._too_late(each, now)
                if error is None:
                    self._begin(each.arrival, each.rpc, each.door)
                else:
                    refusals += 1
                    self._overload(each.arrival, each.rpc, error)
        finally:
            self._begins = False
        if refusals >= TURN_REFUSALS and not self._goes_on:
            self._goes_on = True
            self._loop.call_soon(self._go_on)
        if not self._waiting.queued:
            self._pace.interrupted()
            self._when_empty.discard(self._on_empty)

    def _go_on(self) -> None:
        self._goes_on = False
        self._begin_some()

    def _too_late(self, each: Waiting, now: float) -> HeadraceError | None:
        """Why a call that has waited is not read any more."""
        waited = now - each.ready
        if waited > self._bound > 0.0:
            return _refused(f"a call has waited {waited:.3f} s to be read, and the limit is {self._bound:g} s", waited)
        left = each.arrival.call_details.deadline - time()
        if left < 2 * (len(self._reading) + 1) * self._pace.seconds:
            return DeadlineExceeded("the deadline of the call would be over before it was answered")
        return None

    def _all_handled(self) -> None:
        """The messages of those that are being read have not come, or they would have been handled."""
        self._reading.clear()
        self._begin_some()

    def __repr__(self) -> str:
        return f"<Backlog: {len(self._reading)} being read, {self._waiting.queued} wait, {self._pace}>"


def _refused(why: str, wait: float) -> ResourceExhausted:
    seconds = max(wait / 2, MIN_RETRY_SECONDS)
    return ResourceExhausted(f"{why}; try again in {seconds:.3f} s", retry_after=seconds)
