"""Calls that are answered for all workers: the services of one, around which the others are asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

from headrace.server.core.clients import Client
from headrace.server.services.call import Call, Rpc, Service, Unary, UnaryHandler
from headrace.server.services.merging import Answers, Merge
from headrace.server.services.native import merging as native
from headrace.server.services.oip import merging as oip
from headrace.server.workers import order as orders
from headrace.server.workers.link import ClosedError, Link
from headrace.server.workers.order import PeerAnswer, RemoteRpc
from headrace.wire.errors import Unavailable

MERGED: Mapping[str, Merge] = {**native.MERGED, **oip.MERGED}

MAX_SECONDS = 60.0
"""How long the parent may take to ask all workers, each of which may take some seconds."""

ClientNamed: TypeAlias = Callable[[str | None], Hashable]


class CallsOfAll:
    """`number` is that of this worker. `client_named` returns the client of an identity, as this worker knows it."""

    def __init__(self, services: Sequence[Service], link: Link, number: int, client_named: ClientNamed) -> None:
        self._link = link
        self._number = number
        self._client_named = client_named
        self._own: dict[str, UnaryHandler] = {}
        """What answers for this worker alone, by path."""
        self.services = [self._service(each) for each in services]

    async def answer(self, rpc: RemoteRpc) -> bytes:
        """What this worker answers to a call that another one has got."""
        call = cast(Call, _RemoteCall(self._client_named(rpc.client)))
        return await self._own[rpc.path](rpc.request, call)

    def _service(self, service: Service) -> Service:
        return Service(
            service.name, {name: self._rpc(f"/{service.name}/{name}", rpc) for name, rpc in service.rpcs.items()}
        )

    def _rpc(self, path: str, rpc: Rpc) -> Rpc:
        if path not in MERGED and path not in oip.COMMANDS:
            return rpc
        assert isinstance(rpc, Unary)
        self._own[path] = rpc.handler
        return replace(rpc, handler=self._merging(path, MERGED[path]) if path in MERGED else self._commanding(path))

    def _merging(self, path: str, merge: Merge) -> UnaryHandler:
        own = self._own[path]

        async def respond(request: bytes, call: Call) -> bytes:
            mine = await own(request, call)
            peers: Sequence[PeerAnswer] = await self._ask(orders.PEERS, _remote(path, request, call))
            responses = [(each.number, each.response) for each in peers if each.response is not None]
            problems = [(each.number, each.problem) for each in peers if each.response is None]
            return merge(Answers(request, [(self._number, mine), *responses], problems))

        return respond

    def _commanding(self, path: str) -> UnaryHandler:
        async def respond(request: bytes, call: Call) -> bytes:
            rpc = _remote(path, request, call)
            undoing = oip.undo(path, request)
            undo = None if undoing is None else RemoteRpc(*undoing, rpc.client)
            answer: bytes = await self._ask(orders.COMMAND, (rpc, undo))
            return answer

        return respond

    def _ask(self, kind: str, content: Any) -> Awaitable[Any]:
        return _asked(self._link, kind, content)


async def _asked(link: Link, kind: str, content: Any) -> Any:
    try:
        return await link.asked(kind, content, MAX_SECONDS)
    except ClosedError:
        raise Unavailable("the server is stopping") from None
    except TimeoutError:
        raise Unavailable("the workers have not answered in time") from None


class _RemoteCall:
    """As much of a `Call` as handlers need that carry no tensors."""

    def __init__(self, client: Hashable) -> None:
        self.client = client


def _remote(path: str, request: bytes, call: Call) -> RemoteRpc:
    return RemoteRpc(path, request, call.client.name if isinstance(call.client, Client) else None)
