"""How streams end: closed, broken, refused, drained or lost. Every ticket ends, whatever happens."""

import asyncio
from contextlib import suppress

import grpc
import grpc.aio
import numpy as np
import pytest

import headrace.client as hc
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Code
from tests.client.aio.scripted_server import Peer, ScriptedServer
from tests.client.protocol.tiny_server import TinyServer, failed, message
from tests.client.turns import turns

X = np.arange(4, dtype=np.float32)
Status = grpc.StatusCode


async def submit(stream: hc.Stream, count: int = 1) -> list[hc.Ticket]:
    return [await stream.submit("m", {"x": X}, outputs=[]) for _ in range(count)]


async def started(
    server: ScriptedServer,
    stream: hc.Stream,
    count: int,
) -> tuple[Peer, list[hc.Ticket]]:
    """A stream with this many tickets in flight."""
    peer = await server.accept()
    tickets = await submit(stream, count)
    await peer.commands(count)
    return peer, tickets


async def test_leaving_waits_for_tickets_in_flight(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    stream = client.stream()
    await stream.__aenter__()
    peer, (a, b, c) = await started(server, stream, 3)
    leaving = asyncio.create_task(stream.__aexit__(None, None, None))
    await turns()
    with pytest.raises(hc.Unavailable, match="was closed"):
        await submit(stream)
    await peer.done(a.tag)
    await a
    assert not leaving.done()
    b.cancel()  # possible until the end
    (command,) = await peer.commands(1)
    assert command.kind == pb.Command.CANCEL
    await peer.send(failed(b.tag, Code.CANCELLED, "cancelled"))
    await peer.done(c.tag)
    assert await peer.next_frame() is None
    assert not leaving.done()
    await peer.end()
    await leaving
    assert "closed" in repr(stream) or "ended" in repr(stream)
    with pytest.raises(hc.Cancelled):
        await b


async def test_leaving_by_an_exception_cancels_tickets_in_flight(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    stream = client.stream()
    await stream.__aenter__()
    peer, tickets = await started(server, stream, 2)
    error = ZeroDivisionError()
    await stream.__aexit__(type(error), error, None)
    for ticket in tickets:
        with pytest.raises(hc.Cancelled, match="left by an exception"):
            await ticket
    await peer.gone.wait()
    with pytest.raises(hc.Unavailable):
        await submit(stream)


async def test_being_cancelled_while_leaving_ends_the_stream(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async def use() -> None:
        async with client.stream() as stream:
            tickets.extend((await started(server, stream, 1))[1])
            ready.set()

    tickets: list[hc.Ticket] = []
    ready = asyncio.Event()
    task = asyncio.create_task(use())
    await ready.wait()
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(hc.Cancelled, match="cancelled before"):
        await tickets[0]


async def test_tag_0_fails_tickets_in_flight_and_closes_the_stream(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    server.tiny = TinyServer(window=2)
    async with client.stream() as stream:
        peer, tickets = await started(server, stream, 2)
        waiting = asyncio.create_task(stream.submit("m", {"x": X}))
        await turns()
        await peer.send(failed(0, Code.INVALID_ARGUMENT, "tag 1 is live"))
        for ticket in tickets:
            with pytest.raises(hc.InvalidArgument, match="tag 1 is live"):
                await ticket
        with pytest.raises(hc.Unavailable, match="has ended: tag 1 is live"):
            await waiting
        with pytest.raises(hc.Unavailable):
            await submit(stream)
        await peer.gone.wait()


@pytest.mark.parametrize(
    ("code", "details", "error", "retryable"),
    [
        (Status.OK, "has ended the stream", hc.Unavailable, True),
        (Status.UNAVAILABLE, "stopped", hc.Unavailable, True),
        (Status.CANCELLED, "by a proxy", hc.Unavailable, True),
        (Status.INTERNAL, "Received RST_STREAM with error code 2", hc.Unavailable, True),
        (Status.INTERNAL, "Internal error from Core", hc.Unavailable, True),
        (Status.INTERNAL, "id 17", hc.Internal, False),
        (Status.UNKNOWN, "what", hc.Internal, False),
        (Status.DATA_LOSS, "what", hc.Internal, False),
        (Status.RESOURCE_EXHAUSTED, "too many streams", hc.ResourceExhausted, True),
        (Status.UNAUTHENTICATED, "no token", hc.Unauthenticated, False),
        (Status.PERMISSION_DENIED, "no", hc.PermissionDenied, False),
    ],
)
async def test_the_end_of_the_call_fails_tickets_in_flight(
    server: ScriptedServer,
    client: hc.Server,
    code: grpc.StatusCode,
    details: str,
    error: type[hc.HeadraceError],
    retryable: bool,
) -> None:
    server.tiny = TinyServer(window=2)
    async with client.stream() as stream:
        peer, tickets = await started(server, stream, 2)
        waiting = asyncio.create_task(stream.submit("m", {"x": X}))
        await peer.end(code, details)
        for ticket in tickets:
            with pytest.raises(error, match=details) as caught:
                await ticket
            assert type(caught.value) is error
            assert caught.value.retryable is retryable
        with pytest.raises(hc.Unavailable, match="the stream has ended"):
            await waiting
        with pytest.raises(hc.Unavailable):
            await submit(stream)
        tickets[0].cancel()
        tickets[0].release()


async def test_a_server_that_dies_is_unavailable(server: ScriptedServer, client: hc.Server) -> None:
    async with client.stream() as stream:
        _, tickets = await started(server, stream, 2)
        await server.stop()
        for ticket in tickets:
            with pytest.raises(hc.Unavailable, match=server.target):
                await ticket


async def test_closing_the_connection_cancels_its_streams(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async with client.stream() as stream:
        _, tickets = await started(server, stream, 1)
        await client.close()
        with pytest.raises(hc.Cancelled, match="connection was closed"):
            await tickets[0]


async def test_a_stream_ends_when_the_server_breaks_the_contract(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async with client.stream() as stream:
        peer, tickets = await started(server, stream, 1)
        await peer.context.write(b"\xff\xff\xff")
        with pytest.raises(hc.Internal, match="not a frame"):
            await tickets[0]
        await peer.gone.wait()


async def test_a_message_over_the_clients_limit_ends_the_stream(server: ScriptedServer) -> None:
    small = hc.connect(server.target, max_message_bytes=1 << 16)
    async with small as client, client.stream() as stream:
        peer, tickets = await started(server, stream, 1)
        with suppress(grpc.aio.InternalError):  # when the client is quicker to refuse
            await peer.send(pb.Event(tag=tickets[0].tag), tensors=(bytes(1 << 17),))
        with pytest.raises(hc.ResourceExhausted, match="larger than max") as caught:
            await tickets[0]
        assert not caught.value.retryable


async def test_draining_is_shown_and_the_server_refuses(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async with client.stream() as stream:
        peer, (a,) = await started(server, stream, 1)
        assert not stream.draining
        await peer.send(pb.Event(kind=pb.Event.DRAINING, grace_us=1_000_000))
        (b,) = await submit(stream)
        await peer.commands(1)
        await peer.send(failed(b.tag, Code.UNAVAILABLE, "draining", retryable=True))
        await peer.done(a.tag)
        with pytest.raises(hc.Unavailable, match="draining"):
            await b
        assert stream.draining
        assert "draining" in repr(stream)
        assert await a == {}
        await peer.end()


@pytest.mark.parametrize("unfinished", [0, 2])
async def test_a_drained_stream_is_a_lost_connection(
    server: ScriptedServer,
    client: hc.Server,
    unfinished: int,
) -> None:
    """Unanswered tickets fail with a retryable error. With nothing in flight no error is raised."""
    async with client.stream() as stream:
        peer, (done, *others) = await started(server, stream, 1 + unfinished)
        await peer.send(pb.Event(kind=pb.Event.DRAINING, grace_us=1_000_000))
        await peer.done(done.tag)
        assert await done == {}
        await peer.end(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        for ticket in others:
            with pytest.raises(hc.Unavailable, match="the server is stopping") as lost:
                await ticket
            assert lost.value.retryable


@pytest.mark.parametrize(
    ("greeting", "error", "text"),
    [
        (b"\xff\xff", hc.Internal, "not a frame"),
        (message(pb.Event(kind=pb.Event.DRAINING)), hc.Internal, "did not begin with Hello"),
        (message(pb.Event(kind=pb.Event.HELLO)), hc.Internal, "Hello"),
        (message(failed(0, Code.UNAVAILABLE, "not today")), hc.Unavailable, "not today"),
    ],
)
async def test_a_stream_without_a_valid_hello_is_not_opened(
    server: ScriptedServer,
    client: hc.Server,
    greeting: bytes,
    error: type[hc.HeadraceError],
    text: str,
) -> None:
    server.greeting = greeting
    with pytest.raises(error, match=text):
        async with client.stream():
            pytest.fail("it was opened")


async def test_a_silent_server_is_unavailable_after_the_timeout(server: ScriptedServer) -> None:
    """The error says how long it was waited for: what connecting had left of the timeout."""
    server.greeting = b""
    async with hc.connect(server.target, connect_timeout=0.5) as client:
        with pytest.raises(hc.Unavailable, match=r"did not say Hello within 0\.\d+ s"):
            async with client.stream():
                pytest.fail("it was opened")


async def test_one_stream_that_ends_leaves_the_others_alone(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async with client.stream() as stream:
        peer, (a,) = await started(server, stream, 1)
        other = client.stream()
        await other.__aenter__()
        await started(server, other, 3)
        error = ZeroDivisionError()
        await other.__aexit__(type(error), error, None)
        await peer.done(a.tag)
        assert await a == {}
        peer.end_when_closed()
