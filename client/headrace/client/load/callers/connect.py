"""Connects to a server: describes its model, reads its statistics, and opens callers.

The modules named oip_* are imported only here and only when they are needed; see the package's docstring.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Protocol as Interface

import headrace.client as hc
from headrace.client.load.callers import headrace_stream, headrace_unary
from headrace.client.load.callers.caller import Caller, Request
from headrace.client.load.callers.model_totals import ReadTotals, no_totals
from headrace.client.load.record.run import Mode, Protocol
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.models import Model
from headrace.client.terminal.usage_error import UsageError
from headrace.wire.errors import PermissionDenied, Unimplemented


class _ConnectedCaller(Caller, Interface):
    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


async def describe_model(
    settings: ConnectionSettings, protocol: Protocol, model: str, version: str
) -> tuple[Model, str]:
    """Describe a model; also returns the server's name and version. Raises HeadraceError."""
    if protocol == "oip":
        from headrace.client.load.callers.oip_metadata import describe_oip_model

        return await describe_oip_model(settings, model, version)
    async with hc.Server(settings) as server:
        try:
            described = await server.model(model, version or None)
        except Unimplemented:
            raise Unimplemented(f"{settings.target} does not speak headrace.v1; try --protocol oip") from None
        try:
            return described, f"headrace {(await server.status()).version}"
        except PermissionDenied:  # an identity without the scope statistics
            return described, "headrace"


@asynccontextmanager
async def connect_totals(
    settings: ConnectionSettings, protocol: Protocol, model: str, version: str
) -> AsyncIterator[ReadTotals]:
    """A function that reads a model's totals from the server.

    With headrace.v1 it gives None, since there every answer carries its own times.
    """
    if protocol == "headrace":
        yield no_totals
        return
    from headrace.client.load.callers.oip_metadata import OipConnection

    async with OipConnection(settings) as server:
        yield lambda: server.totals(model, version)


@asynccontextmanager
async def connect_callers(
    settings: ConnectionSettings,
    protocol: Protocol,
    mode: Mode,
    streams: int,
    window: int,
    request: Request,
) -> AsyncIterator[Sequence[Caller]]:
    """`streams` connected callers, each on a connection of its own, spread over the addresses of the target.

    Leaving does not wait for answers.

    Raises HeadraceError if the server cannot be reached, and UsageError if the protocol cannot express the request.
    """
    _check_supported(protocol, mode, request)
    make_callers = _factory(protocol, mode)
    async with AsyncExitStack() as stack:
        callers = make_callers(settings, request, streams, window)
        for caller in callers:
            # Registered before connecting: a caller whose server is not reached has a channel to close too.
            stack.push_async_exit(caller)
        for caller in callers:
            await caller.__aenter__()
        yield callers


def _factory(
    protocol: Protocol, mode: Mode
) -> Callable[[ConnectionSettings, Request, int, int], Sequence[_ConnectedCaller]]:
    if protocol == "headrace":
        return headrace_stream.callers if mode == "stream" else headrace_unary.callers
    from headrace.client.load.callers import oip_stream, oip_unary

    return oip_stream.callers if mode == "stream" else oip_unary.callers


def _check_supported(protocol: Protocol, mode: Mode, request: Request) -> None:
    if request.keep and (protocol, mode) != ("headrace", "stream"):
        raise UsageError("--keep requires --protocol headrace and --mode stream")
    if request.outputs == () and protocol == "oip":
        raise UsageError("the Open Inference Protocol cannot request no outputs: name some, or request all")
