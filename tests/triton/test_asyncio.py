"""tritonclient.grpc.aio: the same protocol from coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc.aio import InferenceServerClient

from tests.e2e.serving import Served
from tests.triton.messages import ONES, X, check_sentence, given, pair, refused

ONE = np.ones(1, np.float32)


@pytest.fixture
async def client(served: Served) -> AsyncIterator[InferenceServerClient]:
    async with InferenceServerClient(served.address) as client:
        yield client


async def test_questions_are_answered(client: InferenceServerClient) -> None:
    assert await client.is_server_ready()
    assert await client.is_model_ready("scale")
    assert not await client.is_model_ready("nowhere")
    assert (await client.get_model_metadata("scale")).name == "scale"


async def test_many_requests_run_at_once(client: InferenceServerClient) -> None:
    rows = [np.full((1, 16), number, np.float32) for number in range(100)]
    results = await asyncio.gather(*[client.infer("add_multiply", pair(row, ONES)) for row in rows])
    for row, result in zip(rows, results, strict=True):
        np.testing.assert_array_equal(result.as_numpy("sum"), row + 1)


async def test_an_error_is_raised(client: InferenceServerClient) -> None:
    with refused("INVALID_ARGUMENT", "'y'"):
        await client.infer("add_multiply", [given("x", X)])


async def test_a_stream_is_answered(client: InferenceServerClient) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(100):
            model = "nowhere" if number == 50 else "scale"
            yield {"model_name": model, "inputs": [given("x", number * ONE)], "request_id": str(number)}

    answers = [answer async for answer in client.stream_infer(requests())]
    assert len(answers) == 100
    for number, (result, error) in enumerate(answers):
        if number == 50:
            check_sentence(error.message(), "'nowhere'")
        else:
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("y") == [2 * number + 1]


async def test_a_stream_may_be_cancelled(client: InferenceServerClient) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for _ in range(100):
            yield {"model_name": "slow", "inputs": [given("x", ONE)]}

    stream = client.stream_infer(requests())
    async for result, _ in stream:
        assert result.as_numpy("y") == ONE
        break
    assert stream.cancel()
    async with asyncio.timeout(20):
        assert (await client.infer("slow", [given("x", ONE)])).as_numpy("y") == ONE
