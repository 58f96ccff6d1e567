"""Requests of which most is as it was in an earlier one: those of a client differ in their ids and tensors only.

To see that the rest is the same takes a few comparisons of bytes; to walk over all fields takes a fifth of all that
this front does for a request. What differs in more is walked over, and remembered in place of the last one of its
length.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.server.services.oip.messages import Pieces, take_apart

REMEMBERED = 256
"""Layouts, each of a length."""
REMEMBERED_BYTES = 16 << 10
"""A request that has more besides its id and its tensors is not remembered."""


class _Layout:
    """Where the id and the tensors of a request are, and every byte that is neither."""

    __slots__ = ("_id", "_pieces", "_raw", "_same")

    def __init__(self, message: bytes, pieces: Pieces) -> None:
        self._pieces = pieces
        self._id = pieces.id_at
        self._raw = pieces.raw_at
        self._same: list[tuple[slice, bytes]] = []
        at = 0
        for gap in sorted((self._id, *self._raw), key=lambda gap: gap.start):
            self._same.append((slice(at, gap.start), message[at : gap.start]))
            at = gap.stop
        self._same.append((slice(at, len(message)), message[at:]))

    def pieces(self, message: bytes) -> Pieces | None:
        """Those of a message of the same length, if it is the same but for its id and its tensors."""
        for at, same in self._same:
            if message[at] != same:
                return None
        known = self._pieces
        request_id = message[self._id]
        try:
            request_id.decode()
        except UnicodeDecodeError:
            return None
        view = memoryview(message)
        return Pieces(known.described, request_id, known.parameters, [view[at] for at in self._raw])


class Layouts:
    """Takes requests apart, and remembers what they look like."""

    def __init__(self) -> None:
        self._known: dict[int, _Layout] = {}

    def take_apart(self, message: bytes) -> Pieces:
        """As `messages.take_apart`."""
        known = self._known.get(len(message))
        pieces = None if known is None else known.pieces(message)
        if pieces is None:
            pieces = take_apart(message)
            self._learn(message, pieces)
        return pieces

    def _learn(self, message: bytes, pieces: Pieces) -> None:
        if pieces.error is None and pieces.raw and len(message) - _size(pieces.raw) <= REMEMBERED_BYTES:
            if len(self._known) == REMEMBERED and len(message) not in self._known:
                self._known.clear()
            # Not the views, which would keep the message.
            self._known[len(message)] = _Layout(message, pieces._replace(raw=()))


def _size(views: Sequence[memoryview]) -> int:
    return sum(map(len, views))
