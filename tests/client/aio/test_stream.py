"""A stream over real gRPC: submitting, awaiting, chaining, cancelling."""

import asyncio

import numpy as np
import pytest

import headrace.client as hc
from headrace.v1 import inference_pb2 as pb
from headrace.wire.errors import Code
from tests.client.aio.scripted_server import ScriptedServer
from tests.client.protocol.tiny_server import TinyServer, failed, message
from tests.client.turns import turns

X = np.arange(8, dtype=np.float32).reshape(2, 4)


async def test_the_documented_example_runs(server: ScriptedServer, client: hc.Server) -> None:
    server.automatic = True
    async with client.stream() as stream:
        a = await stream.submit("m", {"x": X}, outputs=["y"], keep=["z"], timeout=0.5)
        b = await stream.submit("n", {"u": a["z"]}, outputs=["why"])
        c = await stream.submit("n", {"u": a.take("z"), "h": hc.zeros((2, 4))})
        y = (await a)["y"]
        z = await b
        with pytest.raises(hc.NotFound):
            await a.fetch("z")
        b.cancel()
        a.release()
    np.testing.assert_array_equal(y, X + 1)
    np.testing.assert_array_equal(z["why"], 2 * X + 1)
    np.testing.assert_array_equal((await c)["z"], 4 * X)
    assert (a.waiting, a.queued, a.running) == (1e-6, 2e-6, 3e-6)
    assert a.tag == 1
    assert not server.tiny.kept


async def test_many_tasks_get_their_own_results(server: ScriptedServer, client: hc.Server) -> None:
    server.automatic = True
    async with client.stream() as stream, asyncio.TaskGroup() as tasks:

        async def infer(number: int) -> None:
            for i in range(20):
                ticket = await stream.submit("m", {"x": X + number + 100 * i}, outputs=["y"])
                np.testing.assert_array_equal((await ticket)["y"], X + number + 100 * i + 1)

        for number in range(40):  # more than the window
            tasks.create_task(infer(number))
    assert max(command.call for command in server.tiny.commands) == 1


