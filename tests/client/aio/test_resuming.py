"""Streams with resume=True against servers that a test scripts: what breaks them, patience, and what they say."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.client import blocking
from headrace.v1 import inference_pb2 as pb
from tests.client.aio.scripted_server import Peer, ScriptedServer, scripted_server
from tests.stopwatch import Stopwatch

X = {"x": np.ones(1, np.float32)}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


async def until(stream: hc.Stream, state: str) -> None:
    """Wait until the stream says this of itself."""
    async with asyncio.timeout(30):
        while state not in repr(stream):  # noqa: ASYNC110 - nothing tells when
            await asyncio.sleep(0.001)


async def unfinished(peer: Peer, count: int) -> list[int]:
    return [command.tag for command in await peer.commands(count)]


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.UNAVAILABLE, "the server stops"),
        (grpc.StatusCode.INTERNAL, "an id in the log"),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
        (grpc.StatusCode.CANCELLED, "a proxy has cancelled it"),
        (grpc.StatusCode.OK, ""),
    ],
)
async def test_what_breaks_a_stream_is_mended(
    server: ScriptedServer, code: grpc.StatusCode, details: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headrace.client")
    resumed: list[hc.Resumed] = []
    connection = hc.connect(server.target)
    async with connection, connection.stream(resume=True, on_resume=resumed.append) as stream:
        tickets = [await stream.submit("m", X) for _ in range(3)]
        peer = await server.accept()
        await unfinished(peer, 3)
        await peer.done(2)
        await tickets[1]
        await peer.end(code, details)
        peer = await server.accept()
        assert await unfinished(peer, 2) == [1, 3]
        await peer.done(1, 3)
        await asyncio.gather(*tickets)
        peer.end_when_closed()
    (each,) = resumed
    assert each.tickets == 2
    assert each.target == server.target
    assert 0 < each.seconds < 5
    assert isinstance(each.error, hc.HeadraceError)
    messages = [record.message for record in caplog.records if record.name.startswith("headrace.client.")]
    assert f"the stream to {server.target} broke and is opened again" in messages[0]
    assert "2 tickets are sent again" in messages[1]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, hc.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, hc.PermissionDenied),
        (grpc.StatusCode.INVALID_ARGUMENT, hc.InvalidArgument),
        (grpc.StatusCode.UNIMPLEMENTED, hc.Unimplemented),
    ],
)
async def test_errors_of_the_client_end_the_stream(
    server: ScriptedServer, code: grpc.StatusCode, error: type[hc.HeadraceError]
) -> None:
    async with hc.connect(server.target) as connection, connection.stream(resume=True) as stream:
        ticket = await stream.submit("m", X)
        peer = await server.accept()
        await unfinished(peer, 1)
        await peer.end(code, "no")
        with pytest.raises(error):
            await ticket
        with pytest.raises(hc.Unavailable):
            await stream.submit("m", X)


async def test_a_command_that_the_server_does_not_understand_ends_the_stream(server: ScriptedServer) -> None:
    async with hc.connect(server.target) as connection, connection.stream(resume=True) as stream:
        ticket = await stream.submit("m", X)
        peer = await server.accept()
        failure = pb.Failure(code=pb.INVALID_ARGUMENT, message="what is this?")
        await peer.send(pb.Event(kind=pb.Event.FAILED, failure=failure))
        with pytest.raises(hc.InvalidArgument, match="what is this"):
            await ticket
        peer.over.set()


async def test_submitting_waits_while_there_is_no_connection_until_patience_is_over(
    server: ScriptedServer, stopwatch: Stopwatch
) -> None:
    async with hc.connect(server.target) as connection, connection.stream(resume=True, patience=0.5) as stream:
        ticket = await stream.submit("m", X)
        await server.accept()
        await server.stop()
        await until(stream, "not connected")
        stopwatch.start()
        waiting = asyncio.create_task(stream.submit("m", X))
        with pytest.raises(hc.Unavailable, match=r"could not be resumed within 0.5 s"):
            await ticket
        assert stopwatch.elapsed() > 0.4
        assert stopwatch.ran() < 3
        with pytest.raises(hc.Unavailable):
            await waiting


async def test_a_timeout_passes_while_there_is_no_connection(server: ScriptedServer, stopwatch: Stopwatch) -> None:
    async with hc.connect(server.target) as connection:
        async with connection.stream(resume=True, patience=30) as stream:
            ticket = await stream.submit("m", X, timeout=0.3)
            await server.accept()
            await server.stop()
            with pytest.raises(hc.DeadlineExceeded):
                await asyncio.wait_for(ticket, 30)
            # Nothing is left to send again: leaving does not wait for a server.
            stopwatch.start()
        assert stopwatch.ran() < 2


async def test_leaving_waits_for_the_last_ticket_and_not_for_a_server(
    server: ScriptedServer, stopwatch: Stopwatch
) -> None:
    async with hc.connect(server.target) as connection, connection.stream(resume=True) as stream:
        ticket = await stream.submit("m", X, timeout=0.3)
        await server.accept()
        await server.stop()
        await until(stream, "not connected")
    assert stopwatch.ran() < 5
    with pytest.raises(hc.DeadlineExceeded):
        await ticket


async def test_leaving_by_an_exception_does_not_wait_for_a_server(server: ScriptedServer, stopwatch: Stopwatch) -> None:
    tickets: list[hc.Ticket] = []

    async def fail(connection: hc.Server) -> None:
        async with connection.stream(resume=True) as stream:
            tickets.append(await stream.submit("m", X))
            await server.accept()
            await server.stop()
            await until(stream, "not connected")
            raise ZeroDivisionError

    stopwatch.start()
    async with hc.connect(server.target) as connection:
        with pytest.raises(ZeroDivisionError):
            await fail(connection)
    assert stopwatch.ran() < 3
    with pytest.raises(hc.Cancelled):
        await tickets[0]


async def test_closing_the_connection_ends_the_stream_at_once(server: ScriptedServer) -> None:
    connection = hc.connect(server.target)
    async with connection.stream(resume=True) as stream:
        ticket = await stream.submit("m", X)
        await server.accept()
        await connection.close()
        with pytest.raises(hc.Cancelled, match="closed"):
            await asyncio.wait_for(ticket, 30)


async def test_a_server_that_says_nothing_is_not_waited_for(server: ScriptedServer) -> None:
    """The attempts to open a stream have a short timeout of their own."""
    async with hc.connect(server.target, connect_timeout=30) as connection, connection.stream(resume=True) as stream:
        ticket = await stream.submit("m", X)
        peer = await server.accept()
        server.greeting = b""
        await peer.end(grpc.StatusCode.UNAVAILABLE)
        silent = await server.accept()
        server.greeting = None
        peer = await asyncio.wait_for(server.accept(), 20)
        silent.over.set()
        assert await unfinished(peer, 1) == [1]
        await peer.done(1)
        await ticket
        peer.end_when_closed()


async def test_a_server_that_drains_is_left_when_it_has_answered(server: ScriptedServer) -> None:
    async with hc.connect(server.target) as connection, connection.stream(resume=True) as stream:
        first = await stream.submit("m", X)
        old = await server.accept()
        await unfinished(old, 1)
        await old.send(pb.Event(kind=pb.Event.DRAINING, grace_us=10_000_000))
        await until(stream, "draining")
        waiting = asyncio.create_task(stream.submit("m", X))
        await asyncio.sleep(0)
        await old.done(1)
        await first
        new = await asyncio.wait_for(server.accept(), 20)
        second = await waiting
        assert await unfinished(new, 1) == [2]
        await new.done(2)
        await second
        old.over.set()
        new.end_when_closed()


async def test_a_callback_that_fails_harms_nothing(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: hc.Resumed) -> None:
        raise ZeroDivisionError

    async with hc.connect(server.target) as connection, connection.stream(resume=True, on_resume=fail) as stream:
        ticket = await stream.submit("m", X)
        await (await server.accept()).end(grpc.StatusCode.UNAVAILABLE)
        peer = await server.accept()
        await unfinished(peer, 1)
        await peer.done(1)
        await ticket
        peer.end_when_closed()
    assert "on_resume has failed" in caplog.text


async def test_a_poisonous_request_is_given_up_after_three_breaks(server: ScriptedServer) -> None:
    async with hc.connect(server.target) as connection, connection.stream(resume=True) as stream:
        poison = await stream.submit("m", {"x": np.full(1, 13, np.float32)})
        others = [await stream.submit("m", X) for _ in range(3)]
        seen: list[list[int]] = []
        for count in (4, 4, 1):
            peer = await server.accept()
            seen.append(await unfinished(peer, count))
            await peer.end(grpc.StatusCode.UNAVAILABLE)
        assert seen == [[1, 2, 3, 4], [1, 2, 3, 4], [1]]
        with pytest.raises(hc.Internal, match="may be what ends the server"):
            await poison
        peer = await server.accept()
        for tag in (2, 3, 4):  # they were in flight twice, and go alone
            assert await unfinished(peer, 1) == [tag]
            await peer.done(tag)
        await asyncio.gather(*others)
        peer.end_when_closed()


async def test_the_blocking_client_resumes_too(server: ScriptedServer) -> None:
    resumed: list[hc.Resumed] = []

    def use() -> list[float]:
        connection = blocking.connect(server.target)
        with connection, connection.stream(resume=True, patience=30, on_resume=resumed.append) as stream:
            source = stream.submit("m", X, outputs=["y"], keep=["z"])
            found = [float(source.result(30)["y"][0])]
            again.set()
            broken.wait(30)
            found.append(float(stream.submit("m", {"x": source["z"]}, outputs=["y"]).result(30)["y"][0]))
            return [*found, float(source.fetch("z")[0])]

    again, broken = threading.Event(), threading.Event()
    using = asyncio.create_task(asyncio.to_thread(use))
    peer = await server.accept()
    await peer.commands(1)
    await peer.send(
        pb.Event(
            kind=pb.Event.LAYOUT,
            layout=1,
            define=pb.Layout(
                sent=[pb.Tensor(name="y", datatype=pb.FP32, shape=[1])],
                kept=[pb.Tensor(name="z", datatype=pb.FP32, shape=[1])],
            ),
        ),
        pb.Event(kind=pb.Event.DONE, tag=1, layout=1),
        tensors=(np.full(1, 2, np.float32).tobytes(),),
    )
    await asyncio.to_thread(again.wait, 30)
    server.automatic = True
    server.tiny = type(server.tiny)()
    await peer.end(grpc.StatusCode.UNAVAILABLE)
    broken.set()
    assert await using == [2, 3, 2]
    assert len(resumed) == 1
