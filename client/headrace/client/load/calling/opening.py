"""The way to a server: what it says of a model, and callers.

Only here are the modules named oip_* imported, and only when they are needed: in the processes of a load test, where no
other stubs with their symbols are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Protocol as Interface

import headrace.client as hc
from headrace.client.load.calling import Caller, Request, headrace_stream, headrace_unary
from headrace.client.load.calling.totals import AskTotals, untold
from headrace.client.load.run import Mode, Protocol
from headrace.client.protocol.models import Model
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import Unimplemented


class _Connection(Caller, Interface):
    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


async def describe(target: str, protocol: Protocol, model: str, version: str) -> tuple[Model, str]:
    """A model, and the server's name and version. Raises HeadraceError."""
    if protocol == "oip":
        from headrace.client.load.calling.oip_metadata import describe_model

        return await describe_model(target, model, version)
    async with hc.connect(target) as server:
        try:
            return await server.model(model, version or None), f"headrace {(await server.status()).version}"
        except Unimplemented:
            raise Unimplemented(f"{target} does not speak headrace.v1; try --protocol oip") from None


@asynccontextmanager
async def open_totals(target: str, protocol: Protocol, model: str, version: str) -> AsyncIterator[AskTotals]:
    """Asks a server for the totals of a model, where these are all that it tells of times."""
    if protocol == "headrace":
        yield untold
        return
    from headrace.client.load.calling.oip_metadata import OipServer

    async with OipServer(target) as server:
        yield lambda: server.totals(model, version)


@asynccontextmanager
async def open_callers(
    target: str,
    protocol: Protocol,
    mode: Mode,
    streams: int,
    window: int,
    request: Request,
    max_message_bytes: int,
) -> AsyncIterator[Sequence[Caller]]:
    """So many callers, connected, each on a connection of its own. Leaving does not wait for answers.

    Raises HeadraceError when the server cannot be reached, UsageError for a request that the protocol does not have.
    """
    _check(protocol, mode, request)
    make = _maker(protocol, mode)
    async with AsyncExitStack() as stack:
        callers = make(target, request, streams, window, max_message_bytes)
        for caller in callers:
            # First of all how it is closed: one that is not reached has a channel, too.
            stack.push_async_exit(caller)
        for caller in callers:
            await caller.__aenter__()
        yield callers


def _maker(protocol: Protocol, mode: Mode) -> Callable[[str, Request, int, int, int], Sequence[_Connection]]:
    if protocol == "headrace":
        return headrace_stream.callers if mode == "stream" else headrace_unary.callers
    from headrace.client.load.calling import oip_stream, oip_unary

    return oip_stream.callers if mode == "stream" else oip_unary.callers


def _check(protocol: Protocol, mode: Mode, request: Request) -> None:
    if request.keep and (protocol, mode) != ("headrace", "stream"):
        raise UsageError("outputs are kept only by --protocol headrace --mode stream, so --keep is only for that")
    if request.outputs == () and protocol == "oip":
        raise UsageError("the Open Inference Protocol has no way to ask for no outputs: name some, or take all")
