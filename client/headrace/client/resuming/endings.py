"""How entries end: results, checkpoints, what was made again, and the order of an ordered stream. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.inputs import Zeros
from headrace.client.protocol.layouts import EMPTY, Layout, Outputs
from headrace.client.protocol.ticket_state import TicketState
from headrace.client.resuming import errors
from headrace.client.resuming.entry import Asked, Attempt, Entry, Link
from headrace.client.resuming.journal import Journal
from headrace.wire.errors import Code, FailedPrecondition, HeadraceError

_NOT_TAKEN = (
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED,
    Code.UNAVAILABLE,
)
"""With these errors a ticket may have been refused, or bad: then it has not taken what it refers to."""
_INPUT_BYTES = 4 << 10
"""The most bytes of a message with one input that are not the input's."""


class Endings:
    """Ends entries, each once. `tickets` collects those of the application, in the order in which it gets them."""

    def __init__(self, journal: Journal, clock: Callable[[], float], *, ordered: bool) -> None:
        self.tickets: list[TicketState] = []
        self._journal = journal
        self._clock = clock
        self._ordered = ordered
        self._turns: deque[Entry] = deque()
        """In an ordered stream: the Infers whose ends the application does not have, in order."""

    def expect(self, entry: Entry) -> None:
        """A new entry, which will end."""
        if self._ordered and entry.fetch is None:
            self._turns.append(entry)

    def discard(self, entry: Entry) -> None:
        """The last new entry was not submitted after all."""
        if self._turns and self._turns[-1] is entry:
            self._turns.pop()

    def fail(self, entry: Entry, error: HeadraceError) -> None:
        entry.error = error
        if error.code in _NOT_TAKEN:
            self._journal.give_back(entry)
        self._end(entry)

    def fetched(self, entry: Entry, outputs: Outputs) -> None:
        """A Fetch of what the journal has itself."""
        self._hand_over_outputs(entry, outputs)

    def take(self, attempt: Attempt, connection: int) -> None:
        """Process the end of an attempt on the connection with this number."""
        entry = attempt.entry
        del attempt.entry  # they would refer to each other, and wait for the garbage collector
        if entry.attempt is not attempt:
            return  # it ended otherwise meanwhile
        if entry.ended:
            self._made_again(entry, attempt, connection)
        elif attempt.error is not None:
            self._failed(entry, attempt, attempt.error)
        elif entry.fetch is not None:
            self._done(entry, attempt)
        else:
            self._infer_done(entry, attempt, connection)

    def lose(self, entry: Entry, error: HeadraceError) -> None:
        """The outputs of an entry cannot be made again. Everything that depends on it fails."""
        affected = self._journal.affected(entry)
        if entry.ended:
            entry.lost = error
        else:
            self.fail(entry, error)
        for other in affected:
            source, reference = next(
                link for link in other.sources if link.source.error is not None or link.source.lost is not None
            )
            if other.attempt is not None:
                other.attempt.owner.cancel(other.attempt)
                other.attempt = None
            failure = errors.source_failed(source, reference.output, fetch=other.fetch is not None)
            if other.ended:
                other.lost = failure
            else:
                self.fail(other, failure)

    # Internal

    def _failed(self, entry: Entry, attempt: Attempt, error: HeadraceError) -> None:
        if attempt.extra and error.code is Code.RESOURCE_EXHAUSTED and not error.retryable:
            error = errors.not_checkpointed(entry, error.message)
        elif attempt.extra and error.code is Code.INVALID_ARGUMENT and "is named twice" in error.message:
            error = errors.named_otherwise(entry)
        elif entry.pinned and error.code is Code.NOT_FOUND:
            error = errors.version_gone(entry, error)
        self.fail(entry, error)

    def _infer_done(self, entry: Entry, attempt: Attempt, connection: int) -> None:
        assert attempt.layout is not None
        try:
            _learn_model(entry, attempt.layout, connection)
            if entry.checkpointing:
                _take_checkpoint(entry, attempt)
        except FailedPrecondition as error:
            self.lose(entry, error)
        else:
            self._done(entry, attempt)

    def _done(self, entry: Entry, attempt: Attempt) -> None:
        entry.outcome = attempt
        entry.breaks, entry.is_suspect = 0, False
        self._end(entry)

    def _made_again(self, entry: Entry, attempt: Attempt, connection: int) -> None:
        layout = attempt.layout
        if layout is None:
            assert attempt.error is not None
            self.lose(entry, errors.not_repeated(attempt.error))
            return
        try:
            if layout.version == entry.bound and _other(layout.fingerprint, entry.fingerprint):
                raise errors.other_model(entry, layout.fingerprint)
            _learn_model(entry, layout, connection)
        except FailedPrecondition as error:
            self.lose(entry, error)
        else:
            entry.breaks, entry.is_suspect = 0, False
            self._journal.use(entry, self._clock())

    def _end(self, entry: Entry) -> None:
        self._journal.end(entry, self._clock())
        if not self._ordered or entry.fetch is not None:
            self._hand_over(entry)
            return
        while self._turns and self._turns[0].ended:
            self._hand_over(self._turns.popleft())

    def _hand_over(self, entry: Entry) -> None:
        ticket, attempt = entry.ticket, entry.outcome
        assert ticket is not None
        if attempt is None:
            ticket.error = entry.error
        else:
            assert attempt.layout is not None
            count = attempt.layout.count - len(attempt.extra)
            ticket.layout = attempt.layout if not attempt.extra else attempt.layout.first(count)
            ticket.tensors = attempt.tensors if not attempt.extra else attempt.tensors[:count]
            ticket.times = attempt.times
            attempt.tensors = ()
        entry.ticket = entry.outcome = None
        self.tickets.append(ticket)

    def _hand_over_outputs(self, entry: Entry, outputs: Outputs) -> None:
        self._journal.end(entry, self._clock())
        ticket, entry.ticket = entry.ticket, None
        assert ticket is not None
        ticket.layout = EMPTY
        ticket.set_outputs(outputs)
        self.tickets.append(ticket)


