"""One ModelStreamInfer at work: requests out, answers to who has asked."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from headrace.client.transport.channel import StreamCall
from headrace.client.transport.rpc_errors import cancelled_from_outside, status_of
from headrace.oip import open_inference_pb2 as pb
from headrace.wire.errors import Code

NO_CODE = grpc.StatusCode.UNKNOWN.value[0]
"""What an error in a stream has for a code: the protocol gives it none."""


@dataclass(slots=True, eq=False)
class Asked:
    """A request. It ends with a code of gRPC and a message; `sent` is 0 until it was written."""

    id: str
    message: bytes
    end: asyncio.Future[tuple[int, str]]
    sent: float = 0.0


class OipExchange:
    """What it holds is bounded by those who ask: each waits for its end, or forgets what it has asked."""

    def __init__(self, call: StreamCall, target: str) -> None:
        self.ended = False
        self._call = call
        self._target = target
        self._asked: dict[str, Asked] = {}
        self._unsent: deque[Asked] = deque()
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    def ask(self, request_id: str, message: bytes) -> Asked:
        asked = self._asked[request_id] = Asked(request_id, message, self._loop.create_future())
        self._unsent.append(asked)
        self._news.set()
        return asked

    def forget(self, asked: Asked) -> None:
        """Nobody waits for it any more. If it was not sent it will not be."""
        if self._asked.pop(asked.id, None) is not None and not asked.sent:
            self._unsent.remove(asked)

    async def leave(self) -> None:
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _write(self) -> None:
        try:
            while True:
                while self._unsent:
                    asked = self._unsent.popleft()
                    asked.sent = time.perf_counter()
                    await self._call.write(asked.message)
                self._news.clear()
                await self._news.wait()
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The call has ended; the reader gets to know why.
            return

    async def _read(self) -> None:
        code, why = int(Code.CANCELLED), "the stream was left"
        try:
            while isinstance(message := await self._call.read(), bytes):
                self._take(message)
            code, why = int(Code.UNAVAILABLE), f"{self._target} has ended the stream"
        except grpc.aio.AioRpcError as error:
            status, why = status_of(error)
            code = status.value[0]
        except DecodeError:
            code, why = int(Code.INTERNAL), "the server sent what is no ModelStreamInferResponse"
        except asyncio.CancelledError:
            if cancelled_from_outside():
                raise
        finally:
            self._end(code, why)

    def _take(self, message: bytes) -> None:
        """Raises DecodeError. An answer that nobody waits for is ignored: models may answer more than once."""
        response = pb.ModelStreamInferResponse.FromString(message)
        request_id = response.infer_response.id
        if not request_id and self._asked:
            # A server that does not say whom it answers answers in turn.
            request_id = next(iter(self._asked))
        asked = self._asked.pop(request_id, None)
        if asked is not None and not asked.end.done():
            asked.end.set_result((NO_CODE, response.error_message) if response.error_message else (0, ""))

    def _end(self, code: int, why: str) -> None:
        self.ended = True
        self._call.cancel()
        self._tasks[1].cancel()
        self._unsent.clear()
        for asked in self._asked.values():
            if not asked.end.done():
                asked.end.set_result((code, why))
        self._asked.clear()
