"""A TCP proxy that counts, and whose client may be slow to read: bytes from the server trickle then."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType


class Trickle:
    """`with Trickle(address, free) as proxy`: the first `free` bytes from the server pass, then one byte a second.

    `up` and `down` count the bytes to and from the server that have passed.
    """

    def __init__(self, address: str, free: int = 1 << 62) -> None:
        self.up = self.down = 0
        host, port = address.rsplit(":", 1)
        self._stop = threading.Event()
        self._free = free
        self._server = socket.create_connection((host, int(port)))
        # A small buffer: what the kernel would hold is not what is tested.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._client: socket.socket | None = None
        self._threads = [threading.Thread(target=self._serve)]

    def __enter__(self) -> Trickle:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for each in (self._listener, self._server, self._client):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        with suppress(OSError):
            self._client, _ = self._listener.accept()
            up = threading.Thread(target=self._up)
            self._threads.append(up)
            up.start()
            while data := self._server.recv(min(self._free, 65536) or 1):
                self.down += len(data)
                self._client.sendall(data)
                self._free = max(0, self._free - len(data))
                if not self._free and self._stop.wait(1.0):
                    return

    def _up(self) -> None:
        assert self._client is not None
        with suppress(OSError):
            while data := self._client.recv(65536):
                self.up += len(data)
                self._server.sendall(data)
