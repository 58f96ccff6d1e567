"""`map`: results as they come, whatever the source and whoever takes them do meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

import headrace.client as hc
from headrace.client import blocking
from tests import models
from tests.e2e.serving import Served

Item = dict[str, npt.NDArray[np.float32]]
SECONDS = 30.0
"""Far longer than anything here takes, and shorter than the patience of a test."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("map")
    served = [f"{build.__name__}={build(folder)}" for build in (models.scale, models.failing)]
    with Served([*served, "--property=INFERENCE_PRECISION_HINT=f32"], folder / "log") as server:
        yield server.address


def item(value: float) -> Item:
    return {"x": np.full(3, value, np.float32)}


def map_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "headrace map"]


# A camera: an iterator that waits for the next frame


async def test_results_do_not_wait_for_the_next_item_of_a_generator(address: str) -> None:
    seen = threading.Event()

    def camera() -> Iterator[Item]:
        yield item(1)
        assert seen.wait(SECONDS), "the first result did not come before the second frame"
        yield item(2)

    async with hc.connect(address) as server, server.stream() as stream:
        found = []
        async for outputs in stream.map("scale", camera()):
            found.append(outputs["y"][0])
            seen.set()
        assert found == [3, 5]


def test_results_do_not_wait_for_the_next_item_of_a_generator_without_await(address: str) -> None:
    seen = threading.Event()

    def camera() -> Iterator[Item]:
        yield item(1)
        assert seen.wait(SECONDS), "the first result did not come before the second frame"
        yield item(2)

    with blocking.connect(address) as server, server.stream() as stream:
        found = []
        for outputs in stream.map("scale", camera()):
            found.append(outputs["y"][0])
            seen.set()
        assert found == [3, 5]


async def test_a_generator_that_sleeps_does_not_stop_the_event_loop(address: str) -> None:
    turns = 0

    def camera() -> Iterator[Item]:
        for value in range(5):
            before = turns
            while turns < before + 3:  # only the event loop counts them
                time.sleep(0.001)
            yield item(value)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    counting = asyncio.create_task(count())
    async with asyncio.timeout(SECONDS), hc.connect(address) as server, server.stream() as stream:
        results = [outputs["y"][0] async for outputs in stream.map("scale", camera())]
    counting.cancel()
    assert results == [1, 3, 5, 7, 9]


def test_items_are_sent_while_their_consumer_is_busy(address: str) -> None:
    read = threading.Event()

    def camera() -> Iterator[Item]:
        for value in range(4):
            yield item(value)
        read.set()

    with blocking.connect(address) as server, server.stream() as stream:
        results = stream.map("scale", camera(), ahead=8)
        assert next(results)["y"][0] == 1
        assert read.wait(SECONDS), "nothing was read while the first result was looked at"
        assert [outputs["y"][0] for outputs in results] == [3, 5, 7]


# What comes with a result, and in place of one


@pytest.mark.parametrize("source", [list, iter])
async def test_an_error_comes_in_place_of_the_outputs(address: str, source: type) -> None:
    items = [{"x": np.zeros(16, np.float32)}, {"x": np.zeros(15, np.float32)}, {"x": np.zeros(2, complex)}]
    items.append(items[0])
    async with hc.connect(address) as server, server.stream() as stream:
        results = [each async for each in stream.map("failing", source(items), errors="return")]
        assert [type(each) for each in results] == [dict, hc.Internal, hc.InvalidArgument, dict]
        pairs = [each async for each in stream.map("failing", source(items), errors="return", with_items=True)]
        assert all(given is expected for (given, _), expected in zip(pairs, items, strict=True))
        assert [type(each) for _, each in pairs] == [dict, hc.Internal, hc.InvalidArgument, dict]


def test_an_error_comes_in_place_of_the_outputs_without_await(address: str) -> None:
    items = [{"x": np.zeros(size, np.float32)} for size in (16, 15, 16)]
    with blocking.connect(address) as server, server.stream() as stream:
        results = list(stream.map("failing", items, errors="return"))
        assert [type(each) for each in results] == [dict, hc.Internal, dict]
        for given, outputs in stream.map("failing", items[:1], with_items=True):
            assert given is items[0]
            assert outputs["y"].shape == (2, 8)
        results = []
        with pytest.raises(hc.Internal):
            results += stream.map("failing", items)


async def test_the_end_of_the_stream_is_not_the_error_of_an_item(address: str) -> None:
    def endless() -> Iterator[Item]:
        while True:
            yield item(1)

    async with hc.connect(address) as server:
        async with server.stream() as stream:
            results = stream.map("scale", endless(), ahead=2, errors="return")
            assert isinstance(await anext(results), dict)

        async def take_all() -> None:
            async for each in results:
                assert isinstance(each, dict)

        with pytest.raises(hc.Unavailable, match="closed"):
            await asyncio.wait_for(take_all(), SECONDS)


async def test_the_error_of_a_generator_comes_after_the_results_before_it(address: str) -> None:
    def broken() -> Iterator[Item]:
        yield item(1)
        raise ZeroDivisionError

    async with hc.connect(address) as server, server.stream() as stream:
        results = stream.map("scale", broken(), errors="return")
        first = await anext(results)
        assert isinstance(first, dict)
        with pytest.raises(ZeroDivisionError):
            await anext(results)


async def test_what_map_does_not_take(address: str) -> None:
    async with hc.connect(address) as server, server.stream() as stream:
        with pytest.raises(TypeError, match=r"write \[inputs\]"):
            stream.map("scale", item(1))  # type: ignore[type-var]  # the mistake of this test
        with pytest.raises(ValueError, match="errors is 'ignore'"):
            stream.map("scale", [], errors="ignore")  # type: ignore[call-overload]  # the mistake of this test
        with pytest.raises(TypeError, match="not iterable"):
            await anext(stream.map("scale", 7))  # type: ignore[call-overload]  # the mistake of this test


# Threads


async def test_the_thread_of_a_map_ends_with_it(address: str) -> None:
    closed = threading.Event()

    def endless() -> Iterator[Item]:
        try:
            while True:
                yield item(1)
        finally:
            closed.set()

    async with hc.connect(address) as server, server.stream() as stream:
        results = stream.map("scale", [item(1)] * 3)
        await anext(results)
        assert map_threads() == []  # what is in memory is read without one
        await results.aclose()
        results = stream.map("scale", endless())
        await anext(results)
        (thread,) = map_threads()
        await results.aclose()
        await asyncio.to_thread(thread.join, SECONDS)
        assert not thread.is_alive()
        assert closed.is_set()


@pytest.mark.parametrize("client", ["headrace.client", "headrace.client.blocking"])
def test_a_process_ends_while_a_source_waits(address: str, client: str) -> None:
    program = f"""
import threading, asyncio, numpy as np
import {client} as hc
def camera():
    yield {{"x": np.ones(3, np.float32)}}
    threading.Event().wait()
async def main():
    async with hc.connect("{address}") as server, server.stream() as stream:
        async for outputs in stream.map("scale", camera()):
            print(outputs["y"][0])
            return
def blocking():
    with hc.connect("{address}") as server, server.stream() as stream:
        for outputs in stream.map("scale", camera()):
            print(outputs["y"][0])
            return
asyncio.run(main()) if "{client}" == "headrace.client" else blocking()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert ended.stdout.split() == ["3.0"]
    assert ended.stderr == ""
