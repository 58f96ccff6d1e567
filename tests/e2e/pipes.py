"""Pipes that are not read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Pipe:
    """`writing` is for a process to write to; nothing is read before `read` is called."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self._parts: list[bytes] = []
        self._reader: threading.Thread | None = None

    def fill(self) -> None:
        """Write until the pipe takes nothing more."""
        os.set_blocking(self.writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.writing, b"." * 4095 + b"\n")
        os.set_blocking(self.writing, True)

    def read(self) -> None:
        """Read from now on."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while part := os.read(self.reading, 1 << 16):
            self._parts.append(part)

    @property
    def text(self) -> str:
        """What has been read."""
        return b"".join(self._parts).decode()

    def close_reading(self) -> None:
        """From now on nobody can read what is written."""
        os.close(self.reading)
        self.reading = -1

    def close(self) -> None:
        """To be called once no other process writes to the pipe: then it has an end."""
        os.close(self.writing)
        if self._reader is not None:
            self._reader.join()
        if self.reading >= 0:
            os.close(self.reading)


@contextmanager
def unread_pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    try:
        yield pipe
    finally:
        pipe.close()
