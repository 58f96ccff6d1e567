"""Many calls at once: within the limit all are served, beyond it they are refused; probes have their own limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

import headrace.client as hc
from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from tests import models
from tests.e2e.operating import SERVING, Operator, refused
from tests.e2e.scale_requests import answer, request
from tests.e2e.serving import Serve
from tests.e2e.stubs import StubStream

BURST = 3000
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
OWN = [("grpc.use_local_subchannel_pool", 1)]
"""A channel with a connection of its own."""


@pytest.mark.parametrize("channels", [1, 8])
async def test_a_burst_within_the_limit_is_served(serve: Serve, tmp_path: Path, channels: int) -> None:
    served = serve(str(models.scale(tmp_path)))
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(grpc.aio.insecure_channel(served.address, OWN)) for _ in range(channels)
        ]
        stubs = [GRPCInferenceServiceStub(channel) for channel in opened]
        calls = [stubs[number % channels].ModelInfer(request(number), timeout=25) for number in range(BURST)]
        responses = await asyncio.gather(*calls)
    assert [response.raw_output_contents[0] for response in responses] == [answer(each) for each in range(BURST)]


async def test_a_burst_of_the_native_protocol_is_served(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)))
    async with hc.connect(served.address) as server:
        asked = [server.infer("scale", {"x": np.array([number], np.float32)}) for number in range(BURST)]
        answers = await asyncio.gather(*asked)
    assert [each["y"].tobytes() for each in answers] == [answer(each) for each in range(BURST)]


async def test_calls_beyond_the_limit_are_refused_retryably(serve: Serve, tmp_path: Path) -> None:
    """A refusal says that the call may succeed later; it is not gRPC's bare CANCELLED."""
    served = serve(str(models.slow(tmp_path, steps=2)), "--streams=20", "--slots=1")
    one = np.ones(1, np.float32)
    async with hc.connect(served.address) as server:
        asked = [server.infer("slow", {"x": one}) for _ in range(BURST)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        refusals = [end for end in ends if isinstance(end, BaseException)]
        assert 20 <= len(ends) - len(refusals) < BURST
        for refusal in refusals:
            assert isinstance(refusal, hc.ResourceExhausted)
            assert refusal.retryable
            assert refusal.message == "20 streams and unary calls are open, which is the limit"
        assert (await server.infer("slow", {"x": one}))["y"].tolist() == [1]


def test_a_full_server_answers_probes(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--streams=2")
    operator = Operator(served.address)
    with operator.channel, StubStream(served.address), StubStream(served.address):
        native = InferenceStub(operator.channel)
        for _ in range(300):
            assert operator.check("") == operator.check("scale") == SERVING
            assert operator.stub.ServerLive(oip.ServerLiveRequest(), timeout=30).live
            assert operator.stub.ServerReady(oip.ServerReadyRequest(), timeout=30).ready
            assert native.ServerStatus(pb.ServerStatusRequest(), timeout=30).streams == 2
        with refused(FULL, "2 streams"):
            native.ListModels(pb.ListModelsRequest(), timeout=30)
        with refused(FULL, "2 streams"):
            operator.stub.ModelInfer(request(1), timeout=30)
        with refused(FULL, "2 streams"):
            next(operator.stub.ModelStreamInfer(iter(()), timeout=30))
        with refused(FULL, "2 streams"):
            next(native.Stream(iter(()), timeout=30))


async def test_a_full_server_answers_a_burst_of_probes(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--streams=1")
    with StubStream(served.address):
        async with grpc.aio.insecure_channel(served.address) as channel:
            check = HealthStub(channel).Check
            calls = [check(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(500)]
            ends = Counter([str(await call.code()) for call in calls])
            assert set(ends) <= {"StatusCode.OK", "StatusCode.RESOURCE_EXHAUSTED"}
            assert ends["StatusCode.OK"] >= 256
            assert (await check(health_pb2.HealthCheckRequest(), timeout=30)).status == SERVING


def test_watches_are_bounded_and_leave_room_for_others(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)), "--streams=1")
    operator = Operator(served.address)
    with operator.channel, ExitStack() as stack:
        for _ in range(256):
            watch = operator.watch("")
            stack.callback(watch.call.cancel)
            assert next(watch) == SERVING
        with refused(FULL, "256 watches"):
            next(operator.watch(""))
        assert operator.check("") == SERVING
        assert operator.stub.ModelInfer(request(1), timeout=30).raw_output_contents == [answer(1)]
        watch.call.cancel()
        # The place is free again as soon as the server has seen the end.
        assert any(is_watched(operator) for _ in range(100))


def is_watched(operator: Operator) -> bool:
    watch = operator.watch("")
    try:
        return bool(next(watch) == SERVING)
    except grpc.RpcError:
        return False
    finally:
        watch.call.cancel()
