"""Fetches over real gRPC: whole, sliced, and larger than a message."""

import asyncio

import numpy as np
import pytest

import headrace.client as hc
from headrace.client.aio import fetching
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Code
from tests.client.aio.scripted_server import ScriptedServer
from tests.client.protocol.tiny_server import TinyServer, failed
from tests.client.turns import turns

LIMIT = 64 << 10
X = np.arange(60_000, dtype=np.float32).reshape(30, 4, 500)  # 240 kB


@pytest.fixture
def server(server: ScriptedServer) -> ScriptedServer:
    server.automatic = True
    return server


def small(server: ScriptedServer) -> hc.Server:
    """A client that takes only small messages."""
    return hc.connect(server.target, max_message_bytes=LIMIT)


def fetches(server: ScriptedServer) -> list[pb.Command]:
    return [command for command in server.tiny.commands if command.kind == pb.Command.FETCH]


async def test_an_output_may_be_fetched_repeatedly(server: ScriptedServer, client: hc.Server) -> None:
    async with client.stream() as stream:
        ticket = await stream.submit("m", {"x": X}, outputs=[], keep=["z"])
        np.testing.assert_array_equal(await ticket.fetch("z"), 2 * X)
        np.testing.assert_array_equal(await ticket.fetch("z", slice=(3, 7)), 2 * X[3:7])
        part = await ticket.fetch("z", slice=[(3, 7), (0, 2)])
        np.testing.assert_array_equal(part, 2 * X[3:7, :2])
        assert not part.flags.writeable
        with pytest.raises(hc.InvalidArgument, match="31"):
            await ticket.fetch("z", slice=(0, 31))
        with pytest.raises(TypeError):
            await ticket.fetch("z", slice=(0, "x"))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(hc.Unavailable):
        await ticket.fetch("z")


@pytest.mark.parametrize("window", [1, 2, 16])
@pytest.mark.parametrize("slices", [None, (1, 29), [(2, 30), (1, 4)], [(0, 30), (0, 4), (1, 499)]])
async def test_an_output_larger_than_a_message_comes_in_pieces(
    server: ScriptedServer,
    window: int,
    slices: list[tuple[int, int]] | None,
) -> None:
    server.tiny = TinyServer(window=window)
    async with small(server) as client, client.stream() as stream:
        ticket = await stream.submit("m", {"x": X}, outputs=[], keep=["z"])
        await ticket
        array = await ticket.fetch("z", slices)
    pairs = [slices] if isinstance(slices, tuple) else slices or []
    expected = 2 * X[tuple(slice(*pair) for pair in pairs)]
    np.testing.assert_array_equal(array, expected)
    assert not array.flags.writeable
    assert len(fetches(server)) >= expected.nbytes / LIMIT


async def test_an_unknown_size_is_found_out(server: ScriptedServer) -> None:
    """A whole fetch is sent at once, so that a later release does no harm; pieces follow."""
    async with small(server) as client, client.stream() as stream:
        ticket = await stream.submit("m", {"x": X}, outputs=[], keep=["z"])
        np.testing.assert_array_equal(await ticket.fetch("z"), 2 * X)
    first, *pieces = fetches(server)
    assert not first.fetch.slices
    assert len(pieces) >= X.nbytes / LIMIT


async def test_an_output_may_be_refused_as_too_large_before_its_size_is_known(server: ScriptedServer) -> None:
    """In an ordered stream a source may wait for its turn, but a fetch does not."""
    server.automatic = False
    async with small(server) as client, client.stream(ordered=True) as stream:
        peer = await server.accept()
        ticket = await stream.submit("m", {"x": X}, outputs=[], keep=["z"])
        fetch = asyncio.create_task(ticket.fetch("z"))
        _, whole = await peer.commands(2)
        await peer.send(failed(whole.tag, Code.RESOURCE_EXHAUSTED, "too large"))
        kept = [pb.Tensor(name="z", datatype=pb.UINT8, shape=[2, 40_000])]
        layout = pb.Event(kind=pb.Event.LAYOUT, layout=1, define=pb.Layout(kept=kept))
        await peer.send(layout, pb.Event(tag=ticket.tag, layout=1))
        first, second = await peer.commands(2)
        assert [list(piece.fetch.slices) for piece in (first, second)] == [
            [pb.Slice(start=0, stop=1)],
            [pb.Slice(start=1, stop=2)],
        ]
        sent = [pb.Tensor(name="z", datatype=pb.UINT8, shape=[1, 40_000])]
        layout = pb.Event(kind=pb.Event.LAYOUT, layout=2, define=pb.Layout(sent=sent))
        for tag in (first.tag, second.tag):
            end = pb.Event(kind=pb.Event.FETCHED, tag=tag, layout=2)
            await peer.send(layout, end, tensors=(bytes(40_000),))
        assert (await fetch).shape == (2, 40_000)
        peer.end_when_closed()


async def test_an_error_of_a_piece_is_raised_by_the_fetch(server: ScriptedServer) -> None:
    async with small(server) as client, client.stream() as stream:
        ticket = await stream.submit("m", {"x": X}, outputs=[], keep=["z"])
        await ticket
        fetch = asyncio.create_task(ticket.fetch("z"))
        await turns(1)
        ticket.release()
        with pytest.raises(hc.NotFound):
            await fetch


async def test_only_a_few_pieces_are_in_flight_at_once(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "MAX_PIECE_BYTES", 1000)
    server.automatic = False
    async with small(server) as client, client.stream() as stream:
        peer = await server.accept()
        ticket = await stream.submit("m", {"x": X}, outputs=[], keep=["z"])
        (command,) = await peer.commands(1)
        kept = [pb.Tensor(name="z", datatype=pb.FP32, shape=X.shape)]
        layout = pb.Event(kind=pb.Event.LAYOUT, layout=1, define=pb.Layout(kept=kept))
        await peer.send(layout, pb.Event(tag=command.tag, layout=1))
        await ticket
        fetch = asyncio.create_task(ticket.fetch("z"))
        await peer.commands(fetching.MAX_PIECES_IN_FLIGHT)
        await turns()
        assert stream.in_flight == fetching.MAX_PIECES_IN_FLIGHT
        # Cancelling the task cancels every piece.
        fetch.cancel()
        commands = await peer.commands(fetching.MAX_PIECES_IN_FLIGHT)
        assert {command.kind for command in commands} == {pb.Command.CANCEL}
        await peer.done(*[command.tag for command in commands])
        peer.end_when_closed()
    assert fetch.cancelled()


async def test_cancelling_a_fetch_cancels_its_ticket(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    server.automatic = False
    async with client.stream() as stream:
        peer = await server.accept()
        ticket = await stream.submit("m", {"x": X}, outputs=[], keep=["z"])
        fetch = asyncio.create_task(ticket.fetch("z"))
        _, fetched = await peer.commands(2)
        fetch.cancel()
        (command,) = await peer.commands(1)
        assert (command.kind, command.tag) == (pb.Command.CANCEL, fetched.tag)
        await peer.done(ticket.tag, fetched.tag)
        peer.end_when_closed()