def _learn_model(entry: Entry, layout: Layout, connection: int) -> None:
    """Remember which model has made the outputs.

    Raises FailedPrecondition if sources come from another server, and from other files of the same version.
    """
    entry.made_on, entry.inherits = connection, False
    if layout.version:
        entry.bound, entry.fingerprint = layout.version, layout.fingerprint
    for source, _ in entry.sources:
        if source.asked.model != entry.asked.model or (source.made_on == connection and not source.inherits):
            continue
        if not layout.version:
            entry.bound, entry.fingerprint, entry.inherits = source.bound, source.fingerprint, True
        elif source.bound == entry.bound and _other(source.fingerprint, entry.fingerprint):
            raise errors.other_model(source, entry.fingerprint)


def _other(fingerprint: int, before: int) -> bool:
    return bool(fingerprint and before) and fingerprint != before


def extra_outputs(asked: Asked) -> tuple[str, ...]:
    """The kept outputs that do not come with Done anyway."""
    if asked.outputs is None:
        return ()
    return tuple([name for name in asked.kept_outputs if name not in asked.outputs])


def _take_checkpoint(entry: Entry, attempt: Attempt) -> None:
    """Raises FailedPrecondition if an output did not come, or is too large to be sent again."""
    layout = attempt.layout
    assert layout is not None
    names = [spec.name for spec in layout.sent]
    checkpoint: dict[str, npt.NDArray[Any]] = {}
    for at, name in enumerate(entry.asked.kept_outputs):
        if name in attempt.extra:
            index = layout.count - len(attempt.extra) + attempt.extra.index(name)
        elif entry.asked.outputs is not None:
            index = entry.asked.outputs.index(name)
        else:
            # What was taken before the ticket was done is not in `kept`.
            complete = len(layout.kept) == len(entry.asked.keep)
            own = layout.kept[at].name if complete else name
            if own not in names:
                raise errors.named_otherwise(entry)
            index = names.index(own)
        checkpoint[name] = np.array(layout.sent[index].array(attempt.tensors[index]))
    for name in entry.asked.keep_inputs:
        given = entry.inputs[name]
        assert not isinstance(given, Link)
        checkpoint[name] = np.zeros(given.shape, given.dtype) if isinstance(given, Zeros) else given
    hello = attempt.owner.hello
    total = max([array.nbytes for array in checkpoint.values()], default=0)
    if hello is not None and total + _INPUT_BYTES > hello.max_message_bytes:
        why = f"{total} bytes; the server takes messages of at most {hello.max_message_bytes}"
        raise errors.not_checkpointed(entry, why)
    entry.checkpoint = checkpoint
