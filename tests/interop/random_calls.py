"""Calls of every kind that end in every way, by chance: what they send, when they give up, and what is right."""

from __future__ import annotations

import random
from collections import Counter
from typing import Protocol

from tests.interop.inferences import (
    INFER,
    MODEL_INFER,
    MODEL_STREAM_INFER,
    STREAM,
    Event,
    events,
    frame,
    infer,
    infer_answer,
    model_infer,
    model_infer_answer,
    stream_answer,
)
from tests.interop.peer import END_HEADERS, HEADERS, data, prefixed, reset
from tests.interop.peer import frame as http2_frame

NOT_FOUND = 5
TOO_LATE = (4, 8)
"""DEADLINE_EXCEEDED, or RESOURCE_EXHAUSTED for one that would wait beyond its deadline."""
NUMBERS = 64
"""Requests are made once for each of so many numbers."""
UNARY = [prefixed(model_infer(number)) for number in range(NUMBERS)]
NATIVE_UNARY = [prefixed(infer(number)) for number in range(NUMBERS)]
IDENTIFIED = [prefixed(model_infer(number, request_id=str(number))) for number in range(NUMBERS + 10)]
SLOW = prefixed(model_infer(1, "slow"))
MISSING = prefixed(model_infer(1, "missing"))


class Transport(Protocol):
    """The connection of a call."""

    chance: random.Random
    counts: Counter[str]

    def write(self, frames: bytes) -> None: ...

    def later(self, seconds: float, call: Call) -> None:
        """Let the call give up then."""

    def over(self, call: Call) -> None:
        """The call has ended."""


class Call:
    """One call. Its answers are checked as they come, and how it ends.

    `patience` is after how many events it is cancelled: 0 is in the middle of its request, -1 never.
    """

    path = MODEL_INFER
    expects = 1
    allowed = (0,)

    def __init__(self, transport: Transport, stream: int, *, cancels: bool, timed: bool) -> None:
        self.transport, self.stream = transport, stream
        self.number = transport.chance.randrange(NUMBERS)
        self.received = 0
        self.timed = timed
        self.patience = transport.chance.randrange(self.expects + 2) if cancels else -1
        self.is_over = False
        self._rest = b""

    def begin(self, block: bytes) -> None:
        request = self.request()
        opening = http2_frame(HEADERS, END_HEADERS, self.stream, block)
        if self.patience == 0:
            part = request[: self.transport.chance.randrange(len(request))]
            self.transport.write(opening + (data(self.stream, part) if part else b""))
            self.give_up()
            return
        self.transport.write(opening + data(self.stream, request, end=True))
        if self.patience > 0:
            self.transport.later(self.transport.chance.random() * 0.004, self)

    def request(self) -> bytes:
        return UNARY[self.number]

    def check(self, message: bytes) -> int:
        """How many of the expected answers a message has; raises AssertionError for a wrong one."""
        assert model_infer_answer(message) == 2 * self.number + 1
        return 1

    def arrived(self, payload: bytes) -> None:
        self._rest += payload
        while len(self._rest) >= 5 and len(self._rest) >= (end := 5 + int.from_bytes(self._rest[1:5], "big")):
            self.received += self.check(self._rest[5:end])
            self._rest = self._rest[end:]
            if self.patience > 0 and self.received >= self.patience and self.received < self.expects:
                self.give_up()
                return

    def give_up(self) -> None:
        if not self.is_over:
            self.transport.write(reset(self.stream))
            self.transport.counts["cancelled"] += 1
            self._end()

    def ended(self, status: int | None) -> None:
        """By the server; without a status the stream was reset."""
        if self.is_over:
            return
        if self.timed and status in TOO_LATE:
            self.transport.counts["deadline exceeded"] += 1
        else:
            assert status in self.allowed, (self, status)
            assert self.received == self.expects, (self, self.received)
            self.transport.counts["ended well"] += 1
        self._end()

    def _end(self) -> None:
        self.is_over = True
        self.transport.counts["answers"] += self.received
        self.transport.over(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stream}: {self.received} of {self.expects} answers, timed: {self.timed}>"


class NativeUnary(Call):
    path = INFER

    def request(self) -> bytes:
        return NATIVE_UNARY[self.number]

    def check(self, message: bytes) -> int:
        assert infer_answer(message) == 2 * self.number + 1
        return 1


class Missing(Call):
    """No such model."""

    expects = 0
    allowed = (NOT_FOUND,)

    def request(self) -> bytes:
        return MISSING


class Slow(Call):
    """Runs on other threads for some milliseconds."""

    def request(self) -> bytes:
        return SLOW

    def check(self, message: bytes) -> int:
        assert model_infer_answer(message) == 1
        return 1


class OipStream(Call):
    """Ten requests; the answers come in any order."""

    path = MODEL_STREAM_INFER
    expects = 10

    def request(self) -> bytes:
        self._asked = {str(number): 2.0 * number + 1 for number in range(self.number, self.number + 10)}
        return b"".join(IDENTIFIED[self.number : self.number + 10])

    def check(self, message: bytes) -> int:
        name, number = stream_answer(message)
        assert self._asked.pop(name) == number
        return 1


class NativeStream(Call):
    """Ten inferences in two frames."""

    path = STREAM
    expects = 10

    def request(self) -> bytes:
        numbers = range(self.number, self.number + 10)
        self._asked = {tag: 2.0 * number + 1 for tag, number in enumerate(numbers, 1)}
        first, second = frame(*numbers[:4], define=True), frame(*numbers[4:], first_tag=5)
        return prefixed(first) + prefixed(second)

    def check(self, message: bytes) -> int:
        told, numbers = events(message)
        if told and told[0].kind == Event.HELLO:
            told = told[1:]
        assert all(event.kind == Event.DONE for event in told), told
        for event, number in zip(told, numbers, strict=True):
            assert self._asked.pop(event.tag) == number
        return len(told)


KINDS: dict[type[Call], float] = {
    Call: 70,
    NativeUnary: 12,
    OipStream: 8,
    NativeStream: 8,
    Missing: 1.5,
    Slow: 0.5,
}
