"""One ModelStreamInfer call: writes requests, and matches the answers to them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from headrace.client.load.callers.departure import Departure
from headrace.client.load.callers.oip_stream_errors import error_code
from headrace.client.transport.channel import StreamCall
from headrace.client.transport.rpc_errors import cancelled_from_outside, status_of
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import Code


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request without an answer. `end` gives a gRPC code and a message."""

    id: str
    message: bytes
    end: asyncio.Future[tuple[int, str]]
    departure: Departure
    taken: bool = False
    """Whether it has been taken to be written."""


class OipExchange:
    """What it holds is bounded by its callers: each waits for the end of its request, or abandons it.

    `connected`: whether the call has a connection, so that what is written leaves this client.
    """

    def __init__(self, call: StreamCall, target: str, *, connected: bool) -> None:
        self.ended = False
        self._connected = connected
        self._writing = False
        self._call = call
        self._target = target
        self._asked: dict[str, PendingRequest] = {}
        self._unsent: deque[PendingRequest] = deque()
        self._has_unsent = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    def send(self, request_id: str, message: bytes, departure: Departure) -> PendingRequest:
        pending = self._asked[request_id] = PendingRequest(request_id, message, self._loop.create_future(), departure)
        self._unsent.append(pending)
        if self._writing:
            departure.begin_wait("network" if self._connected else "connection", time.perf_counter())
        self._has_unsent.set()
        return pending

    def abandon(self, pending: PendingRequest) -> None:
        """Stop tracking a request. If it has not been written, it will not be."""
        if self._asked.pop(pending.id, None) is not None and not pending.taken:
            self._unsent.remove(pending)

    async def close(self) -> None:
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _write(self) -> None:
        try:
            while True:
                while self._unsent:
                    await self._write_one(self._unsent.popleft())
                self._has_unsent.clear()
                await self._has_unsent.wait()
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The call has ended; the reader learns why.
            return

    async def _write_one(self, pending: PendingRequest) -> None:
        now, departure = time.perf_counter(), pending.departure
        pending.taken = self._writing = True
        if self._connected:
            departure.leave(now)
            await self._call.write(pending.message)
        else:
            departure.end_wait(now)
            with departure.waiting_for("connection"):
                await self._call.write(pending.message)
            departure.sent, self._connected = now, True
        self._writing = False

    async def _read(self) -> None:
        code, why = int(Code.CANCELLED), "the stream was closed"
        try:
            while isinstance(message := await self._call.read(), bytes):
                self._handle(message)
            code, why = int(Code.UNAVAILABLE), f"{self._target} ended the stream"
        except grpc.aio.AioRpcError as error:
            status, why = status_of(error)
            code = status.value[0]
        except DecodeError:
            code, why = int(Code.INTERNAL), "the server sent bytes that are not a ModelStreamInferResponse"
        except asyncio.CancelledError:
            if cancelled_from_outside():
                raise
        finally:
            self._fail_all(code, why)

    def _handle(self, message: bytes) -> None:
        """Match an answer to its request. Further answers to the same request are ignored. Raises DecodeError."""
        response = pb.ModelStreamInferResponse.FromString(message)
        request_id = response.infer_response.id
        if not request_id and self._asked:
            # A server that does not return the id answers in order.
            request_id = next(iter(self._asked))
        pending = self._asked.pop(request_id, None)
        if pending is not None and not pending.end.done():
            text = response.error_message
            pending.end.set_result((error_code(response), text) if text else (0, ""))

    def _fail_all(self, code: int, why: str) -> None:
        self.ended = True
        self._call.cancel()
        self._tasks[1].cancel()
        self._unsent.clear()
        for pending in self._asked.values():
            if not pending.end.done():
                pending.end.set_result((code, why))
        self._asked.clear()
