"""Sends a request while a pinger watches, and says what it has cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from headrace.v1 import inference_pb2 as pb
from tests.e2e.serving import Served

STREAM = "/headrace.v1.Inference/Stream"
LAST_TAG = 1 << 40
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True, slots=True)
class Costly:
    """Messages for an RPC. Those of a stream are sent one after the other; the last has an Infer with LAST_TAG.

    `runs`: models run for it, or it has many answers, so that the last one may take long.
    """

    method: str
    messages: Sequence[bytes]
    runs: bool = False

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.messages))


@dataclass(frozen=True, slots=True)
class Cost:
    """`answer` are the codes of all answers and how often each came; `growth` is memory in bytes."""

    answer: str
    details: str
    seconds: float
    p99_ms: float
    max_ms: float
    loop_ms: float
    """Processor time of the thread of the event loop, in steps of 10 ms, with that for the pings."""
    growth: int
    peak: int


class Meter:
    """Measures what requests cost a server."""

    def __init__(self, served: Served) -> None:
        pid = served.process.pid
        self._stat = Path(f"/proc/{pid}/task/{pid}/stat")
        self._channel = grpc.insecure_channel(served.address, options=UNLIMITED)
        self._pinger = subprocess.Popen(
            [sys.executable, "-m", "tests.costs.pinger", served.address, str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.start = self._take()["before"]
        """The memory of the server before the first request."""

    def restart(self) -> None:
        """Forget what the pinger has seen."""
        self._take()

    def measure(self, costly: Costly, *, since_restart: bool = False) -> Cost:
        """What the request costs; or that and everything else since `restart`."""
        if not since_restart:
            self._take()
        began, loop = time.monotonic(), self._loop_ms()
        answer, details = _send(self._channel, costly)
        seconds = time.monotonic() - began
        seen = self._take()
        growth = int(seen["peak"] - seen["before"])
        loop = self._loop_ms() - loop
        return Cost(answer, details, seconds, seen["p99_ms"], seen["max_ms"], loop, growth, int(seen["peak"]))

    def idle_p99_ms(self) -> float:
        """What the pinger sees while nothing is asked: how busy the machine is."""
        self._take()
        time.sleep(2)
        return self._take()["p99_ms"]

    def _loop_ms(self) -> float:
        fields = self._stat.read_text().rpartition(")")[2].split()
        return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._channel.close()
        self._pinger.kill()
        self._pinger.communicate()

    def _take(self) -> dict[str, float]:
        assert self._pinger.stdin is not None
        assert self._pinger.stdout is not None
        self._pinger.stdin.write("\n")
        self._pinger.stdin.flush()
        taken: dict[str, float] = json.loads(self._pinger.stdout.readline())
        return taken


@contextmanager
def metered(served: Served) -> Iterator[Meter]:
    meter = Meter(served)
    try:
        yield meter
    finally:
        meter.close()


def _send(channel: grpc.Channel, costly: Costly) -> tuple[str, str]:
    """The codes of the answers, and the text of the first error."""
    try:
        if costly.method == STREAM:
            return _send_frames(channel, costly.messages)
        if costly.method.endswith(("Info", "StreamInfer", "Watch")):
            stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(costly.method)
            return f"OK ({sum(1 for _ in stream(iter(costly.messages), timeout=60))} messages)", ""
        (message,) = costly.messages
        unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(costly.method)
        unary(message, timeout=60)
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def _send_frames(channel: grpc.Channel, messages: Sequence[bytes]) -> tuple[str, str]:
    """Until the answer of LAST_TAG, and of each ticket before it."""
    codes: Counter[str] = Counter()
    details = ""
    expected = {
        command.tag
        for message in messages
        if len(message) < 1 << 20
        for command in pb.ClientFrame.FromString(message).commands
        if command.kind in (pb.Command.INFER, pb.Command.FETCH) and command.tag
    } | {LAST_TAG}
    stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
    call = stream(iter(messages), timeout=60)
    for reply in call:
        for event in pb.ServerFrame.FromString(reply).events:
            if event.kind == pb.Event.FAILED:
                codes[pb.Code.Name(event.failure.code)] += event.tag != LAST_TAG
                details = details or (event.failure.message if event.tag != LAST_TAG else "")
            elif event.kind in (pb.Event.DONE, pb.Event.FETCHED):
                codes["OK"] += 1
            expected.discard(event.tag if event.kind != pb.Event.HELLO else 0)
        if not expected:
            call.cancel()
            break
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items()) if count) or "none", details
