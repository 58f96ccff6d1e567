"""Several addresses, and retries: streams and calls go where there is an answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.v1 import inference_pb2 as pb
from tests.client.aio.scripted_server import Context, ScriptedServer, scripted_server
from tests.stopwatch import Stopwatch

X = np.arange(4, dtype=np.float32)


def answer_status(server: ScriptedServer, version: str) -> None:
    async def status(request: bytes, context: Context) -> bytes:
        return pb.ServerStatusResponse(version=version).SerializeToString()

    server.unary["ServerStatus"] = status


@asynccontextmanager
async def servers(count: int) -> AsyncIterator[list[ScriptedServer]]:
    """Servers whose status says 0, 1 and so on for a version."""
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(scripted_server()) for _ in range(count)]
        for number, server in enumerate(started):
            answer_status(server, str(number))
        yield started


def target_of(started: list[ScriptedServer]) -> str:
    return ",".join(server.target for server in started)


async def open_streams(client: hc.Server, stack: AsyncExitStack, count: int) -> None:
    for _ in range(count):
        await stack.enter_async_context(client.stream())


async def test_streams_spread_evenly_and_refill_what_was_left() -> None:
    async with servers(3) as started, hc.connect(target_of(started)) as client, AsyncExitStack() as stack:
        for server in started:
            server.counting = True
        await open_streams(client, stack, 3)
        left = client.stream()
        await left.__aenter__()
        await open_streams(client, stack, 2)
        assert [server.open_streams for server in started] == [2, 2, 2]
        await left.__aexit__(None, None, None)
        await open_streams(client, stack, 1)
        assert [server.open_streams for server in started] == [2, 2, 2]


async def test_calls_take_turns() -> None:
    async with servers(2) as started, hc.connect(target_of(started)) as client:
        versions = [(await client.status()).version for _ in range(4)]
    assert versions in (["0", "1", "0", "1"], ["1", "0", "1", "0"])


async def test_clients_do_not_all_begin_with_the_same_address() -> None:
    async with servers(2) as started:
        begun = set()
        for _ in range(40):
            async with hc.connect(target_of(started)) as client:
                begun.add((await client.status()).version)
    assert begun == {"0", "1"}


@pytest.mark.parametrize("dead", ["127.0.0.1:1", "no..host:8001", "unix:/no/such/socket"])
async def test_an_address_that_refuses_costs_nothing(stopwatch: Stopwatch, dead: str) -> None:
    async with servers(1) as (server,), hc.connect(f"{dead},{server.target}") as client, AsyncExitStack() as stack:
        server.counting = True
        stopwatch.start()
        await open_streams(client, stack, 6)
        assert [(await client.status()).version for _ in range(6)] == ["0"] * 6
        assert stopwatch.ran() < 1
        assert server.open_streams == 6


async def test_an_address_that_is_silent_costs_a_second_once(stopwatch: Stopwatch) -> None:
    """It accepts connections, as a stopped process does."""
    async with servers(2) as (silent, server), hc.connect(target_of([silent, server])) as client:
        silent.greeting = b""
        server.counting = True
        async with AsyncExitStack() as stack:
            stopwatch.start()
            await open_streams(client, stack, 2)
            assert stopwatch.elapsed() > 0.5
            assert stopwatch.ran() < 2
            assert server.open_streams == 2


async def test_a_call_to_an_address_that_is_silent_is_made_at_another(stopwatch: Stopwatch) -> None:
    async def never(request: bytes, context: Context) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with servers(2) as (silent, server), hc.connect(target_of([silent, server])) as client:
        silent.unary["ServerStatus"] = never
        stopwatch.start()
        assert {(await client.status()).version for _ in range(4)} == {"1"}
        assert stopwatch.ran() < 3
        server.unary["ServerStatus"] = never
        with pytest.raises(hc.DeadlineExceeded, match=r"did not answer ServerStatus within 0\.3 s"):
            await client.status(timeout=0.3)


async def test_an_address_that_comes_back_is_used_again() -> None:
    async with servers(2) as (first, second), hc.connect(target_of([first, second])) as client:
        assert {(await client.status()).version for _ in range(2)} == {"0", "1"}
        await second.stop()
        assert {(await client.status()).version for _ in range(6)} == {"0"}
        again = ScriptedServer()
        answer_status(again, "again")
        await again.start(second.target)
        found, end = "", time.monotonic() + 30
        while found != "again" and time.monotonic() < end:
            found = (await client.status()).version
        assert found == "again"
        await again.stop()


async def test_all_addresses_dead_is_told_with_all_causes_and_found_when_one_starts() -> None:
    async with servers(1) as (server,):
        target = server.target
    async with hc.connect(f"127.0.0.1:1,{target}", connect_timeout=0.3) as client:
        for _ in range(2):
            with pytest.raises(hc.Unavailable, match=rf"127\.0\.0\.1:1 .*refused; .*{target} .*refused"):
                await client.status()
    async with hc.connect(f"127.0.0.1:1,{target}", connect_timeout=30) as client:
        asking = asyncio.create_task(client.status())
        await asyncio.sleep(0.2)
        late = ScriptedServer()
        answer_status(late, "late")
        await late.start(target)
        assert (await asking).version == "late"
        await late.stop()


async def test_only_unknown_hosts_are_told_at_once(stopwatch: Stopwatch) -> None:
    async with hc.connect("no..1:1,no..2:1", connect_timeout=30) as client:
        with pytest.raises(hc.Unavailable, match=r"no\.\.1.*unknown; .*no\.\.2.*unknown"):
            await client.models()
    assert stopwatch.ran() < 5


async def test_a_server_that_drains_is_avoided(stopwatch: Stopwatch) -> None:
    async with servers(2) as (draining, server), hc.connect(target_of([draining, server])) as client:
        draining.refusal = grpc.StatusCode.UNAVAILABLE
        server.counting = True
        async with AsyncExitStack() as stack:
            stopwatch.start()
            await open_streams(client, stack, 4)
            assert stopwatch.ran() < 1
            assert server.open_streams == 4


# Retries


class Flaky:
    """Fails so often with a status, then answers."""

    def __init__(self, failures: int, code: grpc.StatusCode) -> None:
        self.failures = failures
        self.code = code
        self.calls: list[float] = []
        self.called_again = asyncio.Event()

    async def answer(self, request: bytes, context: Context) -> bytes:
        if self.calls:
            self.called_again.set()
        self.calls.append(time.monotonic())
        if len(self.calls) <= self.failures:
            await context.abort(self.code, "not now")
        output = pb.Tensor(name="y", datatype=pb.FP32, shape=[4])
        return pb.InferResponse(outputs=[output], tensors=[X.tobytes()]).SerializeToString()


RETRYABLE = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED]


@pytest.mark.parametrize("code", RETRYABLE)
async def test_what_is_retryable_is_tried_again_after_longer_and_longer(
    server: ScriptedServer, client: hc.Server, code: grpc.StatusCode
) -> None:
    flaky = Flaky(3, code)
    server.unary["Infer"] = flaky.answer
    np.testing.assert_array_equal((await client.infer("m", {"x": X}))["y"], X)
    waits = np.diff(flaky.calls)
    assert len(waits) == 3
    assert (waits >= [0.05, 0.1, 0.2]).all()


async def test_retries_are_counted(server: ScriptedServer) -> None:
    for retries in (0, 1):
        flaky = Flaky(9, grpc.StatusCode.UNAVAILABLE)
        server.unary["Infer"] = flaky.answer
        async with hc.connect(server.target, retries=retries) as client:
            with pytest.raises(hc.Unavailable, match="not now"):
                await client.infer("m", {"x": X})
        assert len(flaky.calls) == retries + 1
    with pytest.raises(ValueError, match="retries is -1; it must be at least 0"):
        hc.connect(server.target, retries=-1)


async def test_retries_end_with_the_timeout(server: ScriptedServer, stopwatch: Stopwatch) -> None:
    """With what the last of them said, unless the time is up before it is answered."""
    server.unary["Infer"] = Flaky(999, grpc.StatusCode.UNAVAILABLE).answer
    async with hc.connect(server.target, retries=999) as client:
        stopwatch.start()
        with pytest.raises((hc.Unavailable, hc.DeadlineExceeded), match=r"not now|did not answer Infer within 0\.5 s"):
            await client.infer("m", {"x": X}, timeout=0.5)
        assert stopwatch.ran() < 1


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL]
)
async def test_what_is_not_retryable_is_tried_once(
    server: ScriptedServer, client: hc.Server, code: grpc.StatusCode
) -> None:
    flaky = Flaky(1, code)
    server.unary["Infer"] = flaky.answer
    with pytest.raises(hc.HeadraceError, match="not now"):
        await client.infer("m", {"x": X})
    assert len(flaky.calls) == 1


async def test_what_has_side_effects_is_tried_once(server: ScriptedServer, client: hc.Server) -> None:
    for method, call in (("LoadModel", client.load_model), ("UnloadModel", client.unload_model)):
        flaky = Flaky(1, grpc.StatusCode.UNAVAILABLE)
        server.unary[method] = flaky.answer
        with pytest.raises(hc.Unavailable, match="not now"):
            await call("m")
        assert len(flaky.calls) == 1


async def test_a_call_is_retried_at_another_address_at_once(stopwatch: Stopwatch) -> None:
    async with servers(2) as (sick, well), hc.connect(target_of([sick, well])) as client:
        sick.unary["ServerStatus"] = Flaky(99, grpc.StatusCode.UNAVAILABLE).answer
        stopwatch.start()
        assert {(await client.status()).version for _ in range(6)} == {"1"}
        assert stopwatch.ran() < 0.5


async def test_a_stream_that_is_refused_for_a_moment_is_opened(server: ScriptedServer, client: hc.Server) -> None:
    server.refusal = grpc.StatusCode.UNAVAILABLE
    server.automatic = True
    asyncio.get_running_loop().call_later(0.2, setattr, server, "refusal", None)
    async with client.stream() as stream:
        ticket = await stream.submit("m", {"x": X}, outputs=["y"])
        np.testing.assert_array_equal((await ticket)["y"], X + 1)


async def test_closing_ends_retries(server: ScriptedServer) -> None:
    flaky = Flaky(999, grpc.StatusCode.UNAVAILABLE)
    server.unary["Infer"] = flaky.answer
    client = hc.connect(server.target, retries=999)
    calling = asyncio.create_task(client.infer("m", {"x": X}))
    await flaky.called_again.wait()
    await client.close()
    with pytest.raises(hc.Cancelled, match="connection was closed"):
        await calling


async def test_streams_spread_over_the_addresses_of_a_name() -> None:
    """gRPC resolves the name, and takes its addresses in turn. This machine has one for IPv4 and one for IPv6."""
    async with scripted_server() as first:
        port = first.target.rpartition(":")[2]
        second = ScriptedServer()
        try:
            await second.start(f"[::1]:{port}")
        except RuntimeError:
            pytest.skip("this machine has no IPv6")
        first.counting = second.counting = True
        async with hc.connect(f"dns:///localhost:{port}") as client, AsyncExitStack() as stack:
            for _ in range(50):  # until both are connected
                if first.open_streams and second.open_streams:
                    break
                await open_streams(client, stack, 1)
            before = first.open_streams, second.open_streams
            await open_streams(client, stack, 4)
            assert (first.open_streams, second.open_streams) == (before[0] + 2, before[1] + 2)
        await second.stop()
