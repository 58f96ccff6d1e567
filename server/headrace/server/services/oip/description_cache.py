"""Descriptions of messages by their keys, bounded in number and in bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from headrace.server.core.quotas import Quota
from headrace.wire.lru import LruCache

MAX_COUNT = 1024
MAX_BYTES = 8 << 20

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class DescriptionCache(Generic[K, V]):
    """Forgets what was used least recently; what does not fit into `quota` beside everything else is not remembered."""

    __slots__ = ("_charged", "_entries", "_quota", "get")

    def __init__(self, quota: Quota) -> None:
        self._entries: LruCache[K, V] = LruCache(MAX_COUNT, MAX_BYTES)
        self._quota = quota
        self._charged = 0
        self.get = self._entries.get
        """The value of a key, or None. It is the method of the cache itself, since every message needs it."""

    @property
    def nbytes(self) -> int:
        return self._entries.nbytes

    def put(self, key: K, value: V, nbytes: int) -> None:
        """Remember a value that takes `nbytes` with its key."""
        self._entries.put(key, value, nbytes)
        while not self._quota.fits(more := self._entries.nbytes - self._charged) and self._entries:
            self._entries.pop(next(iter(self._entries)))
        if more > 0:
            self._quota.charge(more)
        else:
            self._quota.refund(-more)
        self._charged += more

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<DescriptionCache: {self._entries!r}>"
