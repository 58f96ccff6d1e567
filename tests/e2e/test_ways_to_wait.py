"""Ways to take results other than one by one: as they complete, from an endless source, without `await`."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import numpy as np
import numpy.typing as npt
import pytest

import headrace.client as hc
from headrace.client import blocking
from tests import models
from tests.e2e.serving import Served

ONE = np.ones(1, np.float32)
Item = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ways")
    served = [f"{build.__name__}={build(folder)}" for build in (models.scale, models.failing, models.wide)]
    served.append(f"slow={models.slow(folder, steps=48)}")
    with Served([*served, "--window=32", "--property=INFERENCE_PRECISION_HINT=f32"], folder / "log") as server:
        yield server.address


def item(value: float) -> Item:
    return {"x": np.full(3, value, np.float32)}


# As they end


async def test_completed_yields_tickets_as_they_end(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        slow = await stream.submit("slow", {"x": ONE})
        bad = await stream.submit("scale", {})
        good = [await stream.submit("scale", item(value)) for value in range(5)]
        order = [ticket async for ticket in hc.completed([slow, *good, bad, slow])]
        assert order[-1] is slow
        assert set(order) == {slow, bad, *good}
        assert len(order) == 7
        again = [ticket async for ticket in hc.completed(good)]
        assert again == good  # all have ended: in the order given
        with pytest.raises(hc.InvalidArgument):
            await bad


async def test_leaving_completed_early_leaves_the_tickets_alone(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        slow = await stream.submit("slow", {"x": ONE})
        quick = await stream.submit("scale", item(1))
        ends = hc.completed([slow, quick])
        assert await anext(ends) is quick
        await ends.aclose()
        assert not slow.waiters
        assert (await slow)["y"].tolist() == [1.0]


# From a source


async def test_map_pulls_only_as_results_are_taken(address: str) -> None:
    pulled: list[int] = []

    def endless() -> Iterator[Item]:
        for value in itertools.count():
            pulled.append(value)
            yield item(value)

    async with hc.connect(address) as server, server.stream() as stream:
        results = stream.map("scale", endless(), outputs=["y"], ahead=4)
        for value in range(100):
            assert (await anext(results))["y"].tolist() == [2 * value + 1] * 3
            assert len(pulled) <= value + 4
        await results.aclose()
        assert stream.in_flight <= 4


async def test_results_do_not_wait_for_an_async_source(address: str) -> None:
    """A camera that has nothing new must not hold back what is known of the frames before."""
    go_on = asyncio.Event()

    async def camera() -> AsyncIterator[Item]:
        yield item(1)
        yield item(2)
        await go_on.wait()
        yield item(3)

    async with hc.connect(address) as server, server.stream() as stream:
        results = stream.map("scale", camera())
        async with asyncio.timeout(30):
            assert (await anext(results))["y"][0] == 3
            assert (await anext(results))["y"][0] == 5
            go_on.set()
            assert (await anext(results))["y"][0] == 7
            with pytest.raises(StopAsyncIteration):
                await anext(results)


async def test_the_first_error_of_a_map_comes_in_its_turn(address: str) -> None:
    sizes = [16, 16, 15, 16]
    async with hc.connect(address) as server, server.stream() as stream:
        results = stream.map("failing", ({"x": np.zeros(size, np.float32)} for size in sizes))
        assert (await anext(results))["y"].shape == (2, 8)
        assert (await anext(results))["y"].shape == (2, 8)
        with pytest.raises(hc.Internal):
            await anext(results)

        async def broken() -> AsyncIterator[Item]:
            yield item(1)
            raise ZeroDivisionError

        results = stream.map("scale", broken())
        assert (await anext(results))["y"][0] == 3
        with pytest.raises(ZeroDivisionError):
            await anext(results)
        with pytest.raises(ValueError, match="ahead is 0"):
            await anext(stream.map("scale", [], ahead=0))
        assert [result async for result in stream.map("scale", [])] == []


async def test_leaving_a_map_cancels_what_is_in_flight(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        results = stream.map("slow", ({"x": ONE} for _ in range(20)), ahead=20)
        await anext(results)
        left = [ticket for ticket in stream._opened().protocol.in_flight.values() if isinstance(ticket, hc.Ticket)]
        assert len(left) >= 17
        await results.aclose()
        with pytest.raises(hc.Cancelled):
            await left[-1]


# Without await


def test_blocking(address: str) -> None:
    x = np.ones((1, 16), np.float32)
    with blocking.connect(address) as server:
        assert "scale" in [model.name for model in server.models()]
        assert server.model("wide").outputs[0].name == "small"
        assert server.infer("scale", item(2))["y"].tolist() == [5, 5, 5]
        with pytest.raises(hc.NotFound, match="'nope'"):
            server.infer("nope", item(2))
        with server.stream(ordered=True) as stream:
            assert stream.hello.window == 32
            a = stream.submit("wide", {"x": x}, outputs=["small"], keep=["large"])
            np.testing.assert_array_equal(a.result(timeout=30)["small"], 2 * x)
            assert a.fetch("large", slice=(5, 7)).tolist() == [[21.0] * 1024, [22.0] * 1024]
            assert server.status().kept_bytes == 4 << 20
            a.release("large")
            with pytest.raises(KeyError):
                a.take("large")
            b = stream.submit("scale", {"x": ONE}, keep=["y"])
            c = stream.submit("scale", {"x": b.take("y")})
            assert c.result()["y"].tolist() == [7]
            slow = stream.submit("slow", {"x": ONE})
            with pytest.raises(TimeoutError):
                slow.result(timeout=0.001)
            assert not slow.ended
            slow.cancel()
            with pytest.raises(hc.Cancelled):
                slow.result()
            values = [outputs["y"][0] for outputs in stream.map("scale", map(item, range(50)), ahead=3)]
            assert values == [2 * value + 1 for value in range(50)]
        assert server.status().kept_bytes == 0


def test_blocking_completed(address: str) -> None:
    with blocking.connect(address) as server, server.stream() as stream:
        slow = stream.submit("slow", {"x": ONE})
        quick = [stream.submit("scale", item(value)) for value in range(3)]
        order = list(blocking.completed([slow, *quick]))
        assert order[-1] is slow
        assert set(order) == {slow, *quick}


def test_blocking_from_many_threads_needs_one_thread_more(address: str) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for value in range(30):
            outputs = stream.submit("scale", item(100 * number + value)).result()
            if outputs["y"][0] != 200 * number + 2 * value + 1:
                wrong.append(outputs)

    with blocking.connect(address) as server, server.stream() as stream:
        before = threading.active_count()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        assert threading.active_count() <= before + 8
        for thread in threads:
            thread.join()
    assert wrong == []


SCRIPT = """
import sys
import numpy as np
import headrace.client.blocking as hc

with hc.connect(sys.argv[1]) as server, server.stream() as stream:
    tickets = [stream.submit("slow", {"x": np.ones(1, np.float32)}) for _ in range(30)]
    print("waiting", flush=True)
    tickets[-1].result()
"""


def test_control_c_interrupts_the_waiting(address: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout is not None
        assert script.stderr is not None
        assert script.stdout.readline() == "waiting\n"
        os.kill(script.pid, signal.SIGINT)
        error = script.stderr.read()
        assert script.wait(30) == -signal.SIGINT
        assert error.rstrip().endswith("KeyboardInterrupt")
