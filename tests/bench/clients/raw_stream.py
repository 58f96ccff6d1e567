"""A stream of raw messages, with so many in flight.

`method` and `message` (in hexadecimal) say what is sent, and every answer must contain the bytes of `answer`.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from tests.bench.clients.completion_queue import Channel, close, opening_operations, receive, send, status
from tests.bench.clients.job import Job, job

WARM_UP = 300


class Exchange:
    """One stream. Messages are written one after the other, as gRPC demands, whenever fewer are in flight than may."""

    def __init__(self, channel: Channel, method: str, message: bytes, answer: bytes) -> None:
        self._channel, self._message, self._answer = channel, message, answer
        self._call = channel.call(method, (opening_operations(), self._opened), ((status(),), self._ended))
        self._channel.operate(self._call, receive(), self._received)
        self._sent: deque[float] = deque()
        self._writing = False
        self._wanted = 0
        self._end = 0.0
        self.took: list[float] = []

    def run(self, in_flight: int, end: float) -> None:
        """Exchange messages until `end`, and wait for the answers to those in flight."""
        self._end, self._wanted = end, in_flight
        self._write()
        while self._sent or self._wanted:
            self._channel.turn()

    def close(self) -> None:
        """Say that no more will come, which ends the stream."""
        self._channel.operate(self._call, close(), self._opened)

    def _write(self) -> None:
        if self._wanted and not self._writing:
            self._wanted -= 1
            self._writing = True
            self._sent.append(time.perf_counter())
            self._channel.operate(self._call, send(self._message), self._written)

    def _written(self, _event: Any) -> None:
        self._writing = False
        self._write()

    def _received(self, event: Any) -> None:
        message = event.batch_operations[0].message()
        if message is None:
            return
        if self._answer not in message:
            raise SystemExit("an answer is not the right one")
        now = time.perf_counter()
        self.took.append(now - self._sent.popleft())
        self._channel.operate(self._call, receive(), self._received)
        if now < self._end:
            self._wanted += 1
            self._write()

    def _opened(self, _event: Any) -> None:
        pass

    def _ended(self, event: Any) -> None:
        code, details = event.batch_operations[0].code(), event.batch_operations[0].details()
        if code or self._sent:
            raise SystemExit(f"the stream has ended with {code}: {details}")


def main(job: Job) -> None:
    channel = Channel(job.target)
    message, answer = (bytes.fromhex(job.options[name]) for name in ("message", "answer"))
    exchange = Exchange(channel, job.options["method"], message, answer)
    for _ in range(WARM_UP):
        exchange.run(1, 0.0)
    exchange.took.clear()
    exchange.run(job.options["in_flight"], job.begin())
    job.report(len(exchange.took), exchange.took)
    exchange.close()
    channel.close()


if __name__ == "__main__":
    main(job())
