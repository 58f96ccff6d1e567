"""Calls on a completion queue: each ends, in the right way, and leaves nothing behind."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import grpc
import pytest

from headrace.server.transport import options
from headrace.server.transport.completion_queue.cython_layer import Event
from tests.server.transport.completion_queue.echo_service import (
    HELD,
    MAX_BYTES,
    NAME,
    Served,
    echo_server,
    streaming,
    unary,
)

CANCELLED = int(os.environ.get("HEADRACE_TEST_CANCELLED", "2000"))
"""Calls that are cancelled at a random point."""
UNARY, STREAMING = ["Answer", "Unary"], ["Stream", "Callbacks"]


@pytest.fixture
def served() -> Iterator[Served]:
    with echo_server() as served:
        yield served
        served.assert_idle()


def code_of(call: object) -> tuple[grpc.StatusCode, str]:
    """The status that a call ends with."""
    assert callable(call)
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error = raised.value
    assert isinstance(error, grpc.Call)
    return error.code(), error.details() or ""


def until(condition: Callable[[], bool]) -> None:
    """Wait on a client's thread."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("method", UNARY)
def test_unary_calls_are_answered(served: Served, method: str) -> None:
    def work(channel: grpc.Channel) -> None:
        call = unary(channel, method)
        for size in (0, 1, 10, 20_000, MAX_BYTES):
            assert call(bytes(size), timeout=10) == bytes(size)
        futures = [call.future(b"%d" % number, timeout=20) for number in range(300)]
        assert [future.result() for future in futures] == [b"%d" % number for number in range(300)]

    served.run(work)


def test_a_call_may_be_answered_later_or_with_an_error(served: Served) -> None:
    def work(channel: grpc.Channel) -> None:
        call = unary(channel, "Answer")
        assert call(b"late", timeout=10) == b"late"
        assert code_of(lambda: call(b"fails")) == (grpc.StatusCode.INTERNAL, "as asked")
        assert code_of(lambda: call(b"raises")) == (grpc.StatusCode.INTERNAL, "an incident")

    served.run(work)
    assert [str(error) for error in served.incidents] == ["secret"]


@pytest.mark.parametrize("method", STREAMING)
def test_the_messages_of_a_stream_come_back_in_order(served: Served, method: str) -> None:
    def work(channel: grpc.Channel) -> None:
        messages = [bytes([number % 256]) * (number * 7 % 3000) for number in range(500)]
        assert [*streaming(channel, method)(iter(messages), timeout=30)] == messages

    served.run(work)


def test_one_request_may_have_several_responses(served: Served) -> None:
    def work(channel: grpc.Channel) -> None:
        repeat: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{NAME}/Repeat")
        assert [*repeat(b"three", timeout=10)] == [b"three"] * 3

    served.run(work)


def test_messages_that_wait_for_others_come_in_order_and_all_of_them(served: Served) -> None:
    def work(channel: grpc.Channel) -> None:
        burst: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{NAME}/Burst")
        for sizes in ([1], [0, 5, 7], [10] * 200, [70_000, 3, 500_000, 0], [1000] * 100):
            received = [*burst(b" ".join(b"%d" % size for size in sizes), timeout=30)]
            assert received == [bytes([number]) * size for number, size in enumerate(sizes)]

    served.run(work)


def test_what_does_not_exist_is_unimplemented(served: Served) -> None:
    def work(channel: grpc.Channel) -> None:
        for method in (f"/{NAME}/Other", "/other.Service/Unary", "/", ""):
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            assert code_of(lambda call=call: call(b"", timeout=10))[0] == grpc.StatusCode.UNIMPLEMENTED

    served.run(work)


@pytest.mark.parametrize("method", UNARY)
def test_a_message_that_is_too_large_is_refused_and_one_that_is_missing_too(served: Served, method: str) -> None:
    def work(channel: grpc.Channel) -> None:
        code, details = code_of(lambda: unary(channel, method)(bytes(MAX_BYTES + 1), timeout=10))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(MAX_BYTES) in details
        call = streaming(channel, method)(iter(()), timeout=10)
        assert code_of(lambda: next(call))[0] == grpc.StatusCode.INVALID_ARGUMENT

    served.run(work)


@pytest.mark.parametrize("method", [*UNARY, "Stream", "Repeat"])
def test_a_handler_is_cancelled_with_its_call(served: Served, method: str) -> None:
    """By its client, by its deadline, and when the connection is lost."""

    def work(channel: grpc.Channel) -> None:
        call = streaming(channel, method)
        by_client, by_deadline = call(iter([HELD])), call(iter([HELD]), timeout=0.5)
        with grpc.insecure_channel(served.address) as other:
            by_connection = streaming(other, method)(iter([HELD]))
            until(lambda: served.echo.held >= 3)
            by_client.cancel()
        until(lambda: served.echo.cancelled >= 3)
        del by_deadline, by_connection

    served.run(work)


