"""Sequences of requests to models with variables: which are live, whose turn it is, and why others have ended.

A *sequence* has an id, which the clients of a model choose. Its tickets run one after the other, in the order of their
arrival, whatever streams they came on; each run begins with what the variables held after the run before. Tickets of
different sequences have nothing to do with each other.

A ticket with a *start* begins a new sequence, even if one of that id is live: no ticket joins that one any more. A
ticket with an *end* is the last one. A ticket that does not end as done breaks its sequence: those behind it fail,
because what they would begin with is not what their client thinks; those before it are not affected. A sequence also
ends when it has had no ticket for some time, and when its version of the model is retired. Why it has ended is
remembered for a while, for the error of whoever comes later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from headrace.server.core.calls import Plan, bind
from headrace.server.core.deadlines import Deadlines
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.engine_api import Variables
from headrace.server.core.limits import Limits
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.models import Models
from headrace.server.core.quotas import Quota
from headrace.server.core.state import Key, Ticket, TicketSequence
from headrace.server.core.transitions import TicketState
from headrace.wire.errors import (
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    ResourceExhausted,
    Unimplemented,
    quote,
)

SEQUENCE_BYTES = 1 << 10
"""The least that a live sequence is charged: it is an object with a few others, besides what its variables hold."""
MAX_ID_BYTES = 128
"""Of an id that is text."""
MAX_REMEMBERED = 4096
"""Ended sequences of which the reason is remembered. The oldest is forgotten first."""


class Step(NamedTuple):
    """The place of a ticket in a sequence. The `id` 0 or "" stands for no sequence."""

    id: int | str
    start: bool = False
    end: bool = False
    client: str | None = None
    """The name of the client whose ids they are, if clients are known."""


NO_STEP = Step(0)
"""A request of a protocol with sequences that is part of none."""


class Sequences:
    """`account` is what the live sequences are charged to."""

    def __init__(self, limits: Limits, account: Quota, models: Models) -> None:
        self._seconds = limits.keep_seconds
        self._most = limits.sequences
        self._account = account
        self._models = models
        self._generation = models.generation
        self.times: Deadlines[TicketSequence] = Deadlines()
        """When sequences end for want of a ticket."""
        self._live: dict[Key, TicketSequence] = {}
        self._ended: OrderedDict[Key, str] = OrderedDict()
        """Why a sequence is not live any more, as a clause."""

    # ------------------------------------------------------------------------------------------------------ tickets

    def find(
        self, model: ModelQueue[Ticket], plan: Plan, defined: DefinedCall, step: Step
    ) -> tuple[ModelQueue[Ticket], Plan]:
        """The model and the plan of a ticket with this place: those of the version on which its sequence runs.

        Raises InvalidArgument for an id that cannot be, FailedPrecondition when there is no such sequence,
        ResourceExhausted when there are too many, and Unimplemented when the model keeps no state.
        """
        spec = model.spec
        if not spec.sequences:
            if step == NO_STEP:
                return model, plan
            raise Unimplemented(
                f"model {quote(spec.name)} has variables, which are reset before each inference, so it has no "
                "sequences; the server keeps the variables with --state=sequence, or clients do with --state=ports"
            )
        key = _key(spec.name, step)
        self.end_retired()
        live = self._live.get(key)
        if step.start:
            if not step.end:
                self._check_room(live)
        elif live is None:
            raise FailedPrecondition(self._why_not_live(key))
        elif live.model is not model:
            call = defined.call
            if call.version:
                version = live.model.spec.version
                raise FailedPrecondition(f"{_named(key)} runs on version {version}, not on {spec.version}")
            return live.model, live.plan(call) or live.remember(call, bind(call, live.model.spec))
        return model, plan

    def join(self, ticket: Ticket, model: ModelQueue[Ticket], step: Step) -> bool:
        """Give an admitted ticket the place that was found for it. True if it need not wait for another one."""
        key = model.spec.name, step.id, step.client
        if step.start:
            self._end(key, "another one has begun")
            sequence = TicketSequence(key, model)
            if not step.end:
                self._live[key] = sequence
                self._charge(sequence, SEQUENCE_BYTES)
        else:
            sequence = self._live[key]
            self.times.drop(sequence)
        if step.end:
            sequence.open = False
            self._live.pop(key, None)
        self._ended.pop(key, None)
        sequence.line.append(ticket)
        ticket.sequence = sequence
        return len(sequence.line) == 1

    def advance(self, ticket: Ticket, variables: Variables | None, now: float) -> Ticket | None:
        """A ticket is done, and the variables hold this. Returns the ticket whose turn it is now.

        Raises ResourceExhausted when that does not fit, without changing anything.
        """
        sequence = ticket.sequence
        assert sequence is not None
        assert sequence.line[0] is ticket
        if sequence.wants_variables(ticket):
            assert variables is not None
            nbytes = max(variables.nbytes, SEQUENCE_BYTES)
            if nbytes > sequence.charged and not self._account.fits(nbytes - sequence.charged):
                raise ResourceExhausted(
                    f"the variables of {_named(sequence.key)} take {nbytes} bytes; all sequences have "
                    f"{self._account.used} of {self._account.most} bytes"
                )
            self._charge(sequence, nbytes)
            sequence.variables = variables
        sequence.line.popleft()
        ticket.sequence = None
        if sequence.line:
            return sequence.line[0]
        if sequence.open:
            self.times.set(sequence, now + self._seconds)
        else:
            self._free(sequence)
        return None

    def cut(self, ticket: Ticket, state: TicketState, error: HeadraceError) -> Sequence[tuple[Ticket, HeadraceError]]:
        """A ticket has failed. Returns the tickets behind it, which fail too, and what they fail with."""
        sequence, ticket.sequence = ticket.sequence, None
        assert sequence is not None
        why = "a request of it was cancelled" if state is TicketState.CANCELLED else _failed(error)
        if self._live.get(sequence.key) is sequence:
            self._end(sequence.key, why)
        sequence.open = False
        behind: list[tuple[Ticket, HeadraceError]] = []
        while (last := sequence.line.pop()) is not ticket:
            last.sequence = None
            behind.append((last, FailedPrecondition(_ended(sequence.key, why))))
        if not sequence.line:
            self._free(sequence)
        return behind[::-1]

    def missed(self, name: str, step: Step, error: HeadraceError) -> None:
        """A request of a model that was to have this place has failed before it joined: its sequence has a gap."""
        why = _failed(error)
        if self._end((name, step.id, step.client), why) or not step.start:
            return
        with suppress(HeadraceError):  # a name or an id that cannot be is not remembered
            if self._models.find(name).spec.sequences:
                self._remember(_key(name, step), why)

    # -------------------------------------------------------------------------------------------------------- ends

    def end_idle(self, now: float) -> None:
        """End the sequences that have had no ticket for too long."""
        for sequence in self.times.pop(now):
            self._end(sequence.key, f"it had no request for {self._seconds:g} s")

    def end_retired(self) -> None:
        """End the sequences whose version of the model is not served any more. Tickets in flight finish."""
        if self._generation == self._models.generation:
            return
        self._generation = self._models.generation
        served = {*self._models}
        for key, sequence in tuple(self._live.items()):
            if sequence.model not in served:
                self._end(key, f"version {sequence.model.spec.version} of the model was unloaded or replaced")

    def _end(self, key: Key, why: str) -> bool:
        """No further ticket joins this sequence. False if it is not live."""
        sequence = self._live.pop(key, None)
        if sequence is None:
            return False
        sequence.open = False
        self.times.drop(sequence)
        self._remember(key, why)
        if not sequence.line:
            self._free(sequence)
        return True

    def _remember(self, key: Key, why: str) -> None:
        self._ended.pop(key, None)
        self._ended[key] = why
        if len(self._ended) > MAX_REMEMBERED:
            self._ended.popitem(last=False)

    def _why_not_live(self, key: Key) -> str:
        why = self._ended.get(key)
        if why is not None:
            return _ended(key, why)
        return f"there is no {_named(key)}; its first request needs sequence_start"

    # ------------------------------------------------------------------------------------------------------- bounds

    def _check_room(self, live: TicketSequence | None) -> None:
        """Raises ResourceExhausted when a new sequence does not fit. `live` is the one of the same id, if any."""
        if live is not None and not live.line:
            return  # it makes room
        if (live is None and len(self._live) >= self._most) or not self._account.fits(SEQUENCE_BYTES):
            raise ResourceExhausted(
                f"no further sequence can begin: {len(self._live)} of {self._most} are live, with "
                f"{self._account.used} of {self._account.most} bytes"
            )

    def _charge(self, sequence: TicketSequence, nbytes: int) -> None:
        self._account.charge(nbytes - sequence.charged)
        sequence.charged = nbytes

    def _free(self, sequence: TicketSequence) -> None:
        sequence.variables = None
        self._charge(sequence, 0)

    def __len__(self) -> int:
        return len(self._live)

    def __repr__(self) -> str:
        return f"<Sequences {len(self._live)} live, {self._account.used} bytes, {len(self._ended)} ended>"


def _key(model: str, step: Step) -> Key:
    """Raises InvalidArgument for an id that cannot be one."""
    if not step.id:
        raise InvalidArgument(f"model {quote(model)} keeps its state by sequence: a request of it needs a sequence_id")
    if isinstance(step.id, str) and len(step.id.encode()) > MAX_ID_BYTES:
        raise InvalidArgument(f"the sequence_id has {len(step.id.encode())} bytes; the limit is {MAX_ID_BYTES}")
    return model, step.id, step.client


def _named(key: Key) -> str:
    model, number, _ = key
    return f"sequence {quote(number, MAX_ID_BYTES) if isinstance(number, str) else number} of model {quote(model)}"


def _failed(error: HeadraceError) -> str:
    return f"a request of it ended with {error.code.name}"


def _ended(key: Key, why: str) -> str:
    return f"{_named(key)} has ended: {why}; begin a new one with sequence_start"
