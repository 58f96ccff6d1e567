"""Clients that vanish while they are being written to. This is not an error of the server, so nothing is in the log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import headrace.client.blocking as blocking
from tests import models
from tests.e2e.resetting_proxy import ResettingProxy
from tests.e2e.serving import Serve, Served
from tests.waiting import until

CROWD = """
import asyncio, sys
import grpc, grpc.aio
import numpy as np
from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub

ADDRESS, COUNT = sys.argv[1], int(sys.argv[2])
inputs = [oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])]
REQUEST = oip.ModelInferRequest(model_name="scale", inputs=inputs, raw_input_contents=[bytes(4)])
CALL = pb.Call(model="scale", all_outputs=True,
    inputs=[pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1]))])

async def unary(channel):
    native, triton = InferenceStub(channel), GRPCInferenceServiceStub(channel)
    while True:
        await native.Infer(pb.InferRequest(call=CALL, tensors=[bytes(4)]))
        await triton.ModelInfer(REQUEST)

async def triton(channel):
    stream = GRPCInferenceServiceStub(channel).ModelStreamInfer()
    while True:
        for _ in range(10):
            await stream.write(REQUEST)
        for _ in range(10):
            await stream.read()

async def native(channel):
    stream = InferenceStub(channel).Stream()
    await stream.write(pb.ClientFrame(commands=[pb.Command(kind=pb.Command.DEFINE, call=1, define=CALL)]))
    tag = 0
    while True:
        tags = range(tag + 1, tag + 11)
        tag += 10
        commands = [pb.Command(tag=each, call=1, tensors=1) for each in tags]
        await stream.write(pb.ClientFrame(commands=commands, tensors=[bytes(4)] * 10))
        await stream.read()

async def main():
    tasks = []
    for number in range(COUNT):
        channel = grpc.aio.insecure_channel(ADDRESS, [("grpc.use_local_subchannel_pool", 1)])
        await channel.channel_ready()
        tasks.append(asyncio.create_task((unary, triton, native)[number % 3](channel)))
    await asyncio.sleep(0.2)
    print("busy", flush=True)
    await asyncio.gather(*tasks, return_exceptions=True)

asyncio.run(main())
"""
CLIENT = """
import asyncio, sys
import grpc, grpc.aio
from headrace.oip import open_inference_pb2 as oip
from headrace.oip.open_inference_pb2_grpc import GRPCInferenceServiceStub
from headrace.v1 import inference_pb2 as pb
from headrace.v1.inference_pb2_grpc import InferenceStub
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

inputs = [oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 16])]
WIDE = oip.ModelInferRequest(model_name="wide", inputs=inputs, raw_input_contents=[bytes(64)])
CALL = pb.Call(model="wide", all_outputs=True,
    inputs=[pb.Input(name="x", inline=pb.Inline(datatype=pb.FP32, shape=[1, 16]))])

async def main():
    # Little is read: answers of 4 MiB wait at the server.
    channel = grpc.aio.insecure_channel(sys.argv[1], [("grpc.max_receive_message_length", -1)])
    triton, native = GRPCInferenceServiceStub(channel), InferenceStub(channel)
    calls = []
    for _ in range(5):
        stream = triton.ModelStreamInfer()
        calls.append(stream)
        for _ in range(10):
            await stream.write(WIDE)
        await stream.read()
        stream = native.Stream()
        calls.append(stream)
        await stream.write(pb.ClientFrame(commands=[
            pb.Command(kind=pb.Command.OPEN, open=pb.Open(max_message_bytes=1 << 30)),
            pb.Command(kind=pb.Command.DEFINE, call=1, define=CALL)]))
        for tag in range(1, 10):
            await stream.write(pb.ClientFrame(commands=[pb.Command(tag=tag, call=1, tensors=1)], tensors=[bytes(64)]))
        await stream.read()
        await stream.read()
        calls.append(HealthStub(channel).Watch(health_pb2.HealthCheckRequest()))
        await calls[-1].read()
    calls += [triton.ModelInfer(WIDE) for _ in range(20)]
    calls += [native.Infer(pb.InferRequest(call=CALL), ) for _ in range(5)]
    print("busy", flush=True)
    if sys.argv[2] == "cancels":
        for call in calls:
            call.cancel()
        await channel.close()
        print("cancelled", flush=True)
    else:
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["is killed", "cancels"])
def test_a_client_may_vanish_while_it_is_written_to(serve: Serve, tmp_path: Path, how: str) -> None:
    served = serve(str(models.wide(tmp_path)))
    for _ in range(4):
        command = [sys.executable, "-c", CLIENT, served.address, how]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "busy\n"
            if how == "is killed":
                client.kill()
    with blocking.connect(served.address) as server:
        while (status := server.status()).streams or status.tickets_in_flight or status.queued_bytes:
            pass
    assert served.stop() == 0
    assert " ERROR " not in served.log
    assert "Traceback" not in served.log
    assert "never retrieved" not in served.log


def check_that_nothing_is_left(served: Served) -> None:
    """No client, nothing that one of them had in flight, and nothing in the log."""
    with blocking.connect(served.address) as server:

        def nothing_is_left() -> bool:
            status = server.status()
            return not (status.streams or status.tickets_in_flight or status.queued_bytes)

        until(nothing_is_left, server.status)
        assert server.infer("scale", {"x": np.ones(1, np.float32)})["y"].tolist() == [3]
    assert served.stop() == 0
    for word in (" ERROR ", " WARNING ", "Traceback", "never retrieved", "Error"):
        assert word not in served.log, served.log[-5000:]


@contextmanager
def crowd(address: str, count: int) -> Iterator[subprocess.Popen[str]]:
    """A process with this many clients in the middle of reads, writes and unary calls."""
    command = [sys.executable, "-c", CROWD, address, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as clients:
        try:
            assert clients.stdout is not None
            assert clients.stdout.readline() == "busy\n"
            yield clients
        finally:
            clients.kill()


def test_a_thousand_clients_that_are_killed_in_the_middle_leave_nothing(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)))
    for _ in range(10):
        with crowd(served.address, 100):
            pass
    check_that_nothing_is_left(served)


def test_connections_that_are_reset_in_a_burst_leave_nothing(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path)))
    with ResettingProxy(served.address) as proxy, crowd(proxy.address, 100):
        assert proxy.reset() == 100
        for _ in range(5):
            time.sleep(0.5)
            proxy.reset()
    check_that_nothing_is_left(served)
