"""Streams that are asked to move because they are old: real servers, and clients that follow, or do not."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.oip import open_inference_pb2 as oip
from headrace.v1 import inference_pb2 as pb
from tests import models
from tests.e2e.doubling import LINKS, chain
from tests.e2e.operating import Operator
from tests.e2e.pair import pair
from tests.e2e.scraping import scrape, url_of
from tests.e2e.serving import Serve
from tests.e2e.stubs import Command, Event, StubStream
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.transport


async def moved_often(stream: hc.Stream, moves: Sequence[hc.Resumed], times: int) -> int:
    """Run inferences and chains until the streams of a test have moved so often. Returns how many have run."""
    for number in itertools.count():
        numbers = [np.full(3, value, np.float32) for value in range(number, number + 8)]
        tickets = [await stream.submit("scale", {"x": x}) for x in numbers]
        assert await chain(stream) == 2**LINKS - 1
        for x, ticket in zip(numbers, tickets, strict=True):
            assert (await ticket)["y"].tolist() == (2 * x + 1).tolist()
        if len(moves) >= times:
            return number
    raise AssertionError


async def test_streams_that_resume_move_and_nothing_is_lost(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--stream-seconds=0.5", "--metrics-port=0")
    moves: list[hc.Resumed] = []
    async with asyncio.timeout(120), hc.connect(served.address) as server, AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(server.stream(resume=True, on_resume=moves.append, ordered=number % 2 == 1))
            for number in range(4)
        ]
        kept = await streams[0].submit("scale", {"x": np.full(2, 4, np.float32)}, keep=["y"])
        await asyncio.gather(*[moved_often(stream, moves, 20) for stream in streams])
        assert (await kept.fetch("y")).tolist() == [9, 9]  # made again wherever the stream has gone
    assert all(move.moved and "asks the stream to move" in move.error.message for move in moves)
    print(f"\n{len(moves)} moves; longest without a stream {max(move.seconds for move in moves) * 1e3:.0f} ms")
    scraped = scrape(url_of(served))
    assert scraped("headrace_streams_asked_to_move_total") >= 20
    # What moves is balanced anew: connections are old before any of their streams is.
    assert scraped("headrace_connections_opened_total") > 1
    assert "WARNING" not in served.log
    assert "ERROR" not in served.log


def test_a_client_that_opens_another_stream_and_half_closes_gets_every_answer(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--stream-seconds=0.3")
    with StubStream(served.address) as stream:
        event, _ = stream.receive()
        assert (event.kind, event.stream_only, event.grace_us) == (Event.DRAINING, True, 30_000_000)
        with StubStream(served.address) as other:
            assert other.hello.instance == stream.hello.instance != ""
            for each in (stream, other):
                infer(each, 1)
            stream.half_close()
            for each in (stream, other):
                event, outputs = each.receive()
                assert (event.kind, event.tag, outputs["y"].tolist()) == (Event.DONE, 1, [3])
            assert stream.ends_with() is grpc.StatusCode.OK


def test_a_client_that_does_not_follow_is_served_and_then_told(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--stream-seconds=0.2", "--grace=1")
    with StubStream(served.address) as stream:
        assert stream.receive()[0].stream_only
        with Stopwatch() as watch:
            infer(stream, 1)
            assert stream.receive()[0].kind == Event.DONE
            assert stream.ends_with() is grpc.StatusCode.UNAVAILABLE
            assert watch.elapsed() > 0.5
        assert "open another" in str(stream.replies.details())
    assert "WARNING" not in served.log


def test_a_stream_that_keeps_what_its_client_cannot_make_again_stays(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--stream-seconds=0.2")
    with StubStream(served.address) as stream:
        infer(stream, 1, keep=["y"])
        assert stream.receive()[0].kind == Event.DONE
        for _ in range(8):  # eight lives of others
            with StubStream(served.address) as other:
                assert other.receive()[0].stream_only
        fetch = pb.Fetch(source=1, output="y")
        stream.send(Command(kind=Command.FETCH, tag=2, fetch=fetch))
        event, outputs = stream.receive()
        assert (event.kind, outputs["y"].tolist()) == (Event.FETCHED, [3])
        stream.send(Command(kind=Command.RELEASE, tag=1, release=pb.Release()))
        assert stream.receive()[0].kind == Event.DRAINING


def test_streams_of_the_open_inference_protocol_stay(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--stream-seconds=0.2", "--grace=0")
    operator = Operator(served.address)
    asked: SimpleQueue[Any] = SimpleQueue()
    with operator.channel:
        answers = operator.stub.ModelStreamInfer(iter(asked.get, None))
        for value in range(8):
            request = oip.ModelInferRequest(model_name="scale", id=str(value))
            request.inputs.add(name="x", datatype="FP32", shape=[1])
            request.raw_input_contents.append(np.full(1, value, np.float32).tobytes())
            asked.put(request)
            answer = next(answers).infer_response
            assert answer.id == str(value)
            assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2 * value + 1]
            with StubStream(served.address) as other:
                assert other.receive()[0].stream_only
        asked.put(None)
        assert list(answers) == []
        assert answers.code() is grpc.StatusCode.OK


async def test_a_server_that_is_started_again_gets_its_streams_back(tmp_path: Path) -> None:
    """Without an error, and without anybody who tells the clients."""
    count, age = 12, 4.0
    moves: list[hc.Resumed] = []
    model = f"scale={models.scale(tmp_path)}"
    async with (
        asyncio.timeout(120),
        pair(tmp_path, model, f"--stream-seconds={age:g}") as servers,
        hc.connect(servers.target) as server,
        AsyncExitStack() as stack,
    ):
        streams = [
            await stack.enter_async_context(server.stream(resume=True, on_resume=moves.append)) for _ in range(count)
        ]
        assert sorted(homes(streams)) == [count // 2] * 2
        servers.end(0, 9)
        while len(homes(streams)) > 1:
            await asyncio.gather(*[asked(stream) for stream in streams])
        before = len(moves)
        await servers.start_again(0)
        began = asyncio.get_running_loop().time()
        while sorted(homes(streams)) != [count // 2] * 2:
            await asyncio.gather(*[asked(stream) for stream in streams])
            await asyncio.sleep(0.01)
        took = asyncio.get_running_loop().time() - began
    assert all(move.moved for move in moves[before:])
    print(f"\neven again {took / age:.2f} ages after the server was there again, with {len(moves) - before} moves")


def homes(streams: Sequence[hc.Stream]) -> list[int]:
    """How many streams each process serves that serves any."""
    return list(Counter(stream.hello.instance for stream in streams).values())


async def asked(stream: hc.Stream) -> None:
    assert (await (await stream.submit("scale", {"x": np.ones(1, np.float32)})))["y"].tolist() == [3]


def infer(stream: StubStream, tag: int, keep: Sequence[str] = ()) -> None:
    inputs = [pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1]))]
    call = pb.Call(model="scale", inputs=inputs, all_outputs=not keep, keep=keep)
    define = Command(kind=Command.DEFINE, call=1, define=call)
    stream.send(define, Command(tag=tag, call=1, tensors=1), tensors=[np.ones(1, np.float32).tobytes()])
