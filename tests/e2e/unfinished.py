"""A client that sends most of a message and then nothing, on many calls: no gRPC library does that."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW = 4
CHUNK_BYTES = 16 << 10
"""The largest frame that every server accepts."""


class Unfinished:
    """`with Unfinished(address, path, calls=8, claimed=64 << 20, sent=60 << 20) as client`.

    Each call claims a message of `claimed` bytes and sends `sent` of them, as fast as the server lets it. `delivered`
    counts the bytes of all calls, and `ended` the calls that the server has ended.
    """

    def __init__(self, address: str, path: str, *, calls: int, claimed: int, sent: int) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)))
        self._path = path
        self._header = b"\0" + struct.pack(">I", claimed)
        self._sent = sent
        self._changed = threading.Condition()
        self._connection_window = 65535
        self._windows = dict.fromkeys(range(1, 2 * calls, 2), 65535)
        self.ended: set[int] = set()
        self.delivered = 0
        self._closed = False
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._write)]

    def __enter__(self) -> Unfinished:
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def wait_until_sent(self) -> None:
        """Until the server has had time for all of it."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.delivered >= self._sent * len(self._windows), timeout=30)

    def _write(self) -> None:
        with suppress(OSError):
            for call in self._windows:
                self._socket.sendall(_frame(_HEADERS, _END_HEADERS, call, _headers(self._path)))
            left = dict.fromkeys(self._windows, self._sent)
            chunks = dict.fromkeys(self._windows, self._header + bytes(CHUNK_BYTES - len(self._header)))
            while left:
                for call in [*left]:
                    if self._may_send(call, left):
                        self._socket.sendall(_frame(_DATA, 0, call, chunks[call]))
                        chunks[call] = bytes(CHUNK_BYTES)
                        with self._changed:
                            self.delivered += CHUNK_BYTES
                            self._changed.notify_all()
                        left[call] -= CHUNK_BYTES
                        if left[call] <= 0:
                            del left[call]

    def _may_send(self, call: int, left: dict[int, int]) -> bool:
        """Take a chunk from the windows; waits while no call has room for one."""
        with self._changed:
            for ended in self.ended & left.keys():
                del left[ended]
            if self._closed:
                left.clear()
            if call not in left:
                return False
            if self._connection_window < CHUNK_BYTES or all(self._windows[each] < CHUNK_BYTES for each in left):
                self._changed.wait()
                return False
            if self._windows[call] < CHUNK_BYTES:
                return False
            self._connection_window -= CHUNK_BYTES
            self._windows[call] -= CHUNK_BYTES
            return True

    def _read(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                head = self._receive(9)
                call = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
                self._handle(head[3], head[4], call, self._receive(int.from_bytes(head[:3], "big")))

    def _handle(self, kind: int, flags: int, call: int, payload: bytes) -> None:
        with self._changed:
            if kind == _SETTINGS and not flags & _ACK:
                for number, value in struct.iter_unpack(">HI", payload):
                    if number == _INITIAL_WINDOW:
                        self._windows = {each: window + value - 65535 for each, window in self._windows.items()}
                self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _PING and not flags & _ACK:
                self._socket.sendall(_frame(_PING, _ACK, 0, payload))
            elif kind == _WINDOW_UPDATE:
                more = int.from_bytes(payload, "big")
                if call:
                    self._windows[call] += more
                else:
                    self._connection_window += more
            elif kind == _RESET or (kind == _HEADERS and flags & _END_STREAM):
                self.ended.add(call)
            self._changed.notify_all()

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data


def _frame(kind: int, flags: int, call: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + call.to_bytes(4, "big") + payload


def _headers(path: str) -> bytes:
    """The headers of a gRPC call, each as a literal that is not indexed."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "unfinished",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in headers.items()
    )
