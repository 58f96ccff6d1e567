"""A peer that speaks HTTP/2 frame by frame, and so can say what no library would say."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from hpack import Decoder, Encoder

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 1
END_HEADERS, PADDED = 4, 8
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, _ = range(1, 7)
CANCEL = 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_WINDOW = (1 << 31) - 1
FRAME_BYTES = 16 << 10
"""What every peer accepts in a frame."""
PATIENCE = 20.0

Header = tuple[str, str]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(**values: int) -> bytes:
    """`settings(INITIAL_WINDOW_SIZE=0)`."""
    payload = b"".join(struct.pack(">HI", globals()[name], value) for name, value in values.items())
    return frame(SETTINGS, payload=payload)


def reset(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, stream=stream, payload=struct.pack(">I", code))


def window_update(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, stream=stream, payload=struct.pack(">I", more))


def prefixed(message: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A message as gRPC sends it, or one whose prefix says something else."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


def data(stream: int, payload: bytes, *, end: bool = False, size: int = FRAME_BYTES) -> bytes:
    """DATA frames of up to `size` bytes."""
    parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    last = len(parts) - 1
    return b"".join(frame(DATA, END_STREAM if end and i == last else 0, stream, part) for i, part in enumerate(parts))


def request_headers(path: str, /, *more: Header, without: Sequence[str] = (), **instead: str) -> list[Header]:
    """Those of a gRPC call; `instead` replaces the values of pseudo-headers."""
    pseudo = {"method": "POST", "scheme": "http", "path": path, "authority": "peer", **instead}
    headers = [*((f":{name}", value) for name, value in pseudo.items()), ("content-type", "application/grpc")]
    headers.append(("te", "trailers"))
    return [(name, value) for name, value in headers if name not in without] + [*more]


@dataclass
class Answer:
    """What has come on a stream."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        """The status of gRPC."""
        return int(self.headers["grpc-status"]) if "grpc-status" in self.headers else None

    @property
    def messages(self) -> list[bytes]:
        found, rest = [], bytes(self.data)
        while len(rest) >= 5 and len(rest) >= 5 + int.from_bytes(rest[1:5], "big"):
            end = 5 + int.from_bytes(rest[1:5], "big")
            found.append(rest[5:end])
            rest = rest[end:]
        return found

    @property
    def is_over(self) -> bool:
        return self.ended or self.reset is not None


class Peer:
    """`with Peer(address) as peer`: connected, with the preface and its settings sent.

    It reads only inside `until`, and what it reads it acknowledges there unless it is not `polite`.
    """

    def __init__(self, address: str, *, opening: bytes = PREFACE + frame(SETTINGS), polite: bool = True) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(opening)
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        """The error with which the server says goodbye."""
        self.pongs = 0
        self.has_settings = False
        """Whether those of the server have come, and are acknowledged."""
        self.closed = False
        self._polite = polite
        self._encoder, self._decoder = Encoder(), Decoder()
        self._received = bytearray()
        self._next = 1

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def abort(self) -> None:
        """Close the connection with a reset of TCP, in the middle of whatever goes on."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        """Nothing is sent once the server has closed the connection."""
        try:
            self.socket.sendall(b"".join(frames))
        except ConnectionError:
            self.closed = True

    def opened(self, path: str, *more: Header, end: bool = False, headers: Iterable[Header] | None = None) -> int:
        """Begin a call and return the number of its stream."""
        stream, block = self.new_stream(path, *more, headers=headers)
        parts = [block[start : start + FRAME_BYTES] for start in range(0, len(block), FRAME_BYTES)]
        kinds = [(HEADERS, END_STREAM if end else 0), *[(CONTINUATION, 0)] * (len(parts) - 1)]
        for last, ((kind, flags), part) in zip(range(1 - len(parts), 1), zip(kinds, parts, strict=True), strict=True):
            self.send(frame(kind, flags if last else flags | END_HEADERS, stream, part))
        return stream

    def new_stream(self, path: str, *more: Header, headers: Iterable[Header] | None = None) -> tuple[int, bytes]:
        """The number of the next stream, and its headers encoded; the caller sends them."""
        stream, self._next = self._next, self._next + 2
        self.answers[stream] = Answer()
        return stream, self._encoder.encode(headers or request_headers(path, *more), huffman=False)

    def call(self, path: str, message: bytes, *more: Header) -> int:
        """A unary call."""
        stream = self.opened(path, *more)
        self.send(data(stream, prefixed(message), end=True))
        return stream

    def ended(self, stream: int) -> Answer:
        """How a call ends; an ending of the connection ends it too."""
        answer = self.answers[stream]
        self.until(lambda: answer.is_over or self.closed)
        return answer

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{self.answers}, GOAWAY {self.goaway}, closed: {self.closed}"
            self.read()

    def read(self) -> None:
        """Handle what has arrived; waits for something."""
        try:
            arrived = self.socket.recv(1 << 16)
        except ConnectionError:
            arrived = b""
        if not arrived:
            self.closed = True
            return
        self._received += arrived
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + length:
                return
            kind, flags = self._received[3], self._received[4]
            stream = int.from_bytes(self._received[5:9], "big")
            payload = bytes(self._received[9 : 9 + length])
            del self._received[: 9 + length]
            self._handle(kind, flags, stream, payload)

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        answer = self.answers.setdefault(stream, Answer())
        if kind == DATA:
            answer.data += payload
            if self._polite and payload:
                self.send(window_update(0, len(payload)), window_update(stream, len(payload)))
        elif kind == HEADERS:
            answer.headers |= {str(name): str(value) for name, value in self._decoder.decode(payload)}
        elif kind == RST_STREAM:
            answer.reset = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == PING and flags & ACK:
            self.pongs += 1
        elif kind in (SETTINGS, PING) and self._polite and not flags & ACK:
            with suppress(OSError):
                self.send(frame(kind, ACK, payload=payload if kind == PING else b""))
            self.has_settings |= kind == SETTINGS
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            answer.ended = True
