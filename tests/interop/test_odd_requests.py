"""What HTTP/2 and gRPC allow though no library does it, and what they do not allow.

Padding is allowed too, but gRPC's core takes none.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Callable

import pytest

from tests.e2e.serving import Served
from tests.interop.inferences import MODEL_INFER, MODEL_STREAM_INFER, Bystander, model_infer, model_infer_answer
from tests.interop.peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    LARGEST_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Answer,
    Header,
    Peer,
    data,
    frame,
    prefixed,
    request_headers,
    settings,
    window_update,
)

MESSAGE = model_infer(3)
WHOLE = prefixed(MESSAGE)
UNKNOWN = 0xBE
"""A type of frame that does not exist."""


Begin = Callable[[Peer], int]


def with_headers(*more: Header, without: tuple[str, ...] = (), message: bytes = WHOLE, **instead: str) -> Begin:
    """Begin a call that is as it should be but for these headers, or this message."""

    def begin(peer: Peer) -> int:
        headers = request_headers(MODEL_INFER, *more, without=without, **instead)
        stream = peer.opened(MODEL_INFER, headers=headers)
        peer.send(data(stream, message, end=True))
        return stream

    return begin


def with_a_megabyte_of_headers(peer: Peer) -> int:
    """gRPC's limit holds once the peer has acknowledged the server's settings."""
    peer.until(lambda: peer.has_settings)
    return with_headers(*[(f"x-{number}", "v" * 1000) for number in range(1000)])(peer)


def in_single_bytes(peer: Peer) -> int:
    stream = peer.opened(MODEL_INFER)
    peer.send(data(stream, WHOLE, end=True, size=1))
    return stream


def with_empty_frames(peer: Peer) -> int:
    stream = peer.opened(MODEL_INFER)
    for byte in WHOLE:
        peer.send(data(stream, b""), data(stream, bytes((byte,))))
    peer.send(data(stream, b"", end=True))
    return stream


def headers_in_pieces(peer: Peer) -> int:
    stream, block = peer.new_stream(MODEL_INFER)
    peer.send(frame(HEADERS, 0, stream, block[:1]))
    for byte in block[1:-1]:
        peer.send(frame(CONTINUATION, 0, stream, bytes((byte,))))
    peer.send(frame(CONTINUATION, END_HEADERS, stream, block[-1:]), data(stream, WHOLE, end=True))
    return stream


def frames_of_an_unknown_type(peer: Peer) -> int:
    stream = peer.opened(MODEL_INFER)
    for where in (0, stream, 99):
        peer.send(frame(UNKNOWN, 0xFF, where, b"unknown"))
    peer.send(data(stream, WHOLE, end=True))
    return stream


def priorities(peer: Peer) -> int:
    stream = peer.opened(MODEL_INFER)
    for on in (0, 1, 99):
        peer.send(frame(PRIORITY, 0, stream, struct.pack(">IB", on if on != stream else 0, 7)))
    peer.send(data(stream, WHOLE, end=True))
    return stream


def settings_in_between(peer: Peer) -> int:
    stream = peer.opened(MODEL_INFER)
    for size in (0, 1, 1 << 16, 7, LARGEST_WINDOW):
        peer.send(settings(INITIAL_WINDOW_SIZE=size, HEADER_TABLE_SIZE=0), data(stream, WHOLE[:5] if not size else b""))
    peer.send(data(stream, MESSAGE, end=True))
    return stream


def another_call_in_between(peer: Peer) -> int:
    stream = peer.opened(MODEL_INFER)
    for number in range(len(WHOLE)):
        peer.send(data(stream, WHOLE[number : number + 1]))
        other = peer.call(MODEL_INFER, model_infer(number))
        assert model_infer_answer(peer.ended(other).messages[0]) == 2 * number + 1
    peer.send(data(stream, b"", end=True))
    return stream


def gzipped(message: bytes, window: int = 31) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    return packer.compress(message) + packer.flush()


ALLOWED: dict[str, Begin] = {
    "as it should be": with_headers(),
    "a message in single bytes": in_single_bytes,
    "empty frames": with_empty_frames,
    "headers in pieces": headers_in_pieces,
    "frames of an unknown type": frames_of_an_unknown_type,
    "priorities": priorities,
    "settings in between": settings_in_between,
    "other calls in between": another_call_in_between,
    "a content-type with a suffix": with_headers(("content-type", "application/grpc+proto"), without=("content-type",)),
    "gzip": with_headers(("grpc-encoding", "gzip"), message=prefixed(gzipped(MESSAGE), compressed=1)),
    "deflate": with_headers(("grpc-encoding", "deflate"), message=prefixed(gzipped(MESSAGE, 15), compressed=1)),
    "an encoding that is not used": with_headers(("grpc-encoding", "gzip")),
    "the longest timeout": with_headers(("grpc-timeout", "99999999H")),
    "a timeout in microseconds": with_headers(("grpc-timeout", "20000000u")),
    "many headers": with_headers(*[(f"x-{number}", "v" * 20) for number in range(80)]),
    "no user agent, many cookies": with_headers(*[("cookie", f"a={number}") for number in range(20)]),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_is_allowed_is_answered(shared: Served, unharmed: Bystander, what: str) -> None:
    with Peer(shared.address) as peer:
        for _ in range(3):
            answer = peer.ended(ALLOWED[what](peer))
            assert (answer.status, answer.headers.get(":status")) == (0, "200"), answer
            assert [model_infer_answer(message) for message in answer.messages] == [7]


def test_many_messages_in_one_frame(shared: Served, unharmed: Bystander) -> None:
    """And messages that begin and end anywhere within frames."""
    requests = b"".join(prefixed(model_infer(number)) for number in range(100))
    for size in (16384, 100, 7):
        with Peer(shared.address) as peer:
            stream = peer.opened(MODEL_STREAM_INFER)
            peer.send(data(stream, requests, end=True, size=size))
            answer = peer.ended(stream)
            assert answer.status == 0
            assert len(answer.messages) == 100


WRONG: dict[str, Begin] = {
    "no te": with_headers(without=("te",)),
    "te without trailers": with_headers(("te", "gzip"), without=("te",)),
    "GET": with_headers(method="GET"),
    "no method": with_headers(without=(":method",)),
    "no scheme": with_headers(without=(":scheme",)),
    "no path": with_headers(without=(":path",)),
    "an empty path": with_headers(path=""),
    "a path of a megabyte": with_headers(path="/" + "p" * (1 << 20)),
    "two paths": with_headers((":path", "/x/y")),
    "capitals": with_headers(("X-Capital", "1")),
    "a timeout that is no number": with_headers(("grpc-timeout", "soon")),
    "a negative timeout": with_headers(("grpc-timeout", "-1S")),
    "a timeout of nothing": with_headers(("grpc-timeout", "0n")),
    "binary metadata that is not base64": with_headers(("x-bin", "!!!")),
    "an unknown encoding": with_headers(("grpc-encoding", "br"), message=prefixed(MESSAGE, compressed=1)),
    "a compressed message without an encoding": with_headers(message=prefixed(MESSAGE, compressed=1)),
    "a compressed message that is not": with_headers(
        ("grpc-encoding", "gzip"), message=prefixed(MESSAGE, compressed=1)
    ),
    "a compressed message cut short": with_headers(
        ("grpc-encoding", "gzip"), message=prefixed(gzipped(MESSAGE)[:-9], compressed=1)
    ),
    "a flag that does not exist": with_headers(message=prefixed(MESSAGE, compressed=7)),
    "a length of 4 GiB": with_headers(message=prefixed(MESSAGE, length=(1 << 32) - 1)),
    "a length of 2 GiB": with_headers(message=prefixed(MESSAGE, length=1 << 31)),
    "a length that is too short": with_headers(message=prefixed(MESSAGE, length=len(MESSAGE) - 3)),
    "a length that is too long": with_headers(message=prefixed(MESSAGE, length=len(MESSAGE) + 3)),
    "no message": with_headers(message=b""),
    "a megabyte of headers": with_a_megabyte_of_headers,
    "a message that grows over the limit": with_headers(
        ("grpc-encoding", "gzip"), message=prefixed(gzipped(bytes(5 << 20)), compressed=1)
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_ends_its_call(shared: Served, unharmed: Bystander, what: str) -> None:
    with Peer(shared.address) as peer:
        for _ in range(3):
            answer = peer.ended(WRONG[what](peer))
            assert peer.closed or answer.reset or answer.status, answer
            assert not answer.messages


def payload(kind: int, *, flags: int = 0, stream: int = 0, content: bytes = b"") -> bytes:
    return frame(kind, flags, stream, content)


NO_HTTP2: dict[str, bytes] = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: peer\r\n\r\n",
    "TLS": bytes.fromhex("16030100750100007103030000") + bytes(110),
    "nothing but zeros": bytes(4096),
    "half a preface": PREFACE[:11] + b"x" * 100,
    "no settings": PREFACE + payload(PING, content=bytes(8)) + data(1, WHOLE),
}
BROKEN: dict[str, bytes] = {
    "data on a stream that is not open": data(1, WHOLE),
    "data on stream 0": data(0, WHOLE),
    "a continuation of nothing": payload(CONTINUATION, stream=1, content=b"x"),
    "headers that are not HPACK": payload(HEADERS, flags=END_HEADERS, stream=1, content=b"\xff" * 100),
    "headers on stream 0": payload(HEADERS, flags=END_HEADERS, content=b"\x82"),
    "headers on an even stream": payload(HEADERS, flags=END_HEADERS, stream=2, content=b"\x82"),
    "a frame that is too large": payload(DATA, stream=1, content=bytes(1 << 20)),
    "a promise": payload(PUSH_PROMISE, flags=END_HEADERS, stream=1, content=bytes(4)),
    "a ping that is too short": payload(PING, content=b"x"),
    "settings that are cut": payload(SETTINGS, content=b"xxxxx"),
    "an acknowledgement with settings": payload(SETTINGS, flags=ACK, content=bytes(6)),
    "settings that are out of range": settings(INITIAL_WINDOW_SIZE=(1 << 32) - 1, MAX_FRAME_SIZE=1, ENABLE_PUSH=9),
    "a reset of nothing": payload(RST_STREAM, stream=1, content=bytes(4)),
    "a reset that is too short": payload(RST_STREAM, stream=1, content=b"x"),
    "a window of nothing": payload(WINDOW_UPDATE, content=bytes(4)),
    "a window that overflows": window_update(0, LARGEST_WINDOW) * 3,
    "more padding than frame": payload(DATA, flags=PADDED, stream=1, content=b"\xff\0"),
    "headers between headers": payload(HEADERS, stream=1, content=b"\x82") + data(1, WHOLE),
}


@pytest.mark.parametrize("what", [*NO_HTTP2, *BROKEN])
def test_bytes_that_are_not_http2_harm_nobody(shared: Served, unharmed: Bystander, what: str) -> None:
    """The server may close the connection, or ignore it. It is what others notice that counts."""
    for _ in range(3):
        with Peer(shared.address, opening=NO_HTTP2.get(what, PREFACE + frame(SETTINGS))) as peer:
            if what in BROKEN:
                peer.send(BROKEN[what], frame(PING, payload=bytes(8)))
                peer.until(lambda: bool(peer.closed or peer.pongs or peer.goaway))
            else:
                peer.socket.shutdown(socket.SHUT_WR)
                peer.until(lambda: peer.closed)


def test_a_call_goes_on_while_another_of_its_connection_is_wrong(shared: Served, unharmed: Bystander) -> None:
    """Of what ends one call only, whatever it is."""
    harmless = [what for what in WRONG if "megabyte" not in what]
    with Peer(shared.address) as peer:
        stream = peer.opened(MODEL_STREAM_INFER)
        answer: Answer = peer.answers[stream]
        for count, what in enumerate(harmless, 1):
            peer.ended(WRONG[what](peer))
            assert not peer.closed, what
            peer.send(data(stream, WHOLE))
            peer.until(lambda count=count: len(answer.messages) == count)  # type: ignore[misc]  # mypy cannot infer it
        peer.send(data(stream, b"", end=True))
        assert peer.ended(stream).status == 0
