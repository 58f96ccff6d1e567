"""Runs that follow each other in a slot before the core has been told of the first one's end.

In a chain the next ticket waits for nothing but the run that has just ended, and where several tickets of one stream
are queued, their order is known. Running the next one at once, and doing the accounting of all of them afterwards,
leads to the same result for every ticket, since nothing else happens in between. But it is faster: the next run needs
what the last one has left in the processor's caches: the steps of Silero's chains take a fifth less time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from headrace.server.core.completion import Completion
from headrace.server.core.engine_api import Ended, Run, Tensor
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.references import sliced_sources
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Ticket
from headrace.server.core.transitions import TicketState


class Chaining:
    """Finds the run that may follow another in place. `delay` is how long a batch of a model waits to fill."""

    def __init__(self, completion: Completion, delay: Callable[[ModelQueue[Ticket]], float]) -> None:
        self._completion = completion
        self._delay = delay
        self._started = 0
        """How many runs the latest decision starts."""
        self._plain: ModelSpec | None = None
        """The model of all of them, if no ticket that their ends make ready can have its turn before a queued one.

        In a sequence such a ticket may be another stream's."""
        self._queue: Iterator[Ticket] = iter(())
        """The queued tickets that may follow, once the first of them has."""
        self._ahead: deque[Ticket] = deque()
        """Those that may have run, in order; they are still queued."""

    def decided(self, starts: Sequence[Run]) -> None:
        """The latest decision starts these runs."""
        self._started = len(starts)
        plain = starts[0].spec if starts and starts[0].spec.batch == 1 and not starts[0].spec.sequences else None
        for run in starts:
            if run.spec is not plain or _first_ticket(run).priority:
                plain = None
                break
        self._plain = plain

    def follower(self, ended: Ended) -> Run | None:
        """The next run in the slot of one that has ended; None where any other ticket may come first."""
        run = ended.run
        if len(run.parts) > 1 or self._completion.startable:
            return None
        ticket, model = _the_ticket(run)
        follower: Ticket | None = None
        if model.queued:
            if model.spec is self._plain:
                if not self._ahead:
                    self._queue = model.fixed_order()
                follower = next(self._queue, None)
                if follower is not None:
                    self._ahead.append(follower)
                    _prepare(follower)
        elif self._started == 1 and not self._ahead and not (model.spec.batch > 1 and self._delay(model)):
            follower = _only_waiter(ticket) if ended.kept else None
            if follower is not None:
                _hand_on(ticket, ended.kept[0], follower)
        return None if follower is None else Run(model.spec, run.slot, (follower,), 1)

    def claim(self, run: Run, now: float) -> Ticket | None:
        """The ticket of a follower, if it may start now that the core has been told of all runs before it."""
        ticket, model = _the_ticket(run)
        if self._ahead:
            if ticket.stream.backpressured or ticket is not self._ahead[0]:
                return None
            self._ahead.popleft()
            model.take_fixed(ticket, now)
        elif ticket.state is not TicketState.QUEUED or not model.pick(now):
            return None
        return ticket

    def told(self) -> None:
        """The core has been told of all runs. Tickets that did not start after all have their turns later."""
        self._queue = iter(())
        self._ahead.clear()


def queue_of(run: Run) -> ModelQueue[Ticket]:
    """The queue of a follower's ticket."""
    return _the_ticket(run)[1]


def _the_ticket(run: Run) -> tuple[Ticket, ModelQueue[Ticket]]:
    (ticket,) = run.parts
    assert isinstance(ticket, Ticket)
    assert ticket.model is not None
    return ticket, ticket.model


def _first_ticket(run: Run) -> Ticket:
    ticket = run.parts[0]
    assert isinstance(ticket, Ticket)
    return ticket


def _only_waiter(ticket: Ticket) -> Ticket | None:
    """The only ticket that waits for this one, if it waits for nothing else and runs in the same slots."""
    follower: Ticket | None = None
    missing = 0
    for kept in ticket.kept:
        if kept.waiters:
            first, *others = kept.waiters
            if others or first is not (follower or first):
                return None
            follower = first
            missing += 1
    if follower is None or follower.model is not ticket.model or follower.missing != missing:
        return None
    # With dynamic shapes the reference has still to be checked.
    if follower.plan is None or not follower.plan.fixed or follower.source_slices:
        return None  # what it refers to is to be checked first
    return follower


def _hand_on(ticket: Ticket, tensors: Sequence[Tensor], follower: Ticket) -> None:
    """Give a follower the tensors it waits for: `tensors` are those of `ticket.keep`."""
    if len(tensors) == len(follower.sources) == 1:
        follower.references = tensors
    else:
        arrived = dict(zip([ticket.kept[position] for position in ticket.keep], tensors, strict=True))
        follower.references = [kept.tensor or arrived[kept] for kept in follower.sources]
    _note_holders(follower)


def _prepare(ticket: Ticket) -> None:
    """Give a queued ticket the tensors it refers to."""
    ticket.references = sliced_sources(ticket)
    _note_holders(ticket)


def _note_holders(ticket: Ticket) -> None:
    ticket.keep = tuple([position for position, kept in enumerate(ticket.kept) if kept.holders])
