"""The core: every rule of the stream in one object that does no I/O.

Driving it takes one call. Methods take what has happened, and the time in seconds of any monotonic clock, and change
the state at once; `decide` then returns everything that is to be done. It may follow many events: the commands of a
frame are all admitted before the first of them starts. A driver for the simplest engine:

    decision = core.decide(now)
    for run in decision.starts:
        core.run_ended(engine.run(run), None, now)

An engine that runs in place may also do the *followers* of a run before it tells the core of any of them: `follower`
and `ended_in_place` are that extension, and `chaining` says why it exists.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

from headrace.server.core.accounts import Accounts
from headrace.server.core.admission import (
    check_content,
    check_slices,
    described,
    fetch_refusal,
    infer_refusal,
    tag_error,
)
from headrace.server.core.batching import Batching
from headrace.server.core.calls import Call, Plan
from headrace.server.core.completion import Completion
from headrace.server.core.counts import REFUSED, Counts, kind_of
from headrace.server.core.decision import Decision
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.engine_api import End, Ended, Run, Slices
from headrace.server.core.events import Event, Failed, Hello
from headrace.server.core.execution import Execution
from headrace.server.core.expiry import Expiry
from headrace.server.core.kept_outputs import KeptOutputs
from headrace.server.core.limits import Limits
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.models import Models
from headrace.server.core.quotas import TICKET_BYTES, MessageCharge
from headrace.server.core.references import find, inherit_priority, resolve
from headrace.server.core.sequences import Sequences, Step
from headrace.server.core.sharing import Processor
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import KeptOutput, Stream, Ticket
from headrace.server.core.stream_ends import StreamEnds
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import Cancelled, HeadraceError, InvalidArgument, NotFound
from headrace.wire.limits import MIN_MAX_MESSAGE_BYTES
from headrace.wire.tensors import Buffer


class Core:
    def __init__(self, limits: Limits) -> None:
        self.limits, self.models = limits, Models(limits)
        self.accounts, self.counts, self.draining = Accounts(limits), Counts(), False
        self._kept_outputs = KeptOutputs(limits.keep_seconds)
        self.sequences = Sequences(limits, self.accounts.sequences, self.models)
        self._completion = Completion(self._kept_outputs, self.models, self.sequences, self.counts)
        self._stream_ends = StreamEnds(limits, self._completion, self.counts)
        self._expiry = Expiry(self._completion, self._kept_outputs, self.sequences, self._stream_ends)
        self._batching: Batching[ModelQueue[Ticket]] = Batching(limits.batch_delay, coalesce=limits.coalesce)
        processor = Processor[ModelQueue[Ticket]](limits.processors) if limits.processors else None
        self._execution = Execution(self._kept_outputs, self._completion, self._batching, processor, self.sequences)
        self.runs = self._execution.runs

    @property
    def streams(self) -> Collection[Stream]:
        """Those that are open: a view, so that looking costs nothing."""
        return self._completion.streams.keys()

    # ---------------------------------------------------------------------------------------------------- decisions

    def decide(self, now: float, *, direct: bool = True) -> Decision:
        """What is to be done by now, once: it is not returned again.

        Without `direct` no run of a model that runs directly starts yet.
        """
        self.sequences.end_retired()
        first_end = self._expiry.first()
        if first_end <= now:
            self._expiry.expire(now)
            first_end = self._expiry.first()
        starts: Sequence[Run] = ()
        stops: Sequence[Run] = ()
        changed: Sequence[Stream] = ()
        unload: Sequence[ModelSpec] = ()
        completion, models, held = self._completion, self.models, self._batching.held
        if completion.unsent_freed:
            completion.resume_all()
        if completion.startable or held:
            starts = self._execution.start(now, direct=direct)
            first_end = self._expiry.first()
            if first_end <= now:  # an entry of long ago, of an output that a ticket has let go of by failing
                self._expiry.expire(now)
                first_end = self._expiry.first()
        if completion.stops:
            stops, completion.stops = tuple(completion.stops), {}
        if completion.changed:
            changed, completion.changed = tuple(completion.changed), {}
        if models.unneeded:
            unload, models.unneeded = models.unneeded, []
        self._expiry.announced = first_end
        if not held:
            return Decision(stops, starts, changed, unload, first_end, False)
        wake_at = min(first_end, self._batching.first_due)
        return Decision(stops, starts, changed, unload, wake_at, self._batching.waits_for_idle)

    def run_ended(self, ended: Ended, error: HeadraceError | None, now: float) -> None:
        """A run has ended. `error` is what its tickets fail with."""
        self._execution.ended(ended, error, now)

    def slot_restored(self, spec: ModelSpec, slot: int, *, replaced: bool = False) -> None:
        """A slot that was `restoring` can be used again, with another compiled model if that was `replaced`."""
        for model in self.models.with_slots():
            if model.spec is spec:
                self._execution.slot_restored(model, slot, replaced=replaced)

    def idle(self) -> None:
        """The event loop has been idle for IDLE_SECONDS: tickets that wait for others do so no longer."""
        for model in self._batching.idle():
            self._completion.startable[model] = None

    def follower(self, ended: Ended) -> Run | None:
        """A run that may happen next in the slot of one that has just ended, before the core is told of either.

        To be asked right after `decide` for the last of its starts, and then for each follower. None when there is no
        such run, or when another ticket may have its turn.
        """
        return self._execution.chaining.follower(ended)

    def ended_in_place(self, ends: Sequence[End]) -> Sequence[End]:
        """As `run_ended`, for the starts of the latest decision and then their followers, in order.

        Returns the ends that count. The results of the others are dropped; their tickets have failed or are queued.
        """
        return self._execution.ended_in_place(ends)

    def give_up(self, error: HeadraceError, now: float) -> None:
        """A method of this object has raised by mistake: fail the tickets that it was processing, and no others."""
        self._execution.give_up(error, now)
        self._expiry.give_up(error, now)

    # ------------------------------------------------------------------------------------------------------- streams

    def open_stream(self, owner: Hashable = None, *, unary: bool = False, window: int = 0, now: float = 0.0) -> Stream:
        """A new stream; unless it is for a unary call, it begins with Hello.

        Turns go round owners first, and then round the streams of each. With a `window` it is a stream of another
        protocol, which has neither Hello nor Draining. Its age begins `now`.
        """
        limits = self.limits
        size = window or (1 if unary else limits.window)
        single = unary and not window
        stream = Stream(size, self.accounts.shares(single=single), limits.unsent_bytes, owner, unary=unary)
        stream.single = single
        self._completion.streams[stream] = None
        self.counts.opened(kind_of(unary=unary, single=single), owner)
        if not unary:
            lasting = self.accounts.keep_bytes, limits.keep_seconds, self.accounts.queue_bytes
            self._completion.put(stream, Hello(limits.window, limits.max_message_bytes, *lasting))
        if not self.draining:
            self._stream_ends.opened(stream, now)
        elif not stream.single:
            self._stream_ends.drain(stream)
        return stream

    def half_close(self, stream: Stream) -> None:
        """No more commands will come, so that only tickets already admitted can use what is kept."""
        stream.half_closed = True
        for ticket in tuple(stream.tickets.values()):
            self._kept_outputs.drop_all(ticket)
            self._completion.maybe_close(ticket)
        self._completion.maybe_end(stream)

    def abandon(self, stream: Stream, now: float) -> None:
        """The client has gone: cancel every ticket of its stream, without events."""
        self._completion.abandon(stream, now)

    def handed_off(self, stream: Stream, events: Sequence[Event], now: float) -> bool:
        """The transport has begun to write what `stream.take` returned: those tickets are no longer in flight.
        False when that leaves nothing to decide."""
        return self._completion.handed_off(stream, events, now) or self._expiry.first() < self._expiry.announced

    def flushed(self, stream: Stream) -> bool:
        """The transport has written the frame of the last `handed_off`. False when that leaves nothing to decide."""
        if stream.flushed():
            self._completion.unsent_freed = True
            return True
        if not stream.passed_over or stream.backpressured:
            return False
        self._completion.resume(stream)
        return True

    def drain(self, now: float) -> None:
        """Refuse new work and finish what is in flight; after the grace period what is left fails."""
        if self.draining:
            return
        self.draining = True
        self._expiry.grace_ends = now + self.limits.grace
        for stream in tuple(self.streams):
            self._stream_ends.drain(stream)

    def drain_stream(self, stream: Stream, now: float) -> None:
        """Ask a stream to move. Its Infers are refused after the grace period, if its client does not follow."""
        self._stream_ends.ask_to_move(stream, now)

    # ---------------------------------------------------------------------------------------------------- commands

    def open(self, stream: Stream, ordered: bool, max_message_bytes: int, *, can_move: bool = False) -> None:
        """Open the stream. 0 bytes stand for the default."""
        if stream.opened:
            self.reject(stream, InvalidArgument("Open is legal only as the first command of a stream"))
        elif 0 < max_message_bytes < MIN_MAX_MESSAGE_BYTES:
            small = f"max_message_bytes is {max_message_bytes}; it must be at least {MIN_MAX_MESSAGE_BYTES}"
            self.reject(stream, InvalidArgument(small))
        else:
            stream.opened = True
            stream.ordered, stream.can_move = ordered, can_move
            stream.max_message_bytes = max_message_bytes or stream.max_message_bytes

    def define(self, stream: Stream, number: int, call: Call, nbytes: int) -> None:
        """Define a call whose description has `nbytes` bytes. It is checked when it is used."""
        stream.opened = True
        if stream.ended:
            return
        try:
            stream.define(number, call, nbytes)
        except HeadraceError as error:
            self.reject(stream, error)

    def reject(
        self, stream: Stream, error: HeadraceError, tag: int = 0, *, reason: str = "content", model: str = ""
    ) -> None:
        """Fail what cannot have a ticket; with a `tag`, a request of another protocol that is not admitted."""
        stream.opened = True
        if not tag:
            self.counts.rejected[reason] += 1
        self._completion.put(stream, Failed(tag, error, admitted=False, model=model))

    def charge(self, stream: Stream, nbytes: int) -> MessageCharge:
        """The charge of a message; every Infer of the message gets it, and holds it while it needs inline inputs."""
        return MessageCharge(nbytes, stream.shares.queue, stream.client)

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
        slices: Sequence[Slices] = (),
        timeout: float = 0.0,
        queue_timeout: float = 0.0,
        priority: int = 0,
        step: Step | None = None,
    ) -> None:
        """An Infer of a call: the number of one that the stream has defined, or one that the caller keeps.

        `slices` are those of `sources`, empty for all of each, or TOO_MANY_SLICES. `timeout` until its end, and
        `queue_timeout` until its run starts, in seconds, 0 for none.
        `step` is its place in a sequence; such an Infer has no references, and a call that the caller keeps.
        """
        stream.opened = True
        if stream.ended:
            return
        if not tag or tag in stream.tickets:
            wrong = tag_error(tag)
            self.reject(stream, wrong, reason="tag")
            self._completion.missed(described(stream, call), None, REFUSED, wrong)
            return
        if (refused := infer_refusal(stream, inline, charge, self.draining, now)) is not None:
            self._completion.refuse_infer(stream, tag, call, step, refused)
            return
        ticket = Ticket(stream, tag, now, infer=True)
        kept: Sequence[KeptOutput] = ()
        try:
            defined = call if isinstance(call, DefinedCall) else stream.call(call)
            if defined.bound is None or defined.generation != self.models.generation:
                model, plan = self.models.bind(defined)
            else:
                model, plan = defined.bound
            if step is not None and model.spec.has_variables:
                model, plan = self.sequences.find(model, plan, defined, step)
            check_content(stream, plan, inline, charge, priority)
            if sources or plan.references:
                kept = resolve(stream, plan, sources, slices)
        except HeadraceError as error:
            self._admit(ticket)
            self._completion.fail_unbound(ticket, call, step, error, now)
            return
        if priority:
            ticket.priority = min(priority, self.limits.max_priority)
        if model.bounds is not None and (step is None or step.start or not model.spec.sequences):
            refused = self._completion.make_room(ticket, model, kept, now)
            if refused is not None:
                self._completion.refuse_infer(stream, tag, call, step, refused)
                return
        self._admit(ticket)
        ticket.model, ticket.plan = model, plan
        model.holders += 1
        if inline:
            ticket.inline, ticket.charge = inline, charge
            charge.hold()
        if plan.keep:
            self._kept_outputs.prepare(ticket)
        if timeout or queue_timeout:
            self._completion.time_out(ticket, now, timeout, queue_timeout)
        if kept:
            if slices and any(slices):
                ticket.source_slices = slices
            self._refer(ticket, plan, kept)
        if step is not None and model.spec.sequences and not self.sequences.join(ticket, model, step):
            return
        if not ticket.missing:
            self._execution.queue(ticket, now)

    def miss_step(self, model: str, step: Step, error: HeadraceError) -> None:
        """A request with this place in a sequence of a model has failed before it became an Infer."""
        self.sequences.missed(model, step, error)

    def fetch(self, stream: Stream, tag: int, source: int, output: str, slices: Slices, now: float) -> None:
        """A Fetch. Legal while draining."""
        stream.opened = True
        if stream.ended:
            return
        if not tag or tag in stream.tickets:
            self.reject(stream, tag_error(tag), reason="tag")
            return
        if (refused := fetch_refusal(stream)) is not None:
            self._completion.refuse(stream, tag, *refused)
            self.counts.fetched((REFUSED, refused[1].code.name))
            return
        ticket = Ticket(stream, tag, now, infer=False)
        try:
            kept = find(stream, source, output, NotFound)
            check_slices(slices)
        except HeadraceError as error:
            self._admit(ticket)
            self._completion.fail(ticket, TicketState.FAILED, error, now)
            return
        self._admit(ticket)
        ticket.slices = slices
        self._kept_outputs.hold(ticket, [kept])
        if not ticket.missing:
            self._completion.deliver(ticket, kept, now)

    def release(self, stream: Stream, tag: int, outputs: Sequence[str]) -> None:
        """Let go of kept outputs, all of them when none is named. What does not exist is ignored."""
        stream.opened = True
        ticket = stream.tickets.get(tag)
        if ticket is None or not ticket.own:
            return
        if outputs:
            named = set(outputs)
            for kept in tuple(ticket.own.values()):
                if not named.isdisjoint(kept.port.names):
                    self._kept_outputs.drop(kept)
        else:
            self._kept_outputs.drop_all(ticket)
        self._completion.maybe_close(ticket)
        self._completion.maybe_end(stream)

    def cancel(self, stream: Stream, tag: int, now: float) -> None:
        """Cancel a ticket, unless it has ended."""
        stream.opened = True
        ticket = stream.tickets.get(tag)
        if ticket is not None:
            self._completion.fail(ticket, TicketState.CANCELLED, Cancelled(f"ticket {tag} was cancelled"), now)

    def _admit(self, ticket: Ticket) -> None:
        stream = ticket.stream
        stream.tickets[ticket.tag] = ticket
        stream.in_flight += 1
        stream.shares.tickets.charge(TICKET_BYTES)
        if stream.client is not None:
            stream.client.in_flight += 1
        if ticket.infer:
            if stream.client is not None:
                stream.client.admitted(ticket.arrived)
            stream.infers[ticket] = None
            if stream.ordered:
                stream.turns.append(ticket)

    def _refer(self, ticket: Ticket, plan: Plan, sources: Sequence[KeptOutput]) -> None:
        self._kept_outputs.hold(ticket, sources)
        if ticket.missing and ticket.priority:
            inherit_priority(ticket)
        for reference, kept in zip(plan.references, sources, strict=True):
            if reference.take:
                self._kept_outputs.drop(kept)
                self._completion.maybe_close(kept.ticket)

    def __repr__(self) -> str:
        return f"<Core {len(self.streams)} streams, {self._execution}, {self.accounts}>"
