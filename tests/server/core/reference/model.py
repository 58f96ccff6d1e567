"""The reference model: its parts put together, and the life of streams."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.core.engine_api import Run
from headrace.server.core.events import Event
from headrace.server.core.limits import Limits
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Stream
from tests.server.core.reference.commands import Commands
from tests.server.core.reference.ends import Ends
from tests.server.core.reference.execution import Execution
from tests.server.core.reference.expected import ExpectedEvent, ExpectedStream
from tests.server.core.reference.schedule import Schedule
from tests.server.core.reference.state import ExpectedState
from tests.server.core.reference.turns import Turns
from tests.server.core.reference.waits import HasFailed, Waits


class ReferenceModel:
    """`max_calls`: how many calls a stream may define."""

    def __init__(self, limits: Limits, specs: Sequence[ModelSpec], max_calls: int) -> None:
        self.state = ExpectedState(limits, specs)
        turns = Turns(self.state)
        self.waits = Waits(self.state, turns)
        schedule = Schedule(self.state, turns, self.waits)
        self._ends = Ends(self.state, turns, self.waits)
        self.commands = Commands(self.state, turns, self._ends, max_calls)
        self.execution = Execution(self.state, turns, schedule, self._ends)

    def decide(self, starts: Sequence[Run], stops: Sequence[Run], has_failed: HasFailed, *, direct: bool) -> None:
        """Compare a decision with what must be decided. Without `direct` no direct run starts."""
        self._ends.expire()
        self.execution.start(starts, has_failed, direct=direct)
        self.execution.stop(stops)

    def follow(self, run: Run, has_failed: HasFailed, *, starts: bool) -> None:
        """A follower was run in place, and `starts` unless its ticket has failed or may not start."""
        self._ends.expire()
        self.execution.start([run] if starts else [], has_failed, only_these=True)

    def open_stream(self, real: Stream, owner: int, *, unary: bool, window: int) -> ExpectedStream:
        state = self.state
        single = unary and not window
        window = window or (1 if unary else state.limits.window)
        stream = ExpectedStream(real, window, unary, owner, draining=state.draining, single=single)
        state.streams.append(stream)
        if not unary:
            self._ends.expect(stream, ExpectedEvent("hello", 0))
            if state.draining:
                self._ends.expect(stream, ExpectedEvent("draining", 0))
        return stream

    def half_close(self, stream: ExpectedStream) -> None:
        stream.half_closed = True
        for output in stream.outputs:
            output.owned = False

    def abandon(self, stream: ExpectedStream) -> None:
        stream.ended = stream.vanished = True
        stream.changed = False
        for ticket in stream.tickets:
            if ticket.end is None:
                ticket.end = "CANCELLED"
                self._ends.stop_or_let_go(ticket)
            ticket.handed_off = True
            for output in ticket.outputs:
                output.owned = False
            if not ticket.infer:
                self._ends.let_go(ticket)

    def drain(self) -> None:
        state = self.state
        if state.draining:
            return
        state.draining = True
        state.grace_ends = state.now + state.limits.grace
        for stream in state.streams:
            if not stream.ended:
                stream.draining = True
                if not stream.unary:
                    self._ends.expect(stream, ExpectedEvent("draining", 0))

    def handed_off(self, stream: ExpectedStream, events: Sequence[Event]) -> None:
        for event in events:
            ticket = stream.ended_by(event)
            stream.taken.append((event, ticket))
            if ticket is not None:
                held, ticket.handed_off = ticket.holds_sources, True
                if held and not ticket.holds_sources:
                    self._ends.let_go(ticket)

    def flushed(self, stream: ExpectedStream) -> None:
        stream.proven = max(stream.proven, sum(event.nbytes for event, _ in stream.taken))
        for _, ticket in stream.taken:
            if ticket is not None:
                ticket.flushed = True
        stream.taken.clear()

    def close_streams(self) -> None:
        """End the streams that have nothing more to say. The stream of a unary call is ended by its service."""
        for stream in self.state.streams:
            over = not stream.ended and not stream.in_flight and not stream.outbox
            keeps = any(output.owned for output in stream.outputs)
            over = over and (stream.half_closed or (stream.draining and not keeps))
            if over and stream.unary and not stream.half_closed:
                over = stream.real.ended
            stream.ended = stream.ended or over
            stream.changed = stream.changed or over
            stream.prune()
