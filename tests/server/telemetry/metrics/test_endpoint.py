"""The port for metrics: whoever is slow, or sends garbage, holds up nobody else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.request import urlopen

import pytest

from headrace.server.telemetry.metrics import endpoint
from headrace.server.telemetry.metrics.asking import NoAnswerError
from headrace.server.telemetry.metrics.endpoint import MAX_CONNECTIONS, MetricsServer
from tests.waiting import until

TEXT = b"metric 1\n" * 500_000


class Fixed:
    """Answers that are known. `stuck`: the event loop does nothing."""

    stuck = False

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return TEXT, accept or "none"

    def is_alive(self) -> bool:
        if self.stuck:
            raise NoAnswerError("the event loop has done nothing for 5 s")
        return True

    def is_ready(self) -> bool:
        return False


@pytest.fixture
def answers() -> Fixed:
    return Fixed()


@pytest.fixture
def port(answers: Fixed) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    server = MetricsServer([("127.0.0.1", number)], answers)
    yield number
    server.close()


def exchange(port: int, request: bytes) -> bytes:
    """Everything that comes for a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):
            while data := client.recv(1 << 16):
                answer += data
    return answer


def scraped(port: int) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return bytes(answer.read())


def threads() -> int:
    return sum("process_request" in thread.name for thread in threading.enumerate())


def until_threads_are(there: int) -> None:
    until(lambda: threads() <= there, lambda: f"{threads()} threads")


def test_the_answer_is_whole(port: int) -> None:
    assert scraped(port) == TEXT


def test_the_head_of_an_answer_has_its_length_alone(port: int) -> None:
    head = exchange(port, b"HEAD /metrics HTTP/1.0\r\nAccept: x/y\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert f"Content-Length: {len(TEXT)}\r\n".encode() in head
    assert b"Content-Type: x/y\r\n" in head
    assert head.endswith(b"\r\n\r\n")


def test_a_loop_that_does_nothing_is_not_alive(port: int, answers: Fixed) -> None:
    assert exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nalive\n")
    answers.stuck = True
    answer = exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 503 ")
    assert answer.endswith(b"the event loop has done nothing for 5 s\n")


@pytest.mark.parametrize(
    ("garbage", "answer"),
    [
        (b"\x00\xff\x16\x03\x01 garbage\r\n\r\n", b"400"),
        (b"POST /metrics HTTP/1.0\r\n\r\n", b"501"),
        (b"GET / HTTP/1.0\r\n\r\n", b"404"),
        # Of these not all is read, so that the answer may be lost.
        (b"GET /metrics HTTP/1.0\r\n" + b"A: b\r\n" * 1000 + b"\r\n", b""),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.0\r\n\r\n", b""),
    ],
)
def test_garbage_is_refused(port: int, garbage: bytes, answer: bytes) -> None:
    head = exchange(port, garbage)
    assert answer in head
    assert len(head) < 4096
    assert scraped(port) == TEXT


def test_whoever_sends_nothing_and_whoever_reads_nothing_loses_its_place(port: int) -> None:
    """As many as there is room for, and as many again: the oldest has to go for each that finds no room."""
    with socket.create_connection(("127.0.0.1", port)) as reader:
        reader.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(2 * MAX_CONNECTIONS)]
        deadline = time.monotonic() + 60
        while True:
            try:
                assert scraped(port) == TEXT
                break
            except OSError:  # there was no room
                assert time.monotonic() < deadline
        assert threads() <= 2 * MAX_CONNECTIONS
        for each in silent:
            each.close()
    until_threads_are(0)


def test_a_connection_ends_after_a_while(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly its client sends."""
    monkeypatch.setattr(endpoint, "MAX_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
        slow.sendall(b"GET")
        assert slow.recv(100) == b""
    until_threads_are(0)


def test_a_port_that_is_taken_is_an_error(port: int, answers: Fixed) -> None:
    with pytest.raises(OSError, match="in use"):
        MetricsServer([("127.0.0.1", 0), ("127.0.0.1", port)], answers)
