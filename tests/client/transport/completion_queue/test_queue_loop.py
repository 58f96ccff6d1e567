"""The loop on which the client polls gRPC itself."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest

import headrace.client as hc
from headrace.client.transport import event_loops
from headrace.client.transport.completion_queue import cython_layer
from headrace.client.transport.completion_queue.channel_queue import ChannelQueue
from headrace.client.transport.completion_queue.loop import QueueLoop
from headrace.client.transport.completion_queue.selector import MAX_EVENTS, QueueSelector
from tests.client.aio.scripted_server import scripted_server
from tests.polling.loops import of_client

IN_TIME = 30.0


@pytest.fixture
def queue() -> Any:
    queue = ChannelQueue("unix:/nobody", (), None)
    yield queue
    queue.close()


@pytest.fixture
def selector(queue: ChannelQueue) -> Any:
    selector = QueueSelector()
    selector.attach(queue)
    yield selector
    selector.detach(queue)
    selector.close()


def test_a_wake_up_that_there_is_no_memory_for_is_not_the_last(
    selector: QueueSelector, queue: ChannelQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpcio drops the event, and raises MemoryError."""
    take, lost = queue._next_event, list[object]()

    def lossy() -> object:
        event = take()
        if not lost:
            lost.append(event)
            raise MemoryError
        return event

    monkeypatch.setattr(queue, "_next_event", lossy)
    for _ in range(2):
        assert selector.wake()
        began = time.monotonic()
        assert selector.select(IN_TIME) == []
        assert time.monotonic() - began < IN_TIME
    assert lost


def test_a_loop_that_has_other_work_handles_what_is_there_and_goes_on(
    selector: QueueSelector, queue: ChannelQueue
) -> None:
    handled = 0

    def again() -> None:
        nonlocal handled
        handled += 1
        queue.wake(again)

    for _ in range(10):
        queue.wake(again)
    assert selector.select(0) == []
    assert 0 < handled <= MAX_EVENTS


def test_a_callback_that_fails_is_logged_and_the_next_one_is_called(
    selector: QueueSelector, queue: ChannelQueue, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[bool] = []

    def fail() -> None:
        raise ValueError("of a callback")

    queue.wake(fail)
    queue.wake(lambda: called.append(True))
    while not called:
        selector.select(1.0)
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [error.args for error in errors if error] == [("of a callback",)]


def test_without_a_channel_nobody_waits_for_one() -> None:
    with of_client() as loop:
        assert isinstance(loop, QueueLoop)
        assert loop._channel is not None
        loop._channel.close_now()
        for _ in range(2):
            assert loop.run_until_complete(asyncio.wait_for(asyncio.to_thread(int, 7), IN_TIME)) == 7


async def test_a_second_channel_is_made_by_grpc_aio() -> None:
    async with scripted_server() as server:

        async def main() -> list[str]:
            kinds = []
            for _ in range(2):
                async with hc.connect(server.target) as one, hc.connect(server.target) as other:
                    for client in (one, other):
                        with pytest.raises(hc.HeadraceError):
                            await client.model("none")
                        assert client._connection._channels is not None
                        kinds.append(type(client._connection._channels._channel(0)).__module__)
            return kinds

        kinds = await asyncio.to_thread(hc.run, main())
    assert [kind.split(".")[0] for kind in kinds] == ["headrace", "grpc", "headrace", "grpc"]


def test_a_loop_is_closed_with_calls_in_flight() -> None:
    with of_client() as loop:
        assert isinstance(loop, QueueLoop)
        channel = loop._channel
        assert channel is not None

        async def start() -> list[asyncio.Task[Any]]:
            stream = channel.stream_stream("/none/Stream")()
            tasks: list[asyncio.Task[Any]] = [
                asyncio.ensure_future(channel.unary_unary("/none/Unary")(b"x")),
                asyncio.ensure_future(stream.read()),
            ]
            await asyncio.sleep(0)
            return tasks

        tasks = loop.run_until_complete(start())
        channel.close_now()
        ends = loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        # gRPC may have found meanwhile that there is nobody.
        assert all(isinstance(end, asyncio.CancelledError | grpc.aio.AioRpcError) for end in ends)
        assert not channel.calls
        assert repr(channel.queue) == "<ChannelQueue: 0 batches>"


@pytest.mark.parametrize("why", ["untested", "unsuitable"])
def test_a_grpcio_that_is_not_suited_is_used_through_grpc_aio_with_one_warning(
    why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsuitable() -> None:
        raise cython_layer.UnsuitableError("a call does not end")

    monkeypatch.setattr(cython_layer, "TESTED", () if why == "untested" else cython_layer.TESTED)
    monkeypatch.setattr(cython_layer, "check", unsuitable)
    event_loops._has_names.cache_clear()
    event_loops._is_suited.cache_clear()

    async def main() -> None:
        async with scripted_server() as server, hc.connect(server.target) as client:
            with pytest.raises(hc.HeadraceError):
                await client.model("none")

    try:
        for _ in range(2):
            hc.run(main())
    finally:
        event_loops._has_names.cache_clear()
        event_loops._is_suited.cache_clear()
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert ("has not been tested" if why == "untested" else "a call does not end") in told
