"""Peers that do something HTTP/2 allows far too often: others are served meanwhile, and memory stays bounded."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from headrace.oip import open_inference_pb2 as oip
from tests.e2e.serving import Served
from tests.interop.bounds import CALLS_BYTES, MIB, bounded
from tests.interop.inferences import (
    MODEL_INFER,
    MODEL_STREAM_INFER,
    STREAM,
    Bystander,
    model_infer,
    model_infer_answer,
)
from tests.interop.inferences import (
    frame as client_frame,
)
from tests.interop.peer import (
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    LARGEST_WINDOW,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    Peer,
    data,
    frame,
    prefixed,
    reset,
    settings,
    window_update,
)


def _drain(peer: Peer) -> None:
    """Read what has come, without waiting."""
    peer.socket.settimeout(0.001)
    with suppress(TimeoutError, OSError):
        while not peer.closed:
            peer.read()
    if not peer.closed:
        peer.socket.settimeout(20)


RAPID = {
    "ModelInfer without a message": (MODEL_INFER, b""),
    "ModelInfer": (MODEL_INFER, prefixed(model_infer(1))),
    "ModelStreamInfer": (MODEL_STREAM_INFER, prefixed(model_infer(1))),
    "half a message of Stream": (STREAM, prefixed(client_frame(1, define=True))[:9]),
    "an rpc that does not exist": ("/no/such", b""),
}


@pytest.mark.parametrize("what", RAPID)
def test_rapid_resets(shared: Served, unharmed: Bystander, what: str) -> None:
    """10,000 streams of one connection, each reset right after it was opened (CVE-2023-44487)."""
    path, part = RAPID[what]
    with bounded(shared, unharmed, CALLS_BYTES), Peer(shared.address) as peer:
        for _ in range(100):
            frames = []
            for _ in range(100):
                stream, block = peer.new_stream(path)
                frames += [frame(HEADERS, END_HEADERS, stream, block)]
                frames += [data(stream, part)] if part else []
                frames += [reset(stream)]
            peer.send(*frames)
            peer.answers.clear()
            _drain(peer)
            if peer.closed:
                break


def many(one: bytes, count: int) -> Callable[[], Iterator[bytes]]:
    """As many frames, a thousand at a time."""
    return lambda: (one * 1000 for _ in range(count // 1000))


def opened_headers(rest: bytes) -> Callable[[], Iterator[bytes]]:
    """Headers that never end: a kibibyte each, a hundred thousand times."""

    def frames() -> Iterator[bytes]:
        yield frame(HEADERS, 0, 1, b"\x83")
        for _ in range(1000):
            yield frame(CONTINUATION, 0, 1, rest) * 100

    return frames


LITERAL = b"\0\x01x\x7f\xf1\x06" + bytes(1008)
"""A header x of 1,008 bytes that is not indexed."""
FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "pings": many(frame(PING, payload=bytes(8)), 200_000),
    "settings": many(settings(INITIAL_WINDOW_SIZE=1 << 16), 100_000),
    "empty settings": many(frame(SETTINGS), 100_000),
    "priorities": many(frame(PRIORITY, 0, 1, b"\0\0\0\0\1"), 100_000),
    "windows": many(window_update(0, 1), 100_000),
    "resets of nothing": many(frame(RST_STREAM, 0, 1, bytes(4)), 100_000),
    "frames of an unknown type": many(frame(0xBE, 0, 0, bytes(1000)), 50_000),
    "continuations": opened_headers(LITERAL),
    "empty continuations": opened_headers(b""),
}


@pytest.mark.parametrize("reads", [True, False], ids=["reading", "not reading"])
@pytest.mark.parametrize("flood", FLOODS)
def test_floods_of_frames(shared: Served, unharmed: Bystander, flood: str, reads: bool) -> None:
    """From a peer that reads what the server says to it, and from one that does not."""
    with bounded(shared, unharmed), Peer(shared.address) as peer:
        peer.socket.settimeout(2)  # a server that does not read any more has had enough
        with suppress(TimeoutError):
            for frames in FLOODS[flood]():
                peer.send(frames)
                if reads:
                    _drain(peer)
                if peer.closed:
                    break


@pytest.mark.parametrize("kind", ["no windows", "windows of one byte", "never read"])
def test_peers_that_take_no_answers(shared: Served, unharmed: Bystander, kind: str) -> None:
    """40 answers of 4 MiB each, for which there is no room at the peer."""
    size = {"no windows": 0, "windows of one byte": 1, "never read": LARGEST_WINDOW}[kind]
    opening = PREFACE + settings(INITIAL_WINDOW_SIZE=size)
    with Peer(shared.address, opening=opening, polite=False) as peer:
        with bounded(shared, unharmed, 400 * MIB):  # they are in the hands of the transport, or of the core
            streams = [peer.call(MODEL_INFER, wide()) for _ in range(40)]
            for _ in range(20):
                unharmed.is_served()
            if kind == "windows of one byte":
                for _ in range(100):
                    peer.send(*[window_update(stream, 1) for stream in streams])
        if kind == "no windows":
            # Room for the first of them: it is whole, and right.
            peer.send(frame(SETTINGS, 1), window_update(0, 64 * MIB), window_update(streams[0], 8 * MIB))
            answer = peer.ended(streams[0])
            assert answer.status == 0
            assert len(answer.messages[0]) > 4 * MIB


def wide() -> bytes:
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 16])
    return oip.ModelInferRequest(model_name="wide", inputs=[tensor], raw_input_contents=[bytes(64)]).SerializeToString()


def test_messages_that_grow(shared: Served, unharmed: Bystander) -> None:
    """Each is 40 MiB, and arrives as 40 KiB: what is over the limit is not unpacked further."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(MIB)) for _ in range(40)) + packer.flush()
    with bounded(shared, unharmed), Peer(shared.address) as peer:
        for _ in range(8):
            stream = peer.opened(MODEL_INFER, ("grpc-encoding", "gzip"))
            peer.send(data(stream, prefixed(packed, compressed=1), end=True))
            assert peer.ended(stream).status == 8


def test_connections_that_say_nothing(shared: Served, unharmed: Bystander) -> None:
    """500 of them, and 500 that are closed at once."""
    host, port = shared.address.rsplit(":", 1)
    with bounded(shared, unharmed, CALLS_BYTES):
        silent = [socket.create_connection((host, int(port))) for _ in range(500)]
        for _ in range(500):
            socket.create_connection((host, int(port))).close()
        unharmed.is_served()
        for each in silent:
            each.close()


def test_streams_over_the_limit_of_a_connection(shared: Served, unharmed: Bystander) -> None:
    """2,000 calls at once that stay open, then each is answered or refused."""
    with bounded(shared, unharmed, CALLS_BYTES), Peer(shared.address) as peer:
        streams = [peer.opened(MODEL_INFER) for _ in range(2000)]
        for number, stream in enumerate(streams):
            peer.send(data(stream, prefixed(model_infer(number)), end=True))
        for number, stream in enumerate(streams):
            answer = peer.ended(stream)
            assert not peer.closed
            assert answer.is_over
            if answer.status == 0:
                assert model_infer_answer(answer.messages[0]) == 2 * number + 1
        assert sum(peer.answers[stream].status == 0 for stream in streams) > 100
