"""Putting entries on a connection, in order: new ones, and those that are sent again. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy.typing as npt

from headrace.client.protocol.inputs import Inputs, Reference, Zeros
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.resuming import errors
from headrace.client.resuming.endings import Endings, extra_outputs
from headrace.client.resuming.entry import Attempt, Entry, Link
from headrace.client.resuming.journal import Journal
from headrace.wire.errors import HeadraceError, InvalidArgument
from headrace.wire.tensors import sliced_shape

BREAKS_ALONE = 2
"""An entry that was in flight at this many breaks is sent with nothing else in flight."""
MAX_BREAKS = 3
"""And at this many it fails: it may be what ends the servers."""
MAX_SUSPECTS = 32
"""If a server crashes and no more Infers than these were in flight, each is sent alone at once.

A second crash then has one that may have caused it: an Infer that ends its server ends two of them. If there were more,
each is sent alone after the second break.
"""


class Placement:
    """`connection` is the protocol of the connection of now, if there is one, and `number` counts connections."""

    def __init__(self, journal: Journal, endings: Endings, clock: Callable[[], float]) -> None:
        self.connection: StreamProtocol | None = None
        self.number = 0
        self.pending: deque[Entry] = deque()
        """What will be sent as soon as the window allows, in order."""
        self._pending_set: set[Entry] = set()
        self._alone: Entry | None = None
        """What must be the only ticket in flight."""
        self._journal = journal
        self._endings = endings
        self._clock = clock

    @property
    def free_window(self) -> int:
        """How many new entries the connection takes now."""
        connection = self.connection
        if connection is None or connection.draining or self.pending or self._is_alone:
            return 0
        return connection.free_window

    @property
    def _is_alone(self) -> bool:
        if self._alone is not None and (self._alone.attempt is None or self._alone.attempt.ended):
            self._alone = None
        return self._alone is not None

    def connect(self, connection: StreamProtocol) -> None:
        """Send everything that is unfinished again, on a new connection."""
        self.connection = connection
        self.number += 1
        self.enqueue(self._journal.unfinished.values())

    def disconnect(self, *, crashed: bool) -> None:
        """The connection is lost, and with it all that the server kept."""
        connection, self.connection = self.connection, None
        if connection is not None and not connection.draining:
            self._count_break([each for each in connection.in_flight.values() if isinstance(each, Attempt)], crashed)
        self.pending.clear()
        self._pending_set.clear()
        self._journal.left.clear()
        self._alone = None
        for entry in [*self._journal.entries.values()]:
            entry.attempt = None
            if entry.is_poison and entry.ended and entry.lost is None:
                self._endings.lose(entry, errors.poisonous(entry.breaks))
        for entry in [*self._journal.unfinished.values()]:
            if entry.ended:
                continue
            if entry.ticket is not None and entry.ticket.cancelling:
                self._endings.fail(entry, errors.cancelled())
            elif entry.is_poison:
                self._endings.fail(entry, errors.poisonous(entry.breaks))

    def _count_break(self, attempts: Sequence[Attempt], crashed: bool) -> None:
        entries = [each.entry for each in attempts if each.entry.attempt is each]
        infers = [entry for entry in entries if entry.fetch is None]
        for entry in entries:
            entry.breaks += 1
            entry.is_suspect |= entry.breaks >= BREAKS_ALONE
            entry.is_poison = entry.breaks >= MAX_BREAKS
        if crashed and self._is_alone and self._alone in infers:
            self._alone.is_poison = True
        elif crashed and len(infers) <= MAX_SUSPECTS:
            for entry in infers:
                entry.is_suspect = True

    def is_ready(self, entry: Entry) -> bool:
        """Whether the entry can be sent at once: nothing must be sent before it."""
        if self.free_window <= 0:
            return False
        return all(source.attempt is not None or source.checkpoint is not None for source, _ in entry.sources)

    def source_failure(self, entry: Entry) -> HeadraceError | None:
        """Why the entry fails, if one of its sources has failed or is lost."""
        for source, reference in entry.sources:
            if source.error is not None or source.lost is not None:
                return errors.source_failed(source, reference.output, fetch=entry.fetch is not None)
        return None

    def enqueue(self, wanted: Iterable[Entry]) -> None:
        """Send these entries, and before them what must be sent again for them.

        Without a connection that takes them they stay unfinished, and are sent on the next one.
        """
        if self.connection is None or self.connection.draining:
            return
        for entry in self._journal.closure(wanted):
            if entry not in self._pending_set:
                self.pending.append(entry)
                self._pending_set.add(entry)
        self.pump()

    def pump(self) -> None:
        """Send what is pending, as far as the window allows."""
        connection = self.connection
        while self.pending and connection is not None and not connection.draining:
            entry = self.pending[0]
            if entry.error is None:
                if self._is_alone or connection.free_window <= 0:
                    return
                if entry.is_suspect and connection.in_flight:
                    return
                self._alone = entry if entry.is_suspect else None
            self.pending.popleft()
            self._pending_set.discard(entry)
            self._place_pending(entry)

    def place(self, entry: Entry) -> None:
        """Send an entry. Raises what the client can see by itself, without effect."""
        connection = self.connection
        assert connection is not None
        connection.last_tag = entry.tag - 1
        if entry.fetch is not None:
            self._place_fetch(connection, entry, *entry.fetch)
            return
        asked = entry.asked
        outputs, kept = asked.outputs, asked.keep
        extra: tuple[str, ...] = ()
        timeout = None
        if entry.ended:
            outputs, kept = (), tuple([name for name in kept if name in entry.held or entry.is_needed(name)])
        else:
            timeout = None if entry.deadline is None else max(0.0, entry.deadline - self._clock())
            if entry.checkpointing:
                extra = extra_outputs(asked)
                outputs = None if outputs is None else (*outputs, *extra)
        attempt = Attempt(connection, entry, extra)
        inputs, version = self._inputs(connection, entry), self._version(entry)
        keep = [name for name in kept if name not in asked.keep_inputs]
        keep_inputs = [name for name in kept if name in asked.keep_inputs]
        connection.submit(attempt, asked.model, version, inputs, outputs, keep, timeout, entry.priority, keep_inputs)
        entry.attempt = attempt
        if entry.ticket is not None:
            connection.set_deadline(attempt, entry.ticket.deadline)
        for source, reference in entry.sources:
            if reference.take and source.attempt is not None and not source.is_needed(reference.output):
                source.attempt.take(reference.output)

    def let_go(self) -> None:
        """Release on the server what nothing refers to any more, now or when it is sent again."""
        left = self._journal.left
        while left:
            self.release_unneeded(left.pop())

    def release_unneeded(self, entry: Entry) -> None:
        attempt = entry.attempt
        if attempt is not None:
            names = [name for name in attempt.unreleased() if name not in entry.held and not entry.is_needed(name)]
            if names:
                attempt.owner.release(attempt, names)

    # Internal

    def _place_pending(self, entry: Entry) -> None:
        failure: HeadraceError | None = None
        if entry.error is None:
            failure = self.source_failure(entry)
            if failure is None:
                try:
                    self.place(entry)
                except HeadraceError as error:
                    failure = error
                except (TypeError, ValueError) as error:
                    failure = InvalidArgument(str(error))
        if failure is not None:
            self._endings.lose(entry, failure)
        # What the application has released meanwhile was sent with the others.
        self.release_unneeded(entry)
        for source, _ in entry.sources:
            self.release_unneeded(source)

    def _place_fetch(
        self, connection: StreamProtocol, entry: Entry, name: str, slices: Sequence[tuple[int, int]]
    ) -> None:
        ((source, _),) = entry.sources
        if source.attempt is not None:
            attempt = Attempt(connection, entry)
            connection.fetch(attempt, source.attempt, name, tuple(slices))
            entry.attempt = attempt
            return
        assert source.checkpoint is not None
        part = _part(source.checkpoint[name], slices)
        part.flags.writeable = False
        self._endings.fetched(entry, {name: part})

    def _inputs(self, connection: StreamProtocol, entry: Entry) -> Inputs:
        """The inputs for this connection: what a checkpoint has is sent inline."""
        inputs: dict[str, npt.NDArray[Any] | Zeros | Reference] = {}
        for name, value in entry.inputs.items():
            if not isinstance(value, Link):
                inputs[name] = value
                continue
            source, reference = value
            if source.attempt is not None:
                take = reference.take and not source.is_needed(reference.output, beside=entry)
                inputs[name] = Reference(connection, reference.tag, reference.output, take, None, reference.slices)
            else:
                assert source.checkpoint is not None
                inputs[name] = _part(source.checkpoint[reference.output], reference.slices)
        return inputs

    def _version(self, entry: Entry) -> str | None:
        """A chain that goes on at another server goes on with the version that it has."""
        if entry.asked.version or self.number == 1:
            return entry.asked.version
        if not entry.bound:
            for source, _ in entry.sources:
                if source.bound and source.asked.model == entry.asked.model:
                    entry.bound, entry.pinned = source.bound, True
        return entry.bound or None


def _part(array: npt.NDArray[Any], slices: Sequence[tuple[int, int]]) -> npt.NDArray[Any]:
    """A view of a part of an array. Raises InvalidArgument unless the slices lie inside it."""
    sliced_shape(array.shape, slices)
    part: npt.NDArray[Any] = array[tuple([slice(start, stop) for start, stop in slices])]
    return part
