"""A cache bounded by a count and, where entries differ in size, by bytes. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Maps keys to values, and evicts the least recently used entry first.

    An entry is used when `put` stores it, `get` finds it, or `touch` names it. Values are never None.

    >>> cache = LruCache[str, str](max_count=2)
    >>> cache.put("a", "first"), cache.put("b", "second"), cache.get("a"), cache.put("c", "third")
    ([], [], 'first', [('b', 'second')])
    """

    __slots__ = ("_entries", "_max_bytes", "_max_count", "_sizes", "nbytes", "touch")

    def __init__(self, max_count: int, max_bytes: int | None = None) -> None:
        """`max_count` is at least 1. Without `max_bytes` the sizes of entries do not matter."""
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}
        """Bytes of each entry that has any."""
        self.nbytes = 0
        """The total size of the entries."""
        self.touch = self._entries.move_to_end
        """`touch(key)` marks an entry as used. Raises KeyError. It is the method of the dict itself: no Python call."""

    def get(self, key: K) -> V | None:
        """The value of a key, or None."""
        value = self._entries.get(key)
        if value is not None:
            self.touch(key)
        return value

    def put(self, key: K, value: V, nbytes: int = 0) -> list[tuple[K, V]]:
        """Store a value, replacing the key's previous one. Returns the entries that were evicted, oldest first.

        An entry larger than `max_bytes` evicts only itself.
        """
        self.pop(key)
        max_bytes = self._max_bytes
        if max_bytes is not None:
            if nbytes > max_bytes:
                return [(key, value)]
            if nbytes:
                self._sizes[key] = nbytes
                self.nbytes += nbytes
        self._entries[key] = value
        evicted = []
        while len(self._entries) > self._max_count or (max_bytes is not None and self.nbytes > max_bytes):
            oldest, evicted_value = self._entries.popitem(last=False)
            self.nbytes -= self._sizes.pop(oldest, 0)
            evicted.append((oldest, evicted_value))
        return evicted

    def pop(self, key: K) -> V | None:
        """Remove an entry and return its value, or None if there is none."""
        self.nbytes -= self._sizes.pop(key, 0)
        return self._entries.pop(key, None)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        """The keys, least recently used first."""
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        size = "" if self._max_bytes is None else f", {self.nbytes} of {self._max_bytes} bytes"
        return f"<LruCache: {len(self._entries)} of {self._max_count} entries{size}>"
