"""Unary calls of raw bytes, so many at once.

`method` and `message` (in hexadecimal) say what is called, and every answer must contain the bytes of `answer`.
"""

from __future__ import annotations

import time
from typing import Any

from tests.bench.clients.completion_queue import Channel, unary_operations
from tests.bench.clients.job import Job, job

WARM_UP = 300


class Calls:
    """Calls that follow each other until `end`."""

    def __init__(self, channel: Channel, method: str, message: bytes, answer: bytes) -> None:
        self._channel, self._method, self._message, self._answer = channel, method, message, answer
        self.took: list[float] = []
        self.running = 0
        self.end = 0.0

    def start(self) -> None:
        began = time.perf_counter()

        def done(event: Any) -> None:
            *_, received, status = event.batch_operations
            if status.code():
                raise SystemExit(f"a call has failed: {status.details()}")
            if self._answer not in received.message():
                raise SystemExit("an answer is not the right one")
            now = time.perf_counter()
            self.took.append(now - began)
            self.running -= 1
            if now < self.end:
                self.start()

        self.running += 1
        self._channel.call(self._method, (unary_operations(self._message), done))

    def run(self, at_once: int, end: float) -> None:
        self.end = end
        for _ in range(at_once):
            self.start()
        while self.running:
            self._channel.turn()


def main(job: Job) -> None:
    channel = Channel(job.target)
    message, answer = (bytes.fromhex(job.options[name]) for name in ("message", "answer"))
    calls = Calls(channel, job.options["method"], message, answer)
    for _ in range(WARM_UP):
        calls.run(1, 0.0)
    calls.took.clear()
    calls.run(job.options["in_flight"], job.begin())
    job.report(len(calls.took), calls.took)
    channel.close()


if __name__ == "__main__":
    main(job())
