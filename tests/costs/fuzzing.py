"""Sends mutated requests by every kind of call, and judges each answer."""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from collections.abc import Iterator

import grpc

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from tests.costs.measuring import LAST_TAG, STREAM, UNLIMITED
from tests.costs.mutations import client_frames, infer_requests, mutated, unary_requests
from tests.stopwatch import Stopwatch

PRIVATE = re.compile(
    r"Traceback|Exception|Error:|object at 0x|/home|/tmp|/work|/usr|/dev/|\.py\b|\.xml|\.cpp|openvino", re.IGNORECASE
)
IN_FLIGHT = 16
FRAMES = 40
"""Messages that a stream sends before another stream takes its place."""
INFER, STREAM_INFER = (f"/inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelStreamInfer"))


class Fuzzer:
    """`slowest` is in seconds, while the machine runs; `leaks` are texts that no client should see.

    `codes` counts the answers.
    """

    def __init__(self, address: str, seed: int) -> None:
        self._channel = grpc.insecure_channel(address, options=UNLIMITED)
        self._random = random.Random(seed)
        self.codes: Counter[str] = Counter()
        self.slowest = 0.0
        self._watch = Stopwatch()
        self._watch.__enter__()
        self.leaks: list[str] = []

    def run(self, count: int) -> None:
        """Send this many requests: half of them on streams."""
        while count > 0:
            for part in (self._unary, self._frames, self._stream):
                part(2 * FRAMES if part == self._unary else FRAMES)
                count -= 2 * FRAMES if part == self._unary else FRAMES

    def close(self) -> None:
        self._watch.__exit__(None, None, None)
        self._channel.close()

    def _unary(self, count: int) -> None:
        waiting: deque[tuple[float, grpc.Future[bytes]]] = deque()
        others = unary_requests()
        for _ in range(count):
            method, message = self._random.choice(others)
            if self._random.random() < 0.6:
                method, message = INFER, self._random.choice(infer_requests())
            if len(waiting) == IN_FLIGHT:
                self._settle(*waiting.popleft())
            callable_: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
            data = mutated(message, self._random)
            waiting.append((self._watch.ran(), callable_.future(data, timeout=30)))
        while waiting:
            self._settle(*waiting.popleft())

    def _settle(self, began: float, future: grpc.Future[bytes]) -> None:
        error = future.exception()
        self._note(began)
        if isinstance(error, grpc.RpcError):
            self._answered(error.code().name, error.details() or "")
        else:
            self._answered("OK", "")

    def _frames(self, count: int) -> None:
        """Each mutated frame is followed by one whose answer says that it has been dealt with."""
        frames = [mutated(self._random.choice(client_frames()), self._random) for _ in range(count)]
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(STREAM)
        sent: list[float] = []

        def messages() -> Iterator[bytes]:
            for number, frame in enumerate(frames):
                sent.append(self._watch.ran())
                yield frame
                last = pb.Command(tag=LAST_TAG + number, call=4_000_000)
                yield pb.ClientFrame(commands=[last]).SerializeToString()

        answered, before = 0, 0.0
        call = stream(messages(), timeout=30)
        for reply in call:
            for event in pb.ServerFrame.FromString(reply).events:
                if event.kind == pb.Event.FAILED:
                    self._answered(pb.Code.Name(event.failure.code), event.failure.message)
                if LAST_TAG <= event.tag < LAST_TAG + count:
                    before = self._note(max(before, sent[event.tag - LAST_TAG]))
                    answered += 1
            if answered == count:
                call.cancel()
                break
        assert answered == count

    def _stream(self, count: int) -> None:
        """A stream of Triton, which answers each message once."""
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(STREAM_INFER)
        sent: list[float] = []

        def messages() -> Iterator[bytes]:
            for _ in range(count):
                message = mutated(self._random.choice(infer_requests()), self._random)
                sent.append(self._watch.ran())
                yield message

        answered, before = 0, 0.0
        for answer in stream(messages(), timeout=30):
            before = self._note(max(before, sent[answered]))
            answered += 1
            message = oip.ModelStreamInferResponse.FromString(answer).error_message
            self._answered("error" if message else "OK", message)
        assert answered == count

    def _note(self, began: float) -> float:
        """An answer has come. `began`: the request was sent, or the one before it was answered. Returns the time."""
        now = self._watch.ran()
        self.slowest = max(self.slowest, now - began)
        return now

    def _answered(self, code: str, text: str) -> None:
        self.codes[code] += 1
        if PRIVATE.search(text) or code in ("INTERNAL", "UNKNOWN") or "the server failed" in text:
            self.leaks.append(f"{code}: {text}")
