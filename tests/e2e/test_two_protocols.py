"""Two protocols over one core: the same models, the same counters, the same errors."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

import headrace.client as hc
from headrace.oip import open_inference_pb2 as pb
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests import models
from tests.e2e.serving import Serve

Input = pb.ModelInferRequest.InferInputTensor


def request(model: str, size: int) -> pb.ModelInferRequest:
    """Of an input x of so many elements."""
    data = np.arange(size, dtype=np.float32).tobytes()
    return pb.ModelInferRequest(
        model_name=model, inputs=[Input(name="x", datatype="FP32", shape=[size])], raw_input_contents=[data]
    )


async def test_both_protocols_share_models_and_counters(serve: Serve, tmp_path: Path) -> None:
    served = serve(f"scale={models.scale(tmp_path)}", f"failing={models.failing(tmp_path)}")
    async with hc.connect(served.address) as server, server.stream() as stream:
        with grpc.insecure_channel(served.address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            index = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
            assert [(each.name, each.version) for each in index] == [
                (each.name, each.version) for each in await server.models()
            ]
            for _ in range(3):
                await (await stream.submit("scale", {"x": np.array([1, 2], np.float32)}))
                stub.ModelInfer(request("scale", 2))
            with pytest.raises(hc.HeadraceError):
                await (await stream.submit("failing", {"x": np.zeros(15, np.float32)}))
            with pytest.raises(grpc.RpcError):
                stub.ModelInfer(request("failing", 15))
            statistics = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
        ours = [(each.name, each.inferences, each.executions, each.failures) for each in (await server.status()).models]
        theirs = [
            (each.name, each.inference_count, each.execution_count, each.inference_stats.fail.count)
            for each in statistics
        ]
        assert sorted(ours) == sorted(theirs) == [("failing", 0, 0, 2), ("scale", 6, 6, 0)]


@pytest.mark.parametrize("model", ["none", "../scale", "s" * 300])
async def test_both_protocols_give_the_same_errors(serve: Serve, tmp_path: Path, model: str) -> None:
    served = serve(f"scale={models.scale(tmp_path)}")
    with grpc.insecure_channel(served.address) as channel, pytest.raises(grpc.RpcError) as theirs:
        GRPCInferenceServiceStub(channel).ModelInfer(request(model, 4))
    async with hc.connect(served.address) as server, server.stream() as stream:
        ticket = await stream.submit(model, {"x": np.arange(4, dtype=np.float32)})
        with pytest.raises(hc.NotFound) as ours:
            await ticket
    assert theirs.value.details() == ours.value.message
    assert theirs.value.code() is grpc.StatusCode.NOT_FOUND
