"""A connection at work: calls that are retried, and streams that are opened, on the addresses that answer."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from functools import partial

import grpc
import grpc.aio

from headrace.client.protocol.backoff import backoff
from headrace.client.protocol.connection_settings import ConnectionSettings
from headrace.client.protocol.health import CHECK, check_request, is_serving
from headrace.client.protocol.known_models import KnownModels
from headrace.client.protocol.stream_protocol import StreamProtocol
from headrace.client.protocol.timeouts import clock_seconds, seconds
from headrace.client.transport.channel import path
from headrace.client.transport.channels import Channels, Chosen
from headrace.client.transport.credentials import call_metadata
from headrace.client.transport.processes import check_same_process, forks
from headrace.client.transport.rpc_errors import cancelled_from_outside, error_of
from headrace.client.transport.stream_transport import StreamTransport
from headrace.wire.errors import Cancelled, DeadlineExceeded, HeadraceError, Unavailable


class _NoAnswer(Exception):
    """The time for a call is over on this side."""


class ServerConnection:
    """Connects when it is first used. Then it belongs to this event loop and this process."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.closed = False
        self._channels: Channels | None = None
        self._forks = forks()

    async def close(self) -> None:
        """Raises RuntimeError on another loop. In a forked child the channels are those of the parent."""
        if self._channels is not None and self._forks == forks():
            self._check_loop(self._channels)
            self.closed = True
            await self._channels.close()
        self.closed = True

    async def call(
        self, method: str, request: bytes, timeout: float | None, *, retries: int, prompt: bool = False
    ) -> bytes:
        """A unary call, which may be made again so often, all within `timeout` seconds.

        `prompt`: a server that works answers at once, so that another is asked soon. Raises HeadraceError.
        """
        channels = self._usable()
        limit = math.inf if timeout is None else seconds(timeout)
        end = channels.loop.time() + limit
        for attempt in itertools.count(1):
            left = end - channels.loop.time()
            chosen = await channels.connected(min(left, self.settings.connect_timeout), stream=False)
            left = end - channels.loop.time()
            patience = channels.patience(chosen, left) if prompt else left
            try:
                answer = await self._call(chosen, method, request, patience)
            except _NoAnswer:
                channels.failed(chosen)
                if patience == left:
                    raise DeadlineExceeded(f"{chosen.address} did not answer {method} within {limit:g} s") from None
            except HeadraceError as error:
                if isinstance(error, Unavailable):
                    channels.failed(chosen)
                if not error.retryable or attempt > retries:
                    raise
                await _pause(error, attempt, end, at_once=channels.has_others)
            else:
                channels.answered(chosen)
                return answer
        raise AssertionError("the loop has no end")

    async def open_stream(
        self, timeout: float, *, ordered: bool, models: KnownModels, ready: bool = False, can_move: bool = False
    ) -> StreamTransport:
        """A stream on the next address, after Hello and not started. Raises HeadraceError after `timeout` seconds.

        An address that does not say Hello, or whose server is not ready, is passed over while there are others. With
        `ready` it is never taken: a server that has just been started refuses work until its models are loaded.
        """
        channels = self._usable()
        end = channels.loop.time() + timeout
        for attempt in itertools.count(1):
            chosen = await channels.connected(end - channels.loop.time(), stream=True)
            left = end - channels.loop.time()
            limit = channels.patience(chosen, left)
            try:
                if ready or channels.has_other(chosen):
                    await self._check_ready(chosen, limit)
                call = channels.start_stream(chosen)
                protocol = StreamProtocol(
                    self.settings.max_message_bytes, ordered=ordered, models=models, can_move=can_move
                )
                transport = StreamTransport(call, protocol, str(chosen.address), avoid=partial(channels.failed, chosen))
                await transport.greet(limit)
            except HeadraceError as error:
                if not error.retryable:
                    raise
                channels.failed(chosen)
                if attempt > self.settings.retries and not channels.has_others:
                    raise
                await _pause(error, attempt, end, at_once=channels.has_others)
            else:
                channels.answered(chosen)
                return transport
        raise AssertionError("the loop has no end")

    async def _check_ready(self, chosen: Chosen, timeout: float) -> None:
        """Raises Unavailable if the server says that it is not ready, or nothing. One that refuses to say it is."""
        try:
            answer = await self._call(chosen, CHECK, check_request(""), timeout)
        except _NoAnswer:
            raise Unavailable(f"{chosen.address} does not answer") from None
        except Unavailable:
            raise
        except HeadraceError:
            return
        if not is_serving(answer):
            raise Unavailable(f"{chosen.address} is not ready: it loads its models, or is stopping")

    async def _call(self, chosen: Chosen, method: str, request: bytes, timeout: float) -> bytes:
        """Raises _NoAnswer after `timeout` seconds, and HeadraceError."""
        call = chosen.channel.unary_unary(path(method))
        metadata = call_metadata(self.settings)
        try:
            return await call(request, timeout=clock_seconds(timeout), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and error.details() == "Deadline Exceeded":
                raise _NoAnswer from None
            raise error_of(error, str(chosen.address)) from None
        except asyncio.CancelledError:
            if cancelled_from_outside():
                raise
            raise Cancelled("the connection was closed") from None

    def _usable(self) -> Channels:
        """Raises RuntimeError in another process or on another loop than the first, and after `close`."""
        check_same_process(self._forks, repr(self))
        if self.closed:
            raise RuntimeError(f"{self!r} was closed; connect() returns a new one")
        if self._channels is None:
            self._channels = Channels(self.settings)
        self._check_loop(self._channels)
        return self._channels

    def _check_loop(self, channels: Channels) -> None:
        if channels.loop is not asyncio.get_running_loop():
            raise RuntimeError(f"{self!r} belongs to another event loop; call connect() on the loop that uses it")

    def __repr__(self) -> str:
        state = "closed" if self.closed else "idle" if self._channels is None else "open"
        return f"<Server at {self.settings.target}, {state}>"


async def _pause(error: HeadraceError, attempt: int, end: float, *, at_once: bool) -> None:
    """Wait before the next attempt. Raises the error if there is no time for one."""
    pause = 0.0 if at_once else max(backoff(attempt, random.random()), error.retry_after or 0.0)
    if asyncio.get_running_loop().time() + pause >= end:
        raise error
    await asyncio.sleep(pause)
