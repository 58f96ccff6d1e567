"""Lines to a file descriptor, written by a thread of its own, so that a reader who stalls holds up nothing else."""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TextIO

MAX_QUEUED_BYTES = 1 << 20
"""Lines that wait to be written: about ten thousand. Further ones are dropped."""
_LINE_OVERHEAD_BYTES = 64
_FLUSH_POLL_SECONDS = 0.002


class Output:
    """Writes lines to a file descriptor in the order in which they are given, on a thread of its own.

    `write` never waits for the reader. Lines over `max_bytes`, and those that the system does not accept, are dropped;
    where they are missing, a line says how many.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        max_bytes: int = MAX_QUEUED_BYTES,
        dropped: Callable[[str], str] = str,
    ) -> None:
        """`dropped` makes a line of the sentence that says how many are missing."""
        self._line = dropped
        self._descriptor = descriptor
        self._name = name
        self._max_bytes = max_bytes
        self._lines: SimpleQueue[tuple[bytes, int]] = SimpleQueue()
        """Lines, each with the number of dropped ones that it reports."""
        # Reentrant: while it is held, the garbage collector may call a finalizer that logs.
        self._lock = threading.RLock()
        self._queued = 0
        """Bytes that are queued or being written."""
        self._missing = 0
        """Lines that have been dropped since a line last said so."""
        self._dropping = False
        self.dropped = 0
        """Lines that have been dropped in total."""
        threading.Thread(target=self._run, name=f"writing {name}", daemon=True).start()

    def write(self, line: str) -> None:
        """Queue a line, which needs no newline at its end."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._lock:
            # Not before half the queue is free again: otherwise every second line would say that lines are missing.
            limit = self._max_bytes // 2 if self._dropping else self._max_bytes
            if self._queued + len(data) + _LINE_OVERHEAD_BYTES > limit:
                self._dropping = True
                self._drop()
                return
            self._dropping = False
            self._report_missing()
            self._put(data)

    def flush(self, seconds: float) -> bool:
        """Wait until every line is written, for up to `seconds`. Returns whether that is so."""
        deadline = time.monotonic() + seconds
        while self._queued:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_FLUSH_POLL_SECONDS)
        return True

    def _put(self, data: bytes, reported: int = 0) -> None:
        self._queued += len(data) + _LINE_OVERHEAD_BYTES
        self._lines.put((data, reported))

    def _drop(self) -> None:
        self.dropped += 1
        self._missing += 1

    def _report_missing(self) -> None:
        if self._missing:
            count, self._missing = self._missing, 0
            lines = "1 line was" if count == 1 else f"{count} lines were"
            line = self._line(f"{lines} dropped here: {self._name} could not be written")
            self._put(f"{line}\n".encode(), count)

    def _run(self) -> None:
        while True:
            data, reported = self._lines.get()
            written = self._write(data)
            with self._lock:
                self._queued -= len(data) + _LINE_OVERHEAD_BYTES
                if not written and reported:
                    self._missing += reported
                elif not written:
                    self._drop()
                elif not self._queued:
                    self._dropping = False
                    self._report_missing()

    def _write(self, data: bytes) -> bool:
        """Returns False if the system does not accept the line."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                self._wait_until_writable()
            except OSError:
                return False
        return True

    def _wait_until_writable(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll()

    def __repr__(self) -> str:
        return f"<Output {self._name}: {self._queued} of {self._max_bytes} bytes queued, {self.dropped} lines dropped>"


def descriptor_of(stream: TextIO | None) -> int:
    """The descriptor of a standard stream; that of /dev/null if the process was started without the stream.

    Without it its number may by now be that of another file.
    """
    if stream is None:
        return os.open(os.devnull, os.O_WRONLY)
    return stream.fileno()


def stop_blocking(descriptor: int) -> None:
    """Make writes to a pipe or a terminal fail, rather than wait, while it is full.

    Libraries write to standard error as well, from threads that serve. The descriptor gets an open file description of
    its own, since the mode of the one that it has would change for other processes too. Where the system does not allow
    that, and for sockets, nothing changes.
    """
    with suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            opened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            os.dup2(opened, descriptor)
            os.close(opened)
