"""Questions and answers between the parent and a worker, over a pair of sockets that nobody else can reach.

Threads of its own read and write, so that neither side waits for the other to do so, and a worker notices that its
parent has gone, whatever its event loop does. Messages are pickled: both sides are the same program.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from queue import SimpleQueue
from typing import Any

from headrace.wire.errors import forget_frames

MAX_BYTES = 256 << 20
"""Of a message: a scan of a very large repository, or every metric of as many models."""
MAX_UNSENT = 4096
"""Messages that may wait to be written: the other side does not read, and is as good as gone."""
_HEADER = struct.Struct("!I")

Answer = Callable[[str, Any], Awaitable[Any]]
"""Answers a question, by its kind, on the event loop. Raises what the asker is to get."""

logger = logging.getLogger(__name__)


class ClosedError(Exception):
    """The other side has gone."""


async def _refuse(kind: str, _content: Any) -> Any:
    raise RuntimeError(f"nobody answers {kind!r}")


class Link:
    """`closed` is called on a thread once the other side has gone."""

    def __init__(self, sock: socket.socket, closed: Callable[[], None]) -> None:
        self._socket = sock
        self._closed = closed
        self._answer: Answer = _refuse
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = count()
        self._pending: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        """Held while `_pending` or `_gone` changes."""
        self._gone = False
        self._replies: set[asyncio.Task[None]] = set()
        self._unsent: SimpleQueue[bytes | None] = SimpleQueue()

    def start(self) -> None:
        """Read and write from now on."""
        threading.Thread(target=self._read, name="link reader", daemon=True).start()
        threading.Thread(target=self._write, name="link writer", daemon=True).start()

    def answer_with(self, answer: Answer) -> None:
        """Answer what the other side asks, on the event loop that runs. Without that, it gets RuntimeError."""
        self._loop, self._answer = asyncio.get_running_loop(), answer

    def begin(self, kind: str, content: Any = None) -> Future[Any]:
        """Ask, from any thread. The answer is the result; it may also be ClosedError, or what the answer raised."""
        answer: Future[Any] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._gone or self._unsent.qsize() > MAX_UNSENT:
                answer.set_exception(ClosedError())
                return answer
            self._pending[number] = answer
        answer.add_done_callback(lambda _: self._pending.pop(number, None))
        self._send(number, kind, content)
        return answer

    def ask(self, kind: str, content: Any = None, seconds: float | None = None) -> Any:
        """The same, for a thread that waits. Raises TimeoutError as well."""
        answer = self.begin(kind, content)
        try:
            return answer.result(seconds)
        except TimeoutError:
            answer.cancel()
            raise

    async def asked(self, kind: str, content: Any = None, seconds: float | None = None) -> Any:
        """The same, for a coroutine."""
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(self.begin(kind, content))

    def close(self) -> None:
        """Both sides notice that this one has gone."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _send(self, number: int, kind: str, content: Any) -> None:
        data = pickle.dumps((number, kind, content))
        self._unsent.put(_HEADER.pack(len(data)) + data)

    def _write(self) -> None:
        with suppress(OSError):
            while (data := self._unsent.get()) is not None:
                self._socket.sendall(data)

    def _read(self) -> None:
        try:
            while (header := self._exactly(_HEADER.size)) is not None:
                (size,) = _HEADER.unpack(header)
                data = self._exactly(size) if size <= MAX_BYTES else None
                if data is None:
                    break
                self._handle(*pickle.loads(data))
        finally:
            with self._lock:
                self._gone = True
                pending = list(self._pending.values())
            for each in pending:
                if each.set_running_or_notify_cancel():
                    each.set_exception(ClosedError())
            self._unsent.put(None)
            self.close()
            self._socket.close()
            self._closed()

    def _exactly(self, size: int) -> bytes | None:
        """So many bytes, or None at the end."""
        data = bytearray()
        with suppress(OSError):
            while len(data) < size:
                more = self._socket.recv(min(size - len(data), 1 << 20))
                if not more:
                    return None
                data += more
            return bytes(data)
        return None

    def _handle(self, number: int, kind: str, content: Any) -> None:
        if kind in ("answer", "error"):
            pending = self._pending.get(number)
            if pending is not None and pending.set_running_or_notify_cancel():
                pending.set_result(content) if kind == "answer" else pending.set_exception(content)
        elif self._loop is None:
            self._send(number, "error", RuntimeError("nothing is answered yet"))
        else:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._begin_reply, number, kind, content)

    def _begin_reply(self, number: int, kind: str, content: Any) -> None:
        task = asyncio.ensure_future(self._reply(number, kind, content))
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def _reply(self, number: int, kind: str, content: Any) -> None:
        try:
            answer = await self._answer(kind, content)
        except Exception as error:
            self._send_error(number, kind, error)
        else:
            self._send(number, "answer", answer)

    def _send_error(self, number: int, kind: str, error: Exception) -> None:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            logger.exception("an answer to %r has failed", kind, exc_info=error)
            error = RuntimeError(f"{type(error).__name__}: {error}")
        forget_frames(error)
        self._send(number, "error", error)

    def __repr__(self) -> str:
        return f"<Link: {len(self._pending)} questions wait{', closed' if self._gone else ''}>"
