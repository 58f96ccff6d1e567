"""The order in which large messages are handled while there are more of them than the event loop can take at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable


class MessageTurns:
    """Lets one large message through in each turn of the event loop, and between them what else has arrived.

    Without it a hundred clients that write large messages without end had all of them handled before another client's
    small one. Clients (identities, or else connections) take turns, and those that have several streams no more of
    them than others.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[tuple[object, asyncio.Future[None]]]] = {}
        """For each client its messages in order, and the client whose turn is next first."""
        self._current: object = None
        """The call whose message was let through in this turn of the loop."""

    def take(self, call: object, client: Hashable) -> asyncio.Future[None] | None:
        """What a call of a client waits for before it goes on with a large message; None if it may at once."""
        loop = asyncio.get_running_loop()
        if self._current is None:
            self._current = call
            loop.call_soon(self._next)
            return None
        if self._current is call and not self._waiting:
            return None
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(client, deque()).append((call, turn))
        return turn

    def _next(self) -> None:
        """Another turn of the loop has begun."""
        while self._waiting:
            client = next(iter(self._waiting))
            turns = self._waiting.pop(client)
            call, turn = turns.popleft()
            if turns:
                self._waiting[client] = turns
            if not turn.done():  # its call may have ended
                self._current = call
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._current = None

    def __repr__(self) -> str:
        return f"<MessageTurns: {sum(map(len, self._waiting.values()))} messages wait>"
