"""The core: every rule of the stream in one object that does no I/O.

Methods take what has happened and the time, in seconds of any clock that only goes forward, and change the state at
once. `starts` and `news` then return what is to be done. They may follow many events: the commands of a frame are all
admitted before the first of them starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from headrace.server.core.admission import (
    check_content,
    check_slices,
    refusal,
    tag_error,
    window_is_full,
)
from headrace.server.core.calls import Call, Plan, bind
from headrace.server.core.completion import Completion
from headrace.server.core.engine_api import End, Ended, Run
from headrace.server.core.events import Draining, Event, Failed, Hello
from headrace.server.core.execution import Execution, inherit
from headrace.server.core.holds import Holds
from headrace.server.core.kept_outputs import KeptOutputs
from headrace.server.core.limits import Limits
from headrace.server.core.models import Models
from headrace.server.core.quotas import MessageCharge, Quota
from headrace.server.core.references import find, resolve
from headrace.server.core.specs import ModelSpec
from headrace.server.core.streams import MIN_MAX_MESSAGE, DefinedCall, Stream
from headrace.server.core.tickets import KeptOutput, Ticket
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import (
    Cancelled,
    DeadlineExceeded,
    HeadraceError,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from headrace.wire.tensors import Buffer


class News(NamedTuple):
    """Runs to stop, streams that have something new to say or have ended, and models to free."""

    stops: Sequence[Run]
    streams: Sequence[Stream]
    retired: Sequence[ModelSpec]


_NO_NEWS = News((), (), ())


class Core:
    def __init__(self, limits: Limits) -> None:
        self.limits, self.models = limits, Models()
        self.keep = Quota(limits.keep_bytes_total)
        self.queue = Quota(limits.queue_bytes)
        self.draining = False
        self._grace_ends = math.inf
        self._expiring: Ticket | None = None
        self._keeper = KeptOutputs(limits.keep_seconds)
        self._ends = Completion(self._keeper, self.models)
        self._holds = Holds(limits.batch_delay, gather=limits.gather)
        self._runs = Execution(self._keeper, self._ends, self._holds, delayed=bool(limits.batch_delay))

    @property
    def streams(self) -> Sequence[Stream]:
        """Those that are open."""
        return tuple(self._ends.streams)

    def open_stream(self, *, unary: bool = False, window: int = 0) -> Stream:
        """A new stream; unless it is for a unary call, it begins with Hello.

        With a `window` it is a stream of another protocol, which has neither Hello nor Draining.
        """
        limits = self.limits
        size = window or (1 if unary else limits.window)
        stream = Stream(size, Quota(limits.keep_bytes, self.keep), limits.unsent_bytes, unary=unary)
        stream.brief = unary and not window
        self._ends.streams[stream] = None
        if not unary:
            hello = Hello(limits.window, limits.max_message_bytes, limits.keep_bytes, limits.keep_seconds)
            self._ends.put(stream, hello)
        if self.draining and not stream.brief:
            self._drain(stream)
        return stream

    def half_close(self, stream: Stream) -> None:
        """No more commands will come: what is kept can be reached only by tickets that refer to it already."""
        stream.half_closed = True
        for ticket in tuple(stream.tickets.values()):
            self._keeper.drop_all(ticket)
            self._ends.maybe_close(ticket)
        self._ends.maybe_end(stream)

    def vanish(self, stream: Stream, now: float) -> None:
        """The client is gone: every ticket is cancelled and nobody is told."""
        self._ends.vanish(stream, now)

    def handed(self, stream: Stream, events: Iterable[Event], now: float) -> None:
        """What `stream.take` gave was handed to the transport: the tickets are no longer in flight."""
        for event in events:
            if event.ticket is not None:
                self._ends.handed(event.ticket, now)
        self._ends.maybe_end(stream)

    def written(self, stream: Stream) -> None:
        """The transport has written the frame of the last `handed`."""
        if stream.written():
            self._ends.startable.update(dict.fromkeys((*self.models, *self.models.retired)))

    @property
    def undecided(self) -> bool:
        """Whether there is something to start, to free or new to say, by anything but the time."""
        return bool(self._ends.startable or self._ends.stops or self._ends.dirty or self.models.unneeded)

    def drain(self, now: float) -> None:
        """Refuse what is new and finish what is in flight; after the grace period what is left fails."""
        if self.draining:
            return
        self.draining = True
        self._grace_ends = now + self.limits.grace
        for stream in self.streams:
            self._drain(stream)

    def _drain(self, stream: Stream) -> None:
        stream.draining = True
        if not stream.unary:
            self._ends.put(stream, Draining(self.limits.grace))
        elif not stream.brief:
            self._ends.maybe_end(stream)

    # ---------------------------------------------------------------------------------------------------- commands

    def open(self, stream: Stream, ordered: bool, max_message_bytes: int) -> None:
        """Open. 0 bytes mean the default."""
        if stream.begun:
            self.reject(stream, InvalidArgument("Open is legal only as the first command of a stream"))
        elif 0 < max_message_bytes < MIN_MAX_MESSAGE:
            small = f"max_message_bytes is {max_message_bytes}, at least {MIN_MAX_MESSAGE} must be taken"
            self.reject(stream, InvalidArgument(small))
        else:
            stream.begun = True
            stream.ordered = ordered
            stream.max_message_bytes = max_message_bytes or stream.max_message_bytes

    def define(self, stream: Stream, number: int, call: Call, nbytes: int) -> None:
        """Define a call of `nbytes` bytes of description. It is checked when it is used."""
        stream.begun = True
        if stream.ended:
            return
        try:
            stream.define(number, call, nbytes)
        except HeadraceError as error:
            self.reject(stream, error)

    def reject(self, stream: Stream, error: HeadraceError, tag: int = 0) -> None:
        """Answer what cannot have a ticket."""
        stream.begun = True
        self._ends.put(stream, Failed(None, tag, error))

    def charge(self, nbytes: int) -> MessageCharge:
        """One for each message; every Infer that came with it gets it, and holds it while it needs inline inputs."""
        return MessageCharge(nbytes, self.queue)

    def infer(
        self,
        stream: Stream,
        tag: int,
        call: int | DefinedCall,
        inline: Sequence[Buffer],
        charge: MessageCharge,
        now: float,
        *,
        sources: Sequence[int] = (),
        timeout: float = 0.0,
        priority: int = 0,
    ) -> None:
        """An Infer of a call: of a number that this stream has defined, or one that the caller keeps.

        `timeout` in seconds, 0 for none.
        """
        stream.begun = True
        if stream.ended:
            return
        if not tag or tag in stream.tickets:
            self.reject(stream, tag_error(tag))
            return
        if self.draining or stream.in_flight >= stream.window or (inline and not charge.fits()):
            self._ends.put(stream, Failed(None, tag, refusal(stream, charge, self.draining)))
            return
        ticket = Ticket(stream, tag, now, infer=True)
        kept: Sequence[KeptOutput] = ()
        try:
            defined = call if isinstance(call, DefinedCall) else stream.call(call)
            if defined.bound is None or defined.generation != self.models.generation:
                self._bind(defined)
            assert defined.bound is not None
            model, plan = defined.bound
            check_content(stream, plan, inline, priority)
            if sources or plan.references:
                kept = resolve(stream, plan, sources)
        except HeadraceError as error:
            self._admit(ticket)
            self._ends.fail(ticket, TicketState.FAILED, error, now)
            return
        self._admit(ticket)
        ticket.model, ticket.plan = model, plan
        model.holders += 1
        if priority:
            ticket.priority = priority
        if inline:
            ticket.inline, ticket.charge = inline, charge
            charge.hold()
        if plan.keep:
            self._keeper.prepare(ticket)
        if timeout:
            self._ends.timeouts.set(ticket, now + timeout)
        if kept:
            self._refer(ticket, plan, kept)
        if not ticket.missing:
            self._runs.queue(ticket, now)

    def fetch(
        self,
        stream: Stream,
        tag: int,
        source: int,
        output: str,
        slices: tuple[tuple[int, int], ...],
        now: float,
    ) -> None:
        """A Fetch. Legal while draining."""
        stream.begun = True
        if stream.ended:
            return
        if not tag or tag in stream.tickets:
            self.reject(stream, tag_error(tag))
            return
        if stream.in_flight >= stream.window:
            self._ends.put(stream, Failed(None, tag, window_is_full(stream)))
            return
        ticket = Ticket(stream, tag, now, infer=False)
        try:
            kept = find(stream, source, output, NotFound)
            check_slices(slices)
        except HeadraceError as error:
            self._admit(ticket)
            self._ends.fail(ticket, TicketState.FAILED, error, now)
            return
        self._admit(ticket)
        ticket.slices = slices
        self._keeper.hold(ticket, [kept])
        if not ticket.missing:
            self._runs.deliver(ticket, kept, now)

    def release(self, stream: Stream, tag: int, outputs: Sequence[str]) -> None:
        """Let go of kept outputs, of all when none is named. What is not there is ignored."""
        stream.begun = True
        ticket = stream.tickets.get(tag)
        if ticket is None or not ticket.own:
            return
        if outputs:
            named = set(outputs)
            for kept in tuple(ticket.own.values()):
                if not named.isdisjoint(kept.port.names):
                    self._keeper.drop(kept)
        else:
            self._keeper.drop_all(ticket)
        self._ends.maybe_close(ticket)
        self._ends.maybe_end(stream)

    def cancel(self, stream: Stream, tag: int, now: float) -> None:
        """End a ticket, unless it has ended."""
        stream.begun = True
        ticket = stream.tickets.get(tag)
        if ticket is not None:
            self._ends.fail(ticket, TicketState.CANCELLED, Cancelled(f"ticket {tag} was cancelled"), now)

    def _bind(self, defined: DefinedCall) -> None:
        model = self.models.find(defined.call.model, defined.call.version)
        defined.bound = model, bind(defined.call, model.spec)
        defined.generation = self.models.generation

    def _admit(self, ticket: Ticket) -> None:
        stream = ticket.stream
        stream.tickets[ticket.tag] = ticket
        stream.in_flight += 1
        if ticket.infer:
            stream.infers[ticket] = None
            if stream.ordered:
                stream.turns.append(ticket)

    def _refer(self, ticket: Ticket, plan: Plan, sources: Sequence[KeptOutput]) -> None:
        self._keeper.hold(ticket, sources)
        if ticket.missing and ticket.priority:
            inherit(ticket)
        for reference, kept in zip(plan.references, sources, strict=True):
            if reference.take:
                self._keeper.drop(kept)
                self._ends.maybe_close(kept.ticket)

    # ---------------------------------------------------------------------------------------------------- runs and time

    def run_ended(self, ended: Ended, error: HeadraceError | None, now: float) -> None:
        """A run has ended. `error` is what the ticket is told if the run has failed."""
        self._runs.ended(ended, error, now)

    def give_up(self, error: HeadraceError, now: float) -> None:
        """A method of this has raised what it never should: fail what it was about, and lose nothing else."""
        self._runs.give_up(error, now)
        expiring, self._expiring = self._expiring, None
        if expiring is not None:
            self._ends.fail(expiring, TicketState.FAILED, error, now)

    def slot_restored(self, spec: ModelSpec, slot: int) -> None:
        """A slot that was `restoring` can be used again."""
        for model in (*self.models, *self.models.retired):
            if model.spec is spec:
                self._runs.slot_restored(model, slot)

    def follower(self, ended: Ended) -> Run | None:
        """A run that may be done in the slot of one that has ended, at once: both are then told to `ended_in_turn`.

        None when there is no such run, or when something else may have its turn.
        """
        return self._runs.followers.after(ended)

    def ended_in_turn(self, ends: Sequence[End]) -> Sequence[End]:
        """As `run_ended`, for runs that the latest `starts` gave, and then their followers, each in its order.

        Returns those that count. What the others have brought is forgotten; their tickets have failed or are queued.
        """
        return self._runs.ended_in_turn(ends)

    def starts(self, now: float) -> Sequence[Run]:
        """The runs to start now."""
        if self.first_end() <= now:
            self._expire(now)
        return self._runs.start(now)

    def news(self) -> News:
        """What else is to be done, since it was last asked for."""
        ends = self._ends
        if not (ends.dirty or ends.stops or self.models.unneeded):
            return _NO_NEWS
        news = News(tuple(ends.stops), tuple(ends.dirty), tuple(self.models.unneeded))
        ends.stops.clear()
        ends.dirty.clear()
        self.models.unneeded.clear()
        return news

    @property
    def gathering(self) -> bool:
        """Whether tickets wait for others until `quiet` is called, or are due at the latest."""
        return self._holds.gathering

    def quiet(self) -> None:
        """There was nothing to do for QUIET seconds: who waits for others does so no longer."""
        for model in self._holds.quiet():
            self._ends.startable[model] = None

    def first_due(self) -> float:
        """When `starts` must be called again, whatever happens until then; infinity when it need not."""
        return min(self.first_end(), self._holds.first_due)

    def first_end(self) -> float:
        """When the first of what ends by the time does so: a ticket, a kept output, the grace period."""
        return min(self._ends.timeouts.first, self._keeper.times.first, self._grace_ends)

    def _expire(self, now: float) -> None:
        for ticket in self._ends.timeouts.pop(now):
            self._expiring = ticket
            late = DeadlineExceeded(f"ticket {ticket.tag} had not ended {now - ticket.arrived:.6f} s after it arrived")
            self._ends.fail(ticket, TicketState.EXPIRED, late, now)
        self._expiring = None
        for kept in self._keeper.expired(now):
            self._ends.maybe_close(kept.ticket)
            self._ends.maybe_end(kept.ticket.stream)
        if now >= self._grace_ends:
            self._grace_ends = math.inf
            self._stop(now)

    def _stop(self, now: float) -> None:
        stopped = Unavailable("the server has stopped")
        for stream in self.streams:
            # The newest first: none fails for want of its source, which would not be retryable.
            for ticket in reversed(tuple(stream.tickets.values())):
                self._ends.fail(ticket, TicketState.FAILED, stopped, now)
                self._keeper.drop_all(ticket)
                self._ends.maybe_close(ticket)
            self._ends.maybe_end(stream)

    def __repr__(self) -> str:
        return f"<Core {len(self.streams)} streams, {self._runs}, kept {self.keep}, queued {self.queue}>"