@pytest.mark.parametrize("method", [*UNARY, "Stream"])
def test_a_full_gate_refuses_and_opens_again(method: str) -> None:
    with echo_server(limit=2) as served:

        def work(channel: grpc.Channel) -> None:
            call = streaming(channel, method)
            held = [call(iter([HELD])) for _ in range(2)]
            until(lambda: served.echo.held >= 1)
            assert code_of(lambda: next(call(iter([b"x"]), timeout=10))) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "the limit",
            )
            for each in held:
                each.cancel()
            until(lambda: served.echo.cancelled >= 2)
            assert next(call(iter([b"x"]), timeout=10)) == b"x"

        served.run(work)
        served.assert_idle()


def test_calls_beyond_those_that_may_be_refused_are_refused_by_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "REFUSALS", 4)
    with echo_server(calls=1) as served:

        def work(channel: grpc.Channel) -> None:
            stop = threading.Event()

            def nothing() -> Iterator[bytes]:
                stop.wait()
                return
                yield b""

            # They never send a message.
            waiting = [streaming(channel, "Stream")(nothing()) for _ in range(5)]
            until(lambda: "5 calls" in repr(served.server))
            code, details = code_of(lambda: unary(channel, "Answer")(b"x", timeout=10))
            assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
            stop.set()
            for each in waiting:
                each.cancel()

        served.run(work)
        served.assert_idle()


@pytest.mark.parametrize("method", [*UNARY, *STREAMING])
def test_a_message_that_there_is_no_memory_for_fails_its_call_alone(
    served: Served, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpcio drops the event, and raises MemoryError."""
    poll = served.selector.queue.poll

    def lossy(deadline: float) -> Event:
        event = poll(deadline)
        operations = getattr(event, "batch_operations", None)
        if operations and getattr(operations[0], "message", bytes)() == b"lost":
            del event
            raise MemoryError
        return event

    monkeypatch.setattr(served.selector, "_poll", lossy)

    def work(channel: grpc.Channel) -> None:
        for _ in range(3):
            call = streaming(channel, method)(iter([b"lost"]), timeout=10)
            code, details = code_of(lambda call=call: next(call))
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "too little memory" in details
        assert next(streaming(channel, method)(iter([b"found"]), timeout=10)) == b"found"

    served.run(work)


def test_calls_that_are_cancelled_at_any_point_leave_nothing_behind(served: Served) -> None:
    def work(channel: grpc.Channel) -> None:
        rng = random.Random(1)
        for _ in range(CANCELLED // 20):
            calls: list[Any] = []
            for _ in range(20):
                message = rng.choice([b"x", b"late", HELD, bytes(30_000), b"raises"])
                kind = rng.choice(["Answer", "Unary", "Stream", "Callbacks"])
                call = streaming(channel, kind)(iter([message] * rng.randint(0, 3)))
                calls.append(call)
                if rng.random() < 0.5:
                    time.sleep(rng.random() * 0.001)
                    rng.choice(calls).cancel()
            for call in calls:
                call.cancel()
        assert unary(channel, "Answer")(b"still there", timeout=10) == b"still there"

    served.run(work, seconds=30 + CANCELLED / 100)


# With retries, a stream of a client of grpcio that begins as its server goes, whatever server, may wait for ever, even
# past its deadline: its end arrives, and what it has begun to send never ends.
NO_RETRIES = [("grpc.enable_retries", 0)]


@pytest.mark.parametrize("grace", [None, 0.2])
def test_a_server_stops_in_the_middle_of_everything(grace: float | None) -> None:
    with echo_server() as served:
        outcomes: list[grpc.StatusCode] = []
        stop = threading.Event()

        def client(number: int) -> None:
            with grpc.insecure_channel(served.address, options=NO_RETRIES) as channel:
                while not stop.is_set():
                    try:
                        if number % 2:
                            unary(channel, "Answer")(b"late" if number % 3 else HELD, timeout=30)
                        else:
                            list(streaming(channel, "Callbacks")(iter([b"x"] * 20), timeout=30))
                    except grpc.RpcError as error:
                        outcomes.append(cast("grpc.Call", error).code())

        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        served.until(lambda: served.echo.held >= 1)
        began = time.monotonic()
        served.stop(grace)
        assert time.monotonic() - began < 10
        stop.set()
        with suppress(RuntimeError):
            for thread in threads:
                thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        assert outcomes
        assert set(outcomes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert served.echo.cancelled == served.echo.held


def test_a_server_that_never_started_or_has_stopped_can_be_stopped() -> None:
    with echo_server() as served:
        served.stop(None)
        served.stop(1.0)