async def test_an_array_may_be_overwritten_when_submit_has_returned(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    server.automatic = True
    x = np.zeros(100_000, np.float32)
    async with client.stream() as stream:
        tickets = []
        for i in range(5):
            x[:] = i
            tickets.append(await stream.submit("m", {"x": x}, outputs=["y"]))
        x[:] = -1
        assert [(await ticket)["y"][-1] for ticket in tickets] == [1, 2, 3, 4, 5]


async def test_results_are_read_only(server: ScriptedServer, client: hc.Server) -> None:
    server.automatic = True
    async with client.stream() as stream:
        y = (await (await stream.submit("m", {"x": X}, keep=["z"])))["y"]
    with pytest.raises(ValueError, match="read-only"):
        y[:] = 0


@pytest.mark.parametrize("ordered", [False, True])
async def test_the_stream_is_opened_as_asked(
    server: ScriptedServer,
    client: hc.Server,
    ordered: bool,
) -> None:
    async with client.stream(ordered=ordered) as stream:
        peer = await server.accept()
        frame = await peer.next_frame()
        assert frame is not None
        opening = frame[0][0].open
        assert (opening.ordered, opening.max_message_bytes) == (ordered, 64 << 20)
        assert stream.hello.window == 16
        peer.end_when_closed()


async def test_submits_wait_for_the_window_and_are_served_in_order(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    server.tiny = TinyServer(window=2)
    async with client.stream() as stream:
        peer = await server.accept()
        a = await stream.submit("m", {"x": X}, outputs=[])
        b = await stream.submit("m", {"x": X}, outputs=[])
        submits = [stream.submit("m", {"x": X}, outputs=[], priority=i) for i in range(3)]
        waiting = [asyncio.create_task(submit) for submit in submits]
        await peer.commands(2)
        await turns()
        assert stream.in_flight == 2
        assert "2/2 in flight" in repr(stream)
        assert "3 waiting" in repr(stream)
        # Nothing has awaited b; its place is free all the same.
        await peer.done(b.tag)
        (command,) = await peer.commands(1)
        assert command.priority == 0
        assert (await waiting[0]).tag == command.tag
        await peer.done(a.tag, command.tag)
        assert [command.priority for command in await peer.commands(2)] == [1, 2]
        await peer.done(*[(await task).tag for task in waiting[1:]])
        await b
        peer.end_when_closed()


async def test_a_task_cancelled_while_it_waits_for_the_window_leaks_no_place(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    server.tiny = TinyServer(window=1)
    async with client.stream() as stream:
        peer = await server.accept()
        a = await stream.submit("m", {"x": X}, outputs=[])
        first = asyncio.create_task(stream.submit("m", {"x": X}, outputs=[]))
        second = asyncio.create_task(stream.submit("m", {"x": X}, outputs=[]))
        await peer.commands(1)
        first.cancel()
        await peer.done(a.tag)
        b = await second
        await peer.commands(1)
        # Admitted, and cancelled before it could take its place.
        third = asyncio.create_task(stream.submit("m", {"x": X}, outputs=[]))
        await turns()
        done = asyncio.create_task(peer.done(b.tag))  # not awaited here: it may return later than the event arrives
        await b
        third.cancel()
        c = await stream.submit("m", {"x": X}, outputs=[])
        await done
        await peer.done(c.tag)
        await c
        peer.end_when_closed()
    assert first.cancelled()
    assert c.tag == 3


async def test_a_submit_that_raises_passes_its_place_on(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    server.tiny = TinyServer(window=1)
    async with client.stream() as stream:
        peer = await server.accept()
        a = await stream.submit("m", {"x": X}, outputs=[])
        wrong = asyncio.create_task(stream.submit("m", {"x": np.zeros(1, complex)}))
        right = asyncio.create_task(stream.submit("m", {"x": X}, outputs=[]))
        await peer.commands(1)
        await peer.done(a.tag)
        with pytest.raises(hc.InvalidArgument, match="complex"):
            await wrong
        await peer.done((await right).tag)
        peer.end_when_closed()


async def test_cancelling_an_awaiting_task_does_not_cancel_the_ticket(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async with client.stream() as stream:
        peer = await server.accept()
        ticket = await stream.submit("m", {"x": X}, outputs=[])
        tasks = [asyncio.ensure_future(ticket) for _ in range(3)]
        await turns()
        tasks[0].cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await ticket
        assert repr(ticket) == "<Ticket 1 of model 'm': in flight>"
        assert len(ticket.waiters or ()) == 2
        await peer.commands(1)
        await peer.done(ticket.tag)
        assert [await tasks[1], await tasks[2], await ticket] == [{}, {}, {}]
        assert tasks[0].cancelled()
        peer.end_when_closed()


@pytest.mark.parametrize("first", ["cancelled", "ended"])
async def test_a_task_may_be_cancelled_as_its_ticket_ends(
    server: ScriptedServer,
    client: hc.Server,
    first: str,
) -> None:
    async with client.stream() as stream:
        peer = await server.accept()
        ticket = await stream.submit("m", {"x": X}, outputs=[])
        tasks = [asyncio.ensure_future(ticket) for _ in range(2)]
        await turns()
        transport = stream._transport
        assert transport is not None
        if first == "cancelled":
            tasks[0].cancel()
        transport._deliver(transport.protocol.receive(message(pb.Event(tag=ticket.tag))))
        tasks[0].cancel()  # before it has run
        await turns()
        assert tasks[0].cancelled()
        assert await tasks[1] == {}
        assert await ticket == {}
        peer.end_when_closed()


async def test_a_ticket_may_have_waiters_of_both_kinds(server: ScriptedServer, client: hc.Server) -> None:
    async with client.stream() as stream:
        peer = await server.accept()
        ticket = await stream.submit("m", {"x": X}, outputs=[])
        task = asyncio.ensure_future(ticket)
        await turns()
        ends = [ticket.add_waiter() for _ in range(4)]
        ticket.remove_waiter(ends.pop())
        ends[0].cancel()
        await peer.done(ticket.tag)
        assert await task == {}
        await ends[1]
        await ends[2]
        peer.end_when_closed()


async def test_submits_of_tasks_woken_together_share_a_message(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    server.tiny = TinyServer(window=128)

    async def infer() -> None:
        for _ in range(3):
            await (await stream.submit("m", {"x": X}, outputs=[]))

    async with client.stream() as stream, asyncio.TaskGroup() as tasks:
        peer = await server.accept()
        for _ in range(10):
            tasks.create_task(infer())
        for _ in range(3):
            commands: list[pb.Command] = []
            while not commands:  # Open may come alone, if the client was faster than the end of the server's own write
                frame = await peer.next_frame()
                assert frame is not None
                commands = [command for command in frame[0] if command.kind == pb.Command.INFER]
            assert len(commands) == 10
            await peer.done(*[command.tag for command in commands])
        peer.end_when_closed()


async def test_a_cancelled_ticket_raises_cancelled(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async with client.stream() as stream:
        peer = await server.accept()
        ticket = await stream.submit("m", {"x": X}, keep=["z"])
        ticket.cancel()
        ticket.cancel()
        _, command = await peer.commands(2)
        assert (command.kind, command.tag) == (pb.Command.CANCEL, ticket.tag)
        await peer.send(failed(ticket.tag, Code.CANCELLED, "cancelled by the client"))
        for _ in range(2):
            with pytest.raises(hc.Cancelled, match="by the client"):
                await ticket
        assert repr(ticket) == "<Ticket 1 of model 'm': failed, CANCELLED>"
        assert ticket.running is None
        peer.end_when_closed()


async def test_awaiting_a_ticket_raises_the_error_of_the_server(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    async with client.stream() as stream:
        peer = await server.accept()
        a, b = [await stream.submit("m", {"x": X}) for _ in range(2)]
        await peer.commands(2)
        await peer.send(
            failed(a.tag, Code.RESOURCE_EXHAUSTED, "over the window", retryable=True),
            failed(b.tag, Code.FAILED_PRECONDITION, "no 'z' of ticket 1"),
        )
        with pytest.raises(hc.ResourceExhausted, match="over the window") as refused:
            await a
        assert refused.value.retryable
        assert refused.value.code is hc.Code.RESOURCE_EXHAUSTED
        with pytest.raises(hc.FailedPrecondition) as broken:
            await b
        assert not broken.value.retryable
        peer.end_when_closed()


async def test_only_kept_outputs_can_be_referred_to(server: ScriptedServer, client: hc.Server) -> None:
    server.automatic = True
    async with client.stream() as stream, client.stream() as other:
        ticket = await stream.submit("m", {"x": X}, outputs=[], keep=["z", "y"])
        for act in (ticket.__getitem__, ticket.take, ticket.release):
            with pytest.raises(KeyError, match="'w'"):
                act("w")
        with pytest.raises(KeyError, match="'w'"):
            await ticket.fetch("w")
        with pytest.raises(ValueError, match="another stream"):
            await other.submit("m", {"x": ticket["z"]})
        ticket.release("z")
        with pytest.raises(KeyError, match="was released"):
            ticket["z"]
        # Only the server confirms that an output is taken: a refused ticket may be submitted again.
        one = await stream.submit("m", {"x": ticket.take("y")})
        two = await stream.submit("m", {"x": ticket.take("y")})
        await one
        with pytest.raises(hc.FailedPrecondition):
            await two


async def test_a_stream_is_used_once_and_inside_its_block(
    server: ScriptedServer,
    client: hc.Server,
) -> None:
    server.automatic = True
    stream = client.stream()
    assert repr(stream) == f"<Stream to {server.target}, not open>"
    with pytest.raises(RuntimeError, match="async with"):
        await stream.submit("m", {})
    async with stream:
        pass
    with pytest.raises(hc.Unavailable, match="was closed"):
        await stream.submit("m", {"x": X})
    with pytest.raises(RuntimeError, match="returns a new one"):
        await stream.__aenter__()


async def test_inputs_and_outputs_may_be_as_large_as_a_message(server: ScriptedServer, client: hc.Server) -> None:
    server.automatic = True
    server.tiny = TinyServer(max_message_bytes=64 << 20)
    async with client.stream() as stream:
        with pytest.raises(hc.ResourceExhausted, match="'x' 67108864"):
            await stream.submit("m", {"x": np.zeros(64 << 20, np.uint8)})
        ticket = await stream.submit("m", {"x": np.zeros((64 << 20) - 200, np.uint8)}, keep=["y"])
        with pytest.raises(hc.ResourceExhausted, match="fetch slices"):
            await ticket
        x = np.zeros((40 << 20), np.uint8)
        y = (await (await stream.submit("m", {"x": x}, outputs=["y"])))["y"]
        assert y.shape == x.shape
        assert y.all()
