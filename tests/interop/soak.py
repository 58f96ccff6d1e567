"""Many calls of every kind, with ends of every kind, for long; then nothing of them must be left."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import time
from collections import Counter
from functools import partial

from hpack import Decoder

from tests.e2e.serving import Served
from tests.interop.inferences import Bystander
from tests.interop.peer import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LARGEST_WINDOW,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Header,
    frame,
    request_headers,
    settings,
    window_update,
)
from tests.interop.random_calls import KINDS, Call
from tests.soak.findings import Findings

CONNECTIONS = 8
AT_ONCE = 16
"""Calls of a connection that are in flight together."""
CANCELLED, TIMED = 0.12, 0.06
"""The parts of calls that are cancelled at some point, and that have a deadline of a few milliseconds."""
STALLED_SECONDS = 120
GROWTH_BYTES = 24 << 20
"""What the allocator may keep."""
LEAKED_BYTES = 256 if os.environ.get("HEADRACE_TRANSPORT") == "aio" else 0
"""What grpc.aio may keep of each call that was cancelled: 146 bytes were measured. The completion queue keeps none."""


def _block(path: str, *more: Header) -> bytes:
    """Headers that no table is needed for, so that they are the same for every call."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in request_headers(path, *more))


def _string(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


class Connection(asyncio.Protocol):
    """Makes `calls` calls, then ends as its chance has it."""

    def __init__(self, seed: int, calls: int, counts: Counter[str]) -> None:
        self.chance = random.Random(seed)
        self.counts = counts
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._to_begin = calls
        self._breaks = self.chance.random() < 0.6
        self._calls: dict[int, Call] = {}
        self._stream = -1
        self._ended_calls = 0
        self._received = bytearray()
        self._unacknowledged = 0
        self._statuses: dict[bytes, int | None] = {}
        self._filling = False

    async def ended(self) -> None:
        """Wait for the end. AssertionError if none of its calls ends for STALLED_SECONDS."""
        begun = -1
        while not self.done.done():
            assert begun < self._ended_calls, f"these do not end: {[*self._calls.values()]}"
            begun = self._ended_calls
            await asyncio.wait([self.done], timeout=STALLED_SECONDS)
        self.done.result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # Without a table a block of headers means the same whenever it comes.
        opening = settings(HEADER_TABLE_SIZE=0, INITIAL_WINDOW_SIZE=LARGEST_WINDOW)
        self.write(PREFACE + opening + window_update(0, 1 << 30))
        self._fill()

    def write(self, frames: bytes) -> None:
        self._transport.write(frames)

    def later(self, seconds: float, call: Call) -> None:
        asyncio.get_running_loop().call_later(seconds, call.give_up)

    def over(self, call: Call) -> None:
        del self._calls[call.stream]
        self._ended_calls += 1
        self._fill()

    def _fill(self) -> None:
        """Begin calls; one that is given up at once comes back here before it has begun."""
        if self._filling:
            return
        self._filling = True
        while self._to_begin and len(self._calls) < AT_ONCE:
            self._begin()
        self._filling = False
        if not self._to_begin and (self._breaks or not self._calls):
            self._close()

    def _begin(self) -> None:
        self._to_begin -= 1
        self._stream += 2
        (kind,) = self.chance.choices([*KINDS], [*KINDS.values()])
        cancels, timed = self.chance.random() < CANCELLED, self.chance.random() < TIMED
        call = kind(self, self._stream, cancels=cancels, timed=timed)
        self._calls[self._stream] = call
        self.counts["calls"] += 1
        more = [("grpc-timeout", f"{self.chance.randrange(1, 8000)}u")] if timed else []
        call.begin(_block(kind.path, *more))

    def _close(self) -> None:
        if self.done.done():
            return
        self.counts["broken"] += len(self._calls)
        for call in self._calls.values():
            call.is_over = True
        if self._breaks and self.chance.random() < 0.8:
            self.counts["connections aborted"] += 1
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self.counts["connections closed"] += 1
            self._transport.close()
        self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(AssertionError(f"the server has closed a connection: {error}"))

    def data_received(self, arrived: bytes) -> None:
        try:
            self._handle_all(arrived)
        except Exception as error:
            if not self.done.done():
                self.done.set_exception(error)
            self._transport.abort()

    def _handle_all(self, arrived: bytes) -> None:
        self._received += arrived
        self._unacknowledged += len(arrived)
        if self._unacknowledged > 1 << 20:
            self.write(window_update(0, self._unacknowledged))
            self._unacknowledged = 0
        start, received = 0, self._received
        while len(received) - start >= 9 and not self.done.done():
            length = int.from_bytes(received[start : start + 3], "big")
            if len(received) - start < 9 + length:
                break
            stream = int.from_bytes(received[start + 5 : start + 9], "big")
            payload = bytes(received[start + 9 : start + 9 + length])
            self._handle(received[start + 3], received[start + 4], stream, payload)
            start += 9 + length
        del received[:start]

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        assert kind != GOAWAY, payload
        if kind in (SETTINGS, PING) and not flags & ACK:
            self.write(frame(kind, ACK, payload=payload if kind == PING else b""))
        call = self._calls.get(stream)
        if call is None:
            return  # it was cancelled
        if kind == DATA:
            call.arrived(payload)
        if kind == RST_STREAM:
            call.ended(None)
        elif kind in (DATA, HEADERS) and flags & END_STREAM:
            call.ended(self._status(payload) if kind == HEADERS else None)

    def _status(self, block: bytes) -> int | None:
        if block not in self._statuses:
            headers = {str(name): str(value) for name, value in Decoder().decode(block)}
            self._statuses[block] = int(headers["grpc-status"]) if "grpc-status" in headers else None
        return self._statuses[block]


async def make_calls(address: str, calls: int, counts: Counter[str], seed: int = 18) -> None:
    """As many calls, by connections that follow each other, several at a time."""
    host, port = address.rsplit(":", 1)
    chance = random.Random(seed)
    left = calls

    async def connections() -> None:
        nonlocal left
        while left > 0:
            count = min(left, chance.choice((1, 10, 100, 1000)))
            left -= count
            seed = chance.randrange(1 << 30)
            make = partial(Connection, seed, count, counts)
            _, connection = await asyncio.get_running_loop().create_connection(make, host, int(port))
            await connection.ended()

    await asyncio.gather(*[connections() for _ in range(CONNECTIONS)])


def soak(served: Served, calls: int, seed: int = 18) -> Findings:
    """Make calls: all answers are right, nothing is left of them, and memory has not grown."""
    bystander, counts, first = Bystander(served.address, patience=120), Counter[str](), Counter[str]()
    with bystander.channel:
        asyncio.run(make_calls(served.address, max(calls // 10, 2000), first, seed + 1))
        bystander.until_idle()
        before, begin = served.resident_bytes(), time.monotonic()
        asyncio.run(make_calls(served.address, calls, counts, seed))
        seconds = time.monotonic() - begin
        bystander.until_idle()
        waited = bystander.is_served()
    grown = served.resident_bytes() - before
    ended_early = counts["cancelled"] + counts["broken"] + counts["deadline exceeded"]
    findings = Findings()
    findings.at_least("calls", counts.pop("calls"), calls)
    findings.at_least("  ended well", counts.pop("ended well"), 0.7 * calls)
    for name in sorted(counts):
        findings.count(f"  {name}", counts[name])
    findings.count("calls per second", calls / seconds)
    findings.count("memory before", before / (1 << 20), "MiB")
    allowed = GROWTH_BYTES + LEAKED_BYTES * ended_early
    findings.below("memory, more than before", grown / (1 << 20), allowed / (1 << 20), "MiB")
    findings.below("seconds that another client waits at the end", waited, 1)
    return findings
