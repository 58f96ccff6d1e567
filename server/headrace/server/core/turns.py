"""Whose turn it is among the tickets that wait for one model.

A turn goes to the highest priority; there to one *owner* of streams (a connection) after the other; there to one stream
after the other; and there to the ticket that came first. So a client gains nothing by opening many streams. An owner or
a stream that joins comes behind all that are there; after its turn it goes behind them again.

Waiting raises a priority: it counts one higher for each AGING_SECONDS that its next ticket has waited and its next
owner has had no turn, up to the highest priority that could start now. Equal ones alternate. So no ticket waits for
ever, however many of a higher priority arrive.

A stream that may not start its tickets because its client does not read is *parked* when its turn comes. It keeps its
place, and has its turn as soon as it may start again.

Each step costs the same however many streams there are: no step looks at more than one of them, and heaps find the next
one. Parked streams are not in the heaps. The entries of those that have gone stay until they come up, or until they are
most of a heap.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Generic

from headrace.server.core.lines import Level, Line, Lines, QueuedStream, T

AGING_SECONDS = 1.0


class Turns(Generic[T]):
    """Tickets of type `T` in the order of their turns."""

    def __init__(self) -> None:
        self.queued = 0
        self._parked = 0
        """Tickets in lines that are parked."""
        self._only: T | None = None
        """The only ticket, if it came while there was no other: the common case takes no part in the order."""
        self._levels: dict[int, Level[T]] = {}
        """By priority. Levels, owners and streams without a ticket are left out."""
        self._turn = 0
        """The last number that was given."""

    def push(self, ticket: T) -> None:
        """Queue a ticket at its priority."""
        self.queued += 1
        if self.queued == 1:
            self._only = ticket
            return
        if self._only is not None:
            self._insert(self._only)
            self._only = None
        self._insert(ticket)

    def _insert(self, ticket: T) -> None:
        stream = ticket.stream
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = Level()
            self._turn += 1
            level.turn, level.order = self._turn, []
        lines = level.get(stream.owner)
        if lines is None:
            lines = level[stream.owner] = Lines()
            self._turn += 1
            lines.turn, lines.since, lines.order = self._turn, ticket.ready, []
            heappush(level.order, (lines.turn, lines))
        line = lines.get(stream)
        if line is None:
            line = lines[stream] = Line()
            self._turn += 1
            line.turn = self._turn
            heappush(lines.order, (line.turn, line))
            if lines.parked:
                _unpark_owner(level, lines)
        elif line.parked and stream.oldest_infer is ticket:
            self._unpark(level, lines, line)
        line[ticket] = None
        self._count(level, lines, line, 1)

    def remove(self, ticket: T) -> None:
        """Take out a queued ticket, at the priority it was pushed with. Its stream keeps its place."""
        self.queued -= 1
        if ticket is self._only:
            self._only = None
            return
        level = self._levels[ticket.priority]
        stream = ticket.stream
        lines = level[stream.owner]
        line = lines[stream]
        del line[ticket]
        self._count(level, lines, line, -1)
        if line:
            return
        del lines[stream]
        if lines:
            _bound(lines.order, len(lines))
            return
        del level[stream.owner]
        if level:
            _bound(level.order, len(level))
        else:
            del self._levels[ticket.priority]

    def put_back(self, tickets: Sequence[T]) -> None:
        """Queue tickets again that were taken together, each before all others of its stream."""
        for ticket in tickets:
            self.push(ticket)
        if self._only is not None:
            return
        for ticket in reversed(tickets):
            self._levels[ticket.priority][ticket.stream.owner][ticket.stream].move_to_end(ticket, last=False)

    def resume(self, stream: QueuedStream) -> None:
        """More tickets of a stream may start than when it was parked."""
        for level in self._levels.values():
            lines = level.get(stream.owner)
            line = None if lines is None else lines.get(stream)
            if lines is not None and line is not None and line.parked:
                self._unpark(level, lines, line)

    def take(self, max_rows: int, now: float) -> Sequence[T]:
        """Take out the ticket whose turn it is, and those that share its run; none when no ticket may start.

        A run is shared by the tickets whose turns come next at the same priority, one after the other, while they may
        share one and their rows fit: batches never change the order.
        """
        only = self._only
        if only is not None:
            self._only = None
            if not only.stream.backpressured:
                self.queued = 0
                return (only,)
            self._insert(only)
        if len(self._levels) == 1:
            (level,) = self._levels.values()
        else:
            level = self._levels[self._highest(now)]
        ticket = self._next(level)
        taken: list[T] = []
        rows = 0
        while ticket is not None:
            rows += ticket.rows
            if taken and (rows > max_rows or not ticket.rows):
                break
            taken.append(ticket)
            # Its priority, owner and stream have had their turns. The owner and the stream are the first in the heaps.
            self._turn = turn = self._turn + 1
            level.turn = turn
            lines = level.order[0][1]
            line = lines.order[0][1]
            del line[ticket]
            lines.waiting -= 1
            if line:
                line.turn = turn
                heapreplace(lines.order, (turn, line))
            else:
                heappop(lines.order)
                del lines[ticket.stream]
            if lines:
                lines.turn, lines.since = turn, now
                heapreplace(level.order, (turn, lines))
            else:
                heappop(level.order)
                del level[ticket.stream.owner]
            if rows >= max_rows or not ticket.rows:
                break
            ticket = self._next(level)
        self.queued -= len(taken)
        level.waiting -= len(taken)
        if taken and not level:
            del self._levels[taken[0].priority]
        return taken

    def _next(self, level: Level[T]) -> T | None:
        """The ticket at one priority whose turn it is: the first in the order of its owner, which is the first too."""
        owners = level.order
        while owners:
            lines = owners[0][1]
            order = lines.order
            while order:
                line = order[0][1]
                if line:
                    ticket = next(iter(line))
                    stream = ticket.stream
                    if not stream.backpressured:
                        return ticket
                    # Only its oldest Infer may start.
                    oldest: Any = stream.oldest_infer
                    if oldest in line:
                        return oldest  # type: ignore[no-any-return]  # the tickets of a queued stream are of its type
                    self._count(level, lines, line, -len(line))
                    line.parked = True
                    self._parked += len(line)
                    stream.passed_over[self] = None
                heappop(order)
            lines.parked = True
            heappop(owners)
        return None

    def _highest(self, now: float) -> int:
        """The priority whose turn it is; any of them when no ticket may start."""
        heads = {priority: head for priority, level in self._levels.items() if (head := self._next(level)) is not None}
        top = max(heads or self._levels)

        def rank(priority: int) -> tuple[float, int]:
            level = self._levels[priority]
            waited = now - min(heads[priority].ready, level.order[0][1].since)
            return min(top, priority + waited // AGING_SECONDS), -level.turn

        return max(heads, key=rank, default=top)

    # ------------------------------------------------------------------------------------------------------- bounds

    @property
    def waiting(self) -> int:
        """Queued tickets, without those that are parked: these wait for their client."""
        return self.queued - self._parked

    def ahead(self, priority: int, owner: Hashable) -> int:
        """How many waiting tickets have their turns before one more of an owner, at most, if no further ones come."""
        only = self._only
        if only is not None:
            return 1 if only.priority >= priority else 0
        count = 0
        for each, level in self._levels.items():
            if each > priority:
                count += level.waiting
            elif each == priority:
                lines = level.get(owner)
                own, others = (0, len(level)) if lines is None else (lines.waiting, len(level) - 1)
                count += min(level.waiting, own + others * (own + 1))
        return count

    def least_entitled(self, priority: int, owner: Hashable) -> T | None:
        """The waiting ticket that makes room for one more of an owner, if any has to.

        That is one of a lower priority, the lowest there is; or one of an owner that has at least twice as many as this
        one would have. It is the newest of a stream of the owner that has most, or had when somebody last looked.
        """
        if self._only is not None:
            self._insert(self._only)
            self._only = None
        for each in sorted(self._levels):
            level = self._levels[each]
            if each > priority:
                break
            longest = _longest(level)
            if longest is None:
                continue
            if each == priority:
                lines = level.get(owner)
                if longest.waiting < 2 * (1 if lines is None else lines.waiting + 1):
                    break
            for line in reversed(longest.values()):
                if not line.parked:
                    return next(reversed(line))
        return None

    def fixed_order(self) -> Iterator[T]:
        """The tickets that have the next turns whatever the current runs come to; none when their ends may change that.

        Their ends make other tickets ready, but those come after the queued ones of the same stream. To be used up
        before anything else changes.
        """
        if self._only is not None:
            self._insert(self._only)
            self._only = None
        if len(self._levels) == 1:
            (level,) = self._levels.values()
            if len(level) == 1:
                (lines,) = level.values()
                if len(lines) == 1:
                    ((stream, line),) = lines.items()
                    if not (next(iter(line)).priority or stream.backpressured):
                        return iter(line)
        return iter(())

    def _unpark(self, level: Level[T], lines: Lines[T], line: Line[T]) -> None:
        self._parked -= len(line)
        line.parked = False
        self._count(level, lines, line, len(line))
        heappush(lines.order, (line.turn, line))
        if lines.parked:
            _unpark_owner(level, lines)

    def _count(self, level: Level[T], lines: Lines[T], line: Line[T], more: int) -> None:
        if line.parked:
            self._parked += more
        else:
            lines.waiting += more
            level.waiting += more

    def take_fixed(self, ticket: T, now: float) -> None:
        """Take out the first of the tickets of `fixed_order`."""
        lines = self._levels[ticket.priority][ticket.stream.owner]
        lines.since = now
        self.remove(ticket)


def _unpark_owner(level: Level[T], lines: Lines[T]) -> None:
    lines.parked = False
    heappush(level.order, (lines.turn, lines))


def _longest(level: Level[T]) -> Lines[T] | None:
    """An owner with about the most waiting tickets. All are looked at once for as many questions as there are."""
    if not level.waiting:
        return None
    level.asked += 1
    longest = level.longest
    if longest is None or not longest.waiting or level.asked >= len(level):
        level.asked = 0
        level.longest = longest = max(level.values(), key=lambda each: each.waiting)
    return longest


def _bound(order: list[tuple[int, Any]], live: int) -> None:
    """Drop the entries of what has no tickets any more when they are most of a heap."""
    if len(order) > 2 * live + 64:
        order[:] = [entry for entry in order if entry[1]]
        heapify(order)
