"""An entry of the journal: one Infer or Fetch, with all that it takes to send it again. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.client.protocol.inputs import Reference, Zeros
from headrace.client.protocol.slices import Slices
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.ticket_state import TicketState
from headrace.wire.errors import HeadraceError, quote


class Asked(NamedTuple):
    """What an Infer asks for, apart from its inputs."""

    model: str
    version: str | None
    outputs: tuple[str, ...] | None
    keep: tuple[str, ...]
    """What is kept: outputs, and then inputs."""
    keep_inputs: tuple[str, ...]

    @property
    def kept_outputs(self) -> tuple[str, ...]:
        return self.keep[: len(self.keep) - len(self.keep_inputs)]


class Link(NamedTuple):
    """A kept output that an entry needs."""

    source: Entry
    reference: Reference


Value = npt.NDArray[Any] | Zeros | Link


class Entry:
    """`ticket` is the application's. Its tag is the same on every connection, so messages of servers name it right."""

    __slots__ = (
        "asked",
        "attempt",
        "bound",
        "breaks",
        "bytes",
        "checkpoint",
        "checkpointing",
        "deadline",
        "ended",
        "error",
        "fetch",
        "fingerprint",
        "held",
        "inherits",
        "inputs",
        "is_poison",
        "is_suspect",
        "links",
        "lost",
        "made_on",
        "outcome",
        "pinned",
        "priority",
        "sources",
        "tag",
        "ticket",
        "users",
    )

    def __init__(self, ticket: TicketState, tag: int, asked: Asked, inputs: dict[str, Value]) -> None:
        self.ticket: TicketState | None = ticket
        """None once the application has the end."""
        self.tag = tag
        self.asked = asked
        self.inputs = inputs
        """Copies of what the application gave. Empty once the entry cannot be sent again."""
        self.sources = tuple([value for value in inputs.values() if type(value) is Link])
        self.fetch: tuple[str, Slices] | None = None
        """Output and slices, if it is a Fetch. It has one source."""
        self.priority = 0
        self.deadline: float | None = None
        self.held = set(asked.keep)
        """The kept outputs that the application may still refer to."""
        self.users: set[Entry] = set()
        """The entries that need its outputs when they are sent again."""
        self.links = 1
        """The most entries that have to be sent again for its outputs, itself included."""
        self.bytes = 0
        """The most bytes of inputs that they have."""
        self.checkpointing = False
        """Whether its kept outputs are asked for, as a checkpoint."""
        self.checkpoint: dict[str, npt.NDArray[Any]] | None = None
        """Its kept outputs: it need not be sent again."""
        self.attempt: Attempt | None = None
        """What was sent of it on the connection of now."""
        self.breaks = 0
        """How many connections broke while it was in flight."""
        self.is_suspect = False
        """Whether it may end servers, so that it is sent with nothing else in flight."""
        self.is_poison = False
        """Whether it seems to, so that it is not sent again."""
        self.bound = ""
        """The version that has run, or has to."""
        self.pinned = False
        """Whether the version is the one of a source, and not one that the application named."""
        self.fingerprint = 0
        """Of the model that has made its outputs; 0 if it is not known."""
        self.inherits = False
        """Whether version and fingerprint are those of a source: its own end did not say, and the chain has moved."""
        self.made_on = 0
        """The number of the connection on which its outputs were made."""
        self.ended = False
        """Whether its outcome is known, which in an ordered stream may wait for its turn."""
        self.error: HeadraceError | None = None
        self.outcome: Attempt | None = None
        """What ended it, until the application has it."""
        self.lost: HeadraceError | None = None
        """Why its outputs cannot be made again."""

    def is_needed(self, output: str, *, beside: Entry | None = None) -> bool:
        """Whether an entry (beside this one) that is not on the connection refers to this output, if it is sent."""
        return any(
            source is self and reference.output == output
            for user in self.users
            if user.attempt is None and user.lost is None and user is not beside
            for source, reference in user.sources
        )

    def __repr__(self) -> str:
        what = f"of model {quote(self.asked.model)}" if self.fetch is None else "(fetch)"
        state = "failed" if self.error else "ended" if self.ended else "unfinished"
        return f"<Entry {self.tag} {what}: {state}, {self.links} links, {len(self.users)} users>"


class Attempt(TicketState):
    """An entry on one connection: `owner` is the protocol of the connection."""

    __slots__ = ("entry", "extra")

    owner: StreamProtocol

    def __init__(self, owner: StreamProtocol, entry: Entry, extra: tuple[str, ...] = ()) -> None:
        super().__init__(owner)
        self.entry = entry
        self.extra = extra
        """The outputs, the last ones, that were asked for only as a checkpoint."""

    def take(self, output: str) -> None:
        """Another attempt on this connection takes an output."""
        if output in self.keep:
            self.mark_released((output,))

    def give_back(self, output: str) -> None:
        """It was refused, and has not taken it."""
        if self._released is not None:
            self._released.discard(output)

    def unreleased(self) -> list[str]:
        return [name for name in self.keep if self._released is None or name not in self._released]


def size_of(value: Value) -> int:
    """The memory of an input, in bytes."""
    if type(value) is not np.ndarray:
        return 0
    return value.nbytes + (sum(map(len, value.flat)) if value.dtype.hasobject else 0)
