"""Runs that follow each other in a slot before the core is told of the first one's end.

In a chain the next ticket waits for nothing but the run that has just ended; where several of one stream are queued,
their order is known. To run the next one at once, and to do the books of all afterwards, comes to the same for
everybody, since nothing else happens in between. But it is quicker: what a run leaves in the processor's caches is what
the next one needs, and the books are done while they are there, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from headrace.server.core.completion import Completion
from headrace.server.core.engine_api import Ended, Run, Tensor
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.specs import ModelSpec
from headrace.server.core.tickets import Ticket
from headrace.server.core.transitions import TicketState


class Followers:
    """What may run before the core is told of the runs before it. `delayed`: batches wait to be full."""

    def __init__(self, endings: Completion, *, delayed: bool) -> None:
        self._ends = endings
        self._delayed = delayed
        self._started = 0
        """How many runs the latest decision has started."""
        self._plain: ModelSpec | None = None
        """The model of all of these, if their ends make nobody ready whose turn comes before that of the queued."""
        self._ahead: deque[Ticket] = deque()
        """Those that were queued, were picked and may have run, in their order."""

    def decided(self, starts: Sequence[Run]) -> None:
        """These runs have been started."""
        self._started = len(starts)
        self._plain = starts[0].spec if starts and all(_is_plain(run, starts[0].spec) for run in starts) else None

    def after(self, ended: Ended) -> Run | None:
        """The next run in the slot of one that has ended; None where anything else may come first."""
        run = ended.run
        if len(run.parts) > 1 or self._ends.startable:
            return None
        ticket, model = _the_ticket(run)
        follower: Ticket | None = None
        if model.queued:
            if model.spec is self._plain and (follower := model.pick_ahead()) is not None:
                self._ahead.append(follower)
                _prepare(follower)
        elif self._started == 1 and not self._ahead and not (self._delayed and model.spec.batch > 1):
            follower = _follower_of(ticket) if ended.kept else None
            if follower is not None:
                _hand_on(ticket, ended.kept[0], follower)
        return None if follower is None else Run(model.spec, run.slot, (follower,), 1)

    def pick(self, run: Run) -> Ticket | None:
        """The ticket of a follower, if it may start now that the core knows of all that came before."""
        ticket, model = _the_ticket(run)
        if self._ahead:
            if ticket.stream.backpressured or ticket is not self._ahead[0]:
                return None
            self._ahead.popleft()
        elif ticket.state is not TicketState.QUEUED or not model.pick():
            return None
        return ticket

    def put_back(self) -> None:
        """Queue those again who were picked and did not start."""
        if self._ahead:
            model = self._ahead[0].model
            assert model is not None
            model.put_back(self._ahead)
            self._ends.startable[model] = None
            self._ahead.clear()


def model_of(run: Run) -> ModelQueue:
    """The model of a follower."""
    return _the_ticket(run)[1]


def _the_ticket(run: Run) -> tuple[Ticket, ModelQueue]:
    (ticket,) = run.parts
    assert isinstance(ticket, Ticket)
    assert ticket.model is not None
    return ticket, ticket.model


def _is_plain(run: Run, spec: ModelSpec) -> bool:
    ticket = run.parts[0]
    assert isinstance(ticket, Ticket)
    return run.spec is spec and spec.batch == 1 and not ticket.priority


def _follower_of(ticket: Ticket) -> Ticket | None:
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
    # Other shapes are checked when they are known.
    return follower if follower.plan is not None and follower.plan.fixed else None


def _hand_on(ticket: Ticket, tensors: Sequence[Tensor], follower: Ticket) -> None:
    """Give a follower what it waits for: `tensors` are those of `ticket.keep`."""
    if len(tensors) == len(follower.sources) == 1:
        follower.references = tensors
    else:
        arrived = dict(zip([ticket.kept[position] for position in ticket.keep], tensors, strict=True))
        follower.references = [kept.tensor or arrived[kept] for kept in follower.sources]
    _mark_wanted(follower)


def _prepare(ticket: Ticket) -> None:
    """Give a ticket that is queued what it refers to."""
    ticket.references = [kept.tensor for kept in ticket.sources if kept.tensor is not None]
    _mark_wanted(ticket)


def _mark_wanted(ticket: Ticket) -> None:
    ticket.keep = tuple([position for position, kept in enumerate(ticket.kept) if kept.holders])
