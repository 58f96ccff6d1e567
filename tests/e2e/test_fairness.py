"""A client gains nothing by opening many streams, or by sending many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.oip import open_inference_pb2 as pb
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.disturbances import retried_if_disturbed
from tests.e2e.serving import Serve

GREEDY = 20
"""Streams, or calls at once."""
MODEST = 5
ONE = np.ones(1, np.float32)
REQUEST = pb.ModelInferRequest(
    model_name="slow",
    inputs=[pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])],
    raw_input_contents=[ONE.tobytes()],
)
Ask = Callable[[int], Awaitable[object]]
"""Run an inference on one of the streams."""


@asynccontextmanager
async def streams(address: str) -> AsyncIterator[Ask]:
    """Streams of one connection."""
    async with hc.connect(address) as server:
        opened = [server.stream() for _ in range(GREEDY)]
        for stream in opened:
            await stream.__aenter__()

        async def ask(number: int) -> None:
            await (await opened[number].submit("slow", {"x": ONE}))

        yield ask
        for stream in opened:
            await stream.__aexit__(None, None, None)


@asynccontextmanager
async def calls(address: str) -> AsyncIterator[Ask]:
    """Unary calls of one connection."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)

        async def ask(_number: int) -> None:
            await stub.ModelInfer(REQUEST)

        yield ask


@asynccontextmanager
async def open_inference_streams(address: str) -> AsyncIterator[Ask]:
    """Streams of the Open Inference Protocol over one connection."""
    async with grpc.aio.insecure_channel(address) as channel:
        opened = [GRPCInferenceServiceStub(channel).ModelStreamInfer() for _ in range(GREEDY)]

        async def ask(number: int) -> None:
            await opened[number].write(REQUEST)
            response = await opened[number].read()
            assert isinstance(response, pb.ModelStreamInferResponse)
            assert not response.error_message

        yield ask
        for stream in opened:
            stream.cancel()


@pytest.mark.parametrize("greedy", [streams, calls, open_inference_streams])
@retried_if_disturbed  # answers that this process has not read yet look like turns that others have had
async def test_a_client_gains_nothing_by_many_streams(
    serve: Serve, tmp_path: Path, greedy: Callable[[str], AbstractAsyncContextManager[Ask]]
) -> None:
    served = serve(f"slow={models.slow(tmp_path, steps=1)}", "--slots=1", "--run=async", "--batch=off")
    done, flowing = 0, asyncio.Event()

    async def again_and_again(ask: Ask, number: int) -> None:
        nonlocal done
        while True:
            await ask(number)
            done += 1
            if done == GREEDY:
                flowing.set()

    async with greedy(served.address) as ask, hc.connect(served.address) as server, server.stream() as stream:
        flood = [asyncio.create_task(again_and_again(ask, number)) for number in range(GREEDY)]
        await flowing.wait()
        before = done
        await asyncio.gather(*[await stream.submit("slow", {"x": ONE}) for _ in range(MODEST)])
        turns = done - before
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
    assert turns <= 2 * MODEST  # one each, and what was on its way
