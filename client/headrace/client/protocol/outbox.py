"""The outbox: commands waiting for the writer, gathered into frames. Pure."""

from __future__ import annotations

from collections import deque


class Outbox:
    """Gathers items, in order, into messages. A message holds the items that are there when it is asked for.

    An item is one command with its tensors, serialized as a frame of its own. Protobuf joins repeated fields, so the
    concatenation of such frames is the frame that holds them all.
    """

    def __init__(self) -> None:
        self._max_items = self._max_bytes = 0
        self._closed: deque[tuple[list[bytes], int]] = deque()
        self._open: list[bytes] = []
        self._items = 0
        self._cost = 0
        self.unsent = 0
        """An upper bound of the bytes that wait to be sent."""

    def set_limits(self, max_items: int, max_bytes: int) -> None:
        """Set where a frame closes. A larger item travels alone."""
        self._max_items = max_items
        self._max_bytes = max_bytes

    def add(self, item: bytes, cost: int) -> None:
        """Queue an item. `cost` is its size in bytes, or more."""
        if self._items and self._cost + cost > self._max_bytes:
            self._close()
        self._open.append(item)
        self._items += 1
        self._cost += cost
        self.unsent += cost
        if self._items >= self._max_items:
            self._close()

    def _close(self) -> None:
        self._closed.append((self._open, self._cost))
        self._open = []
        self._items = self._cost = 0

    def next_message(self) -> bytes | None:
        """The oldest frame, full or not; None if nothing is waiting."""
        if not self._closed:
            if not self._items:
                return None
            self._close()
        frame, cost = self._closed.popleft()
        self.unsent -= cost
        return b"".join(frame)

    def clear(self) -> None:
        """Drop everything that waits."""
        self._closed.clear()
        self._open = []
        self._items = self._cost = self.unsent = 0

    def __repr__(self) -> str:
        frames = len(self._closed) + bool(self._items)
        return f"<Outbox: {frames} frames, {self.unsent} bytes unsent>"
