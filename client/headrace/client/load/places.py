"""Where the next request of an open loop goes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from headrace.client.load.calling import Caller


class Places:
    """The places for requests in flight, `window` at each caller.

    A request goes to the caller with the fewest in flight; of several, to the one that has been so for longest. Callers
    are kept by how many they have in flight, so that a choice costs the same for one caller and for a thousand.
    """

    def __init__(self, callers: Sequence[Caller], window: int) -> None:
        self.callers = callers
        self._window = window
        self._used = [0] * len(callers)
        self._by_use = [OrderedDict.fromkeys(range(len(callers)))]
        self._least = 0
        self._freed: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        return self._least == self._window

    async def take(self) -> int:
        """The number of a caller, for `give_back`. Waits for a place; only one can wait at a time."""
        while self.full:
            self._freed = asyncio.get_running_loop().create_future()
            await self._freed
        number, _ = self._by_use[self._least].popitem(last=False)
        self._put(number, self._least + 1)
        if not self._by_use[self._least]:
            self._least += 1
        return number

    def give_back(self, number: int) -> None:
        used = self._used[number]
        del self._by_use[used][number]
        self._put(number, used - 1)
        self._least = min(self._least, used - 1)
        if self._freed is not None and not self._freed.done():
            self._freed.set_result(None)

    def _put(self, number: int, used: int) -> None:
        if used == len(self._by_use):
            self._by_use.append(OrderedDict())
        self._by_use[used][number] = None
        self._used[number] = used

    def __repr__(self) -> str:
        return f"<Places: {sum(self._used)} of {self._window * len(self._used)} used>"
