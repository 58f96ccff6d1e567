"""The calls that may be receiving a message: gRPC holds what has come of it, and no account of the budget knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakKeyDictionary

from headrace.wire.errors import HeadraceError, ResourceExhausted

_Task: TypeAlias = "asyncio.Task[object]"


class Receiving:
    """Handlers of calls, oldest first. What is done for each call costs as little as possible."""

    __slots__ = ("_errors", "_peers", "remove")

    def __init__(self) -> None:
        self._peers: dict[_Task, Callable[[], str]] = {}
        """For each handler the address of its client."""
        self.remove = self._peers.pop
        """`remove(task)`: it will not read any more. It is the method of the dict itself."""
        self._errors: WeakKeyDictionary[_Task, HeadraceError] = WeakKeyDictionary()
        """Of handlers that were cancelled here, what their calls end with."""

    def add(self, task: _Task, peer: Callable[[], str]) -> None:
        """The handler of a call from `peer()` is about to read."""
        self._peers[task] = peer

    def error(self, task: _Task) -> HeadraceError | None:
        """What the call ends with, if its handler was cancelled here rather than because its client has gone."""
        return self._errors.get(task)

    def end_some(self) -> tuple[int, str]:
        """End half the calls of the host that has the most, the latest first. Returns how many, and the host.

        A host may have many connections, so they are counted together. Clients with a few calls lose them only when
        nobody has more.
        """
        hosts: dict[str, list[_Task]] = {"": []}
        for task, peer in self._peers.items():
            if task not in self._errors:
                hosts.setdefault(_host(peer()), []).append(task)
        host, most = max(hosts.items(), key=lambda item: len(item[1]))
        ending = most[len(most) // 2 :]
        error = ResourceExhausted("the server is short of memory for the messages that it receives")
        for task in ending:
            self._errors[task] = error
            task.cancel()
        return len(ending), host

    def __repr__(self) -> str:
        return f"<Receiving: {len(self._peers)} calls>"


def _host(peer: str) -> str:
    """The peer without its port: "ipv4:10.0.0.1:5000" is of "ipv4:10.0.0.1"."""
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer
