"""The outbox: commands that wait for the writer, gathered into frames. Pure."""

from __future__ import annotations

from collections import deque


class Outbox:
    """Takes items in order and gives them back as messages, each as full as it has become by then.

    An item is one command with its tensors, serialised as a frame of its own: protobuf joins
    repeated fields, so the concatenation of such frames is the frame that holds them all.
    """

    def __init__(self) -> None:
        self._most_items = self._most_bytes = 0
        self._closed: deque[tuple[list[bytes], int]] = deque()
        self._open: list[bytes] = []
        self._items = 0
        self._cost = 0
        self.unsent = 0
        """Bytes that wait, at most."""

    def set_limits(self, items: int, nbytes: int) -> None:
        """Where a frame closes; an item that is larger travels alone."""
        self._most_items = items
        self._most_bytes = nbytes

    def add(self, item: bytes, cost: int) -> None:
        """`cost` is the size of the item in bytes, at least."""
        if self._items and self._cost + cost > self._most_bytes:
            self._close()
        self._open.append(item)
        self._items += 1
        self._cost += cost
        self.unsent += cost
        if self._items >= self._most_items:
            self._close()

    def _close(self) -> None:
        self._closed.append((self._open, self._cost))
        self._open = []
        self._items = self._cost = 0

    def next_message(self) -> bytes | None:
        """The oldest frame, full or not; None when nothing waits."""
        if not self._closed:
            if not self._items:
                return None
            self._close()
        frame, cost = self._closed.popleft()
        self.unsent -= cost
        return b"".join(frame)

    def clear(self) -> None:
        """Nothing will be sent any more."""
        self._closed.clear()
        self._open = []
        self._items = self._cost = self.unsent = 0
