"""Attacks by connections: far too many of them, some that are slow, and some that ping without end."""

from __future__ import annotations

import os
import resource
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import models
from tests.e2e.serving import Serve, Served
from tests.interop.bounds import CALLS_BYTES, MIB, bounded
from tests.interop.inferences import (
    MODEL_INFER,
    MODEL_STREAM_INFER,
    Bystander,
    model_infer,
    model_infer_answer,
    stream_answer,
)
from tests.interop.peer import END_HEADERS, HEADERS, PING, PREFACE, SETTINGS, Peer, data, frame, prefixed

pytestmark = pytest.mark.transport

HELLO = PREFACE + frame(SETTINGS)
ENHANCE_YOUR_CALM = 11
RESET = struct.pack("ii", 1, 0)


def call_bytes(peer: Peer, path: str, message: bytes) -> bytes:
    """What a client says to make a call."""
    stream, block = peer.new_stream(path)
    return frame(HEADERS, END_HEADERS, stream, block) + data(stream, prefixed(message), end=True)


def descriptors(served: Served) -> int:
    return len(os.listdir(f"/proc/{served.process.pid}/fd"))


def test_ten_thousand_connections_come_and_go(serve: Serve, tmp_path: Path) -> None:
    """They end before, in the middle of and after what a client says first, by an end and by a reset of TCP.

    The allocator keeps what the first of them took: a connection that were not forgotten would keep 20 KiB more.
    """
    served = serve(models.scale(tmp_path))
    host, port = served.address.rsplit(":", 1)
    with Peer(served.address) as peer:
        whole = HELLO + call_bytes(peer, MODEL_INFER, model_infer(1))
    said = [b"", PREFACE[:9], HELLO, whole[:-20], whole]

    def come_and_go(count: int) -> None:
        for number in range(count):
            with socket.create_connection((host, int(port)), timeout=20) as connection:
                if text := said[number % len(said)]:
                    connection.sendall(text)
                if number % 2:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    bystander = Bystander(served.address)
    with bystander.channel:
        bystander.is_served()
        open_before = descriptors(served)
        come_and_go(3000)
        before = served.resident_bytes()
        with bounded(served, bystander, CALLS_BYTES):
            come_and_go(10_000)
        bystander.until_idle()
        bystander.until(lambda _: descriptors(served) <= open_before)
        bystander.until(lambda _: served.resident_bytes() - before < 96 * MIB)
        bystander.is_served()


def test_a_call_may_come_byte_by_byte_on_many_connections(shared: Served, unharmed: Bystander) -> None:
    """They hold up nobody, and each is answered."""
    with bounded(shared, unharmed), ExitStack() as stack:
        peers = [stack.enter_context(Peer(shared.address, opening=b"")) for _ in range(50)]
        texts = [HELLO + call_bytes(peer, MODEL_INFER, model_infer(number)) for number, peer in enumerate(peers)]
        for position in range(max(map(len, texts))):
            for peer, text in zip(peers, texts, strict=True):
                peer.send(text[position : position + 1])
        for number, peer in enumerate(peers):
            answer = peer.ended(1)
            assert (answer.status, [model_infer_answer(message) for message in answer.messages]) == (
                0,
                [2 * number + 1],
            )


@pytest.mark.parametrize("path", [MODEL_INFER, MODEL_STREAM_INFER])
def test_clients_die_in_the_middle_of_a_large_message(shared: Served, unharmed: Bystander, path: str) -> None:
    """What has come of it is given back: 30 times 3 MiB of 4."""
    with bounded(shared, unharmed, CALLS_BYTES):
        for number in range(30):
            with Peer(shared.address) as peer:
                stream = peer.opened(path)
                peer.send(data(stream, prefixed(bytes(3 * MIB), length=4 * MIB)))
                if number % 2:
                    peer.abort()


def test_a_client_that_pings_without_end_is_told_to_be_calm(shared: Served, unharmed: Bystander) -> None:
    with Peer(shared.address) as peer:
        for sent in range(1, 20):
            peer.send(frame(PING, payload=bytes(8)))
            peer.until(lambda sent=sent: peer.pongs == sent or peer.closed)  # type: ignore[misc]  # mypy cannot infer it
        peer.until(lambda: peer.closed)
        assert peer.goaway == ENHANCE_YOUR_CALM


def test_a_client_that_pings_between_answers_is_served(shared: Served, unharmed: Bystander) -> None:
    """As libraries do that measure the bandwidth: the strikes are counted from the last answer."""
    with Peer(shared.address) as peer:
        stream = peer.opened(MODEL_STREAM_INFER)
        for number in range(1, 30):
            peer.send(frame(PING, payload=bytes(8)), data(stream, prefixed(model_infer(number))))
            peer.until(lambda number=number: len(peer.answers[stream].messages) == number)  # type: ignore[misc]  # mypy cannot infer it
        peer.send(data(stream, b"", end=True))
        answer = peer.ended(stream)
        assert (answer.status, peer.goaway) == (0, None)
        assert [stream_answer(message)[1] for message in answer.messages] == [2 * n + 1 for n in range(1, 30)]


def processor_seconds(served: Served) -> float:
    fields = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_left_those_who_are_connected_are_served(serve: Serve, tmp_path: Path) -> None:
    """And when there are some again, new ones are. Meanwhile the server does not spin, and its log does not grow."""
    served = serve(models.scale(tmp_path))
    host, port = served.address.rsplit(":", 1)
    bystander = Bystander(served.address)
    with bystander.channel:
        bystander.is_served()
        limit, (_, hard) = descriptors(served) + 8, resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
        with ExitStack() as stack:
            for _ in range(64):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            bystander.until(
                lambda _: descriptors(served) >= resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)[0]
            )
            used, began = processor_seconds(served), time.monotonic()
            for _ in range(200):
                bystander.is_served()
                bystander.status()
            assert processor_seconds(served) - used < 5
            assert time.monotonic() - began < 60
        with Peer(served.address) as peer:
            assert peer.ended(peer.call(MODEL_INFER, model_infer(2))).status == 0
        bystander.is_served()
    assert served.stop() == 0
    assert len(served.log) < 1 << 20
    assert "Traceback" not in served.log
