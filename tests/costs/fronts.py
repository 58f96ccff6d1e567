"""Sends requests that may be anything by every kind of call, and judges each answer."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from tests.costs.measuring import LAST_TAG, STREAM, UNLIMITED
from tests.stopwatch import Stopwatch

PRIVATE = re.compile(
    r"Traceback|Exception|Error:|object at 0x|/home|/tmp|/work|/usr|/dev/|\.py\b|\.xml|\.cpp|openvino", re.IGNORECASE
)
_QUOTED = re.compile(r"'([^']*)'")
"""What an answer repeats of its request may be anything."""
IN_FLIGHT = 16
SECONDS = 300
"""For a unary call, or a stream of some messages: wide enough for a machine that does much else."""
UNANSWERED = Path("build/soak/unanswered.json")
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
UnaryRequest = tuple[str, bytes]
"""A method, and a message for it."""
Heard = Callable[[str, bytes, str, str], None]
"""Is told of each answer: the method, the message, the code and the text."""


class Fronts:
    """`slowest` is in seconds, while the machine runs; `leaks` are texts that no client should see.

    `codes` counts the answers, and `requests` the messages by their kind.
    """

    def __init__(self, address: str, heard: Heard | None = None) -> None:
        self._channel = grpc.insecure_channel(address, options=UNLIMITED)
        self._heard = heard
        self.codes: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.slowest = 0.0
        self._watch = Stopwatch()
        self.leaks: list[str] = []

    def __enter__(self) -> Self:
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)
        self._channel.close()

    def unary(self, requests: Sequence[UnaryRequest]) -> None:
        """Several of them are in flight together."""
        waiting: deque[tuple[float, UnaryRequest, grpc.Future[bytes]]] = deque()
        for method, message in requests:
            if len(waiting) == IN_FLIGHT:
                self._settle(*waiting.popleft())
            callable_: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
            future = callable_.future(message, timeout=SECONDS)
            waiting.append((self._watch.ran(), (method, message), future))
        while waiting:
            self._settle(*waiting.popleft())
        self.requests["unary"] += len(requests)

    def _settle(self, began: float, request: UnaryRequest, future: grpc.Future[bytes]) -> None:
        error = future.exception()
        self._note(began)
        if isinstance(error, grpc.RpcError):
            self._answered(*request, error.code().name, error.details() or "")
        else:
            self._answered(*request, "OK", "")

    def frames(self, frames: Sequence[bytes]) -> None:
        """One stream of them: each is followed by one whose answer says that it has been dealt with."""
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(STREAM)
        sent: list[float] = []

        def messages() -> Iterator[bytes]:
            for number, frame in enumerate(frames):
                sent.append(self._watch.ran())
                yield frame
                last = pb.Command(tag=LAST_TAG + number, call=4_000_000)
                yield pb.ClientFrame(commands=[last]).SerializeToString()

        answered, before = 0, 0.0
        call = stream(messages(), timeout=SECONDS)
        for reply in self._replies(call, STREAM, frames):
            for event in pb.ServerFrame.FromString(reply).events:
                is_last = LAST_TAG <= event.tag < LAST_TAG + len(frames)
                if event.kind == pb.Event.FAILED and not is_last:
                    frame = frames[min(answered, len(frames) - 1)]
                    self._answered(STREAM, frame, pb.Code.Name(event.failure.code), event.failure.message)
                elif event.kind in (pb.Event.DONE, pb.Event.FETCHED):
                    self.codes["OK"] += 1
                if is_last:
                    before = self._note(max(before, sent[event.tag - LAST_TAG]))
                    answered += 1
            if answered == len(frames):
                call.cancel()
                break
        assert answered == len(frames)
        self.requests["frames"] += len(frames)

    def stream(self, requests: Sequence[bytes]) -> None:
        """A stream of Triton, which answers each message once."""
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(STREAM_INFER)
        sent: list[float] = []

        def messages() -> Iterator[bytes]:
            for message in requests:
                sent.append(self._watch.ran())
                yield message

        answered, before = 0, 0.0
        for answer in self._replies(stream(messages(), timeout=SECONDS), STREAM_INFER, requests):
            before = self._note(max(before, sent[answered]))
            message = oip.ModelStreamInferResponse.FromString(answer).error_message
            self._answered(STREAM_INFER, requests[answered], "error" if message else "OK", message)
            answered += 1
        assert answered == len(requests)
        self.requests["Triton's stream"] += len(requests)

    def _replies(self, call: Iterator[bytes], method: str, sent: Sequence[bytes]) -> Iterator[bytes]:
        """Those of a stream. What has made it fail is kept in a file."""
        try:
            yield from call
        except grpc.RpcError as error:
            UNANSWERED.parent.mkdir(parents=True, exist_ok=True)
            UNANSWERED.write_text(json.dumps([method, str(error), [message.hex() for message in sent]]))
            raise AssertionError(f"a stream has failed, see {UNANSWERED}: {error}") from error

    def send(self, requests: Sequence[UnaryRequest]) -> None:
        """By the kind of call that each is for."""
        frames = [message for method, message in requests if method == STREAM]
        streamed = [message for method, message in requests if method == STREAM_INFER]
        others = [request for request in requests if request[0] not in (STREAM, STREAM_INFER)]
        for part, work in ((frames, self.frames), (streamed, self.stream)):
            if part:
                work(part)
        if others:
            self.unary(others)

    def _note(self, began: float) -> float:
        """An answer has come. `began`: the request was sent, or the one before it was answered. Returns the time."""
        now = self._watch.ran()
        self.slowest = max(self.slowest, now - began)
        return now

    def _answered(self, method: str, message: bytes, code: str, text: str) -> None:
        self.codes[code] += 1
        own = _QUOTED.sub(lambda quoted: "" if quoted[1].encode() in message else quoted[0], text)
        if PRIVATE.search(own) or code in ("INTERNAL", "UNKNOWN") or "the server failed" in text:
            self.leaks.append(f"{method} {message.hex()[:4000]}: {code}: {text}")
        if self._heard is not None:
            self._heard(method, message, code, text)


def each(method: str, messages: Sequence[bytes]) -> list[UnaryRequest]:
    return [*zip(repeat(method), messages, strict=False)]
