"""Unary calls that arrive many at a time share runs, and each gets its own result."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

import headrace.client as hc
from headrace.oip import open_inference_pb2 as pb
from tests import models
from tests.e2e.serving import Serve

CALLERS, EACH = 32, 40
CALL = "/inference.GRPCInferenceService/ModelInfer"


async def ask(address: str, callers: int) -> None:
    """Concurrent callers, each of which waits for its answer before it asks again; no two ask the same."""
    async with grpc.aio.insecure_channel(address) as channel:
        infer: grpc.aio.UnaryUnaryMultiCallable[pb.ModelInferRequest, pb.ModelInferResponse] = channel.unary_unary(
            CALL, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )

        async def caller(number: int) -> None:
            for turn in range(EACH):
                row = np.full((1, 16), number * EACH + turn, np.float32)
                tensor = pb.ModelInferRequest.InferInputTensor
                request = pb.ModelInferRequest(
                    model_name="am",
                    inputs=[tensor(name=name, datatype="FP32", shape=[1, 16]) for name in ("x", "y")],
                    outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="sum")],
                    raw_input_contents=[row.tobytes()] * 2,
                )
                answer = await infer(request)
                assert answer.raw_output_contents[0] == (2 * row).tobytes()

        async with asyncio.TaskGroup() as tasks:
            for number in range(callers):
                tasks.create_task(caller(number))


@pytest.mark.parametrize("callers", [CALLERS, 1])
async def test_many_share_runs_and_one_by_one_do_not(serve: Serve, tmp_path: Path, callers: int) -> None:
    address = serve(f"am={models.add_multiply(tmp_path)}", "--run=direct").address
    await ask(address, callers)
    async with hc.connect(address) as server:
        (model,) = (await server.status()).models
    assert model.inferences == callers * EACH
    assert model.failures == 0
    if callers == 1:
        assert model.executions == model.inferences
    else:
        assert model.executions < model.inferences / 2
